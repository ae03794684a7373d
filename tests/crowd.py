"""Many real clients in a process of their own, who chat and keep books: `python -m tests.crowd`.

The crowd reads its orders as one line of JSON, says `joined`, waits for a line, talks, says
`acknowledged`, reads until each client has everything, and prints what each has, as JSON.
Each acknowledgement is appended to a ledger file as it comes.
"""

from __future__ import annotations

import hashlib
import json
import subprocess
import sys
import threading
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import msgspec

from client.api import Client, connect
from client.connection import Connection
from client.effects import AskHistory
from client.events import Entry, Missing, Reset
from tests.broker_process import ROOT
from tests.waiting import DEADLINE_S

READ_S_MAX = 90.0  # A reader that hears nothing for so long gives up; the test then fails.


class Orders(msgspec.Struct):
    """What a crowd is told."""

    broker: str
    ledger: str
    members: dict[str, list[str]]  # Nick to rooms.
    messages: int  # From each member to each of its rooms.
    expected: dict[str, int]  # Room to the messages of everybody.
    round_messages: int = 10  # So many are under way per member before the next ones are posted.


class Reader(threading.Thread):
    """Reads one client's events until it has everything that it expects."""

    def __init__(self, client: Client, rooms: list[str], expected: dict[str, int]) -> None:
        super().__init__(daemon=True)
        self._client = client
        self._missing = {room: expected[room] for room in rooms}
        self.trouble: list[str] = []
        self.counts = dict.fromkeys(rooms, 0)
        self._last = dict.fromkeys(rooms, 0)
        self._digests = {room: hashlib.sha256() for room in rooms}

    def run(self) -> None:
        """Read; note what must not be."""
        for event in self._client.events(READ_S_MAX):
            if isinstance(event, Entry):
                self._take(event)
                if not self._missing:
                    return
            elif isinstance(event, Missing | Reset):
                self.trouble.append(repr(event))
        self.trouble.append(f"still missing {self._missing}")

    def _take(self, entry: Entry) -> None:
        room = entry.room
        if entry.seq <= self._last[room]:
            self.trouble.append(f"{room}: {entry.seq} after {self._last[room]}")
        self._last[room] = entry.seq
        self.counts[room] += 1
        self._digests[room].update(f"{entry.seq} {entry.nick} {entry.text}\n".encode())
        self._missing[room] -= 1
        if not self._missing[room]:
            del self._missing[room]

    def result(self) -> dict[str, Any]:
        """Return counts, digests of everything in order, and trouble."""
        digests = {room: digest.hexdigest() for room, digest in self._digests.items()}
        return {"counts": self.counts, "digests": digests, "trouble": self.trouble}


def talk(orders: Orders, clients: dict[str, Client]) -> None:
    """Let everybody say everything, some at a time, and book each acknowledgement."""
    with Path(orders.ledger).open("a", buffering=1) as ledger:
        for start in range(0, orders.messages, orders.round_messages):
            numbers = range(start, min(start + orders.round_messages, orders.messages))
            posted = [
                (f"{nick} {number}", client.post(room, f"{nick} {number}"))
                for number in numbers
                for nick, client in clients.items()
                for room in orders.members[nick]
            ]
            for text, pending in posted:
                sent = pending.result(READ_S_MAX)
                ledger.write(f"{sent.room} {sent.seq} {text}\n")


def count_questions() -> list[int]:
    """Return the list that from here on gets an item for each question to history."""
    asked: list[int] = []
    ask = Connection._ask_history

    def ask_and_count(connection: Connection, effect: AskHistory) -> None:
        asked.append(effect.question.at)
        ask(connection, effect)

    Connection._ask_history = ask_and_count  # type: ignore[assignment,method-assign]
    return asked


def main() -> int:
    """Do as ordered."""
    questions = count_questions()
    orders = msgspec.json.decode(sys.stdin.readline(), type=Orders)
    clients = {
        nick: connect(orders.broker, nick=nick, timeout_s=DEADLINE_S) for nick in orders.members
    }
    readers = {}
    for nick, client in clients.items():
        for room in orders.members[nick]:
            client.join(room, history=None)
        readers[nick] = Reader(client, orders.members[nick], orders.expected)
        readers[nick].start()
    sys.stdout.write("joined\n")
    sys.stdout.flush()
    sys.stdin.readline()
    talk(orders, clients)
    sys.stdout.write("acknowledged\n")
    sys.stdout.flush()
    for reader in readers.values():
        reader.join()
    books = {nick: reader.result() for nick, reader in readers.items()}
    sys.stdout.write(json.dumps({"books": books, "questions": len(questions)}))
    sys.stdout.flush()
    for client in clients.values():
        client.close()
    return 0


class Crowd:
    """A crowd's process, as a test holds it."""

    def __init__(
        self, orders: msgspec.Struct, module: str = "tests.crowd", prefix: Sequence[str] = ()
    ) -> None:
        """Start it; `prefix` is the command that starts it elsewhere."""
        self.process = subprocess.Popen(
            [*prefix, sys.executable, "-m", module],
            cwd=ROOT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )
        self._say(msgspec.json.encode(orders))

    def _say(self, line: bytes) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write(line + b"\n")
        self.process.stdin.flush()

    def await_line(self, line: str) -> None:
        """Wait until the crowd has got so far."""
        assert self.process.stdout is not None
        assert self.process.stdout.readline().decode().strip() == line

    def ask(self, line: str) -> str:
        """Say a line, and return the next one that the crowd says."""
        self._say(line.encode())
        assert self.process.stdout is not None
        return self.process.stdout.readline().decode().strip()

    def go(self) -> None:
        """Let them talk."""
        self._say(b"go")

    def results(self) -> dict[str, Any]:
        """Wait for the books of every member, and the number of questions to history."""
        assert self.process.stdout is not None
        found: dict[str, Any] = json.loads(self.process.stdout.read())
        assert self.process.wait(DEADLINE_S) == 0
        return found

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.process.kill()
        self.process.wait(DEADLINE_S)
        for pipe in (self.process.stdin, self.process.stdout):
            assert pipe is not None
            pipe.close()


if __name__ == "__main__":
    sys.exit(main())
