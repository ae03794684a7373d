"""Deadlines for many keys, of which most are moved before they come. Pure."""

from __future__ import annotations

import heapq
from collections.abc import Hashable, Iterator
from itertools import count
from typing import Generic, TypeVar

K = TypeVar("K", bound=Hashable)

SWEEP_ABOVE = 64  # Dead entries that are not worth sweeping out.


class Timers(Generic[K]):
    """One deadline per key. Moving one to later costs a dictionary store, nothing else.

    The heap holds at most one live entry per key: an entry that comes up too early is put
    back at the key's real deadline. Dead ones are swept out when they are the larger part.
    """

    def __init__(self) -> None:
        self._deadlines: dict[K, float] = {}
        self._entries: dict[K, float] = {}  # When the key's live heap entry comes up.
        self._heap: list[tuple[float, int, K]] = []
        self._ticks = count()  # Keys need not be comparable.

    def __len__(self) -> int:
        return len(self._deadlines)

    def __contains__(self, key: K) -> bool:
        return key in self._deadlines

    def set(self, key: K, when: float) -> None:
        """Give the key this deadline, in place of any other."""
        self._deadlines[key] = when
        entry = self._entries.get(key)
        if entry is None or when < entry:
            self._entries[key] = when
            heapq.heappush(self._heap, (when, next(self._ticks), key))
            if len(self._heap) > 2 * len(self._entries) + SWEEP_ABOVE:
                self._sweep()

    def _sweep(self) -> None:
        self._heap = [(when, next(self._ticks), key) for key, when in self._entries.items()]
        heapq.heapify(self._heap)

    def cancel(self, key: K) -> None:
        """Forget the key's deadline, if it has one."""
        self._deadlines.pop(key, None)
        self._entries.pop(key, None)

    def deadline(self, key: K) -> float:
        """Return the key's deadline; infinity when it has none."""
        return self._deadlines.get(key, float("inf"))

    def due(self, now: float) -> Iterator[K]:
        """Take and return the keys whose deadline has come, in the order of the deadlines."""
        while self._heap and self._heap[0][0] <= now:
            entry, _, key = heapq.heappop(self._heap)
            if self._entries.get(key) != entry:
                continue  # Cancelled, or moved to an earlier entry.
            del self._entries[key]
            deadline = self._deadlines[key]
            if deadline > entry:  # Put back even when it is due: others may come before.
                self.set(key, deadline)
            else:
                del self._deadlines[key]
                yield key

    def next(self) -> float:
        """Return when to look again: at or before the next deadline; infinity when idle."""
        while self._heap and self._entries.get(self._heap[0][2]) != self._heap[0][0]:
            heapq.heappop(self._heap)
        return self._heap[0][0] if self._heap else float("inf")
