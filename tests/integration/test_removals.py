"""Removals and real processes: who was away is told after a restart of the broker, too."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from broker.log.writer import FILE_NAME, SqliteLog
from client.api import Client, Entry, Removed, connect
from tests.broker_process import BrokerProcess
from tests.cli.person import Person
from tests.raw_peer import RawPeer
from tests.waiting import DEADLINE_S


@pytest.fixture
def broker(tmp_path: Path) -> Iterator[BrokerProcess]:
    with BrokerProcess(tmp_path / "data") as process:
        yield process


def drop(broker: BrokerProcess, home: Path, seq: int) -> None:
    """Remove a text of #r as the operator does."""
    person = Person(home, broker.address)
    person.run("admin", "drop", "-r", "r", str(seq), "--data", str(broker.data))


def removals(client: Client) -> Iterator[Removed]:
    """Yield what a client hears of removals."""
    return (each for each in client.events(DEADLINE_S) if isinstance(each, Removed))


@pytest.mark.parametrize("is_killed", [True, False])
def test_who_was_away_is_told_after_a_restart(
    broker: BrokerProcess, tmp_path: Path, *, is_killed: bool
) -> None:
    with connect(broker.address, nick="writer") as writer:
        writer.join("r")
        writer.send("r", "a secret")
    drop(broker, tmp_path / "operator", 1)
    if is_killed:
        broker.kill_all()
    else:
        assert broker.stop() == 0
    broker.start(broker.port)
    with RawPeer(broker.port) as raw:
        raw.hello("reader")
        assert raw.join("r").removed == [1]


def test_whose_view_holds_the_text_is_told_when_they_resume(
    broker: BrokerProcess, tmp_path: Path
) -> None:
    """As if the broker was killed when the log had it, before a word of it was said.

    And once: at the next restart it is no news.
    """
    with connect(broker.address, nick="bob") as bob:
        bob.join("r")
        bob.send("r", "before it")
        seq = bob.send("r", "a secret").seq
        next(e for e in bob.events(DEADLINE_S) if isinstance(e, Entry) and e.seq == seq)
        port = broker.port
        broker.kill_all()
        index = broker.data / FILE_NAME
        with closing(SqliteLog(index, retain_messages=0, retain_days=0)) as log:
            log.redact("r", seq)
        broker.start(port)
        assert next(removals(bob)) == Removed("r", seq)
        broker.kill_child("live")
        last = bob.send("r", "the last").seq
        drop(broker, tmp_path / "operator", last)
        assert next(removals(bob)) == Removed("r", last)
        with connect(broker.address, nick="newcomer") as newcomer:
            newcomer.join("r")
            broker.kill_child("live")
            assert newcomer.send("r", "heard").seq > last
            heard = []
            for event in newcomer.events(DEADLINE_S):
                heard.append(event)
                if isinstance(event, Entry) and event.text == "heard":
                    break
            assert not [each for each in heard if isinstance(each, Removed)]
            kinds = [each.kind for each in heard if isinstance(each, Entry)]
            assert kinds == ["text", "removed", "removed", "text"]
