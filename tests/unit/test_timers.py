"""Timers against the plainest model: a dictionary of deadlines."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from broker.chat.timers import SWEEP_ABOVE, Timers

INFINITY = float("inf")
keys = st.integers(0, 4)
steps = st.lists(
    st.tuples(st.just("set"), keys, st.integers(0, 20))
    | st.tuples(st.just("cancel"), keys, st.just(0))
    | st.tuples(st.just("due"), st.just(0), st.integers(0, 6)),
    max_size=40,
)


@given(steps)
@settings(max_examples=300)
def test_timers_do_what_a_dictionary_of_deadlines_would(steps: list[tuple[str, int, int]]) -> None:
    """Set, moved, cancelled in any way: each key comes once, at its deadline, in their order."""
    timers: Timers[int] = Timers()
    model: dict[int, float] = {}
    now = 0.0
    for step, key, number in steps:
        if step == "set":
            timers.set(key, now + number)
            model[key] = now + number
        elif step == "cancel":
            timers.cancel(key)
            model.pop(key, None)
        else:
            now += number
            came = list(timers.due(now))
            assert sorted(key for key, when in model.items() if when <= now) == sorted(came)
            deadlines = [model.pop(key) for key in came]
            assert sorted(deadlines) == deadlines
        assert len(model) == len(timers)
        assert [model.get(key, INFINITY) for key in range(5)] == list(
            map(timers.deadline, range(5))
        )
        assert [key in model for key in range(5)] == [key in timers for key in range(5)]
        assert timers.next() <= min(model.values(), default=INFINITY)
        assert (timers.next() == INFINITY) == (not model)


def test_looking_when_told_to_comes_to_every_deadline() -> None:
    """Whoever sleeps until `next` and looks again meets each deadline and then rests."""
    timers: Timers[str] = Timers()
    timers.set("moved", 1.0)
    timers.set("moved", 5.0)
    timers.set("plain", 3.0)
    came = []
    for _ in range(10):
        if timers.next() == INFINITY:
            break
        now = timers.next()
        came += [(now, key) for key in timers.due(now)]
    assert [(3.0, "plain"), (5.0, "moved")] == came


def test_a_heap_under_endless_moving_stays_small() -> None:
    """Neither moving earlier nor cancelling and setting again leaves entries behind."""
    timers: Timers[str] = Timers()
    for count in range(10_000):
        timers.set("earlier", 1e6 - count)
        timers.set("later", 1e6 + count)
        timers.cancel("again")
        timers.set("again", 1e6)
    heap = timers._heap
    assert len(heap) <= 2 * len(timers) + SWEEP_ABOVE
    assert ["earlier", "again", "later"] == list(timers.due(2e6))


def test_a_key_may_be_set_while_those_due_are_taken() -> None:
    """What is set for later inside the loop waits for its time."""
    timers: Timers[str] = Timers()
    timers.set("a", 1.0)
    for key in timers.due(1.0):
        timers.set(key, 2.0)
    assert ([], ["a"]) == (list(timers.due(1.5)), list(timers.due(2.0)))
