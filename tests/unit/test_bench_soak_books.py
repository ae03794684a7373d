"""What a member of a soak's crowd books: losses by name, and what is none. Without a broker."""

from __future__ import annotations

import queue
import time
from collections.abc import Iterator

import pytest

from bench.works import soak_clients
from bench.works.soak_clients import Crowd, Member, Orders
from client.events import Entry, Event, Missing, State
from common.errors import Unreachable
from tests.waiting import eventually

ROOM = "soak-0000"


def entry(seq: int) -> Entry:
    return Entry(ROOM, seq, 0, "text", "anna", "said")


class Log:
    """Stands for the client library, and for the log behind it."""

    def __init__(self) -> None:
        self.seqs: list[int] = []  # What the log still has.
        self.is_away = False
        self._bursts: queue.SimpleQueue[list[Event]] = queue.SimpleQueue()

    def tell(self, *events: Event) -> None:
        self._bursts.put(list(events))

    def connect(self, *_: object, **__: object) -> Log:
        return self

    def join(self, *_: object, **__: object) -> None:
        pass

    def close(self) -> None:
        self.tell()

    def next_burst(self) -> list[Event]:
        return self._bursts.get()

    def history(
        self, _room: str, *, after: int, before: int, limit: int, **_: object
    ) -> list[Entry]:
        if self.is_away:
            raise Unreachable
        return [entry(seq) for seq in self.seqs if after < seq < before][:limit]


@pytest.fixture
def log(monkeypatch: pytest.MonkeyPatch) -> Iterator[Log]:
    found = Log()
    monkeypatch.setattr(soak_clients, "connect", found.connect)
    yield found
    found.close()  # Ends the member's thread.


def orders() -> Orders:
    return Orders("nowhere:1", "steady", 0, [ROOM], clients=1, size=64)


def heard(log: Log, *events: Event) -> Member:
    """Return a member to whom these came, up to the seq that the last entry has."""
    member = Member(orders(), 0, 1)
    log.tell(*events)
    last = events[-1]
    assert isinstance(last, Entry)
    eventually(lambda: member.last.get(ROOM) == last.seq)
    return member


def test_a_hole_that_nobody_spoke_of_is_a_loss(log: Log) -> None:
    """It is named: who, where, which."""
    member = heard(log, entry(5), entry(8))
    assert 2 == member.counts.lost
    assert ["steady-1: soak-0000 8 came after 5"] == member.trouble


def test_what_the_log_gave_up_and_told_is_no_loss(log: Log) -> None:
    """A reader that froze for longer than retention keeps is told, and goes on behind it."""
    log.seqs = [8, 9]
    member = heard(log, entry(5), Missing(ROOM, 2), entry(8), entry(9))
    assert member.is_whole({ROOM: 9})
    assert not member.is_whole({ROOM: 10})
    assert (0, 2) == (member.counts.lost, member.gone)
    assert [] == member.trouble


def test_what_the_log_has_must_not_be_told_as_gone(log: Log) -> None:
    """A client that says so of an entry that is still there has lost it."""
    log.seqs = [7, 8]
    member = heard(log, entry(5), Missing(ROOM, 2), entry(8))
    member.look_up()
    assert (2, 0) == (member.counts.lost, member.gone)
    assert ["steady-1: soak-0000 6 to 7 told as gone, 7 is there"] == member.trouble


def test_a_log_that_is_away_is_asked_again(log: Log) -> None:
    """Until it answers, what was told as gone is in doubt."""
    log.is_away = True
    member = heard(log, entry(5), Missing(ROOM, 2), entry(8))
    assert not member.is_whole({ROOM: 8})
    log.is_away = False
    assert member.is_whole({ROOM: 8})
    assert 2 == member.gone


def test_what_is_missing_in_the_end_is_named(log: Log, monkeypatch: pytest.MonkeyPatch) -> None:
    """Who, where, which, since when, and whether the log has it."""
    monkeypatch.setattr(soak_clients, "SETTLE_S_MAX", 0.0)
    log.seqs = [1, 2, 3, 4]
    crowd = Crowd(orders())
    log.tell(State("online", ""), entry(1), entry(2))
    eventually(lambda: crowd.members[0].last.get(ROOM) == 2)
    word = crowd.finish({ROOM: 4})
    assert 2 == word.counts.lost
    (line,) = word.trouble
    assert line.startswith("steady-1: soak-0000 3 to 4 not heard; the last entry was heard 0."), (
        line
    )
    assert "the log has 2 of them; its reader runs; State(state='online'" in line


def test_what_comes_late_is_named_and_no_loss(log: Log, monkeypatch: pytest.MonkeyPatch) -> None:
    """So a run tells how long its slowest member took."""
    monkeypatch.setattr(soak_clients, "LATE_S", 0.0)
    crowd = Crowd(orders())
    log.tell(entry(1))
    eventually(lambda: crowd.members[0].last.get(ROOM) == 1)
    sleep = time.sleep

    def come(seconds: float) -> None:
        log.tell(entry(2), entry(3))
        monkeypatch.setattr("time.sleep", sleep)
        sleep(seconds)

    monkeypatch.setattr("time.sleep", come)
    word = crowd.finish({ROOM: 3})
    assert word.counts.is_clean
    assert word.settled_s > 0
    (line,) = word.late
    assert line.startswith("steady-1: soak-0000 2 to 3 came "), line
