"""What operators see, and what they do in rooms, without a socket."""

from __future__ import annotations

from typing import NoReturn

import pytest

from broker import keys
from broker.chat import admin
from broker.chat.admin import AUDIT_ROWS, ROWS_MAX, TABLE_BYTES_MAX, TITLES_TOLD_MAX, bounded
from broker.chat.late_audits import AGAIN_S
from broker.log.interface import LogFailed, NotInLog, Redacted
from broker.log.rights_records import AuditEntry, Put, RoomFacts
from common import order, wire
from common.errors import Code
from common.order import Admin, Removed, Table
from tests.unit.bench import Bench, Peer
from tests.unit.operator_orders import AFAR, KEY, audited, code, new_bench, table, told


@pytest.fixture
def bench() -> Bench:
    return new_bench()


# --- looking ----------------------------------------------------------------
def test_sessions_tell_name_key_and_address(bench: Bench) -> None:
    bench.peer("bob", "r", "s")
    ann = Peer(bench, "ann")
    bench.core.subscribed(ann.inbox, KEY)
    frames = wire.command_frames(ann.token, ann.hello())
    bench.core.receive(ann.route, frames, AFAR)
    first, second = table(bench, Admin(1, "sessions"))
    assert {"nick": "ann", "key": KEY.hex(), "address": "10.0.0.7", "rooms": "0"} == first
    assert ("bob", "", "2") == (second["nick"], second["address"], second["rooms"])
    assert 32 == len(second["key"])


def test_rooms_tell_closed_ones_and_what_is_kept(bench: Bench) -> None:
    ann = bench.peer("ann", "plans", "r")
    ann.send("plans", "a", "b")
    ann.send("r", "c")
    done = ann.ask(order.Order(7, "plans", "private"), order.Done)
    table(bench, Admin(1, "retention", "r", text="50 default"))
    closed, public = table(bench, Admin(1, "rooms"))
    assert (done.room, "+plans", "1") == (closed["room"], closed["title"], closed["members"])
    assert ("default", "default") == (closed["messages"], closed["days"])
    assert ("r", "", "") == (public["room"], public["title"], public["members"])
    assert ("50", "default", "1") == (public["messages"], public["days"], public["head"])
    assert ann.bench.core.sessions.get(ann.token) is not None
    assert public["owner"] == closed["owner"] != ""


def test_sanctions_are_those_that_hold(bench: Bench) -> None:
    bob = bench.peer("bob", "r")
    table(bench, Admin(1, "mute", "r", "bob", 60, "shouting"))
    table(bench, Admin(1, "ban", nick="bob", text="spam"))
    rows = table(bench, Admin(1, "sanctions"))
    key = keys.owner(bob.owner).hex()
    assert [
        ["", "ban", "bob", key, "for ever", "operator", "spam"],
        ["r", "mute", "bob", key, "1970-01-01T00:17:40Z", "operator", "shouting"],
    ] == [list(row.values()) for row in rows]
    assert rows[1:] == table(bench, Admin(1, "sanctions", "r"))
    bench.drain(61)
    assert rows[:1] == table(bench, Admin(1, "sanctions"))


def test_the_audit_is_told_newest_first(bench: Bench) -> None:
    for text in ("one", "two", "three"):
        table(bench, Admin(1, "announce", text=text), AFAR)
    rows = table(bench, Admin(1, "audit"))
    assert ["3", "2", "1"] == [row["id"] for row in rows]
    assert {"1970-01-01T00:16:40Z"} == {row["at"] for row in rows}
    assert {KEY.hex()} == {row["key"] for row in rows}
    assert ["three", "two"] == [row["detail"] for row in table(bench, Admin(1, "audit", value=2))]


def test_a_table_has_so_many_rows(bench: Bench) -> None:
    """And says when there are more; the audit has 100 unless told."""
    entry = AuditEntry(0, 1, "ann", b"", "kick", "bob", "r", "")
    bench.log.keep([], audit=[entry] * (ROWS_MAX + 1))
    assert AUDIT_ROWS == len(table(bench, Admin(1, "audit")))
    assert ROWS_MAX == len(table(bench, Admin(1, "audit", value=ROWS_MAX + 1)))
    row = ["text"]
    assert ([row] * ROWS_MAX, False) == bounded([row] * ROWS_MAX)
    assert ([row] * ROWS_MAX, True) == bounded([row] * (ROWS_MAX + 1))


