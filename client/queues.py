"""The two bounded queues between the program's threads and the connection's thread.

Thread-safe, every method. Nothing here knows ZeroMQ.
"""

from __future__ import annotations

import contextlib
import io
import os
import threading
from collections import deque
from collections.abc import Callable

from client.effects import Effect
from client.events import Event
from client.limits import EVENTS_QUEUE_LOW, EVENTS_QUEUE_MAX, TEXTS_UNSETTLED_MAX
from client.outbox import Line
from client.session import Session
from common.errors import Closed

# The ticket of a call (a Pending of anything) and what to do with the session.
Call = tuple[object, Callable[[Session, float], list[Effect]]]


class Waker:
    """Makes the connection's thread look up: a pipe that its poller watches.

    Not a pair of sockets: importing `socket` takes 3 ms, and `hubbub send` needs it nowhere else.
    """

    def __init__(self) -> None:
        ear_fd, mouth_fd = os.pipe()
        os.set_blocking(ear_fd, False)
        os.set_blocking(mouth_fd, False)
        # Not the bare numbers: once closed, one may be somebody else's file.
        self._ear, self._mouth = io.FileIO(ear_fd, "r"), io.FileIO(mouth_fd, "w")
        self._is_set = False

    def fileno(self) -> int:
        """Return what the poller watches."""
        return self._ear.fileno()

    def wake(self) -> None:
        """Wake the thread; it may be too late for that."""
        if not self._is_set:
            self._is_set = True
            with contextlib.suppress(OSError, ValueError):  # Closed. (A full one is set.)
                self._mouth.write(b"\0")

    def clear(self) -> None:
        """Take the signal. Whoever wakes from here on is heard, so look at the queues after.

        In this order: the other way round, a signal that comes in between would be taken with
        the flag still set, and nobody would ever signal again.
        """
        with contextlib.suppress(OSError, ValueError):
            self._ear.read(64)
        self._is_set = False

    def close(self) -> None:
        """Close both ends."""
        self._is_set = True
        self._ear.close()
        self._mouth.close()


class CallQueue:
    """From the program to the connection: calls, and texts up to a bound."""

    def __init__(self, waker: Waker) -> None:
        self._waker = waker
        self._has_room = threading.Condition(threading.Lock())
        self._lines: list[Line] = []
        self._calls: list[Call] = []
        self._unsettled_count = 0
        self._waiting_count = 0
        self._closed: Closed | None = None
        self.is_end_wanted = False

    def want_end(self) -> None:
        """Ask for the end without taking the lock: the garbage collector may hold it itself."""
        self.is_end_wanted = True
        self._waker.wake()

    def put_line(self, line: Line) -> None:
        """Queue a text; wait while as many as may be are unsettled. Raises `Closed`."""
        with self._has_room:
            while self._unsettled_count >= TEXTS_UNSETTLED_MAX and self._closed is None:
                self._waiting_count += 1
                self._has_room.wait()
                self._waiting_count -= 1
            if self._closed is not None:
                raise self._closed.with_traceback(None)
            self._unsettled_count += 1
            self._lines.append(line)
        self._waker.wake()

    def put(self, call: Call) -> None:
        """Queue a call. Each thread waits for its own, so there are few. Raises `Closed`."""
        with self._has_room:
            if self._closed is not None:
                raise self._closed.with_traceback(None)
            self._calls.append(call)
        self._waker.wake()

    def take(self) -> tuple[list[Call], list[Line]]:
        """Return and remove everything."""
        with self._has_room:
            calls, self._calls = self._calls, []
            lines, self._lines = self._lines, []
        return calls, lines

    def settled(self, count: int) -> None:
        """Note that texts were kept or refused: others may be queued."""
        with self._has_room:
            self._unsettled_count -= count
            if self._waiting_count:
                self._has_room.notify(count)

    def close(self, closed: Closed) -> None:
        """Refuse everything from here on; those who wait are told."""
        with self._has_room:
            self._closed = closed
            self._has_room.notify_all()


class EventQueue:
    """From the connection to the program: events, up to about a bound.

    The bound is soft: what one turn of the connection brings is always taken. Then the
    connection stops reading rooms until the program has caught up.
    """

    def __init__(self, waker: Waker) -> None:
        self._waker = waker
        self._has_news = threading.Condition(threading.Lock())
        self._events: deque[Event] = deque()
        self._is_closed = False

    @property
    def is_full(self) -> bool:
        """Whether the connection should stop reading rooms."""
        return len(self._events) >= EVENTS_QUEUE_MAX

    @property
    def is_low(self) -> bool:
        """Whether it should go on."""
        return len(self._events) <= EVENTS_QUEUE_LOW

    def put(self, events: list[Event]) -> None:
        """Add events, in order: one lock for all."""
        with self._has_news:
            self._events.extend(events)
            self._has_news.notify()

    def take(self, timeout_s: float | None) -> deque[Event]:
        """Return and remove all events, waiting for the first; none when closed or late."""
        with self._has_news:
            if not self._events:
                self._has_news.wait_for(self._is_ready, timeout_s)
            events, self._events = self._events, deque()
        if len(events) >= EVENTS_QUEUE_MAX:
            self._waker.wake()
        return events

    def _is_ready(self) -> bool:
        return bool(self._events) or self._is_closed

    def close(self) -> None:
        """Tell whoever waits that nothing follows."""
        with self._has_news:
            self._is_closed = True
            self._has_news.notify_all()
