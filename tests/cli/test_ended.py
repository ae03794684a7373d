"""Scripts whose session an operator ends: they end at once, and say why."""

from __future__ import annotations

import pytest

from tests.broker_process import BrokerProcess
from tests.cli.person import Person
from tests.waiting import DEADLINE_S, eventually


@pytest.mark.parametrize("words", [["send"], []])
def test_a_pipe_whose_session_was_ended(
    broker: BrokerProcess, anna: Person, bob: Person, room: str, words: list[str]
) -> None:
    """By `send` and by the piped chat: 77, the text and the reason; no wait for a time-out."""
    process = bob.start(*words, "-r", room)
    assert process.stdin is not None
    try:
        process.stdin.write(b"one\n")
        process.stdin.flush()
        eventually(lambda: anna.run("history", "-r", room).stdout.endswith(": one\n"))
        anna.run("admin", "--data", str(broker.data), "kick", "bob", "spam")
        out, err = process.communicate(b"two\n", timeout=DEADLINE_S)
    finally:
        process.kill()
        process.wait()
    assert process.returncode == 77, (out, err)
    assert b"not sent: two (an operator ended your session: spam" in err
