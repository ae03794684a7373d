"""Waits for acknowledgements in the order of sending, so that nobody who sends has to.

Owns one thread. The number of waiting texts is bounded by the client: its post() blocks when too
many are not settled.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable
from typing import TYPE_CHECKING, NamedTuple

from client import codes
from common.errors import Closed, HubbubError, Refused

if TYPE_CHECKING:
    from client.api import Pending
    from client.events import Sent

STOP_WAIT_S = 1.0


class Posted(NamedTuple):
    """A text under way."""

    text: str
    kind: str
    pending: Pending[Sent]


class Receipts:
    """What was posted and is not settled yet. Its methods may be called from any thread.

    `on_kept` and `on_failed` are called by the thread that waits, one after the other.
    """

    def __init__(
        self,
        on_kept: Callable[[Posted, Sent], None],
        on_failed: Callable[[Posted, Exception], None],
    ) -> None:
        self.failed_count = 0
        self.end: Refused | None = None  # Why a text failed that an operator ended the session of.
        self._on_kept = on_kept
        self._on_failed = on_failed
        self._changed = threading.Condition()
        self._waiting: deque[Posted] = deque()
        self._is_telling = False  # Of one that is settled: `wait` returns after that.
        self._is_stopped = False
        self._thread = threading.Thread(target=self._collect, name="receipts", daemon=True)
        self._thread.start()

    def __len__(self) -> int:
        """How many are not settled."""
        return len(self._waiting)

    def add(self, posted: Posted) -> None:
        """Wait for this one too."""
        with self._changed:
            self._waiting.append(posted)
            self._changed.notify_all()

    def wait(self, patience_s: float) -> list[str]:
        """Wait until all is settled, or nothing is for `patience_s`; return the unsettled texts."""
        with self._changed:
            while (self._waiting or self._is_telling) and self._changed.wait(patience_s):
                pass
            return [posted.text for posted in self._waiting]

    def stop(self) -> None:
        """End the thread. Close the client before: a wait for an acknowledgement ends then."""
        with self._changed:
            self._is_stopped = True
            self._changed.notify_all()
        self._thread.join(STOP_WAIT_S)

    def _collect(self) -> None:
        while posted := self._next():
            error: Exception | None = None
            try:
                sent = posted.pending.result(None)
            except Closed:
                return  # It stays among the waiting ones, for `wait` to tell.
            except (HubbubError, ValueError) as reason:
                error = reason
            with self._changed:
                self._waiting.popleft()
                self._is_telling = True
                self.failed_count += error is not None
                if isinstance(error, Refused) and error.code in codes.ENDED:
                    self.end = error
            if error is None:
                self._on_kept(posted, sent)
            else:
                self._on_failed(posted, error)
            with self._changed:
                self._is_telling = False
                self._changed.notify_all()

    def _next(self) -> Posted | None:
        with self._changed:
            self._changed.wait_for(lambda: self._waiting or self._is_stopped)
            return None if self._is_stopped else self._waiting[0]
