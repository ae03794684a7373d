"""The senders: a closed loop bounded by what was heard, or an open loop on a timetable."""

from __future__ import annotations

import time
from collections import deque
from typing import Final

import numpy as np

from bench.dialect import Heard, Post, Voice
from bench.generator.links import Link
from bench.generator.orders import Pressure
from bench.text import Maker, make

MARKER: Final = 0xFFFF  # The sender of the mark.


class Talker:
    """One client that sends, going through the rooms in turn."""

    def __init__(
        self,
        index: int,
        voice: Voice,
        links: list[Link],
        *,
        rooms_count: int,
        size: int,
        coalesce: int,
    ) -> None:
        self.index = index
        self.voice = voice
        self.links = links
        self.said = np.zeros(rooms_count, np.int64)  # Texts to each room: the next one's number.
        self.acknowledged = 0
        self.ack_times_ns: list[tuple[int, int]] = []  # Meant to be said, settled.
        self._under_way: deque[tuple[int, int]] = deque()  # Texts, and when they were meant.
        self._rooms_count = rooms_count
        self._rooms = np.arange(2 * rooms_count) % rooms_count  # A round from any room on.
        self._room = index % rooms_count  # Whose turn it is.
        self._size = size
        self._maker = Maker(index, size, coalesce)
        for channel, link in enumerate(links):
            link.take = lambda data, channel=channel: self._take(Heard(channel, data))

    def _take(self, heard: Heard) -> None:
        for count in self.voice.feed(heard):
            self.acknowledged += count
            settled_ns = time.monotonic_ns()
            left = count
            while left:
                texts, meant_ns = self._under_way[0]
                taken = min(texts, left)
                left -= taken
                if taken == texts:
                    self._under_way.popleft()
                    self.ack_times_ns.append((meant_ns, settled_ns))
                else:
                    self._under_way[0] = texts - taken, meant_ns

    @property
    def requests(self) -> int:
        """How many of its requests are not acknowledged."""
        return len(self._under_way)

    @property
    def is_free(self) -> bool:
        """Whether the kernel and the protocol's own window let something out now."""
        return not self.links[0].is_blocked and self.voice.free() > 0

    def say(self, count: int, meant_ns: int, *, is_tracked: bool) -> None:
        """Say texts to the room whose turn it is, in one go."""
        room = self._room
        number = int(self.said[room])
        if count == 1:
            texts = make(self.index, number, meant_ns, self._size)
        else:
            texts = self._maker.make(number, count, meant_ns)
        self.said[room] = number + count
        self._room = (room + 1) % self._rooms_count
        self._write([(room, texts, count)])
        if is_tracked:
            self._under_way.append((count, meant_ns))

    def say_round(self, count: int, meant_ns: int, *, is_tracked: bool) -> None:
        """Say one text each to the next rooms, at most all of them, in one go."""
        rooms = self._rooms[self._room : self._room + count]
        texts = self._maker.make_each(self.said[rooms], meant_ns)
        self.said[rooms] += 1
        self._room = (self._room + count) % self._rooms_count
        self._write([(room, text, 1) for room, text in zip(rooms.tolist(), texts, strict=True)])
        if is_tracked:
            self._under_way.append((count, meant_ns))

    def mark(self, room: int, text: bytes) -> None:
        """Say the mark to a room."""
        self._write([(room, text, 1)])
        self._under_way.append((1, 0))

    def _write(self, posts: list[Post]) -> None:
        for say in self.voice.say(posts):
            self.links[say.channel].write(say.data)


