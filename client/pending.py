"""An answer that is still to come, for threads that wait. No I/O."""

from __future__ import annotations

import threading
from typing import Final, Generic, TypeVar

from common.errors import Unreachable

T = TypeVar("T")

_UNSETTLED: Final = object()
_MAKING_WAITER: Final = threading.Lock()


class Pending(Generic[T]):
    """The outcome of a call: a value or an exception.

    Thread-safe. Most are never waited for, so the lock that a waiter needs is made when
    somebody waits.
    """

    __slots__ = ("_error", "_value", "_waiter")

    def __init__(self) -> None:
        self._value: object = _UNSETTLED
        self._error: Exception | None = None
        self._waiter: threading.Lock | None = None

    @property
    def is_settled(self) -> bool:
        """Whether `result` returns or raises at once."""
        return self._value is not _UNSETTLED

    def result(self, timeout_s: float | None = None) -> T:
        """Wait for the outcome (None: as long as it takes) and return it, or raise its error.

        Raises `Unreachable` when the time is up; the outcome can still come later.
        """
        if self._value is _UNSETTLED:
            self._wait(timeout_s)
        if self._error is not None:
            raise self._error.with_traceback(None)
        return self._value  # type: ignore[return-value]  # Settled: a T.

    def settle(self, value: T) -> None:
        """Set the value. Only the connection's thread calls this, once."""
        self._value = value
        if self._waiter is not None:
            self._waiter.release()

    def fail(self, error: Exception) -> None:
        """Set the exception. Only the connection's thread calls this, once."""
        self._error = error
        self._value = None
        if self._waiter is not None:
            self._waiter.release()

    def _wait(self, timeout_s: float | None) -> None:
        with _MAKING_WAITER:
            if self._waiter is None:
                waiter = threading.Lock()
                waiter.acquire()
                self._waiter = waiter
        # Settling sets the value first and looks for a waiter then; this looks the other way
        # round. So one of the two sees the other.
        if self._value is not _UNSETTLED:
            return
        if not self._waiter.acquire(timeout=-1 if timeout_s is None else max(timeout_s, 0)):
            raise Unreachable(f"no answer within {timeout_s:g} s")
        self._waiter.release()  # For the next one who waits.
