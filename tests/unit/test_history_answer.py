"""History's answers: a page for a ticket, a refusal for everything else."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from broker import keys
from broker.history import PAUSE_S_MIN, TOLD_MAX, Once, Pace
from broker.history import answer as answer_at
from broker.log.interface import Reader
from broker.log.rights_records import EVERYWHERE, Put, Sanction
from common import limits, wire
from common.errors import Code
from common.wire import Mode, Page
from tests.unit.logs import MemoryStore, proposal, said, texts_of


@pytest.fixture(name="reader", scope="module")
def reader_of_a_log() -> Reader:
    """Return the reader of a log with two rooms."""
    store = MemoryStore()
    log = store.open()
    log.append([proposal("r", said("a", "b")), proposal("s", said("secret"))])
    log.append([proposal("r", said("c"))])
    return store.reader()


NOW_MS = 1_700_000_000_000
EXPIRES_MIN = NOW_MS // keys.MINUTE_MS + 1


def answer(reader: Reader, frames: list[bytes]) -> list[bytes]:
    """Return the answer to somebody without a key, now."""
    return answer_at(reader, frames, now_ms=NOW_MS)


def ask(reader: Reader, history: wire.History) -> tuple[wire.Payload, list[bytes]]:
    """Return the answer's payload and its further frames."""
    frames = answer(reader, wire.command_frames(wire.NO_TOKEN, history))
    return wire.parse_reply(frames), frames[2:]


def of_room(reader: Reader, room: str, at: int = 0, mode: Mode = Mode.AFTER) -> wire.History:
    """Return a HISTORY with the right ticket."""
    return wire.History(5, room, keys.ticket(reader.secret, room, 0, b"", EXPIRES_MIN), mode, at, 1)


def code_of(frames: list[bytes]) -> str:
    """Return the code of a refusal."""
    error = wire.parse_reply(frames)
    assert isinstance(error, wire.Error)
    assert 2 == len(frames)
    return error.code


def test_a_ticket_opens_its_room(reader: Reader) -> None:
    """The page tells epoch, bounds and more; its batches follow, a frame each."""
    page, batches = ask(reader, of_room(reader, "r"))
    assert Page(5, "r", reader.epoch, 1, 3, more=True) == page
    assert [["a", "b"]] == [texts_of(body) for body in batches]
    page, batches = ask(reader, of_room(reader, "r", 4, Mode.BEFORE))
    assert Page(5, "r", reader.epoch, 1, 3, more=True) == page
    assert [["c"]] == [texts_of(body) for body in batches]


def test_a_room_without_entries_has_an_empty_page(reader: Reader) -> None:
    """A member of a new room asks and hears that there is nothing."""
    assert (Page(5, "new", reader.epoch, 1, 0, more=False), []) == ask(
        reader, of_room(reader, "new")
    )


def test_no_other_ticket_opens_it(reader: Reader) -> None:
    """Missing, forged, of another room, of another spelling, or the subscription's key."""
    right = of_room(reader, "r")
    subscription = keys.subscription(reader.secret, "r", 0)[2:]
    for ticket in (
        b"",
        right.ticket[:-1],
        bytes(16),
        of_room(reader, "s").ticket,
        keys.ticket(reader.secret, "r", 1, b"", EXPIRES_MIN),
        subscription,
    ):
        forged = wire.History(5, "r", ticket, Mode.AFTER, 0, 1)
        assert Code.BAD_TICKET == code_of(
            answer(reader, wire.command_frames(wire.NO_TOKEN, forged))
        )
    spelled = wire.History(5, "R", right.ticket, Mode.AFTER, 0, 1)
    assert Code.BAD_TICKET == code_of(answer(reader, wire.command_frames(wire.NO_TOKEN, spelled)))


def test_a_ticket_ends_with_its_generation() -> None:
    """When the room moves on, the old ticket is worthless and the new one opens."""
    store = MemoryStore()
    store.open().append([proposal("r", said("a"))])
    store.generation = 1
    reader = store.reader()
    old = wire.command_frames(wire.NO_TOKEN, of_room(reader, "r"))
    assert Code.BAD_TICKET == code_of(answer(reader, old))
    new = wire.History(
        5, "r", keys.ticket(reader.secret, "r", 1, b"", EXPIRES_MIN), Mode.AFTER, 0, 1
    )
    page, _ = ask(reader, new)
    assert isinstance(page, Page)


def test_a_key_that_is_let_in_no_more_gets_nothing(reader: Reader) -> None:
    """Whatever its ticket; and it hears why, under its question's id."""
    frames = wire.command_frames(wire.NO_TOKEN, of_room(reader, "r"))
    error = wire.parse_reply(answer_at(reader, frames, now_ms=NOW_MS, is_allowed=False))
    assert isinstance(error, wire.Error)
    assert (5, Code.NOT_ALLOWED, False) == (error.id, error.code, error.survives)


