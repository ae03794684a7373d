"""`--log-format json`: whatever happens, each line of the log is one JSON object."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

from common import wire
from tests import saying
from tests.broker_process import ROOT, BrokerProcess
from tests.raw_peer import RawPeer
from tests.waiting import DEADLINE_S, eventually


def test_every_line_of_a_bad_day_is_an_object(tmp_path: Path) -> None:
    """Start, refusals, a killed part, one that cannot start, a failing log, the end."""
    with BrokerProcess(tmp_path / "data", "--log-format", "json", "--metrics", "-1") as broker:
        with RawPeer(broker.port) as peer:
            peer.hello("anna")
            peer.join("lobby")
            for number in range(1, 50):
                peer.ask(saying.send(number, "lobby", ["a text"]), wire.Ack)
            peer.ask(wire.Who(peer.next_id(), "elsewhere"), wire.Error)
            eventually(lambda: "refused so far" in broker.log(), "word of the refusal")
        broker.kill_child("history")
        eventually(lambda: "history is back" in broker.log(), "history")
        with broker.index_out_of_reach():
            os.kill(broker.children()["live"], signal.SIGKILL)
            eventually(lambda: "cannot be opened" in broker.log(), "a failed start")
        eventually(lambda: "live is back" in broker.log(), "live")
        assert broker.stop() == 0
    told: list[dict[str, Any]] = [json.loads(line) for line in broker.log().splitlines()]
    for each in told:
        assert {"ts", "level", "logger", "message"} <= set(each)

    def only(start: str) -> dict[str, Any]:
        return next(each for each in told if each["message"].startswith(start))

    assert {"not_member": 1} == only("refused so far")["refused"]
    death = only("history was killed by signal 9")
    assert ("error", "broker", "history", -9) == (
        death["level"],
        death["logger"],
        death["process"],
        death["status"],
    )
    failure = only("the log in ")
    assert ("critical", "live") == (failure["level"], failure["logger"])
    assert "unable to open database file" in failure["message"]
    assert "closing" == told[-1]["message"]


def test_a_broker_that_cannot_start_says_so_in_json(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("not a folder")
    flags = ["--port", "0", "--data", str(tmp_path / "file" / "data"), "--log-format", "json"]
    ended = subprocess.run(
        [sys.executable, "-m", "broker", *flags],
        cwd=ROOT,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        timeout=DEADLINE_S,
        check=False,
    )
    assert 1 == ended.returncode
    told = json.loads(ended.stderr)
    assert "critical" == told["level"]
    assert told["message"].startswith("the data folder")


def test_what_nobody_caught_is_an_object() -> None:
    """In the main thread, in another one, and a warning; in the order in which they came."""
    code = """
import threading, warnings
from broker import logs
logs.set_up("info", "json")
warnings.warn("odd")
thread = threading.Thread(target=lambda: 1 / 0)
thread.start()
thread.join()
raise OSError("gone")
"""
    ended = subprocess.run(
        [sys.executable, "-c", code],
        cwd=ROOT,
        capture_output=True,
        timeout=DEADLINE_S,
        check=False,
    )
    assert 1 == ended.returncode
    told = [json.loads(line) for line in ended.stderr.splitlines()]
    assert "UserWarning: odd" in told[0]["message"]
    assert ["ZeroDivisionError was not caught", "OSError was not caught"] == [
        each["message"] for each in told[1:]
    ]
    assert told[2]["exception"].endswith("OSError: gone")
