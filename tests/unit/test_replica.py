"""The replica delivers every entry once and in order, or says how many are gone."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from client.events import Entry, Event, Missing, Reset
from client.limits import HELD_BATCHES_MAX, HELD_ENTRIES_MAX
from client.replica import Ask, Replica
from common import wire
from common.limits import HISTORY_ENTRIES_MAX
from common.wire import Mode
from tests.unit.log_model import LogModel


def live(replica: Replica, batch: wire.Batch) -> list[Event]:
    events: list[Event] = []
    replica.live(batch, events)
    return events


def serve(replica: Replica, log: LogModel, batches_max: int = 99) -> list[Event]:
    """Answer one question of the replica."""
    ask = replica.wants()
    assert ask is not None
    page, batches = log.page(*ask, batches_max=batches_max)
    return replica.page(ask, page, batches)


def fill(replica: Replica, log: LogModel, batches_max: int = 99) -> list[Event]:
    """Answer until the replica has no more questions."""
    events: list[Event] = []
    for _ in range(1000):
        if replica.wants() is None:
            return events
        events += serve(replica, log, batches_max)
    pytest.fail("the replica asks for ever")


def seqs(events: list[Event]) -> list[int]:
    return [event.seq for event in events if isinstance(event, Entry)]


def start(log: LogModel, history: int | None = 100, since_ms: int | None = None) -> Replica:
    replica = Replica(log.room, history, since_ms)
    assert replica.joined(log.joined(), 0) == []
    return replica


# --- newcomers --------------------------------------------------------------
def test_an_empty_room_stands_at_once() -> None:
    replica = start(LogModel())
    assert replica.stands
    assert replica.wants() is None


def test_a_newcomer_gets_the_last_entries_and_not_more() -> None:
    log = LogModel()
    log.append(5, 5)
    log.append(5)
    replica = start(log, history=7)
    assert not replica.stands
    assert replica.wants() == Ask(Mode.BEFORE, 16, 7)
    assert seqs(serve(replica, log)) == list(range(9, 16))
    assert replica.stands


def test_a_snapshot_of_several_pages_comes_in_order() -> None:
    log = LogModel()
    for _ in range(6):
        log.append(3)
    replica = start(log, history=10)
    assert seqs(fill(replica, log, batches_max=1)) == list(range(9, 19))


@pytest.mark.parametrize("history", [0, None, HISTORY_ENTRIES_MAX + 1])
def test_no_history_all_of_it_and_more_than_a_page(history: int | None) -> None:
    log = LogModel()
    log.append(4)
    log.append(HISTORY_ENTRIES_MAX)
    replica = start(log, history=history)
    expected = list(range(1, log.head + 1))
    count = log.head if history is None else history
    assert seqs(fill(replica, log)) == expected[log.head - count :]
    assert replica.stands


def test_entries_from_a_time_on() -> None:
    log = LogModel()
    log.append(2, ts=1000)
    log.append(2, 2, ts=2000)
    log.append(1, ts=1500)  # The broker's clock stepped back; it still comes after.
    replica = start(log, since_ms=1800)
    assert seqs(fill(replica, log)) == [3, 4, 5, 6, 7]


def test_a_time_after_everything_brings_what_is_said_from_now_on() -> None:
    log = LogModel()
    log.append(2, ts=1000)
    replica = start(log, since_ms=9000)
    late = log.append(2, ts=1100)
    assert live(replica, late) == []
    assert seqs(fill(replica, log)) == [3, 4]


def test_live_batches_wait_for_the_snapshot() -> None:
    log = LogModel()
    log.append(3)
    replica = start(log, history=2)
    assert live(replica, log.append(2)) == []
    assert live(replica, log.append(1)) == []
    assert seqs(serve(replica, log)) == [2, 3, 4, 5, 6]
    assert replica.wants() is None


# --- live -------------------------------------------------------------------
def test_the_next_batch_is_delivered() -> None:
    log = LogModel()
    replica = start(log)
    batch = wire.Batch("lobby", log.epoch, 0, 1, [wire.Post(5, "bob", 1, ["waves", "smiles"])])
    assert live(replica, batch) == [
        Entry("lobby", 1, 5, "action", "bob", "waves"),
        Entry("lobby", 2, 5, "action", "bob", "smiles"),
    ]


def test_a_kind_that_is_not_known_is_a_notice() -> None:
    replica = start(LogModel())
    batch = wire.Batch("lobby", 7, 0, 1, [wire.Post(5, "bob", 99, ["x"])])
    assert live(replica, batch) == [Entry("lobby", 1, 5, "notice", "bob", "x")]


def test_a_repeated_batch_is_dropped_and_an_overlap_trimmed() -> None:
    log = LogModel()
    replica = start(log)
    batch = log.append(3)
    assert seqs(live(replica, batch)) == [1, 2, 3]
    assert live(replica, batch) == []
    overlap = wire.Batch("lobby", log.epoch, 1, 2, [wire.Post(1, "anna", 0, list("2345"))])
    assert seqs(live(replica, overlap)) == [4, 5]


def test_a_hole_is_asked_for_exactly_and_what_followed_it_waits() -> None:
    log = LogModel()
    replica = start(log)
    live(replica, log.append(2))
    log.append(3)
    assert live(replica, log.append(4)) == []
    assert replica.wants() == Ask(Mode.AFTER, 2, 3)
    assert seqs(serve(replica, log, batches_max=1)) == list(range(3, 10))
    assert replica.wants() is None


def test_a_beacon_shows_that_the_last_message_was_lost() -> None:
    log = LogModel()
    replica = start(log)
    log.append(2)
    assert live(replica, log.beacon()) == []
    assert replica.wants() == Ask(Mode.AFTER, 0, 2)
    assert seqs(fill(replica, log)) == [1, 2]


def test_numbers_with_gaps_are_no_holes() -> None:
    log = LogModel(gap=5)
    replica = start(log)
    assert seqs(live(replica, log.append(2))) == [6, 7]
    log.append(1)
    live(replica, log.append(1))
    assert seqs(fill(replica, log)) == [13, 19]


def test_what_is_held_is_bounded_and_the_rest_is_repaired() -> None:
    log = LogModel()
    replica = start(log)
    log.append(1)
    for _ in range(HELD_BATCHES_MAX + 10):
        assert live(replica, log.append(2)) == []
    assert len(replica._held) == HELD_BATCHES_MAX
    assert seqs(fill(replica, log)) == log.seqs


def test_held_entries_are_bounded_too() -> None:
    log = LogModel()
    replica = start(log)
    log.append(1)
    for _ in range(4):
        live(replica, log.append(HELD_ENTRIES_MAX // 3))
    assert replica._held_entries <= HELD_ENTRIES_MAX
    assert seqs(fill(replica, log)) == log.seqs


# --- the log's end ----------------------------------------------------------
def test_what_the_log_no_longer_has_is_counted() -> None:
    log = LogModel()
    replica = start(log)
    live(replica, log.append(2))
    log.append(3)
    log.append(4)
    log.cut(2)
    live(replica, log.beacon())
    events = fill(replica, log)
    assert events[0] == Missing("lobby", 3)
    assert seqs(events) == [6, 7, 8, 9]


@pytest.mark.parametrize("batches_max", [1, 2, 99])
@pytest.mark.parametrize("start_as", ["late", "before", "few", "since", "all"])
@pytest.mark.parametrize("damaged", [{0}, {4}, {14}, {4, 6}, {0, 2, 4, 6, 8, 10, 12, 14}])
def test_what_the_broker_cannot_read_is_counted_where_it_was(
    batches_max: int, start_as: str, damaged: set[int]
) -> None:
    """At the beginning, in the middle, at the end, all of it; and nothing is asked for ever."""
    log = LogModel()
    late = start(log)
    for _ in range(8):
        log.append(2)
    log.damaged = damaged
    live(late, log.beacon())
    replica = {
        "late": late,
        "before": start(log),
        "few": start(log, history=5),
        "since": start(log, since_ms=0),
        "all": start(log, history=None),
    }[start_as]
    events = fill(replica, log, batches_max)
    assert replica.stands
    at = 11 if start_as == "few" else 0
    for event in events:
        if isinstance(event, Entry):
            assert at + 1 == event.seq
            assert at // 2 * 2 not in damaged
            at += 1
        else:
            assert isinstance(event, Missing)
            assert {each // 2 * 2 for each in range(at, at + event.count)} <= damaged
            at += event.count
    assert 16 == at
    assert 17 == seqs(live(replica, log.append(1)))[0]


def test_a_log_that_lost_everything_says_so() -> None:
    log = LogModel()
    replica = start(log)
    log.append(5)
    log.cut(1)
    live(replica, log.beacon())
    assert fill(replica, log) == [Missing("lobby", 5)]
    assert seqs(live(replica, log.append(1))) == [6]


def test_a_page_that_lags_behind_is_no_loss() -> None:
    """History may answer from before the publication; the question stays, nothing is guessed."""
    log = LogModel()
    replica = start(log)
    before = log.page(Mode.AFTER, 0, 1)
    log.append(1)
    live(replica, log.beacon())
    ask = replica.wants()
    assert ask is not None
    assert replica.page(ask, *before) == []
    assert replica.wants() == ask
    assert seqs(fill(replica, log)) == [1]


# --- another log ------------------------------------------------------------
def test_another_epoch_starts_over_as_at_the_join() -> None:
    log = LogModel()
    log.append(5)
    replica = start(log, history=2)
    fill(replica, log)
    other = LogModel(epoch=8)
    other.append(4)
    assert replica.is_strange(other.epoch)
    assert replica.joined(other.joined(), replica.cursor) == [Reset("lobby")]
    assert seqs(fill(replica, other)) == [3, 4]


def test_a_head_below_the_cursor_is_a_log_that_was_rolled_back() -> None:
    log = LogModel()
    replica = start(log)
    live(replica, log.append(5))
    other = LogModel()
    other.append(3)
    assert replica.joined(other.joined(), 5) == [Reset("lobby")]
    assert seqs(fill(replica, other)) == [1, 2, 3]


def test_a_head_from_before_a_live_batch_is_no_roll_back() -> None:
    log = LogModel()
    replica = start(log)
    answer = log.joined()
    live(replica, log.append(5))
    assert replica.joined(answer, 0) == []


def test_a_page_of_another_log_or_question_changes_nothing() -> None:
    log = LogModel()
    log.append(5)
    replica = start(log, history=2)
    ask = Ask(Mode.BEFORE, 6, 2)
    strange = LogModel(epoch=9)
    strange.append(5)
    assert replica.page(ask, *strange.page(*ask)) == []
    assert replica.page(Ask(Mode.AFTER, 0, 9), *log.page(Mode.AFTER, 0, 9)) == []
    assert replica.page(Ask(Mode.BEFORE, 3, 2), *log.page(Mode.BEFORE, 3, 2)) == []
    assert seqs(fill(replica, log)) == [4, 5]
    assert replica.page(ask, *log.page(*ask)) == []


def test_a_page_from_before_a_roll_back_changes_nothing() -> None:
    """It begins above the cursor, so what lies between was not asked for and is not missing."""
    log = LogModel()
    replica = start(log)
    live(replica, log.append(5))
    other = LogModel()
    other.append(3)
    replica.joined(other.joined(), 5)
    fill(replica, other)
    log.append(2)
    assert replica.page(Ask(Mode.AFTER, 5, 2), *log.page(Mode.AFTER, 5, 2)) == []


# --- every interleaving -----------------------------------------------------
class Wild:
    """A room whose frames are lost, repeated, delayed, and whose log is cut and asked late."""

    def __init__(self, history: int | None, gap: int, earlier: list[int]) -> None:
        self.log = LogModel(gap=gap)
        for size in earlier:
            self.log.append(size)
        self.first_at_join = self.log.first
        self.head_at_join = self.log.head
        self.wanted = history
        self.replica = Replica("lobby", history)
        self.events = self.replica.joined(self.log.joined(), 0)
        self.published: list[wire.Batch] = []
        self.late: tuple[Ask, wire.Page, list[wire.Batch]] | None = None
        self.are_cut: set[int] = set()

    def do(self, step: tuple[str, int]) -> None:
        name, n = step
        getattr(self, name)(n)

    def lose(self, n: int) -> None:
        self.published.append(self.log.append(n))

    def publish(self, n: int) -> None:
        self.lose(n)
        self.replica.live(self.published[-1], self.events)

    def repeat(self, n: int) -> None:
        if self.published:
            self.replica.live(self.published[-1 - n % len(self.published)], self.events)

    def overlap(self, _n: int) -> None:
        if len(self.published) > 1 and not self.log.gap:
            a, b = self.published[-2:]
            both = wire.Batch("lobby", a.epoch, a.prev, a.first, a.posts + b.posts)
            self.replica.live(both, self.events)

    def beacon(self, _n: int) -> None:
        self.replica.live(self.log.beacon(), self.events)

    def ask(self, n: int) -> None:
        ask = self.replica.wants()
        if ask is not None:
            self.late = (ask, *self.log.page(*ask, batches_max=n))

    def answer(self, _n: int) -> None:
        if self.late is not None:
            self.events += self.replica.page(*self.late)  # Perhaps for the second time.

    def rejoin(self, _n: int) -> None:
        self.events += self.replica.joined(self.log.joined(), self.replica.cursor)

    def cut(self, n: int) -> None:
        before = set(self.log.seqs)
        self.log.cut(n)
        self.are_cut |= before - set(self.log.seqs)

    def finish(self) -> None:
        self.replica.live(self.log.beacon(), self.events)
        self.events += fill(self.replica, self.log, batches_max=2)
        assert self.replica.stands


ACTS = [
    Wild.lose,
    Wild.publish,
    Wild.publish,
    Wild.repeat,
    Wild.overlap,
    Wild.beacon,
    Wild.ask,
    Wild.answer,
    Wild.rejoin,
    Wild.cut,
]
STEPS = st.tuples(st.sampled_from([act.__name__ for act in ACTS]), st.integers(1, 4))


@settings(max_examples=400, deadline=None)
@given(
    history=st.sampled_from([0, 3, 100, None]),
    gap=st.sampled_from([0, 0, 3]),
    earlier=st.lists(st.integers(1, 4), max_size=5),
    steps=st.lists(STEPS, max_size=40),
)
def test_every_surviving_entry_comes_once_and_in_order(
    history: int | None, gap: int, earlier: list[int], steps: list[tuple[str, int]]
) -> None:
    wild = Wild(history, gap, earlier)
    everything = list(wild.log.seqs)
    for step in steps:
        before = set(wild.log.seqs)
        wild.do(step)
        everything += [seq for seq in wild.log.seqs if seq not in before]
    wild.finish()

    got = seqs(wild.events)
    assert got == sorted(set(got)), "once, in order"
    assert not any(isinstance(event, Reset) for event in wild.events)
    later = [seq for seq in everything if seq > wild.head_at_join]
    survivors = set(wild.log.seqs)
    assert {seq for seq in later if seq in survivors} <= set(got), "no hole"
    assert set(later) - set(got) <= wild.are_cut, "only what is gone is not delivered"
    if gap == 0:
        check_counts(wild)
    else:
        is_lossy = bool(set(later) - set(got))
        missing = [event for event in wild.events if isinstance(event, Missing)]
        assert is_lossy or history is None or not missing, "a gap in the numbers is not a loss"


def check_counts(wild: Wild) -> None:
    """Where the numbers jump, the jump was told to be missing, there and exactly."""
    is_snapshot = bool(wild.wanted)
    position = wild.head_at_join
    if wild.wanted is None:
        position = wild.first_at_join - 1
    for event in wild.events:
        if isinstance(event, Missing):
            assert event.count > 0
            position += event.count
        elif isinstance(event, Entry) and not (is_snapshot and event.seq <= wild.head_at_join):
            assert event.seq == position + 1
            position = event.seq
    assert position == wild.log.head
