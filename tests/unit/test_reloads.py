"""`reload` is answered with the outcome: of a reading that began after it was asked for."""

from __future__ import annotations

import pytest

from broker.chat import reloads
from broker.chat.peer import Peer as Transport
from common import wire
from common.errors import Code
from common.limits import RELOAD_S_MAX
from common.order import Admin, Table
from tests.unit.bench import Bench
from tests.unit.operator_orders import AFAR, HERE, audited, new_bench, order_frames

NAMES = ("allow", "motd")
READ = Table(7, ["read again", "keys let in"], [["allow, motd", "3"]])


@pytest.fixture
def bench() -> Bench:
    return new_bench()


def ask(bench: Bench, route: bytes, peer: Transport = HERE) -> None:
    """Ask for a reload; the id of the question is 7."""
    bench.set_clock()
    bench.core.receive(route, order_frames(Admin(7, "reload")), peer)


def answers(bench: Bench, route: bytes) -> list[wire.Payload]:
    bench.drain()
    return bench.replies.pop(route, [])


def test_all_who_ask_at_once_are_told_what_was_read(bench: Bench) -> None:
    told = bench.core.reloads
    ask(bench, b"one")
    ask(bench, b"two", AFAR)
    assert told.take_question()
    assert not told.take_question(), "one question for both"
    assert [] == answers(bench, b"one")
    told.answered(1, NAMES, "3", "")
    assert [READ] == answers(bench, b"one")
    assert [READ] == answers(bench, b"two")
    told.answered(1, NAMES, "3", "")  # The same again, for somebody who sent SIGHUP.
    assert [] == answers(bench, b"one")
    assert [("reload", "", "", "")] * 2 == audited(bench)


def test_a_failure_is_told_in_its_own_words(bench: Bench) -> None:
    ask(bench, b"one")
    assert bench.core.reloads.take_question()
    detail = "--allow x: no such file; everything stays as it was"
    bench.core.reloads.answered(1, (), "all", detail)
    assert [wire.Error(7, Code.RELOAD_FAILED, detail, True)] == answers(bench, b"one")


def test_nobody_is_told_of_a_reading_that_began_before_they_asked(bench: Bench) -> None:
    """Somebody else's, by SIGHUP; and another administrator's, whose question is on its way."""
    told = bench.core.reloads
    ask(bench, b"one")
    told.answered(0, NAMES, "3", "")
    assert [] == answers(bench, b"one")
    assert told.take_question()
    told.answered(0, NAMES, "3", "")
    assert [] == answers(bench, b"one")
    ask(bench, b"two")
    assert not told.take_question()
    told.answered(1, NAMES, "3", "")
    assert [READ] == answers(bench, b"one")
    assert [] == answers(bench, b"two")
    assert told.take_question()
    told.answered(2, NAMES, "3", "")
    assert [READ] == answers(bench, b"two")
    assert not told.take_question()


def test_a_supervisor_that_is_silent_is_told_of_in_time(bench: Bench) -> None:
    """Its answer, when it comes, is for nobody; then it can be asked again."""
    told = bench.core.reloads
    ask(bench, b"one")
    assert told.take_question()
    bench.drain(RELOAD_S_MAX / 2)
    ask(bench, b"two")
    assert told.deadline_s == RELOAD_S_MAX
    assert bench.core.next_deadline_s() <= RELOAD_S_MAX
    for route in (b"one", b"two"):
        assert [] == answers(bench, route)
        bench.drain(RELOAD_S_MAX / 2)
        (answer,) = answers(bench, route)
        assert isinstance(answer, wire.Error)
        assert (7, Code.RELOAD_FAILED) == (answer.id, answer.code)
        assert "has not answered" in answer.detail
    ask(bench, b"three")
    assert not told.take_question()
    told.answered(1, NAMES, "3", "")
    assert [] == answers(bench, b"three")
    assert told.take_question()
    told.answered(2, NAMES, "3", "")
    assert [READ] == answers(bench, b"three")


def test_so_many_may_wait(bench: Bench) -> None:
    told = bench.core.reloads
    for number in range(reloads.WAITING_MAX):
        ask(bench, b"%d" % number)
        assert told.take_question() == (number == 0)
    ask(bench, b"one more")
    (answer,) = answers(bench, b"one more")
    assert isinstance(answer, wire.Error)
    assert Code.TOO_MANY == answer.code
    told.answered(1, NAMES, "3", "")
    ask(bench, b"again")
    assert told.take_question()
    told.answered(2, NAMES, "3", "")
    assert [READ] == answers(bench, b"1")
    assert [READ] == answers(bench, b"again")
