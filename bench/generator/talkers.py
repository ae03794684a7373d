"""The senders: a closed loop bounded by what was heard, or an open loop on a timetable."""

from __future__ import annotations

import time
from collections import deque
from typing import Final

from bench.dialect import Heard, Voice
from bench.generator.links import Link
from bench.text import Maker, make

RUN_MAX: Final = 64  # Texts for different rooms that a talker writes in one go.
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
        self.said = [0] * rooms_count  # Texts said to each room: the next one's number.
        self.acknowledged = 0
        self.ack_times_ns: list[tuple[int, int]] = []  # Meant to be said, settled.
        self._under_way: deque[tuple[int, int]] = deque()  # Texts, and when they were meant.
        self._room = index % rooms_count
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
        number = self.said[room]
        if count == 1:
            texts = make(self.index, number, meant_ns, self._size)
        else:
            texts = self._maker.make(number, count, meant_ns)
        self.said[room] = number + count
        self._room = (room + 1) % len(self.said)
        if is_tracked:
            self._under_way.append((count, meant_ns))
        for say in self.voice.say(room, texts, count):
            self.links[say.channel].write(say.data)

    def say_run(self, count: int, meant_ns: int, *, is_tracked: bool) -> int:
        """Say one text each to the next rooms, in one write; return to how many."""
        parts: dict[int, list[bytes]] = {}
        said = 0
        rooms_count = len(self.said)
        while said < count and self.voice.free() > 0:
            room = self._room
            number = self.said[room]
            self.said[room] = number + 1
            self._room = (room + 1) % rooms_count
            if is_tracked:
                self._under_way.append((1, meant_ns))
            text = make(self.index, number, meant_ns, self._size)
            for say in self.voice.say(room, text, 1):
                parts.setdefault(say.channel, []).append(say.data)
            said += 1
        for channel, datas in parts.items():
            self.links[channel].write(b"".join(datas))
        return said

    def mark(self, room: int, text: bytes) -> None:
        """Say the mark to a room."""
        for say in self.voice.say(room, text, 1):
            self.links[say.channel].write(say.data)
        self._under_way.append((1, 0))


class ClosedLoop:
    """Keeps `window` texts on their way: said and not yet heard by every sampled listener."""

    def __init__(
        self, talkers: list[Talker], window: int, coalesce: int, *, is_tracked: bool
    ) -> None:
        self._talkers = talkers
        self._window = window
        self._is_tracked = is_tracked
        self._is_hot = len(talkers[0].said) == 1
        # Whoever waits until a whole block fits makes few large ones, as a full queue does.
        self._block = max(1, min(coalesce if self._is_hot else RUN_MAX, window // len(talkers)))
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
            if self._is_hot:
                talker.say(block, meant_ns, is_tracked=self._is_tracked)
                self.said += block
            else:
                self.said += talker.say_run(block, meant_ns, is_tracked=self._is_tracked)

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
        # Whole milliseconds, rounded down: epoll rounds up, and the last one is spent asking.
        return max(0, due_ns - time.monotonic_ns()) // 1_000_000 / 1e3


Loop = ClosedLoop | AcknowledgedLoop | OpenLoop
