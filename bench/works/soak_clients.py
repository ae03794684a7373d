"""A crowd of real clients in a process of its own: `python -m bench.works.soak_clients`.

It reads its orders as one line of JSON and then says how it is about once a second, a line of
JSON each. A line on standard input says "quiet": nobody speaks or leaves any more. The next one
is a `Heads`: everybody reads until there, the crowd says a last word and ends. The end of standard
input ends it too. Every member checks each seq that it hears, and that what was acknowledged to
it is heard there.
"""

from __future__ import annotations

import contextlib
import queue
import resource
import sys
import threading
import time
from collections import deque
from typing import Final

import msgspec

from bench import text
from bench.histogram import Histogram
from bench.results import Counts
from client.api import Client, Pending, Sent, connect
from client.events import Entry, Event, Joined, Missing, Reset, State
from common.errors import Closed, HubbubError

TICK_S: Final = 0.05
WORD_S: Final = 1.0
CONNECT_S_MAX: Final = 30.0
JOIN_S_MAX: Final = 30.0
# For the last acknowledgements and the last entries. A client that is too slow to take a room's
# last batch, and the beacons behind it, hears of it with the last one, after 81 s.
SETTLE_S_MAX: Final = 100.0
NEWCOMERS_HISTORY: Final = 20
TIME_AT: Final = text.TEXT_BYTES_MIN - text.TIME_DIGITS
SECOND_ROOM_EVERY: Final = 4  # So many members share one that is in two rooms.


class Orders(msgspec.Struct):
    """What a crowd is told."""

    broker: str  # HOST:PORT.
    name: str  # Begins the nicks.
    sender: int  # Number of the first member as a sender; see `bench.text`.
    rooms: list[str]
    clients: int
    size: int  # Bytes of a text.
    rate: float = 0.0  # Texts a second of all members together.
    churn: float = 0.0  # Members a second that leave in order, each followed by a new one.
    is_timed: bool = False  # Whether latencies count: not of those who freeze.


class Word(msgspec.Struct):
    """How a crowd is. Counts and `trouble` are since the start, latencies since the last word."""

    counts: Counts
    latencies: str  # HdrHistogram, microseconds.
    comings: int
    is_last: bool = False
    trouble: list[str] = []


class Heads(msgspec.Struct):
    """The newest seq of each room."""

    heads: dict[str, int]


