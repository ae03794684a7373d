"""Clients in a process of their own who talk until told to stop: `python -m tests.torture.talkers`.

Orders come as one line of JSON; then they join, say `joined`, and talk. Everything is booked in
files as it happens, so that a kill of this process loses nothing that its clients were told:

- ledger: `kept SECONDS ROOM SEQ NICK NUMBER`, `refused ROOM NICK NUMBER CODE`, `resent TEXTS`;
- views: `view NICK ROOM FIRST LAST COUNT DIGEST` of what one has been shown so far, `left` and
  `joined NICK ROOM OTHER`, `state NICK STATE`, `trouble NICK WORDS` for what must not be.

`quiet` on the input ends the talk and is answered when all is acknowledged; `finish GOALS` waits
until everybody has seen the rooms' heads and counts. Each answer is a line, each wait bounded.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import sys
import threading
import time

import msgspec

from client.api import Client, connect
from client.events import Entry, Event, Joined, Missing, Presence, Reset, State
from client.outbox import Outbox
from common import wire
from common.errors import Refused, Unreachable
from tests.persons import keys_of
from tests.waiting import DEADLINE_S, eventually

ANSWER_S_MAX = 90.0  # Longer than any trouble lasts: whoever waits so long is not whole.
CHECKPOINT_S = 0.1  # So often a view is noted while entries come.
HISTORY = 50  # A newcomer's view begins so far back.
FILLER_MAX = 300  # Texts have many sizes, so that records end anywhere in a page of the disk.


class Orders(msgspec.Struct):
    """What the talkers are told."""

    broker: str
    ledger: str
    views: str
    members: dict[str, list[str]]  # Nick to rooms.
    pause_s: float = 0.02  # Between two rounds, or the load would be all that the machine does.
    is_talking: bool = True
    server_key: str = ""  # Hex, of a broker that encrypts.


class Goal(msgspec.Struct):
    """How a room is when everything has calmed down."""

    head: int
    users: int


class Goals(msgspec.Struct):
    """How all rooms are then, and how long to wait for it."""

    rooms: dict[str, Goal]
    patience_s: float


class Finished(msgspec.Struct):
    """Who did not become whole, by nick: why."""

    unfinished: dict[str, str]


class Book:
    """A file that grows by whole lines, from any thread; what is written survives the process."""

    def __init__(self, path: str) -> None:
        self._file = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT)

    def write(self, *words: object) -> None:
        """Add a line."""
        os.write(self._file, (" ".join(map(str, words)) + "\n").encode())


class View:
    """What one client was shown of one room."""

    def __init__(self) -> None:
        self.first = self.last = self.count = 0
        self._ts = 0
        self._digest = hashlib.sha256()

    def take(self, entry: Entry) -> str:
        """Take the next entry; return what is wrong with it."""
        wrong = ""
        if self.count and entry.seq <= self.last:
            wrong = f"{entry.room}: seq {entry.seq} after {self.last}"
        elif entry.ts < self._ts:
            wrong = f"{entry.room}: at {entry.seq} time {entry.ts} after {self._ts}"
        self.first = self.first or entry.seq
        self.last, self._ts = entry.seq, entry.ts
        self.count += 1
        self._digest.update(f"{entry.seq} {entry.nick} {entry.text}\n".encode())
        return wrong

    def line(self) -> str:
        """Return first, last, count and digest."""
        return f"{self.first} {self.last} {self.count} {self._digest.hexdigest()}"


class Reader(threading.Thread):
    """Reads one client's events and books them, until the process ends."""

    def __init__(self, client: Client, nick: str, rooms: list[str], views: Book) -> None:
        super().__init__(daemon=True)
        self._client = client
        self._nick = nick
        self._file = views
        self._views = {room: View() for room in rooms}
        self._users = dict.fromkeys(rooms, 0)
        self._noted_s = 0.0

    def run(self) -> None:
        """Read until the client is closed."""
        while burst := self._client.next_burst():
            for event in burst:
                self._take(event)
            if time.monotonic() >= self._noted_s + CHECKPOINT_S:
                self.note()

    def _take(self, event: Event) -> None:
        if isinstance(event, Entry):
            if wrong := self._views[event.room].take(event):
                self._book("trouble", wrong)
        elif isinstance(event, Presence):
            self._users[event.room] = event.users
            for word, nicks in (("joined", event.joined), ("left", event.left)):
                for nick in nicks:
                    self._book(word, event.room, nick)
        elif isinstance(event, Joined):
            self._users[event.room] = event.users
        elif isinstance(event, State):
            self._book("state", event.state)
        elif isinstance(event, Missing | Reset):
            self._book("trouble", repr(event))

    def _book(self, word: str, *words: str) -> None:
        self._file.write(word, self._nick, *words)

    def note(self) -> None:
        """Note how far each view is."""
        for room, view in self._views.items():
            if view.count:
                self._book("view", room, view.line())
        self._noted_s = time.monotonic()

    def missing(self, goals: dict[str, Goal]) -> str:
        """Return what this one still lacks of the goals; nothing when it is whole."""
        lacks = []
        for room, view in self._views.items():
            goal = goals[room]
            if view.last != goal.head:
                lacks.append(f"{room} is at {view.last} of {goal.head}")
            if self._users[room] != goal.users:
                lacks.append(f"{room} has {self._users[room]} users instead of {goal.users}")
        return "; ".join(lacks)