class ClosedLoop:
    """Keeps `window` texts on their way: said and not yet heard by every sampled listener."""

    def __init__(
        self, talkers: list[Talker], window: int, coalesce: int, *, is_tracked: bool
    ) -> None:
        self._talkers = talkers
        self._window = window
        self._is_tracked = is_tracked
        rooms_count = len(talkers[0].said)
        self._is_hot = rooms_count == 1
        # Whoever waits until a whole block fits makes few large ones, as a full queue does.
        self._block = max(1, min(coalesce, window // len(talkers)))
        if not self._is_hot:  # At most a round: one text for each room.
            self._block = min(self._block, rooms_count)
        self._next = 0
        self.said = 0

    def top_up(self, heard: int) -> None:
        """Say what the window takes, talkers in turn."""
        talkers, block = self._talkers, self._block
        idle = 0
        while self._window - (self.said - heard) >= block and idle < len(talkers):
            talker = talkers[self._next]
            self._next = (self._next + 1) % len(talkers)
            if not talker.is_free:
                idle += 1
                continue
            idle = 0
            meant_ns = time.monotonic_ns()
            say = talker.say if self._is_hot else talker.say_round
            say(block, meant_ns, is_tracked=self._is_tracked)
            self.said += block

    def wait_s(self) -> float:
        """Return how long nothing is to be said by itself."""
        return 0.1


class AcknowledgedLoop:
    """Keeps so many requests of each talker under way: said and not yet acknowledged."""

    def __init__(self, talkers: list[Talker], requests: int, coalesce: int) -> None:
        self._talkers = talkers
        self._requests = requests
        self._coalesce = coalesce
        self.said = 0

    def top_up(self, _heard: int) -> None:
        """Say what has become free."""
        meant_ns = time.monotonic_ns()
        for talker in self._talkers:
            while talker.requests < self._requests and talker.is_free:
                talker.say(self._coalesce, meant_ns, is_tracked=True)
                self.said += self._coalesce

    def wait_s(self) -> float:
        """Return how long nothing is to be said by itself."""
        return 0.1


class OpenLoop:
    """Says texts on a timetable, whatever comes back, and stamps each with its own time.

    Whoever stamps the time of saying instead forgets what waited behind a stall (coordinated
    omission).
    """

    def __init__(self, talkers: list[Talker], rate: float, *, is_tracked: bool) -> None:
        self._talkers = talkers
        self._rate = rate
        self._is_tracked = is_tracked
        self._start_ns = time.monotonic_ns()
        self.said = 0
        self.late = 0  # Texts that could not be said at their time, for the talker was not free.

    def top_up(self, _heard: int) -> None:
        """Say what is due."""
        now_ns = time.monotonic_ns()
        due = int((now_ns - self._start_ns) * self._rate / 1e9) + 1
        while self.said < due:
            talker = self._talkers[self.said % len(self._talkers)]
            if not talker.is_free:
                self.late += 1
                return
            meant_ns = self._start_ns + int(self.said * 1e9 / self._rate)
            talker.say(1, meant_ns, is_tracked=self._is_tracked)
            self.said += 1

    def wait_s(self) -> float:
        """Return when the next text is due."""
        due_ns = self._start_ns + int(self.said * 1e9 / self._rate)
        return max(0, due_ns - time.monotonic_ns()) / 1e9


class BoundedLoop:
    """Offers texts on a timetable to clients that take so many which are not settled, and no more.

    That is what the client library does to a program that says more than the broker takes: post()
    blocks. What a client can't take at its time is not said later.
    """

    def __init__(
        self, talkers: list[Talker], rate: float, unsettled_max: int, coalesce: int
    ) -> None:
        self._talkers = talkers
        self._rate = rate
        self._unsettled_max = unsettled_max
        self._coalesce = coalesce
        self._start_ns = time.monotonic_ns()
        self._offered = 0  # To each talker.
        self._taken = [0] * len(talkers)
        self._said = [0] * len(talkers)
        self.is_offering = True
        self.said = 0
        self.pressure = Pressure(0, 0, 0, 0, 0)

    def top_up(self, _heard: int) -> None:
        """Offer what is due, and say what clients hold and may send."""
        now_ns = time.monotonic_ns()
        offered = 0
        if self.is_offering:
            due = int((now_ns - self._start_ns) * self._rate / 1e9 / len(self._talkers))
            offered, self._offered = due - self._offered, due
        under_way = 0
        for place, talker in enumerate(self._talkers):
            free = self._unsettled_max - (self._taken[place] - talker.acknowledged)
            taken = min(offered, free)
            self._taken[place] += taken
            self.pressure.held_back += offered - taken
            self._send(place, talker, now_ns)
            under_way += self._said[place] - talker.acknowledged
        self.pressure.offered += offered * len(self._talkers)
        self.pressure.waiting_max = max(self.pressure.waiting_max, self.waiting)
        self.pressure.under_way_max = max(self.pressure.under_way_max, under_way)

    def _send(self, place: int, talker: Talker, meant_ns: int) -> None:
        while talker.is_free and (waiting := self._taken[place] - self._said[place]):
            count = min(waiting, self._coalesce)
            talker.say(count, meant_ns, is_tracked=True)
            self._said[place] += count
            self.said += count
        # A minute of these would be gigabytes; what waits before it is sent is not in them anyway.
        talker.ack_times_ns.clear()

    @property
    def waiting(self) -> int:
        """How many texts clients have taken and not sent."""
        return sum(self._taken) - self.said

    def stop_offering(self) -> None:
        """Let the timetable end; what clients hold is still said."""
        self.is_offering = False
        self.pressure.offered_until_ns = time.monotonic_ns()

    def wait_s(self) -> float:
        """Return how long nothing is to be said by itself."""
        return 0.001


Loop = ClosedLoop | AcknowledgedLoop | OpenLoop | BoundedLoop
