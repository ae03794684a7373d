"""Several crowds at one broker, and the promises that must hold for all of them together."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import NamedTuple

from broker.log.reader import SqliteReader
from broker.log.writer import FILE_NAME
from common import spans, wire
from common.limits import HISTORY_ENTRIES_MAX
from tests.broker_process import BrokerProcess
from tests.crowd import Crowd, Orders
from tests.waiting import eventually


class Shape(NamedTuple):
    """How many of what."""

    members: int
    rooms: int
    rooms_per_member: int
    messages: int  # From each member to each of its rooms.
    processes: int = 2

    def rooms_of(self, member: int) -> list[str]:
        """Return the rooms of a member, spread evenly."""
        return [f"room{(member + step) % self.rooms}" for step in range(self.rooms_per_member)]

    @property
    def total(self) -> int:
        """All messages of everybody."""
        return self.members * self.rooms_per_member * self.messages


class Gathering:
    """All crowds of one test."""

    def __init__(
        self,
        broker: BrokerProcess,
        shape: Shape,
        folder: Path,
        others: dict[str, int] | None = None,
    ) -> None:
        """Plan; `others` are the messages per room that somebody else will send."""
        self.broker = broker
        self.shape = shape
        self._folder = folder
        members = {f"m{index}": shape.rooms_of(index) for index in range(shape.members)}
        self._rooms_of = members
        self.expected: dict[str, int] = dict(others or {})
        for rooms in members.values():
            for room in rooms:
                self.expected[room] = self.expected.get(room, 0) + shape.messages
        self._crowds: list[Crowd] = []
        self.questions: list[int] = []  # To history, of each crowd; known when it is over.

    @contextlib.contextmanager
    def gathered(self) -> Iterator[None]:
        """Start the crowds; when all have joined, let them talk."""
        with contextlib.ExitStack() as stack:
            nicks = list(self._rooms_of)
            for index in range(self.shape.processes):
                orders = Orders(
                    broker=self.broker.address,
                    ledger=str(self._folder / f"ledger{index}"),
                    members={
                        nick: self._rooms_of[nick] for nick in nicks[index :: self.shape.processes]
                    },
                    messages=self.shape.messages,
                    expected=self.expected,
                )
                self._crowds.append(stack.enter_context(Crowd(orders)))
            for crowd in self._crowds:
                crowd.await_line("joined")
            for crowd in self._crowds:
                crowd.go()
            yield

    def crowd_processes(self) -> list[int]:
        """Return the crowds' process numbers."""
        return [crowd.process.pid for crowd in self._crowds]

    def await_progress(self, count: int) -> None:
        """Wait until so many messages are acknowledged."""
        eventually(lambda: len(self.ledger()) >= count, f"{count} acknowledgements")

    def ledger(self) -> list[tuple[str, int, str]]:
        """Return what was acknowledged so far: room, seq, text."""
        lines = [
            line.split(" ", 2)
            for path in sorted(self._folder.glob("ledger*"))
            for line in path.read_text().splitlines()
        ]
        return [(line[0], int(line[1]), line[2]) for line in lines if len(line) == 3]

    def finish(self) -> None:
        """Wait for the end, and check every promise against log, ledger and books."""
        for crowd in self._crowds:
            crowd.await_line("acknowledged")
        results = [crowd.results() for crowd in self._crowds]
        self.questions = [result["questions"] for result in results]
        books = {nick: book for result in results for nick, book in result["books"].items()}
        log = read_log(self.broker.data)
        for room, count in self.expected.items():
            texts = [text for _, text in log[room]]
            assert len(texts) == count, f"{room}: {len(texts)} in the log"
            assert len(set(texts)) == count, f"{room}: a message was stored twice"
        kept = {(room, seq, text) for room, entries in log.items() for seq, text in entries}
        ledger = self.ledger()
        assert len(ledger) == self.shape.total
        assert not set(ledger) - kept, "acknowledged, but not in the log at its place"
        digests: dict[str, set[str]] = {}
        assert set(books) == set(self._rooms_of)
        for nick, book in books.items():
            assert book["trouble"] == [], nick
            assert set(book["counts"]) == set(self._rooms_of[nick])
            for room, digest in book["digests"].items():
                assert book["counts"][room] == self.expected[room], (nick, room)
                digests.setdefault(room, set()).add(digest)
        for room, found in digests.items():
            assert len(found) == 1, f"{room}: not the same for everybody"


def read_log(data: Path) -> dict[str, list[tuple[int, str]]]:
    """Read all entries straight from the files: room to (seq, text), in order."""
    return {
        room: [(seq, text) for first, post in posts for seq, text in enumerate(post.texts, first)]
        for room, posts in read_posts(data).items()
    }


def read_posts(data: Path) -> dict[str, list[tuple[int, wire.Post]]]:
    """Read all posts straight from the files: room to (first seq, post), in order."""
    log: dict[str, list[tuple[int, wire.Post]]] = {}
    with closing(SqliteReader(data / FILE_NAME)) as reader:
        for room in reader.rooms():
            posts = log.setdefault(room, [])
            head = 0
            for batch in batches_of(reader, room):
                assert batch.prev == head, "a hole in the log"
                head = batch.prev
                for post in batch.posts:
                    posts.append((head + 1, post))
                    head += len(post.texts)
    return log


def batches_of(reader: SqliteReader, room: str) -> Iterator[wire.Batch]:
    """Yield all batches of a room."""
    seq, is_more = 0, True
    while is_more:
        page = reader.read(room, wire.Mode.AFTER, seq, HISTORY_ENTRIES_MAX)
        for body in page.batches:
            batch = wire.decode_batch(body)
            seq = spans.last_seq(batch)
            yield batch
        is_more = page.more
