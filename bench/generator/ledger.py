"""Which texts were heard: counts what was lost, came twice or out of order. NumPy, no I/O."""

from __future__ import annotations

import hashlib

import numpy as np

from bench.results import Counts
from bench.text import senders_and_numbers


class Ledger:
    """What one listener heard. Each sender numbers its texts for this room 0, 1, 2, ..."""

    def __init__(self, size: int) -> None:
        self._size = size
        self._next: dict[int, int] = {}  # Sender to the number after the highest heard.
        self._missing: dict[int, set[int]] = {}  # Passed over, and not come late yet.
        self._digest = hashlib.blake2b(digest_size=16)
        self.count = 0
        self.duplicated = 0
        self.reordered = 0

    def add(self, texts: bytes) -> None:
        """Book texts, given one after the other."""
        if not texts:
            return
        self._digest.update(texts)
        senders, numbers = senders_and_numbers(texts, self._size)
        self.count += len(numbers)
        for sender in np.unique(senders).tolist():
            self._add(sender, numbers[senders == sender])

    def _add(self, sender: int, numbers: np.ndarray[tuple[int], np.dtype[np.int64]]) -> None:
        expected = self._next.get(sender, 0)
        last = int(numbers[-1])
        if last - expected + 1 == len(numbers) and bool((np.diff(numbers) == 1).all()):
            self._next[sender] = last + 1
            return
        missing = self._missing.setdefault(sender, set())
        for number in numbers.tolist():
            if number >= expected:
                missing.update(range(expected, number))
                expected = number + 1
            elif number in missing:
                missing.remove(number)
                self.reordered += 1
            else:
                self.duplicated += 1
        self._next[sender] = expected

    def digest(self) -> bytes:
        """Return what is the same for listeners who heard the same in the same order."""
        return self._digest.digest()

    def lost(self, said: dict[int, int]) -> int:
        """Return how many texts never came; `said` has each sender's count for this room."""
        lost = 0
        for sender, count in said.items():
            lost += max(0, count - self._next.get(sender, 0))
            lost += len(self._missing.get(sender, ()))
        return lost

    def close(self, counts: Counts, said: dict[int, int]) -> None:
        """Add this listener's books to the run's."""
        counts.lost += self.lost(said)
        counts.duplicated += self.duplicated
        counts.reordered += self.reordered
