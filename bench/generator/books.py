"""Which entries of a room a member heard: each exactly once, in order, the same for all. No I/O.

Seqs leave none out in today's log, and a batch of another one would tell of a gap by `prev`: what
a member passes over is missing until it comes.
"""

from __future__ import annotations

from collections.abc import Iterable

from bench.generator.ledger import Ledger
from bench.results import Counts
from client.events import Entry


class Log:
    """What the room said, as whoever heard it first did. Shared by all members."""

    def __init__(self) -> None:
        self.texts: dict[int, str] = {}  # By seq.

    def check(self, kept: Iterable[tuple[int, str]], said: dict[int, int], size: int) -> Counts:
        """Count what is wrong with the log itself: one loss here is a loss for every member.

        kept: seq and text of each acknowledgement. said: texts of each sender, which numbers them
        0, 1, 2, ... size: of every text, in bytes.
        """
        counts = Counts()
        ledger = Ledger(size)
        for seq in sorted(self.texts):
            ledger.add(self.texts[seq].encode())
        ledger.close(counts, said)
        counts.lost += sum(self.texts.get(seq) != text for seq, text in kept)
        return counts


class Book:
    """One member's: from the entry after the head that it joined at."""

    __slots__ = ("_log", "_missing", "duplicated", "heard", "last", "reordered")

    def __init__(self, log: Log, head: int) -> None:
        self.last = head  # The highest seq heard.
        self.heard = 0
        self.duplicated = 0
        self.reordered = 0
        self._log = log.texts
        self._missing: set[int] = set()  # Passed over, and not come late yet.

    def add(self, entry: Entry) -> bool:
        """Book an entry; return whether its text is the one that everybody heard there."""
        seq = entry.seq
        self.heard += 1
        if seq == self.last + 1:
            self.last = seq
        elif seq > self.last:
            self._missing.update(range(self.last + 1, seq))
            self.last = seq
        elif seq in self._missing:
            self._missing.remove(seq)
            self.reordered += 1
        else:
            self.duplicated += 1
        return self._log.setdefault(seq, entry.text) == entry.text

    def lost(self, head: int) -> int:
        """Return how many entries up to the room's head were never heard."""
        return len(self._missing) + max(head - self.last, 0)

    def close(self, counts: Counts, head: int) -> None:
        """Add this book to the run's counts."""
        counts.delivered += self.heard
        counts.lost += self.lost(head)
        counts.duplicated += self.duplicated
        counts.reordered += self.reordered
