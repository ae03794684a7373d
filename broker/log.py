"""The log: what every implementation offers, and what it is given. No I/O here.

A log takes proposals (posts without a place) and orders them. What it has committed, from
whomever, comes back through `follow` in the order of the log; only that is ever published or
acknowledged. `append` may return before the order is known: a replicated log does.

Sequence numbers are born in the log and nowhere else.

What is made for every SEND or batch is a `Struct`: made in half the time of a `NamedTuple`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple, Protocol

from msgspec import Struct

from common.errors import HubbubError
from common.wire import Mode, Post


class LogFailed(HubbubError):
    """The log could not be written; nothing of the append was kept."""


class LogUnusable(HubbubError):
    """The log cannot be opened; the message says what is wrong and what to do."""


class Mark(Struct, array_like=True, frozen=True, gc=False):
    """Where a SEND was kept: what its ACK says, and says again when it is sent again."""

    room: str
    first: int
    ts: int


class Sent(Struct, gc=False):
    """One SEND inside a proposal."""

    sender: bytes  # broker.keys.sender
    number: int
    offset: int  # How many entries of the proposal come before it.
    ts: int  # Of its post.
    session: Any  # The core's own, to which the ACK goes; nothing to the log.


class Proposal(Struct, eq=False):
    """Posts for one room, in order, that shall become one batch. Compared by identity."""

    room: str
    posts: list[Post] = []
    sends: list[Sent] = []
    count: int = 0
    size_bytes: int = 0
    topic: str | None = None  # The room's topic from here on, where a post sets it.


class Committed(Struct):
    """One batch in the log."""

    proposal: Proposal
    prev: int
    first: int
    last: int
    body: bytes  # The encoded Batch: row, published frame and piece of a history page.


class RoomRecord(NamedTuple):
    """What the log knows of a room."""

    name: str
    generation: int
    first: int  # The oldest entry kept; head + 1 when there is none.
    head: int
    topic: str
    ts: int = 0  # Of the newest post kept: no later one may seem older.


class PageRead(NamedTuple):
    """Batches that cover the range asked for, oldest first."""

    record: RoomRecord
    batches: list[bytes]
    more: bool


class Log(Protocol):
    """The write side; one owner, one thread."""

    epoch: int
    secret: bytes

    def rooms(self) -> list[RoomRecord]:
        """Return every room that has entries, or had."""

    def append(self, proposals: Sequence[Proposal]) -> None:
        """Commit the proposals together, durably; raise `LogFailed` and keep nothing."""

    def follow(self) -> list[Committed]:
        """Return what was committed since the last call, in the order of the log."""

    def recall(self, sender: bytes) -> Mapping[int, Mark]:
        """Return the log's own, living memory of a sender's last SENDs, by number."""

    def forget(self, sender: bytes) -> None:
        """Drop the sender from memory, not from the log."""

    def trim(self, now_ms: int) -> dict[str, int]:
        """Drop entries past retention, a bounded number a call.

        Returns the oldest seq kept of each room that lost some.
        """

    def close(self) -> None:
        """Release the log."""


class Reader(Protocol):
    """The read side; many, each of one thread, also in other processes."""

    secret: bytes
    epoch: int

    def generation(self, room: str) -> int:
        """Return the room's generation, which its tickets are made for; 0 when unknown."""

    def read(self, room: str, mode: Mode, at: int, limit: int) -> PageRead:
        """Read a page of a room's history; an unknown room is an empty one."""

    def close(self) -> None:
        """Release the reader."""
