"""Honest clients in a process of their own, who chat and keep books: `python -m ...bystanders`.

Orders come as lines: the broker's address and key first, then `phase NAME` whenever another phase
begins, and `end`. They talk in one room all the time, each time what is heard is timed, and
newcomers come and go. At the end the process prints its books as JSON.
"""

from __future__ import annotations

import json
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Final, TextIO

from client.api import Client, connect
from client.events import Entry, Missing, Reset
from tests.persons import keys_of
from tests.waiting import DEADLINE_S

MEMBERS: Final = 4
TEXTS_PER_S: Final = 100.0  # Of all members together.
NEWCOMER_EVERY_S: Final = 0.5
ROOM: Final = "calm"


class Books:
    """What was said, acknowledged and heard. Each list is written by one thread."""

    def __init__(self) -> None:
        self.phase = "quiet"
        self.latencies_ms: dict[str, list[float]] = {}
        self.newcomers_ms: dict[str, list[float]] = {}
        self.heard: list[list[tuple[int, str]]] = [[] for _ in range(MEMBERS)]
        self.kept: list[tuple[int, str]] = []
        self.trouble: list[str] = []


class Listener(threading.Thread):
    """Reads one member's events until the last text has come."""

    def __init__(self, client: Client, index: int, books: Books) -> None:
        super().__init__(daemon=True)
        self._client = client
        self._heard = books.heard[index]
        self._books = books

    def run(self) -> None:
        """Read; time the others' texts, and note what must not be."""
        for event in self._client.events(DEADLINE_S):
            if isinstance(event, Entry):
                now_ns = time.monotonic_ns()
                self._heard.append((event.seq, event.text))
                phase, said_ns = event.text.split(" ")[1:3]
                if phase == "end":
                    return
                latency_ms = (now_ns - int(said_ns)) / 1e6
                self._books.latencies_ms.setdefault(phase, []).append(latency_ms)
            elif isinstance(event, Missing | Reset):
                self._books.trouble.append(repr(event))
        self._books.trouble.append("the last text did not come")


class Visitors(threading.Thread):
    """New people who come in, say a word and go, one after the other."""

    def __init__(self, broker: str, server_key: str, books: Books) -> None:
        super().__init__(daemon=True)
        self._broker = broker
        self._server_key = server_key
        self._books = books
        self.over = threading.Event()

    def run(self) -> None:
        """Come and go until it is over."""
        number = 0
        while not self.over.wait(NEWCOMER_EVERY_S):
            number += 1
            phase, began_s = self._books.phase, time.monotonic()
            try:
                with _connect(self._broker, f"new{number}", self._server_key) as client:
                    client.join("porch", history=0, timeout_s=DEADLINE_S)
                    client.send("porch", "hello", timeout_s=DEADLINE_S)
            except Exception as error:  # noqa: BLE001 - whatever it is, it is told
                self._books.trouble.append(f"a newcomer in {phase}: {error!r}")
            else:
                took_ms = (time.monotonic() - began_s) * 1_000
                self._books.newcomers_ms.setdefault(phase, []).append(took_ms)


class Talk(threading.Thread):
    """Says a text every so often, members in turn."""

    def __init__(self, clients: list[Client], books: Books) -> None:
        super().__init__(daemon=True)
        self._clients = clients
        self._books = books
        self.over = threading.Event()

    def run(self) -> None:
        """Talk until it is over; then see that every text was kept."""
        pendings = []
        begin_s = time.monotonic()
        number = 0
        while not self.over.wait(max(0.0, begin_s + number / TEXTS_PER_S - time.monotonic())):
            number += 1
            text = f"{number} {self._books.phase} {time.monotonic_ns()}"
            pendings.append((text, self._clients[number % MEMBERS].post(ROOM, text)))
        last = f"{number + 1} end 0"
        for text, pending in pendings:
            self._books.kept.append((pending.result(DEADLINE_S).seq, text))
        self._books.kept.append((self._clients[0].send(ROOM, last).seq, last))


@contextmanager
def members(broker: str, server_key: str) -> Iterator[list[Client]]:
    """Connect the members, who are all in one room."""
    with ExitStack() as stack:
        clients = []
        for index in range(MEMBERS):
            client = _connect(broker, f"member{index}", server_key)
            clients.append(stack.enter_context(client))
            client.join(ROOM, history=0)
        yield clients


def _connect(broker: str, nick: str, server_key: str) -> Client:
    return connect(broker, nick=nick, timeout_s=DEADLINE_S, curve=keys_of(nick, server_key))


def observe(broker: str, server_key: str, orders: TextIO) -> Books:
    """Chat until the orders end; return the books."""
    books = Books()
    with members(broker, server_key) as clients:
        listeners = [Listener(client, index, books) for index, client in enumerate(clients)]
        talk, visitors = Talk(clients, books), Visitors(broker, server_key, books)
        for thread in (*listeners, talk, visitors):
            thread.start()
        sys.stdout.write("here\n")
        sys.stdout.flush()
        for line in orders:
            if line.strip() == "end":
                break
            books.phase = line.split()[1]
        visitors.over.set()
        talk.over.set()
        for thread in (visitors, talk, *listeners):
            thread.join()
    return books


def main() -> int:
    """Chat as ordered, and print the books."""
    broker, _, server_key = sys.stdin.readline().strip().partition(" ")
    books = observe(broker, server_key, sys.stdin)
    sys.stdout.write(json.dumps(vars(books)))
    return 0


if __name__ == "__main__":
    sys.exit(main())
