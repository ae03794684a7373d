"""The history process by itself: what happens when one of its threads fails."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import msgspec

from broker import config
from broker.child import Orders
from broker.host.ports import free_base_port
from tests.broker_process import ROOT
from tests.waiting import DEADLINE_S


def test_a_thread_that_fails_ends_the_process(tmp_path: Path) -> None:
    """The supervisor starts another one; else questions would wait for a thread that is gone."""
    settings = config.load(["--data", str(tmp_path / "gone"), "--log-format", "json"], {})
    port = free_base_port("127.0.0.1")
    orders = Orders(settings, "127.0.0.1", port, port + 1, port + 2)
    process = subprocess.Popen(
        [sys.executable, "-m", "broker.history"],
        cwd=ROOT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    with process:
        assert process.stdin is not None
        process.stdin.write(msgspec.json.encode(orders) + b"\n")
        process.stdin.flush()  # And left open: it is not told to end.
        assert 1 == process.wait(DEADLINE_S)
        assert process.stderr is not None
        told = [json.loads(line) for line in process.stderr]
    assert "a thread failed" == told[0]["message"]
    assert "unable to open database file" in told[0]["exception"]
