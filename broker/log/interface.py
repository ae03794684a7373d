"""The log: what every implementation offers, and what it is given. No I/O here.

A log takes proposals (posts without a place) and orders them. What it has committed, from
whomever, comes back through `follow` in the order of the log; only that is ever published or
acknowledged. `append` may return before the order is known: a replicated log does.

Sequence numbers are born in the log and nowhere else.

What is made for every SEND or batch is a `Struct`: made in half the time of a `NamedTuple`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple, Protocol

from msgspec import Struct

from broker.log.rights_records import AuditEntry, Change, Rights, RoomFacts
from common.errors import Code, HubbubError
from common.wire import Ack, Mode, Place, Post, encode


class LogFailed(HubbubError):
    """The log could not be written; nothing of the append was kept."""


class LogUnusable(HubbubError):
    """The log cannot be opened; the message says what is wrong and what to do."""


class NotInLog(HubbubError):
    """There is no such room or entry in the log; nothing was changed."""


class NameTaken(HubbubError):
    """The log has a room of this name; nothing was changed."""


# The newest removals of a room that are remembered, and told to who comes back.
REMOVED_MAX = 64

# What the log remembers of a sender: the payload of each ACK, by the SEND's number. When the SEND
# comes again, that is the answer, byte for byte.
Marks = dict[int, bytes]

# A post of a SEND: its proposal, as an index into the append; how many of the proposal's entries
# come before it; its time. One that cannot be kept has no proposal.
Spot = tuple[int, int, int]
# Why a post cannot be kept; in its spot: the index here as -1, -2, ..., and milliseconds to wait.
REASONS = (Code.NOT_MEMBER, Code.MUTED, Code.SLOW_MODE, Code.TOPIC_CLOSED, Code.LOG_FAILED)


def nowhere(reason: Code, wait_ms: int = 0) -> Spot:
    """Return the spot of a post that cannot be kept."""
    return -1 - REASONS.index(reason), wait_ms, 0


def reason_of(spot: Spot) -> tuple[Code, int] | None:
    """Return why a post has no place, and the milliseconds to wait; None where it has one."""
    return None if spot[0] >= 0 else (REASONS[-1 - spot[0]], spot[1])


class Sent(Struct, gc=False):
    """One SEND, whose posts may be in several proposals of one append."""

    sender: bytes  # broker.keys.sender
    number: int
    spots: list[Spot]  # One for each post of the SEND.
    session: Any  # The core's own, to which the ACK goes; nothing to the log.
    ack: bytes = b""  # The payload of its ACK, as soon as `marks_of` has made it.


class Proposal(Struct, eq=False):
    """Posts for one room, in order, that shall become one batch. Compared by identity."""

    room: str
    index: int = 0  # In the append.
    posts: list[Post] = []
    sends: list[Sent] = []  # Those whose posts are in this proposal and earlier ones only.
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
    removed: tuple[int, ...] = ()  # To the writer: seqs of texts removed last, newest at the end.


class Redacted(NamedTuple):
    """Whose text was removed."""

    nick: str
    ts_ms: int
    is_topic: bool = False  # The room's topic was this text, and is none now.


class PageRead(NamedTuple):
    """Batches that cover the range asked for, oldest first."""

    record: RoomRecord
    batches: list[bytes]
    more: bool


def marks_of(proposals: Iterable[Proposal], firsts: Sequence[int]) -> dict[bytes, Marks]:
    """Return what to remember of the SENDs that end in these proposals, by sender.

    firsts: the seq that each proposal of the append begins with, by its index; known up to the
    last of `proposals`. Also gives each `Sent` its `ack`.
    """
    marks: dict[bytes, Marks] = {}
    for proposal in proposals:
        for sent in proposal.sends:
            kept = [
                Place(firsts[index] + offset, ts)
                if index >= 0
                else Place(0, offset, REASONS[-1 - index])
                for index, offset, ts in sent.spots
            ]
            sent.ack = encode(Ack(sent.number, kept))
            marks.setdefault(sent.sender, {})[sent.number] = sent.ack
    # A SEND over several rooms may end in a later proposal than the one after it. In their order
    # they must come all the same: the log forgets a sender's first marks first.
    for sender, found in marks.items():
        if len(found) > 1:
            marks[sender] = dict(sorted(found.items()))
    return marks


class Log(Protocol):
    """The write side; one owner, one thread."""

    epoch: int
    secret: bytes

    def rooms(self) -> list[RoomRecord]:
        """Return every room that has entries, or had."""

    def append(self, proposals: Sequence[Proposal]) -> None:
        """Commit the proposals together, durably; raise `LogFailed` and keep nothing.

        `follow` returns them in the order in which they are given here.
        """

    def follow(self) -> list[Committed]:
        """Return what was committed since the last call, in the order of the log."""

    def recall(self, sender: bytes) -> Mapping[int, bytes]:
        """Return the log's own, living memory of a sender's last SENDs, by number.

        Raises `LogFailed` when it cannot be read.
        """

    def forget(self, sender: bytes) -> None:
        """Drop the sender from memory, not from the log."""

    def trim(self, now_ms: int) -> dict[str, int]:
        """Drop entries past retention, a bounded number a call.

        Returns the oldest seq kept of each room that lost some.
        """

    def load_rights(self) -> Rights:
        """Return all that `keep` and `keep_soon` were given; raise `LogFailed`."""

    def audit(self, limit: int, before_id: int | None = None) -> list[AuditEntry]:
        """Return the newest entries of the audit log, newest first; raise `LogFailed`.

        before_id: only entries older than this one. How many are kept: `broker.log.rights_store`.
        """

    def keep(self, changes: Sequence[Change], *, audit: Sequence[AuditEntry] = ()) -> None:
        """Keep all of it, durably and in this order; raise `LogFailed` and keep nothing."""

    def keep_soon(self, changes: Sequence[Change]) -> None:
        """Keep it within a second or so; a crash before that loses it.

        Raises `LogFailed` when much waits already, and cannot be written.
        """

    def set_retention(self, room: str, messages: int | None, days: int | None) -> RoomFacts:
        """Let a room keep more or less than others, durably, and return its facts.

        None: as everywhere. 0: for ever. Raises `LogFailed` and changes nothing.
        """

    def found_room(self, name: str) -> None:
        """Let a room be in the log before its first entry, durably; one that is there stays.

        Raises `LogFailed` and keeps nothing.
        """

    def rename_room(self, old: str, new: str) -> None:
        """Give a room, with its entries and all that is kept for it, another name, durably.

        No reader finds it under its old name when this returns; bodies of earlier batches keep
        that inside. Raises `NotInLog`, `NameTaken`, and `LogFailed`; then nothing changes.
        """

    def raise_generation(self, room: str) -> int:
        """Make every topic key and ticket of a room worthless; return its new generation.

        No room had that one before. Durable, and seen by every reader, when this returns. Raises
        `NotInLog`, and `LogFailed`; then nothing changes.
        """

    def redact(self, room: str, seq: int) -> Redacted:
        """Remove a text for good, durably, and for every reader; its place and the rest stay.

        In its place stands `common.spans.removed`; the room's topic is "" if it was this text.
        The last REMOVED_MAX of a room are told by `rooms`, from the next opening of the log on.
        Once more does no harm: then this one is the newest. Raises `NotInLog`, and `LogFailed`,
        which says what is left of it.
        """

    def close(self) -> None:
        """Release the log."""


class Reader(Protocol):
    """The read side; many, each of one thread, also in other processes."""

    secret: bytes
    epoch: int

    def generation(self, room: str) -> int:
        """Return the room's generation, which its tickets are made for; 0 when unknown."""

    def is_banned(self, identity: bytes, now_ms: int) -> bool:
        """Tell whether somebody is banned from the whole broker, at that time since 1970."""

    def read(self, room: str, mode: Mode, at: int, limit: int) -> PageRead:
        """Read a page of a room's history; an unknown room is an empty one."""

    def close(self) -> None:
        """Release the reader."""
