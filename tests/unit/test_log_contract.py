"""What every log promises, whichever it is: the contract's tests, run for each."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import NamedTuple

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from broker.log.interface import Log, LogFailed, Proposal, Reader, RoomRecord, nowhere
from broker.log.writer import DAY_MS
from common.errors import Code
from common.limits import (
    BATCH_BYTES_MAX,
    HISTORY_BYTES_MAX,
    HISTORY_ENTRIES_MAX,
    NUMBER_MAX,
    SENDS_IN_FLIGHT_MAX,
)
from common.wire import Ack, Batch, Mode, Place, decode_batch, encode
from tests.unit.logs import (
    MemoryStore,
    SqliteStore,
    Store,
    entries_of,
    mark,
    proposal,
    said,
    sent,
    texts_of,
)

ANN, BOB = b"ann".ljust(16), b"bob".ljust(16)


class Entry(NamedTuple):
    """One entry of the model."""

    seq: int
    ts: int
    text: str


@contextmanager
def store_of(kind: str) -> Iterator[Store]:
    """Yield an empty store of this kind."""
    with tempfile.TemporaryDirectory() as folder:
        made = MemoryStore() if kind == "memory" else SqliteStore(Path(folder), is_quick=True)
        with closing(made):
            yield made


@pytest.fixture(params=["memory", "sqlite"])
def store(request: pytest.FixtureRequest) -> Iterator[Store]:
    """Return an empty store of each kind."""
    with store_of(request.param) as made:
        yield made


def entries(page: list[bytes]) -> list[Entry]:
    """Return the entries of a page's batches."""
    return [Entry(*entry) for body in page for entry in entries_of(body)]


def whole(reader: Reader, room: str = "r") -> list[str]:
    """Return all texts of a room."""
    page = reader.read(room, Mode.AFTER, 0, HISTORY_ENTRIES_MAX)
    assert not page.more
    return [entry.text for entry in entries(page.batches)]


class TestAppending:
    """The write side."""

    def test_what_is_appended_is_committed_in_order(self, store: Store) -> None:
        """Each proposal becomes one batch after the last one of its room, and is told once."""
        log = store.open()
        first = proposal("r", said("a", "b", ts=5), said("c", ts=6))
        other = proposal("s", said("x"))
        second = proposal("r", said("d"))
        log.append([first, other, second])
        told = log.follow()
        assert [first, other, second] == [each.proposal for each in told]
        assert [(0, 1, 3), (0, 1, 1), (3, 4, 4)] == [(e.prev, e.first, e.last) for e in told]
        batch = Batch("r", log.epoch, 0, 1, first.posts)
        assert batch == decode_batch(told[0].body)
        assert [] == log.follow()
        log.append([proposal("r", said("e"))])
        assert [(4, 5, 5)] == [(e.prev, e.first, e.last) for e in log.follow()]

    def test_several_appends_may_come_before_a_follow(self, store: Store) -> None:
        """Nothing that was committed is skipped."""
        log = store.open()
        for text in "abc":
            log.append([proposal("r", said(text))])
        assert ["a", "b", "c"] == [texts_of(each.body)[0] for each in log.follow()]

    def test_a_reader_sees_what_was_committed_the_same_bytes(self, store: Store) -> None:
        """What is followed is what history serves, as soon as it is committed."""
        log, reader = store.open(), store.reader()
        assert (log.epoch, log.secret) == (reader.epoch, reader.secret)
        for _ in range(3):
            log.append([proposal("r", said("a", "b")), proposal("r", said("c"))])
            told = [each.body for each in log.follow()]
            page = reader.read("r", Mode.BEFORE, NUMBER_MAX, 3)
            assert told == page.batches

    def test_rooms_are_known_with_head_and_topic(self, store: Store) -> None:
        """Each room has its own head; the last topic of an append stands."""
        log = store.open()
        assert [] == log.rooms()
        log.append([proposal("r", said("a", "b", ts=5)), proposal("s", said("t1"), topic="t1")])
        log.append([proposal("s", said("t2"), topic="t2"), proposal("s", said("t3"), topic="t3")])
        log.append([proposal("s", said("plain", ts=9))])
        expected = [RoomRecord("r", 0, 1, 2, "", 5), RoomRecord("s", 0, 1, 4, "t3", 9)]
        assert expected == sorted(log.rooms())
        page = store.reader().read("s", Mode.AFTER, 3, 1)
        assert expected[1] == page.record

    def test_a_reopened_log_goes_on_where_it_was(self, store: Store) -> None:
        """Rooms, heads, topics, epoch and secret are those of before; nothing is told again."""
        log = store.open()
        log.append([proposal("r", said("a", "b")), proposal("s", said("t"), topic="t")])
        rooms, identity = log.rooms(), (log.epoch, log.secret)
        again = store.open()
        assert rooms == again.rooms()
        assert identity == (again.epoch, again.secret)
        assert [] == again.follow()
        again.append([proposal("r", said("c")), proposal("new", said("n"))])
        assert [(2, 3, 3), (0, 1, 1)] == [(e.prev, e.first, e.last) for e in again.follow()]
        assert ["a", "b", "c"] == whole(store.reader())
        assert ["n"] == whole(store.reader(), "new")

    def test_a_full_disk_keeps_nothing_and_the_next_append_works(self, store: Store) -> None:
        """All rooms and senders of a failed append are as before, and seqs have no hole."""
        log, reader = store.open(), store.reader()
        log.append([proposal("r", said("a"), sends=[sent(ANN, 1)])])
        rooms, marks = log.rooms(), dict(log.recall(ANN))
        log.follow()
        store.fill()
        large = proposal("r", said(*["x" * 4_000] * 20), sends=[sent(ANN, 2)], topic="no")
        for _ in range(2):
            with pytest.raises(LogFailed):
                log.append([proposal("new", said("n"), sends=[sent(BOB, 1)]), large])
            assert [] == log.follow()
            assert rooms == log.rooms()
            assert marks == log.recall(ANN)
            assert {} == log.recall(BOB)
            assert (["a"], []) == (whole(reader), whole(reader, "new"))
        store.free()
        log.append([proposal("new", said("n")), large, proposal("r", said("b"))])
        assert [(0, 1, 1), (1, 2, 21), (21, 22, 22)] == [
            (each.prev, each.first, each.last) for each in log.follow()
        ]
        assert ["n"] == whole(store.reader(), "new")


