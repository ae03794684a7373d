"""What the chat asks the broker unasked, away from the threads that show and type.

Owns one thread. Talks are opened here that somebody has begun, and here the broker is told how far
one has read: at most once in `READ_EVERY_S`, and at the end.
"""

from __future__ import annotations

import contextlib
import threading
import time
from collections import deque
from collections.abc import Callable

from client.limits import ERRANDS_WAITING_MAX
from common.errors import HubbubError

READ_EVERY_S = 2.0
STOP_WAIT_S = 1.0

Errand = Callable[[], None]


class Errands:
    """May be told from any thread. `send_read(room, seq)` does not wait."""

    def __init__(
        self,
        send_read: Callable[[str, int], object],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._send_read = send_read
        self._clock = clock
        self._changed = threading.Condition()
        self._waiting: deque[Errand] = deque()
        self._read: dict[str, int] = {}  # By room: the seq to tell; of those joined, so bounded.
        self._told: dict[str, int] = {}
        self._rest_until_s = 0.0
        self._is_stopped = False
        self._thread = threading.Thread(target=self._run, name="errands", daemon=True)
        self._thread.start()

    def add(self, errand: Errand) -> bool:
        """Have something done soon; tell whether there was room for it."""
        with self._changed:
            if len(self._waiting) >= ERRANDS_WAITING_MAX:
                return False
            self._waiting.append(errand)
            self._changed.notify_all()
        return True

    def read(self, room: str, seq: int) -> None:
        """Have the broker told that a room was read up to a seq."""
        with self._changed:
            if seq > self._told.get(room, 0):
                self._read[room] = max(seq, self._read.get(room, 0))
            self._changed.notify_all()

    def stop(self) -> None:
        """Tell what was read, and end the thread. What else waits is not done any more."""
        with self._changed:
            self._is_stopped = True
            self._waiting.clear()
            self._changed.notify_all()
        self._thread.join(STOP_WAIT_S)

    def _run(self) -> None:
        while True:
            with self._changed:
                while not (self._waiting or self._is_stopped):
                    wait_s = self._rest_until_s - self._clock() if self._read else None
                    if wait_s is not None and wait_s <= 0:
                        break
                    self._changed.wait(wait_s)
                errand = self._waiting.popleft() if self._waiting else None
                is_last = self._is_stopped
            if errand is not None:
                with contextlib.suppress(HubbubError):  # It shows at the next start.
                    errand()
            else:
                self._tell_read()
            if is_last:
                return

    def _tell_read(self) -> None:
        with self._changed:
            read, self._read = self._read, {}
            self._told.update(read)
            self._rest_until_s = self._clock() + READ_EVERY_S
        with contextlib.suppress(HubbubError):  # Left meanwhile, or closed: then it is not told.
            for room, seq in read.items():
                self._send_read(room, seq)
