"""The members of the rooms: a sample is read and checked, the others' bytes are only counted.

All members of a room are sent the same bytes, so after a mark that everybody has read, whoever
has as many bytes as the sample has as many texts. What the server sends each one by itself (its
pings) has a known size. Bytes are counted as they travel, encrypted ones too.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Final

from bench.dialect import Ear
from bench.generator.ledger import Ledger
from bench.generator.links import Link
from bench.generator.newcomers import say_all

PINGS_MAX: Final = 8  # By which two listeners may differ: smaller together than one text.
BACKLOG_TEXTS_MAX: Final = 10_000  # Then the ledger takes them: a few milliseconds.


class Room:
    """One room's listeners, and what its sample has heard."""

    def __init__(self, index: int, heard: Callable[[int], None]) -> None:
        self.index = index
        self.samples: list[Sampled] = []
        self.drained: list[Drained] = []
        self.marked = 0  # How many listeners have read the mark.
        self.count = 0  # Texts that every sampled listener has.
        self._heard = heard

    def moved(self) -> None:
        """Note that a sampled listener has heard something."""
        count = min(sample.count for sample in self.samples)
        if count != self.count:
            self._heard(count - self.count)
            self.count = count


class _Marked:
    """Reads up to the mark, and counts bytes from there."""

    def __init__(self, room: Room, link: Link, mark: bytes) -> None:
        self.room = room
        self.link = link
        self._mark = mark
        self._tail = b""

    def _after_mark(self, data: bytes) -> bytes | None:
        """Return what comes after the mark; None while it has not come."""
        self._tail += data
        place = self._tail.find(self._mark)
        if place < 0:
            self._tail = self._tail[-len(self._mark) + 1 :]
            return None
        rest = self._tail[place + len(self._mark) :]
        self._tail = b""
        self.room.marked += 1
        return rest


class Drained(_Marked):
    """A listener whose bytes are dropped in the kernel once it has read the mark."""

    def __init__(self, room: Room, link: Link, mark: bytes, ping: bytes, pong: bytes) -> None:
        super().__init__(room, link, mark)
        self._ping = ping
        self._pong = pong
        self._early_bytes = 0
        link.take = self._take
        room.drained.append(self)

    def _take(self, data: bytes) -> None:
        if self._ping and self._ping in data:  # So small that TCP does not cut it.
            self.link.write(self._pong)
        rest = self._after_mark(data)
        if rest is not None:
            self._early_bytes = len(rest)
            self.link.drain()

    @property
    def bytes_since_mark(self) -> int:
        """How many bytes have come since the mark's last one."""
        return self._early_bytes + self.link.drained_bytes


class Sampled(_Marked):
    """A listener that is read and checked in full."""

    def __init__(
        self,
        room: Room,
        links: list[Link],
        ear: Ear,
        *,
        size: int,
        mark: bytes,
        arrivals: list[tuple[int, bytes]] | None,
    ) -> None:
        super().__init__(room, links[ear.channel], mark)
        self._links = links
        self._ear = ear
        self._arrivals = arrivals  # Where times are wanted: when, and which texts.
        self.ledger = Ledger(size)
        self.count = 0
        self._bytes = 0  # Taken since the mark,
        self._overhead_bytes = 0  # and what the link had heard beside by then.
        self._backlog = 0
        self._is_marked = False
        links[ear.channel].take = self._take
        room.samples.append(self)

    def _take(self, data: bytes) -> None:
        count = self._ear.feed(data)
        says = self._ear.take_says()
        if says:
            say_all(says, self._links)
        if not self._is_marked:
            rest = self._after_mark(data)
            if rest is not None:
                # Nothing else is said before everybody has read the mark.
                self._is_marked = True
                self._bytes = len(rest)
                self._overhead_bytes = self.link.overhead_bytes
                self._ear.take_texts()
            return
        self._bytes += len(data)
        if not count:
            return
        self.count += count
        self._backlog += count
        if self._arrivals is not None:
            texts = self._ear.take_texts()
            self._arrivals.append((time.monotonic_ns(), texts))
            self.ledger.add(texts)
        elif self._backlog > BACKLOG_TEXTS_MAX:
            self.book()
        self.room.moved()

    @property
    def bytes_since_mark(self) -> int:
        """How many bytes have come since the mark's last one."""
        return self._bytes + self.link.overhead_bytes - self._overhead_bytes

    def book(self) -> None:
        """Take what was heard into the ledger."""
        self._backlog = 0
        self.ledger.add(self._ear.take_texts())


def missing_bytes(room: Room, listener: Drained, ping_bytes: int) -> int:
    """Return how many bytes a drained listener lacks beside the sample (below 0: has too many).

    Each is pinged by a clock of its own, so a few pings more or less are nothing.
    """
    missing = room.samples[0].bytes_since_mark - listener.bytes_since_mark
    if ping_bytes and missing % ping_bytes == 0 and abs(missing) < PINGS_MAX * ping_bytes:
        return 0
    return missing


def is_level(room: Room, ping_bytes: int) -> bool:
    """Tell whether every drained listener has what the sample has; raise `Lost`."""
    for listener in room.drained:
        listener.link.read_rest()
    return not any(missing_bytes(room, listener, ping_bytes) for listener in room.drained)