class TestMemoryOfSenders:
    """What a resend is answered from."""

    def test_the_last_sends_of_a_sender_are_recalled(self, store: Store) -> None:
        """Each number has its place and time, also when several shared a batch."""
        log = store.open()
        posts = [said("a", "b", ts=5), said("c", ts=6)]
        log.append(
            [proposal("r", *posts, sends=[sent(ANN, 7, (0, 0, 5)), sent(BOB, 1, (0, 2, 6))])]
        )
        log.append([proposal("s", said("d", ts=8), sends=[sent(ANN, 9, (0, 0, 8))])])
        assert {7: mark(7, (1, 5)), 9: mark(9, (1, 8))} == log.recall(ANN)
        assert {1: mark(1, (3, 6))} == log.recall(BOB)
        assert {} == log.recall(b"nobody")

    def test_a_send_over_several_rooms_is_one_mark(self, store: Store) -> None:
        """With the place of each post, in the order of the SEND, and what was not kept."""
        log = store.open()
        log.append([proposal("s", said("before"))])
        spots = [(1, 0, 5), nowhere(Code.NOT_MEMBER), (0, 1, 6), (1, 2, 5)]
        in_r = proposal("r", said("x"), said("c", ts=6))
        in_s = proposal("s", said("a", "b", ts=5), said("d", ts=5), sends=[sent(ANN, 1, *spots)])
        log.append([in_r, in_s])
        places = [Place(2, 5), Place(0, 0, Code.NOT_MEMBER), Place(2, 6), Place(4, 5)]
        expected = encode(Ack(1, places))
        assert {1: expected} == log.recall(ANN)
        assert expected == in_s.sends[0].ack
        log.forget(ANN)
        assert {1: expected} == store.open().recall(ANN)

    def test_the_memory_that_was_given_lives(self, store: Store) -> None:
        """Whoever holds it sees each commit in it, and as many numbers as may be in flight."""
        log = store.open()
        living = log.recall(ANN)
        for number in range(1, SENDS_IN_FLIGHT_MAX + 4):
            log.append([proposal("r", said("a"), sends=[sent(ANN, number)])])
            assert number in living
        assert list(range(4, SENDS_IN_FLIGHT_MAX + 4)) == sorted(living)

    def test_a_large_append_leaves_the_last_sends(self, store: Store) -> None:
        """Many SENDs of a sender in one append, over several rooms, count as if one by one."""
        log = store.open()
        numbers = range(1, 3 * SENDS_IN_FLIGHT_MAX)
        log.append([proposal("rs"[n % 2], said("a"), sends=[sent(ANN, n)]) for n in numbers])
        assert list(numbers)[-SENDS_IN_FLIGHT_MAX:] == sorted(log.recall(ANN))

    def test_marks_outlive_the_log_that_wrote_them(self, store: Store) -> None:
        """Forgotten or reopened, the memory is the same as before."""
        log = store.open()
        log.append([proposal("r", said("a"), sends=[sent(ANN, 1), sent(ANN, 2)])])
        before = dict(log.recall(ANN))
        log.forget(ANN)
        log.forget(b"nobody")
        assert before == log.recall(ANN)
        again = store.open()
        assert before == again.recall(ANN)
        again.append([proposal("r", said("b"), sends=[sent(ANN, 3)])])
        assert [1, 2, 3] == sorted(again.recall(ANN))


