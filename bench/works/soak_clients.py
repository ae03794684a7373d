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
from typing import Final, NamedTuple

import msgspec

from bench import text
from bench.histogram import Histogram
from bench.results import Counts
from client.api import Client, Pending, Sent, connect
from client.events import Entry, Event, Joined, Missing, Reset, Stalled, State
from client.keys import new_keys
from common.errors import Closed, HubbubError

TICK_S: Final = 0.05
WORD_S: Final = 1.0
CONNECT_S_MAX: Final = 30.0
JOIN_S_MAX: Final = 30.0
# For the last acknowledgements and the last entries. A client that is too slow to take a room's
# last batch, and the beacons of the next 20 s, hears of it with the one after 80 s.
SETTLE_S_MAX: Final = 100.0
LATE_S: Final = 5.0  # Who needs longer to become whole after the end is named.
ASK_S_MAX: Final = 2.0  # For a look into the log: others of the crowd wait meanwhile.
ASKERS_MAX: Final = 5  # Who lacks something in the end and asks the log for it.
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
    server_key: str = ""  # Hex: the broker encrypts, and each member has keys of its own.


class Word(msgspec.Struct):
    """How a crowd is. Counts and `trouble` are since the start, latencies since the last word."""

    counts: Counts
    latencies: str  # HdrHistogram, microseconds.
    comings: int
    is_last: bool = False
    trouble: list[str] = []
    gone: int = 0  # Entries that the log gave up before they were read, and that were told so.
    settled_s: float = 0.0  # From the end until the last member was whole.
    late: list[str] = []  # Who was whole later than `LATE_S`, and what was missing till then.


class Heads(msgspec.Struct):
    """The newest seq of each room."""

    heads: dict[str, int]


