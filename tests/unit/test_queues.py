"""The queues between the program's threads and the connection's, and the answers to come."""

from __future__ import annotations

import threading
from collections.abc import Iterator

import pytest

from client.events import Event, Left
from client.limits import EVENTS_QUEUE_MAX, TEXTS_UNSETTLED_MAX
from client.outbox import Line
from client.pending import Pending
from client.queues import CallQueue, EventQueue, Waker
from common.errors import Closed, Code, Refused, Unreachable
from common.wire import Kind

LINE = Line("lobby", Kind.TEXT, "hello", 5, None)
JOIN_S = 10


@pytest.fixture
def waker() -> Iterator[Waker]:
    waker = Waker()
    yield waker
    waker.close()


def is_signalled(waker: Waker) -> bool:
    """Return whether the poller would see a signal; take it."""
    return bool(waker._ear.read(64))


def test_a_signal_is_sent_once_until_it_is_taken(waker: Waker) -> None:
    waker.wake()
    waker.wake()
    waker.clear()
    assert not is_signalled(waker)
    waker.wake()
    assert is_signalled(waker)


def test_a_signal_while_another_is_taken_does_not_silence_the_next(
    waker: Waker, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Ear:
        def read(self, _size: int) -> bytes:
            waker.wake()  # Another thread, at the worst moment.
            return b"\0"

    waker.wake()
    ear = waker._ear
    monkeypatch.setattr(waker, "_ear", Ear())
    waker.clear()
    monkeypatch.setattr(waker, "_ear", ear)
    is_signalled(waker)
    waker.wake()
    assert is_signalled(waker)


def test_a_signal_after_the_end_is_no_error() -> None:
    waker = Waker()
    waker.close()
    waker.wake()
    waker.clear()


def test_texts_are_bounded_and_wait_for_room(waker: Waker) -> None:
    calls = CallQueue(waker)
    for _ in range(TEXTS_UNSETTLED_MAX):
        calls.put_line(LINE)
    late = threading.Thread(target=calls.put_line, args=(LINE,))
    late.start()
    assert len(calls.take()[1]) == TEXTS_UNSETTLED_MAX
    assert late.is_alive()  # Taken is not settled.
    calls.settled(1)
    late.join(JOIN_S)
    assert calls.take() == ([], [LINE])


def test_closing_frees_those_who_wait(waker: Waker) -> None:
    calls = CallQueue(waker)
    for _ in range(TEXTS_UNSETTLED_MAX):
        calls.put_line(LINE)
    errors: list[BaseException] = []

    def post() -> None:
        with pytest.raises(Closed) as caught:
            calls.put_line(LINE)
        errors.append(caught.value)

    late = threading.Thread(target=post)
    late.start()
    calls.close(Closed("the end"))
    late.join(JOIN_S)
    assert [str(error) for error in errors] == ["the end"]
    with pytest.raises(Closed):
        calls.put((None, lambda _session, _now: []))


def test_events_are_taken_together_and_in_order(waker: Waker) -> None:
    events = EventQueue(waker)
    events.put([Left("a"), Left("b")])
    events.put([Left("c")])
    assert [*events.take(None)] == [Left("a"), Left("b"), Left("c")]
    assert not events.take(0)


def test_a_full_queue_says_so_and_signals_when_it_is_read(waker: Waker) -> None:
    events = EventQueue(waker)
    full: list[Event] = [Left("a")] * EVENTS_QUEUE_MAX
    events.put(full)
    assert events.is_full
    assert not is_signalled(waker)
    events.take(None)
    assert events.is_low
    assert is_signalled(waker)


def test_what_was_queued_before_the_end_is_still_delivered(waker: Waker) -> None:
    events = EventQueue(waker)
    events.put([Left("a")])
    events.close()
    assert [*events.take(None)] == [Left("a")]
    assert not events.take(None)


def test_every_waiter_gets_the_outcome() -> None:
    pending: Pending[int] = Pending()
    results: list[int] = []
    waiters = [
        threading.Thread(target=lambda: results.append(pending.result(JOIN_S))) for _ in "abc"
    ]
    for waiter in waiters:
        waiter.start()
    pending.settle(7)
    for waiter in waiters:
        waiter.join(JOIN_S)
    assert results == [7, 7, 7]
    assert pending.result(0) == 7


def test_a_wait_that_is_too_short_can_be_repeated() -> None:
    pending: Pending[int] = Pending()
    with pytest.raises(Unreachable):
        pending.result(0)
    assert not pending.is_settled
    pending.fail(Refused(Code.NOT_MEMBER))
    assert pending.is_settled
    for _ in range(2):
        with pytest.raises(Refused):
            pending.result()