class TestReading:
    """Pages that are not about numbers alone."""

    @pytest.mark.parametrize("mode", list(Mode))
    def test_an_unknown_room_is_an_empty_one(self, store: Store, mode: Mode) -> None:
        """Nobody learns from history whether a room exists."""
        store.open().append([proposal("r", said("a"))])
        reader = store.reader()
        assert 0 == reader.generation("none")
        for at in (0, 1, NUMBER_MAX):
            page = reader.read("none", mode, at, 1)
            assert (RoomRecord("none", 0, 1, 0, ""), [], False) == page

    def test_rooms_that_are_neighbours_do_not_mix(self, store: Store) -> None:
        """A page begins and ends with its room, however far it reaches."""
        log = store.open()
        for text in "abc":
            log.append([proposal(room, said(room + text)) for room in ("q", "r", "s")])
        reader = store.reader()
        for mode, at in ((Mode.AFTER, 0), (Mode.BEFORE, NUMBER_MAX), (Mode.SINCE, 0)):
            page = reader.read("r", mode, at, HISTORY_ENTRIES_MAX)
            assert ["ra", "rb", "rc"] == [entry.text for entry in entries(page.batches)]
        assert [] == reader.read("r", Mode.AFTER, NUMBER_MAX, 1).batches
        assert [] == reader.read("r", Mode.AFTER, 3, 1).batches
        assert [] == reader.read("r", Mode.BEFORE, 0, 1).batches
        assert [] == reader.read("r", Mode.BEFORE, 1, 1).batches
        assert [] == reader.read("r", Mode.SINCE, NUMBER_MAX, 1).batches

    def test_a_page_ends_after_the_batch_that_makes_it_too_large(self, store: Store) -> None:
        """However many entries were asked for, a page's bytes are bounded, and more is said."""
        log = store.open()
        text = "x" * 4_000
        for _ in range(8):
            log.append([proposal("r", said(*[text] * 60))])
        reader = store.reader()
        for mode, at in ((Mode.AFTER, 0), (Mode.BEFORE, NUMBER_MAX), (Mode.SINCE, 0)):
            page = reader.read("r", mode, at, HISTORY_ENTRIES_MAX)
            size_bytes = sum(map(len, page.batches))
            assert HISTORY_BYTES_MAX <= size_bytes < HISTORY_BYTES_MAX + BATCH_BYTES_MAX
            assert page.more

    def test_a_trimmed_room_keeps_its_head(self, store: Store) -> None:
        """With every entry dropped, places go on, also after reopening, and no page says more."""
        log = store.open(retain_days=1)
        log.append([proposal("r", said("a", "b", ts=1), said("t", ts=1), topic="t")])
        assert {"r": 4} == log.trim(DAY_MS + 2)
        assert {} == log.trim(DAY_MS + 2)
        gone = RoomRecord("r", 0, 4, 3, "t")
        reader = store.reader()
        for mode in Mode:
            for at in (0, 1, 3, 4, NUMBER_MAX):
                assert (gone, [], False) == reader.read("r", mode, at, 9)
        again = store.open(retain_days=1)
        assert [gone] == again.rooms()
        again.append([proposal("r", said("c", ts=DAY_MS))])
        assert [(3, 4, 4)] == [(each.prev, each.first, each.last) for each in again.follow()]
        assert (["c"], 4) == (whole(reader), reader.read("r", Mode.AFTER, 0, 1).record.first)