class Member:
    """One client, the thread that reads its events, and its books."""

    def __init__(self, orders: Orders, index: int, serial: int) -> None:
        """Connect and join. Raises `HubbubError`."""
        rooms = orders.rooms
        self.rooms = [rooms[index % len(rooms)]]
        if index % SECOND_ROOM_EVERY == 0 and len(rooms) > 1:
            self.rooms.append(rooms[(index + 1) % len(rooms)])
        self.counts = Counts()
        self.trouble: list[str] = []
        self.last: dict[str, int] = {}  # The newest seq heard of each room.
        self.latencies = Histogram()
        self._sender = orders.sender + index
        self._size = orders.size
        self._is_timed = orders.is_timed
        self._standing: set[str] = set()  # Rooms whose history has been delivered.
        self._number = 0
        self._waiting: deque[tuple[str, Pending[Sent]]] = deque()
        # Own texts by place, acknowledged or heard: whichever comes second finds the first.
        self._places: dict[tuple[str, int], str] = {}
        self._lock = threading.Lock()  # Of the histogram, which two threads use.
        nick = f"{orders.name}-{serial}"
        self._client: Client = connect(orders.broker, nick=nick, timeout_s=CONNECT_S_MAX)
        self._nick = nick
        self._thread = threading.Thread(target=self._read, daemon=True)
        self._thread.start()
        try:
            for room in self.rooms:
                self._client.join(room, history=NEWCOMERS_HISTORY, timeout_s=JOIN_S_MAX)
        except BaseException:
            self.close()
            raise

    # --- the reading thread -------------------------------------------------
    def _read(self) -> None:
        with contextlib.suppress(Closed):
            while burst := self._client.next_burst():
                now_ns = time.monotonic_ns()
                for event in burst:
                    self._take(event, now_ns)

    def _take(self, event: Event, now_ns: int) -> None:
        if isinstance(event, Entry):
            self._take_entry(event, now_ns)
        elif isinstance(event, Joined):
            self._standing.add(event.room)
        elif isinstance(event, Missing):
            self.counts.lost += event.count
            self.trouble.append(f"{self._nick}: {event}")
        elif isinstance(event, Reset) or (isinstance(event, State) and event.state == "refused"):
            self.trouble.append(f"{self._nick}: {event}")

    def _take_entry(self, entry: Entry, now_ns: int) -> None:
        room, seq = entry.room, entry.seq
        self.counts.delivered += 1
        last = self.last.get(room, seq - 1)
        if seq <= last:
            self.counts.duplicated += 1
            return
        if seq > last + 1:
            self.counts.lost += seq - last - 1
            self.trouble.append(f"{self._nick}: {room} {seq} came after {last}")
        self.last[room] = seq
        if entry.nick == self._nick:
            self._pair(room, seq, entry.text)
        if self._is_timed and room in self._standing:
            said_ns = int(entry.text[TIME_AT : text.TEXT_BYTES_MIN], 16)
            with self._lock:
                self.latencies.record((now_ns - said_ns) / 1_000)

    def _pair(self, room: str, seq: int, said: str) -> None:
        place = room, seq
        other = self._places.setdefault(place, said)  # Atomic: both threads come here.
        if other is not said:
            self._places.pop(place)
            if other != said:
                self.trouble.append(f"{room} {seq} is {other!r}, was acknowledged as {said!r}")

    # --- the crowd's thread -------------------------------------------------
    def say(self, meant_ns: int) -> None:
        """Post one text, in each of the rooms in turn."""
        room = self.rooms[self._number % len(self.rooms)]
        said = text.make(self._sender, self._number, meant_ns, self._size).decode()
        self._waiting.append((said, self._client.post(room, said)))
        self._number += 1
        self.counts.sent += 1

    def settle(self) -> None:
        """Book the acknowledgements that have come."""
        while self._waiting and self._waiting[0][1].is_settled:
            said, pending = self._waiting.popleft()
            sent = pending.result()
            self.counts.acknowledged += 1
            self._pair(sent.room, sent.seq, said)

    @property
    def is_settled(self) -> bool:
        """Whether everything said was acknowledged, and heard there."""
        self.settle()
        return not self._waiting and not self._places

    def has_reached(self, heads: dict[str, int]) -> bool:
        """Tell whether everything up to these seqs was heard."""
        return all(self.last.get(room, 0) >= heads.get(room, 0) for room in self.rooms)

    def missing(self, heads: dict[str, int]) -> int:
        """Return how many entries up to these seqs were not heard, and note which."""
        total = 0
        for room in self.rooms:
            last, head = self.last.get(room, 0), heads.get(room, 0)
            if last < head:
                total += head - last
                self.trouble.append(f"{self._nick}: {room} ended with {head}, heard up to {last}")
        return total

    def take_latencies(self) -> Histogram:
        """Return and forget the latencies so far."""
        with self._lock:
            found, self.latencies = self.latencies, Histogram()
        return found

    def close(self) -> None:
        """Leave in order; what was said and is not settled within a second fails."""
        self._client.close()
        self._thread.join(SETTLE_S_MAX)
        with contextlib.suppress(HubbubError):
            self.settle()