class Talkers:
    """All clients of this process."""

    def __init__(self, orders: Orders, ledger: Book, views: Book) -> None:
        self._orders = orders
        self._ledger = ledger
        self._quiet = threading.Event()
        self._book_resends()
        self.clients = {
            nick: connect(
                orders.broker,
                nick=nick,
                timeout_s=DEADLINE_S,
                curve=keys_of(nick, orders.server_key),
            )
            for nick in orders.members
        }
        self.readers = {
            nick: Reader(client, nick, orders.members[nick], views)
            for nick, client in self.clients.items()
        }
        for nick, client in self.clients.items():
            for room in orders.members[nick]:
                _join(client, room)
            self.readers[nick].start()
        self._talk = threading.Thread(target=self._talk_on, daemon=True)
        self._trouble: list[BaseException] = []

    def _book_resends(self) -> None:
        resend, ledger = Outbox._resend, self._ledger

        def resend_and_book(outbox: Outbox, number: int, now: float) -> list[wire.Send]:
            sends = resend(outbox, number, now)
            if sends:
                ledger.write(
                    "resent", sum(len(post.texts) for send in sends for post in send.posts)
                )
            return sends

        Outbox._resend = resend_and_book  # type: ignore[assignment,method-assign]

    def start(self) -> None:
        """Begin to talk."""
        if self._orders.is_talking:
            self._talk.start()

    def _talk_on(self) -> None:
        number = 0
        try:
            while not self._quiet.wait(self._orders.pause_s):
                number = self._say_round(number)
        except BaseException as error:  # noqa: BLE001 - told by `quiet`
            self._trouble.append(error)

    def _say_round(self, number: int) -> int:
        """Let everybody say something in each room, wait for the answers, and book them."""
        posted = []
        for nick, client in self.clients.items():
            for room in self._orders.members[nick]:
                number += 1
                text = f"{nick} {number} {'x' * (number * 37 % FILLER_MAX)}"
                posted.append((f"{nick} {number}", room, client.post(room, text)))
        for words, room, pending in posted:
            try:
                sent = pending.result(ANSWER_S_MAX)
            except Refused as refusal:
                self._ledger.write("refused", room, words, refusal.code)
            else:
                self._ledger.write("kept", f"{time.monotonic():.3f}", room, sent.seq, words)
        return number

    def fall_quiet(self) -> None:
        """Say no more, and return when all is settled."""
        self._quiet.set()
        if self._orders.is_talking:
            self._talk.join(2 * ANSWER_S_MAX)
        if self._trouble:
            raise self._trouble[0]

    def finish(self, goals: Goals) -> Finished:
        """Wait until everybody has seen everything."""

        def lacks() -> dict[str, str]:
            found = {nick: each.missing(goals.rooms) for nick, each in self.readers.items()}
            return {nick: words for nick, words in found.items() if words}

        with contextlib.suppress(AssertionError):  # Told below.
            eventually(lambda: not lacks(), deadline_s=goals.patience_s)
        for reader in self.readers.values():
            reader.note()
        return Finished(lacks())


def _join(client: Client, room: str) -> None:
    """Join a room of a broker that may be dead just now."""
    end_s = time.monotonic() + DEADLINE_S
    while True:
        try:
            client.join(room, history=HISTORY)
        except Unreachable:
            if time.monotonic() > end_s:
                raise
        else:
            return


def say(word: str, answer: msgspec.Struct | None = None) -> None:
    """Answer on the output."""
    words = msgspec.json.encode(answer).decode() if answer else ""
    sys.stdout.write(f"{word} {words}".strip() + "\n")
    sys.stdout.flush()


def main() -> int:
    """Do as ordered."""
    orders = msgspec.json.decode(sys.stdin.readline(), type=Orders)
    talkers = Talkers(orders, Book(orders.ledger), Book(orders.views))
    say("joined")
    talkers.start()
    for line in sys.stdin:
        word, _, rest = line.strip().partition(" ")
        if word == "quiet":
            talkers.fall_quiet()
            say("quiet")
        elif word == "finish":
            say("finished", talkers.finish(msgspec.json.decode(rest, type=Goals)))
    for client in talkers.clients.values():
        client.close()
    for reader in talkers.readers.values():
        reader.join(ANSWER_S_MAX)
    return 0


if __name__ == "__main__":
    sys.exit(main())