class TestRetention:
    """What is dropped, and what is not."""

    def test_a_batch_goes_whole_or_stays_whole(self, store: Store) -> None:
        """A batch that retention would cut through stays until all of it is past."""
        log = store.open(retain_messages=4)
        log.append([proposal("r", said("a", "b", "c")), proposal("r", said("d", "e", "f"))])
        assert {} == log.trim(0)
        log.append([proposal("r", said("g"))])
        assert {"r": 4} == log.trim(0)
        assert ["d", "e", "f", "g"] == whole(store.reader())
        assert 4 == log.rooms()[0].first

    def test_age_counts_from_the_last_post_of_a_batch(self, store: Store) -> None:
        """A batch with one young post stays; exactly as old as allowed is not too old."""
        log = store.open(retain_days=2)
        for ts in (100, 200):
            log.append([proposal("r", said(f"{ts}", ts=ts), said(f"{ts + 50}", ts=ts + 50))])
        assert {} == log.trim(2 * DAY_MS + 150)
        assert {"r": 3} == log.trim(2 * DAY_MS + 151)
        assert {} == log.trim(2 * DAY_MS + 250)
        assert {"r": 5} == log.trim(2 * DAY_MS + 251)

    def test_without_retention_everything_stays(self, store: Store) -> None:
        """Zero means for ever."""
        log = store.open()
        log.append([proposal("r", said("a", ts=0))])
        assert {} == log.trim(10**15)
        assert ["a"] == whole(store.reader())


batch_sizes = st.lists(st.integers(1, 4), min_size=1, max_size=12)
asked = st.tuples(st.sampled_from(Mode), st.integers(0, 45), st.integers(1, 12))


def check_page(reader: Reader, model: list[Entry], head: int, ask: tuple[Mode, int, int]) -> None:
    """Compare a page with the model's entries, and see that it is no larger than it must be."""
    mode, at, limit = ask
    page = reader.read("r", mode, at, limit)
    got = entries(page.batches)
    first = model[0].seq if model else head + 1
    assert (first, head) == (page.record.first, page.record.head)
    if mode == Mode.BEFORE:
        wanted = [entry for entry in model if entry.seq < at]
        inside = [entry for entry in got if entry.seq < at]
        assert inside == wanted[len(wanted) - len(inside) :]
        spare = entries(page.batches[1:])
        needless = [entry for entry in spare if entry.seq < at]
    else:
        key = Entry._fields.index("seq" if mode == Mode.AFTER else "ts")
        lowest = at + 1 if mode == Mode.AFTER else at
        wanted = [entry for entry in model if int(entry[key]) >= lowest]
        inside = [entry for entry in got if int(entry[key]) >= lowest]
        assert inside == wanted[: len(inside)]
        needless = [e for e in entries(page.batches[:-1]) if int(e[key]) >= lowest]
    assert page.more == (len(inside) < len(wanted))
    assert bool(inside) == bool(wanted)
    if mode != Mode.SINCE:  # There the entries before the time count as well.
        assert len(inside) >= min(limit, len(wanted))
    assert len(needless) < limit
    if not wanted:
        assert [] == page.batches


@pytest.mark.parametrize("kind", ["memory", "sqlite"])
@given(
    runs=st.lists(batch_sizes, min_size=1, max_size=3),
    retain=st.integers(0, 30),
    is_trimmed_between=st.booleans(),
    asks=st.lists(asked, min_size=1, max_size=12),
)
@settings(max_examples=60)
def test_pages_are_slices_of_what_is_kept(
    kind: str,
    runs: list[list[int]],
    retain: int,
    asks: list[tuple[Mode, int, int]],
    *,
    is_trimmed_between: bool,
) -> None:
    """Whatever the batches, cuts and reopenings: a page is what a list of entries would give."""
    with store_of(kind) as store:
        model: list[Entry] = []
        head = 0
        batches: list[list[Entry]] = []
        for run in runs:
            log = store.open(retain_messages=retain)
            made: list[Proposal] = []
            for size in run:
                # Times rise now and then; a batch has posts of two times.
                batch = [
                    Entry(head + i, (head + i) // 2, f"{head + i}") for i in range(1, size + 1)
                ]
                head += size
                batches.append(batch)
                made.append(proposal("r", *[said(e.text, ts=e.ts) for e in batch]))
            log.append(made)
            if is_trimmed_between:
                cut(log, batches, retain, head)
        cut(log, batches, retain, head)
        model = [entry for batch in batches for entry in batch]
        reader = store.reader()
        for ask in asks:
            check_page(reader, model, head, ask)


def cut(log: Log, batches: list[list[Entry]], retain: int, head: int) -> None:
    """Trim the log and the model alike."""
    before = len(batches)
    while retain and batches and batches[0][-1].seq <= head - retain:
        del batches[0]
    first = batches[0][0].seq if batches else head + 1
    assert ({"r": first} if len(batches) < before else {}) == log.trim(0)