class Span(NamedTuple):
    """Seqs of a room, from `first` to `last`."""

    room: str
    first: int
    last: int

    def __str__(self) -> str:
        return f"{self.room} {self.first} to {self.last}"


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
        self.gone = 0  # Entries told as gone that the log does not have any more.
        self._heard_s: dict[str, float] = {}  # When that was (monotonic).
        self._state = ""  # As `State` and `Stalled` told last.
        # Told as gone and not looked up yet; looked up. Both threads use them.
        self._told_gone: deque[Span] = deque()
        self._gone: list[Span] = []
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
        curve = new_keys(orders.server_key) if orders.server_key else None
        self._client: Client = connect(
            orders.broker, nick=nick, timeout_s=CONNECT_S_MAX, curve=curve
        )
        self.nick = nick
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
            self._take_missing(event)
        elif isinstance(event, State | Stalled):
            self._state = str(event)
            if isinstance(event, State) and event.state == "refused":
                self.trouble.append(f"{self.nick}: {event}")
        elif isinstance(event, Reset):
            self.trouble.append(f"{self.nick}: {event}")

    def _take_missing(self, missing: Missing) -> None:
        """Believe that entries are gone for now; `look_up` asks the log."""
        last = self.last.get(missing.room)
        if last is None:  # In the history of a newcomer: then it is damage.
            self.counts.lost += missing.count
            self.trouble.append(f"{self.nick}: {missing}")
            return
        self.last[missing.room] = last + missing.count
        self._told_gone.append(Span(missing.room, last + 1, last + missing.count))

    def _take_entry(self, entry: Entry, now_ns: int) -> None:
        room, seq = entry.room, entry.seq
        self.counts.delivered += 1
        last = self.last.get(room, seq - 1)
        if seq <= last:
            self.counts.duplicated += 1
            return
        if seq > last + 1:
            self.counts.lost += seq - last - 1
            self.trouble.append(f"{self.nick}: {room} {seq} came after {last}")
        self.last[room] = seq
        self._heard_s[room] = now_ns / 1e9
        if entry.nick == self.nick:
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
        """Whether everything said was acknowledged, and heard there; and nothing is in doubt."""
        self.settle()
        self.look_up()
        return not (self._waiting or self._told_gone or self._open_places())

    def _open_places(self) -> list[tuple[str, int]]:
        """Return where own texts are that were only heard or only acknowledged, and are kept."""
        return [
            (room, seq)
            for room, seq in list(self._places)
            if not any(room == each.room and each.first <= seq <= each.last for each in self._gone)
        ]

    def look_up(self) -> None:
        """Ask the log for what was told as gone: it is a loss if the log still has any of it.

        What retention has trimmed before a frozen reader came to it is none: the reader is told.
        """
        while self._told_gone:
            span = self._told_gone[0]
            try:
                still = self._entries(span, 1)
            except HubbubError:
                return  # Away just now: ask later.
            count = span.last - span.first + 1
            if still:
                self.counts.lost += count
                self.trouble.append(f"{self.nick}: {span} told as gone, {still[0].seq} is there")
            else:
                self.gone += count
            self._gone.append(span)
            self._told_gone.popleft()

    def _entries(self, span: Span, limit: int) -> list[Entry]:
        return self._client.history(
            span.room, after=span.first - 1, before=span.last + 1, limit=limit, timeout_s=ASK_S_MAX
        )

    def _found(self, span: Span) -> str:
        try:
            return f"the log has {len(self._entries(span, span.last))} of them"
        except HubbubError as error:
            return f"the log could not be asked: {error}"

    def lacks(self, heads: dict[str, int]) -> list[Span]:
        """Return what of the entries up to these seqs was not heard."""
        last = self.last
        spans = (Span(room, last.get(room, 0) + 1, heads.get(room, 0)) for room in self.rooms)
        return [span for span in spans if span.first <= span.last]

    def is_whole(self, heads: dict[str, int]) -> bool:
        """Whether everything up to these seqs was heard, and everything said is settled."""
        return self.is_settled and not self.lacks(heads)

    def book_missing(self, heads: dict[str, int], *, is_asker: bool) -> None:
        """Count what was not heard up to these seqs as lost, and tell all that is known of it."""
        for span in self.lacks(heads):
            self.counts.lost += span.last - span.first + 1
            heard_s = self._heard_s.get(span.room)
            ago = "never" if heard_s is None else f"{time.monotonic() - heard_s:.1f} s ago"
            found = self._found(span) if is_asker else "the log was not asked"
            self.trouble.append(
                f"{self.nick}: {span} not heard; the last entry was heard {ago}, {found}; "
                f"its reader {'runs' if self._thread.is_alive() else 'has ended'}; {self._state}"
            )
        if self._waiting:
            self.trouble.append(f"{self.nick}: {len(self._waiting)} texts have no answer")
        self.trouble += [
            f"{self.nick}: {room} {seq} was heard or acknowledged, and not both"
            for room, seq in self._open_places()
        ]

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
        self._gone_entries = 0
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
        member.look_up()
        member.close()
        add_counts(self._gone, member.counts)
        self._gone_entries += member.gone
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
            member.look_up()
            add_counts(counts, member.counts)
            latencies.add(member.take_latencies())
            trouble += member.trouble
        gone = self._gone_entries + sum(member.gone for member in self.members)
        return Word(counts, latencies.encode(), self._serial, is_last, trouble[:20], gone)

    def finish(self, heads: dict[str, int]) -> Word:
        """Wait until everybody has everything, and return the last word."""
        start_s = time.monotonic()
        settled_s = 0.0
        late: list[str] = []
        lacking = {member: member.lacks(heads) for member in self.members}
        while lacking and settled_s < SETTLE_S_MAX:
            time.sleep(TICK_S)
            settled_s = time.monotonic() - start_s
            for member in [each for each in lacking if each.is_whole(heads)]:
                spans = ", ".join(map(str, lacking.pop(member))) or "an acknowledgement"
                if settled_s > LATE_S:
                    late.append(f"{member.nick}: {spans} came {settled_s:.1f} s after the end")
        for index, member in enumerate(lacking):
            member.book_missing(heads, is_asker=index < ASKERS_MAX)
        word = self.word(is_last=True)
        word.settled_s, word.late = settled_s, late
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
