"""`hubbub admin reload` against a real broker: it answers what came of it."""

from __future__ import annotations

import os
import signal
from pathlib import Path

from tests.broker_process import BrokerProcess
from tests.cli.person import Person
from tests.waiting import DEADLINE_S, eventually

KEY = "ab" * 32


def operator_of(broker: BrokerProcess, home: Path) -> Person:
    """Return somebody at the broker's host."""
    person = Person(home, broker.address)
    person.environ["HUBBUB_DATA"] = str(broker.data)
    return person


def keys_let_in(operator: Person) -> str:
    (row,) = operator.objects("admin", "reload")
    return str(row["keys let in"])


def test_what_was_read_and_what_is_wrong_is_answered(tmp_path: Path) -> None:
    """Also by a live process that has taken the place of a killed one."""
    allow = tmp_path / "allow"
    allow.write_text(f"{KEY} anna\n")
    with BrokerProcess(tmp_path / "data", "--secure", "--allow", str(allow)) as broker:
        operator = operator_of(broker, tmp_path / "operator")
        assert keys_let_in(operator) == "1"
        allow.write_text(f"{KEY}\n{'cd' * 32}\n")
        assert keys_let_in(operator) == "2"
        allow.write_text("no key\n")
        complaint = operator.run("admin", "reload", status=1).stderr
        assert complaint.startswith(f"hubbub: {allow}: line 1: ")
        assert complaint.endswith("; everything stays as it was\n")
        assert complaint.removeprefix("hubbub: ").strip() in broker.log()
        broker.kill_child("live")
        allow.unlink()
        eventually(lambda: operator.run("admin", "sessions", status=None).returncode == 0)
        complaint = operator.run("admin", "reload", status=1).stderr
        assert str(allow) in complaint
        assert complaint.endswith("; everything stays as it was\n")
        allow.write_text(f"{KEY} anna\n")
        assert keys_let_in(operator) == "1"


def test_many_who_ask_at_once_are_all_answered(tmp_path: Path) -> None:
    """While somebody else sends SIGHUP, too."""
    with BrokerProcess(tmp_path / "data") as broker:
        operator = operator_of(broker, tmp_path / "operator")
        asking = [operator.start("admin", "reload") for _ in range(4)]
        broker.process.send_signal(signal.SIGHUP)
        for each in asking:
            out, error = each.communicate(timeout=DEADLINE_S)
            assert (each.returncode, error) == (0, b"")
            assert out.startswith(b"read again")


def test_a_supervisor_that_does_not_answer_is_told_of(tmp_path: Path) -> None:
    """It reads the settings when it goes on; who asks then is answered."""
    with BrokerProcess(tmp_path / "data") as broker:
        operator = operator_of(broker, tmp_path / "operator")
        broker.process.send_signal(signal.SIGSTOP)
        try:
            complaint = operator.run("admin", "reload", status=1).stderr
        finally:
            os.kill(broker.process.pid, signal.SIGCONT)
        assert "supervisor was asked, and has not answered" in complaint
        eventually(lambda: "read again" in broker.log(), "the settings")
        assert keys_let_in(operator) == "all"