def test_a_table_has_so_many_bytes() -> None:
    """Counted as if each character took the most, so that no client finds it too large."""
    row = ["x" * 1_000]
    fitting = TABLE_BYTES_MAX // (4 * 1_000 + 5)
    assert (fitting, False) == (len(bounded([row] * fitting)[0]), bounded([row] * fitting)[1])
    kept, is_cut = bounded([row] * (fitting + 1))
    assert (fitting, True) == (len(kept), is_cut)
    widest = wire.reply_frames(Table(1, ["c"], [["\U0001f600" * 1_000]] * fitting))
    assert len(widest[1]) <= TABLE_BYTES_MAX + 100


def test_a_cut_table_says_so(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(admin, "ROWS_MAX", 2)
    for nick in ("ann", "bob", "cid"):
        bench.peer(nick, f"of-{nick}")
    for verb in ("sessions", "rooms"):
        answer = told(bench, Admin(1, verb))
        assert isinstance(answer, Table)
        assert (2, True) == (len(answer.rows), answer.more)


# --- a room -----------------------------------------------------------------
def test_orders_in_a_room_are_its_own(bench: Bench) -> None:
    """Without being there, above its owner."""
    ann, bob = bench.peer("ann", "r"), bench.peer("bob", "r")
    table(bench, Admin(1, "mute", "r", "ann", text="quiet"))
    assert Code.MUTED == ann.refused(ann.next_send("r", "x")).code
    table(bench, Admin(1, "unmute", "r", "ann"))
    table(bench, Admin(1, "op", "r", "bob"))
    bob.ask(order.Order(1, "r", "slow", value=3), order.Done)
    table(bench, Admin(1, "deop", "r", "bob"))
    assert Code.FORBIDDEN == bob.refused(order.Order(1, "r", "slow")).code
    table(bench, Admin(1, "slow", "r", value=0))
    table(bench, Admin(1, "kick", "r", "bob"))
    assert Code.NOT_MEMBER == bob.refused(wire.Who(1, "r")).code
    table(bench, Admin(1, "ban", "r", "bob"))
    assert Code.BANNED == bob.refused(wire.Join(1, "r")).code
    table(bench, Admin(1, "unban", "r", "bob"))
    bob.join("r")
    actions = [action for action, _, room, _ in audited(bench) if room == "r"]
    assert ["unban", "ban", "kick", "slow", "deop", "slow", "op", "unmute", "mute"] == actions


def test_a_closed_room_is_called_by_its_title_or_name(bench: Bench) -> None:
    """A title that several have is refused, with the names that tell them apart."""
    ann = bench.peer("ann", "plans")
    first = ann.ask(order.Order(1, "plans", "private"), order.Done).room
    table(bench, Admin(1, "slow", "+PLANS", value=3))
    bob = bench.peer("bob", "plans")
    second = bob.ask(order.Order(1, "plans", "private"), order.Done).room
    answer = told(bench, Admin(1, "slow", "+plans", value=4))
    assert isinstance(answer, wire.Error)
    assert Code.ROOM_INVALID == answer.code
    assert first in answer.detail
    assert second in answer.detail
    table(bench, Admin(1, "slow", second, value=4))


def test_so_many_rooms_of_one_title_are_told(bench: Bench) -> None:
    names = [f"+{number:024x}" for number in range(TITLES_TOLD_MAX + 1)]
    for name in names:
        bench.log.found_room(name)
        bench.log.keep([Put(RoomFacts(name, title="+plans"))])
    bench.start()
    answer = told(bench, Admin(1, "slow", "+plans", value=4))
    assert isinstance(answer, wire.Error)
    assert f"{len(names)} rooms" in answer.detail
    assert names[:-1] == [name for name in names if name in answer.detail]


@pytest.mark.parametrize("room", ["", "none", "+none", "@none", "+" + "0" * 24, "no room", "#r"])
def test_a_room_that_is_not_there(bench: Bench, room: str) -> None:
    bench.peer("bob", "r")
    for verb in ("drop", "retention", "slow"):
        assert Code.ROOM_INVALID == code(bench, Admin(1, verb, room, text="1 1", value=1))


@pytest.mark.parametrize(
    ("text", "kept"),
    [("5 6", (5, 6)), ("all default", (0, None)), ("default all", (None, 0)), (" 0\t7 ", (0, 7))],
)
def test_retention_is_set_and_lasts(bench: Bench, text: str, kept: tuple[object, ...]) -> None:
    bench.peer("ann", "r").send("r", "a")
    table(bench, Admin(1, "retention", "r", text=text))
    bench.start()
    (facts,) = [each for each in bench.log.load_rights().rooms if each.room == "r"]
    assert kept == (facts.retain_messages, facts.retain_days)
    assert ("retention", "", "r", " ".join(text.split())) == audited(bench)[0]


@pytest.mark.parametrize(
    "text",
    [
        "",
        "5",
        "5 6 7",
        "-1 5",
        "5 5.0",
        "x 5",
        f"{10**12 + 1} 5",
        "5 36501",
        "9" * 4_000 + " 1",
        "\u0665 5",
    ],
)
def test_retention_takes_two_numbers(bench: Bench, text: str) -> None:
    bench.peer("ann", "r").send("r", "a")
    assert Code.BAD_PAYLOAD == code(bench, Admin(1, "retention", "r", text=text))
    assert [] == audited(bench)


# --- a text -----------------------------------------------------------------
def test_a_dropped_text_is_told_to_the_room(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[tuple[str, int]] = []

    def redact(room: str, seq: int) -> Redacted:
        asked.append((room, seq))
        return Redacted("ann", 1_000)

    monkeypatch.setattr(bench.log, "redact", redact, raising=False)
    ann = bench.peer("ann", "r")
    ann.send("r", "a secret")
    bench.published.clear()
    assert [{"nick": "ann", "at": "1970-01-01T00:00:01Z"}] == table(
        bench, Admin(1, "drop", "r", value=1)
    )
    assert [("r", 1)] == asked
    (removed,) = [each for each in bench.published if isinstance(each.body, Removed)]
    assert Removed("r", bench.log.epoch, 1) == removed.body
    assert ann.join("r").subscription == removed.topic
    assert ("drop", "ann", "r", "entry 1") == audited(bench)[0]


@pytest.mark.parametrize(
    ("error", "expected"), [(NotInLog, Code.BAD_PAYLOAD), (LogFailed, Code.LOG_FAILED)]
)
def test_a_text_that_cannot_be_dropped(
    bench: Bench, monkeypatch: pytest.MonkeyPatch, error: type[Exception], expected: Code
) -> None:
    def redact(_room: str, _seq: int) -> NoReturn:
        raise error

    monkeypatch.setattr(bench.log, "redact", redact, raising=False)
    bench.peer("ann", "r").send("r", "a")
    bench.published.clear()
    assert expected == code(bench, Admin(1, "drop", "r", value=7))
    assert [] == [each for each in bench.published if isinstance(each.body, Removed)]
    assert [] == audited(bench)


def test_a_dropped_text_is_told_though_the_audit_fails(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is gone: nobody shall go on showing it."""
    monkeypatch.setattr(bench.log, "redact", lambda *_: Redacted("ann", 1), raising=False)
    bench.peer("ann", "r").send("r", "a")
    bench.store.fill_all()
    assert ["ann"] == [row["nick"] for row in table(bench, Admin(1, "drop", "r", value=1))]
    assert [Removed("r", 7, 1)] == [
        each.body for each in bench.published if isinstance(each.body, Removed)
    ]
    bench.store.free()
    bench.drain(AGAIN_S)
    assert ["drop"] == [each.action for each in bench.audits]


def test_titles_are_no_way_to_talks(bench: Bench) -> None:
    """A talk has no title; only its own name leads to it."""
    bench.log.found_room("@" + "a" * 24)
    bench.log.keep([Put(RoomFacts("@" + "a" * 24))])
    bench.start()
    assert Code.ROOM_INVALID == code(bench, Admin(1, "slow", "@", value=1))
    assert Code.FORBIDDEN == code(bench, Admin(1, "slow", "@" + "a" * 24, value=1))
