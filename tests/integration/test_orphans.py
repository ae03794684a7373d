"""A child whose supervisor dies while it starts."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import msgspec
import pytest

from broker.child import Orders
from broker.config import load
from broker.host.ports import free_base_port
from broker.log.writer import prepare
from tests.broker_process import ROOT
from tests.waiting import DEADLINE_S


@pytest.mark.parametrize("name", ["live", "history"])
def test_a_child_that_nobody_waits_for_leaves(tmp_path: Path, name: str) -> None:
    """It would hold the folder's lock otherwise, and no other broker could ever start."""
    prepare(tmp_path)
    port = free_base_port("127.0.0.1")
    settings = load(["--data", str(tmp_path)], {})
    orders = Orders(settings, "127.0.0.1", port, port + 1, port + 2)
    with subprocess.Popen(
        [sys.executable, "-m", f"broker.{name}"],
        cwd=ROOT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
    ) as child:
        assert child.stdin is not None
        assert child.stdout is not None
        child.stdout.close()  # What a kill of the supervisor does, before the child's report,
        child.stdin.write(msgspec.json.encode(orders) + b"\n")
        child.stdin.close()  # and right after its orders.
        try:
            assert child.wait(DEADLINE_S) == 0
        finally:
            child.kill()