class Crowd:
    """All members of this process."""

    def __init__(self, orders: Orders) -> None:
        self._orders = orders
        self._serial = 0
        self._gone = Counts()  # The books of those who left.
        self._trouble: list[str] = []
        self.members = [self._come(index) for index in range(orders.clients)]
        self._turn = 0
        self._oldest = 0

    def _come(self, index: int) -> Member:
        self._serial += 1
        return Member(self._orders, index, self._serial)

    def change_one(self) -> None:
        """Let the oldest member leave in order, and another one come."""
        index = self._oldest
        self._oldest = (index + 1) % len(self.members)
        member = self.members[index]
        member.close()
        add_counts(self._gone, member.counts)
        self._trouble += member.trouble
        self.members[index] = self._come(index)

    def speak(self, count: int, meant_ns: int) -> None:
        """Post so many texts, one member after the other."""
        for _ in range(count):
            self.members[self._turn].say(meant_ns)
            self._turn = (self._turn + 1) % len(self.members)

    def word(self, *, is_last: bool = False) -> Word:
        """Return how everybody is."""
        counts = Counts()
        add_counts(counts, self._gone)
        latencies = Histogram()
        trouble = list(self._trouble)
        for member in self.members:
            member.settle()
            add_counts(counts, member.counts)
            latencies.add(member.take_latencies())
            trouble += member.trouble
        return Word(counts, latencies.encode(), self._serial, is_last, trouble[:20])

    def finish(self, heads: dict[str, int]) -> Word:
        """Wait until everybody has everything, and return the last word."""
        end_s = time.monotonic() + SETTLE_S_MAX
        while time.monotonic() < end_s and not all(
            member.is_settled and member.has_reached(heads) for member in self.members
        ):
            time.sleep(TICK_S)
        missing = sum(member.missing(heads) for member in self.members)
        word = self.word(is_last=True)
        word.counts.lost += missing
        for member in self.members:
            if not member.is_settled:
                word.trouble.append("a text was not acknowledged, or was not heard after it was")
        return word


def add_counts(total: Counts, more: Counts) -> None:
    """Add counts to others."""
    for name in Counts.__struct_fields__:
        setattr(total, name, getattr(total, name) + getattr(more, name))


def _say(word: Word) -> None:
    sys.stdout.buffer.write(msgspec.json.encode(word) + b"\n")
    sys.stdout.buffer.flush()


def _listen(lines: queue.SimpleQueue[bytes]) -> None:
    for line in sys.stdin.buffer:
        lines.put(line)
    lines.put(b"")


def run(crowd: Crowd, orders: Orders, lines: queue.SimpleQueue[bytes]) -> None:
    """Speak, change and report until told to be quiet; then until everybody has everything."""
    start_s = time.monotonic()
    said = changed = 0
    word_due_s = start_s
    is_quiet = False
    while True:
        with contextlib.suppress(queue.Empty):
            line = lines.get(timeout=TICK_S)
            if not line:
                return
            if is_quiet:
                _say(crowd.finish(msgspec.json.decode(line, type=Heads).heads))
                return
            is_quiet = True
        now_s = time.monotonic()
        if not is_quiet:
            due = int((now_s - start_s) * orders.rate) - said
            # After a freeze there is no catching up: what was not said then is not said now.
            crowd.speak(min(due, int(orders.rate) + 1), time.monotonic_ns())
            said += due
            if int((now_s - start_s) * orders.churn) > changed:
                changed = int((now_s - start_s) * orders.churn)
                crowd.change_one()
        if now_s >= word_due_s:
            word_due_s = now_s + WORD_S
            _say(crowd.word())


def main() -> int:
    """Do as ordered."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    orders = msgspec.json.decode(sys.stdin.buffer.readline(), type=Orders)
    lines: queue.SimpleQueue[bytes] = queue.SimpleQueue()
    threading.Thread(target=_listen, args=(lines,), daemon=True).start()
    crowd = Crowd(orders)
    try:
        run(crowd, orders, lines)
    finally:
        for member in crowd.members:
            member.close()
    return 0


if __name__ == "__main__":
    sys.exit(main())