def test_a_ticket_is_one_keys_and_for_a_time(reader: Reader) -> None:
    """Another key has no use of it, nor has anybody when it is over."""
    key, other = bytes(range(32)), bytes(32)
    own = keys.ticket(reader.secret, "r", 0, key, EXPIRES_MIN)
    frames = wire.command_frames(wire.NO_TOKEN, wire.History(5, "r", own, Mode.AFTER, 0, 1))
    last_ms = EXPIRES_MIN * keys.MINUTE_MS - 1
    for now_ms, asking, is_page in (
        (NOW_MS, key, True),
        (last_ms, key, True),
        (last_ms + 1, key, False),
        (NOW_MS, other, False),
        (NOW_MS, b"", False),
    ):
        reply = wire.parse_reply(answer_at(reader, frames, now_ms=now_ms, key=asking))
        assert is_page == isinstance(reply, Page), (now_ms, asking)


def test_each_fault_has_its_code_and_the_requests_id(reader: Reader) -> None:
    """Frames, version, command and payload are refused as on the commands' endpoint."""
    head = wire.MAGIC + bytes([wire.Command.HISTORY]) + wire.NO_TOKEN
    greet = wire.command_frames(wire.NO_TOKEN, wire.Greet(1))
    assert Code.BAD_FRAMES == code_of(answer(reader, []))
    assert Code.BAD_FRAMES == code_of(answer(reader, [head, b"", b""]))
    assert Code.BAD_VERSION == code_of(answer(reader, [b"HUB\x09" + head[4:], b""]))
    assert Code.BAD_COMMAND == code_of(answer(reader, greet))
    bad_limit = wire.encode([77, "r", b"", 0, 0, limits.HISTORY_ENTRIES_MAX + 1])
    frames = answer(reader, [head, bad_limit])
    assert Code.BAD_PAYLOAD == code_of(frames)
    error = wire.parse_reply(frames)
    assert isinstance(error, wire.Error)
    assert 77 == error.id


ids = st.integers(0, limits.NUMBER_MAX)
requests = st.builds(
    lambda room, mode, at, limit, cut: wire.encode(
        wire.History(
            1, room, keys.ticket(bytes(range(32)), room, 0, b"", EXPIRES_MIN), mode, at, limit
        )
    )[:cut],
    st.sampled_from(["r", "s", "none"]),
    st.sampled_from(Mode),
    ids,
    st.integers(1, limits.HISTORY_ENTRIES_MAX),
    st.sampled_from([10, 1_000]),
)


@given(
    st.binary(max_size=60) | requests, st.lists(st.binary(max_size=25), max_size=3), st.booleans()
)
@settings(max_examples=200)
def test_any_frames_are_answered(payload: bytes, frames: list[bytes], is_history: bool) -> None:  # noqa: FBT001 - drawn
    """No request raises, and every answer is a page or an error."""
    store = MemoryStore()
    store.open().append([proposal("r", said("a", "b"))])
    head = wire.MAGIC + bytes([wire.Command.HISTORY]) + wire.NO_TOKEN
    reply = wire.parse_reply(answer(store.reader(), [head, payload] if is_history else frames))
    assert isinstance(reply, Page | wire.Error)


@given(st.lists(st.tuples(st.integers(0, 1_000_000), st.floats(0, 2)), min_size=1, max_size=50))
def test_pages_take_the_time_that_the_rate_gives_them(pages: list[tuple[int, float]]) -> None:
    """Pages of some bytes, after some seconds: never faster, and no pause beyond what is owed."""
    pace, now_s, free_at_s = Pace(1_000_000.0), 0.0, 0.0
    for size, after_s in pages:
        now_s += after_s
        free_at_s = max(free_at_s, now_s) + size / 1_000_000
        pause_s = pace.pause_s([bytes(size // 2), bytes(size - size // 2)], now_s)
        assert pause_s == 0 or pause_s >= PAUSE_S_MIN
        now_s += pause_s
        assert free_at_s - PAUSE_S_MIN < now_s + 1e-9
        assert pause_s == 0 or now_s <= free_at_s + 1e-9


def test_what_is_damaged_is_told_once_and_remembered_up_to_a_bound() -> None:
    """Of so many lines each is said once; beyond that all are forgotten, and said once more."""
    said_lines: list[str] = []
    once = Once(said_lines.append)
    lines = [f"line {number}" for number in range(TOLD_MAX)]
    for line in [*lines, *lines]:
        once(line)
    assert lines == said_lines
    for line in ("one more", "one more", lines[0], lines[0]):
        once(line)
    assert [*lines, "one more", lines[0]] == said_lines


def test_a_banned_key_gets_no_page() -> None:
    """Until the ban is over; and operators do, whatever is written down of them."""
    store, key = MemoryStore(), b"e" * 32
    log = store.open()
    log.append([proposal("r", said("a"))])
    log.keep([Put(Sanction(EVERYWHERE, "ban", key, "eve", NOW_MS + 1))])
    reader = store.reader()
    ticket = keys.ticket(reader.secret, "r", 0, key, EXPIRES_MIN)
    frames = wire.command_frames(wire.NO_TOKEN, wire.History(5, "r", ticket, Mode.AFTER, 0, 1))
    operators = frozenset({key})
    assert Code.BANNED == code_of(answer_at(reader, frames, now_ms=NOW_MS, key=key))
    for page in (
        answer_at(reader, frames, now_ms=NOW_MS + 1, key=key),
        answer_at(reader, frames, now_ms=NOW_MS, key=key, operators=operators),
    ):
        assert isinstance(wire.parse_reply(page), Page)
