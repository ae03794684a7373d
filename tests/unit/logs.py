"""Logs for tests: one in memory, and what the log's contract needs to try any of them."""

from __future__ import annotations

import errno
import os
import sqlite3
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple, Protocol

from broker.log.interface import (
    REMOVED_MAX,
    Committed,
    Log,
    LogFailed,
    Marks,
    NameTaken,
    NotInLog,
    PageRead,
    Proposal,
    Reader,
    Redacted,
    RoomRecord,
    Sent,
    Spot,
    marks_of,
)
from broker.log.reader import SqliteReader
from broker.log.rights_records import (
    EVERYWHERE,
    FOR_EVER,
    AuditEntry,
    Change,
    Member,
    NickRecord,
    Put,
    Record,
    Rights,
    RoomFacts,
    Sanction,
    renamed,
)
from broker.log.rights_store import TABLES, key_of
from broker.log.writer import DAY_MS, SqliteLog, prepare
from common.limits import HISTORY_BYTES_MAX, HISTORY_ENTRIES_MAX, SENDS_IN_FLIGHT_MAX
from common.spans import last_seq, removed
from common.wire import Ack, Batch, Kind, Mode, Place, Post, decode_batch, encode


def proposal(
    room: str, *posts: Post, sends: Sequence[Sent] = (), topic: str | None = None
) -> Proposal:
    """Return a proposal of these posts."""
    made = Proposal(room)
    made.posts += posts
    made.sends += sends
    made.count = sum(len(post.texts) for post in posts)
    made.topic = topic
    return made


def sent(sender: bytes, number: int, *spots: Spot) -> Sent:
    """Return a SEND; without spots, one whose post is the first of the append."""
    return Sent(sender, number, list(spots or [(0, 0, 1)]), None)


def mark(number: int, *places: tuple[int, int]) -> bytes:
    """Return what is remembered of a SEND whose posts are kept at these places: first, ts."""
    return encode(Ack(number, [Place(*place) for place in places]))


def said(*texts: str, ts: int = 1, nick: str = "ann") -> Post:
    """Return a post of these texts."""
    return Post(ts, nick, 0, list(texts))


class Store(Protocol):
    """A place where a log lies, for the contract's tests."""

    def open(self, *, retain_messages: int = 0, retain_days: int = 0) -> Log:
        """Open its write side; closes the one that was open."""

    def reader(self) -> Reader:
        """Open its read side."""

    def fill(self) -> None:
        """Let every append fail: it needs space."""

    def fill_all(self) -> None:
        """Let every write fail."""

    def free(self) -> None:
        """Let writes succeed again."""

    def close(self) -> None:
        """Close whatever is open."""


def _no_sync(_file: int) -> None:
    """Do as if it was on the disk."""


def _no_space(_file: int) -> None:
    """Do as if the disk was full."""
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


class SqliteStore:
    """The embedded log in a folder."""

    def __init__(self, folder: Path, *, is_quick: bool = False) -> None:
        self.path = prepare(folder)
        self._is_quick = is_quick  # Without fsync: for many examples, none of which cuts power.
        self._log: SqliteLog | None = None
        self._readers: list[SqliteReader] = []

    def open(self, *, retain_messages: int = 0, retain_days: int = 0) -> SqliteLog:
        """Open the writer."""
        if self._log is not None:
            self._log.close()
        self._log = SqliteLog(self.path, retain_messages=retain_messages, retain_days=retain_days)
        if self._is_quick:
            self.database.execute("PRAGMA synchronous = OFF")
            self._log._segments._sync = _no_sync
        return self._log

    @property
    def opened(self) -> SqliteLog:
        """The writer that is open."""
        assert self._log is not None
        return self._log

    @property
    def database(self) -> sqlite3.Connection:
        """The writer's connection."""
        assert self._log is not None
        return self._log._db

    def reader(self) -> SqliteReader:
        """Open a reader."""
        self._readers.append(SqliteReader(self.path))
        return self._readers[-1]

    def fill(self) -> None:
        """Let no record be kept, at the last moment: all of it is in the file already."""
        assert self._log is not None
        self._log._segments._sync = _no_space

    def fill_all(self) -> None:
        """Let no record be kept, and nothing in SQLite's file."""
        self.fill()
        self.database.execute("PRAGMA query_only = ON")

    def free(self) -> None:
        """Let records be kept again."""
        assert self._log is not None
        self._log._segments._sync = _no_sync if self._is_quick else os.fdatasync
        self.database.execute("PRAGMA query_only = OFF")

    def close(self) -> None:
        """Close the writer and all readers."""
        for reader in self._readers:
            reader.close()
        self._readers.clear()
        if self._log is not None:
            self._log.close()
        self._log = None


class _Row(NamedTuple):
    first: int
    last: int
    ts: int
    body: bytes


class _Room:
    def __init__(self) -> None:
        self.first = 1
        self.head = 0
        self.topic = ""
        self.generation = 0
        self.rows: list[_Row] = []
        self.removed: list[int] = []


class MemoryStore:
    """A log in memory; what is in here survives the log that wrote it."""

    def __init__(self) -> None:
        self.epoch = 7
        self.secret = bytes(range(32))
        self.rooms: dict[str, _Room] = {}
        self.marks: dict[bytes, Marks] = {}
        self.is_full = False
        self.generation = 0
        self.records: dict[tuple[object, ...], Record] = {}
        self.audit: list[AuditEntry] = []

    def open(self, *, retain_messages: int = 0, retain_days: int = 0) -> MemoryLog:
        """Open the writer."""
        return MemoryLog(self, retain_messages, retain_days)

    def reader(self) -> MemoryReader:
        """Open a reader."""
        return MemoryReader(self)

    def fill(self) -> None:
        """Fail every append."""
        self.is_full = True

    def fill_all(self) -> None:
        """Fail every write."""
        self.is_full = True

    def free(self) -> None:
        """Stop failing."""
        self.is_full = False

    def close(self) -> None:
        """Do nothing."""


class MemoryLog:
    """The write side of a log in memory."""

    def __init__(self, store: MemoryStore, retain_messages: int, retain_days: int) -> None:
        self._store = store
        self._retain_messages = retain_messages
        self._retain_ms = retain_days * DAY_MS
        self.epoch, self.secret = store.epoch, store.secret
        self._living: dict[bytes, Marks] = {}
        self._committed: list[Committed] = []

    def rooms(self) -> list[RoomRecord]:
        """Return every room."""
        return [_record(name, room) for name, room in self._store.rooms.items()]

    def append(self, proposals: Sequence[Proposal]) -> None:
        """Keep all of it, or nothing."""
        self._may_fail()
        firsts: list[int] = []
        for each in proposals:
            room = self._store.rooms.setdefault(each.room, _Room())
            prev, first, last = room.head, room.head + 1, room.head + each.count
            body = encode(Batch(each.room, self.epoch, prev, first, each.posts))
            room.head = last
            room.topic = room.topic if each.topic is None else each.topic
            room.rows.append(_Row(first, last, each.posts[-1].ts, body))
            self._committed.append(Committed(each, prev, first, last, body))
            firsts.append(first)
        for sender, marks in marks_of(proposals, firsts).items():
            living = self.recall(sender)
            living.update(marks)
            for number in sorted(living)[:-SENDS_IN_FLIGHT_MAX]:
                del living[number]
            self._store.marks[sender] = dict(living)

    def follow(self) -> list[Committed]:
        """Return what is new."""
        committed, self._committed = self._committed, []
        return committed

    def recall(self, sender: bytes) -> Marks:
        """Return the living memory."""
        return self._living.setdefault(sender, dict(self._store.marks.get(sender, {})))

    def forget(self, sender: bytes) -> None:
        """Drop the living memory."""
        self._living.pop(sender, None)

    def trim(self, now_ms: int) -> dict[str, int]:
        """Drop what is past retention."""
        oldest_ms = now_ms - self._retain_ms if self._retain_ms else 0
        firsts: dict[str, int] = {}
        own = {each.room: each for each in self.load_rights().rooms}
        for name, room in self._store.rooms.items():
            messages, since_ms = self._retain_messages, oldest_ms
            if name in own and own[name].retain_messages is not None:
                messages = own[name].retain_messages or 0
            if name in own and own[name].retain_days is not None:
                days = own[name].retain_days
                since_ms = now_ms - days * DAY_MS if days else 0
            unwanted = room.head - messages if messages else 0
            while room.rows and (room.rows[0].last <= unwanted or room.rows[0].ts < since_ms):
                firsts[name] = room.first = room.rows.pop(0).last + 1
        return firsts

    def load_rights(self) -> Rights:
        """Return what is kept."""
        kinds: tuple[type[Record], ...] = (NickRecord, RoomFacts, Member, Sanction)
        found = [
            [each for each in self._store.records.values() if type(each) is kind] for kind in kinds
        ]
        return Rights(*found)  # type: ignore[arg-type]  # Each list has one kind.

    def audit(self, limit: int, before_id: int | None = None) -> list[AuditEntry]:
        """Return the newest entries."""
        older = [each for each in self._store.audit if before_id is None or each.id < before_id]
        return older[::-1][:limit]

    def keep(self, changes: Sequence[Change], *, audit: Sequence[AuditEntry] = ()) -> None:
        """Keep all of it, or nothing."""
        self._may_fail()
        for change in changes:
            key = (TABLES[type(change.record)].name, *key_of(change.record))
            self._store.records.pop(key, None)
            if isinstance(change, Put):
                self._store.records[key] = change.record
        for entry in audit:
            last_id = self._store.audit[-1].id if self._store.audit else 0
            self._store.audit.append(entry._replace(id=last_id + 1))

    def keep_soon(self, changes: Sequence[Change]) -> None:
        """Keep it; here, at once."""
        self.keep(changes)

    def set_retention(self, room: str, messages: int | None, days: int | None) -> RoomFacts:
        """Let a room keep more or less than others."""
        known = {each.room: each for each in self.load_rights().rooms}
        facts = known.get(room, RoomFacts(room))
        self.keep([Put(facts._replace(retain_messages=messages, retain_days=days))])
        return facts._replace(retain_messages=messages, retain_days=days)

    def found_room(self, name: str) -> None:
        """Make a room."""
        self._may_fail()
        self._store.rooms.setdefault(name, _Room())

    def rename_room(self, old: str, new: str) -> None:
        """Give a room another name."""
        if old not in self._store.rooms:
            raise NotInLog(old)
        if new in self._store.rooms:
            raise NameTaken(new)
        self._may_fail()
        self._store.rooms[new] = self._store.rooms.pop(old)
        for key, record in list(self._store.records.items()):
            if not isinstance(record, NickRecord) and record.room == old:
                del self._store.records[key]
                self.keep([Put(renamed(record, new))])

    def raise_generation(self, room: str) -> int:
        """Raise a room's generation."""
        if room not in self._store.rooms:
            raise NotInLog(room)
        self._may_fail()
        fresh = 1 + max(each.generation for each in self._store.rooms.values())
        self._store.rooms[room].generation = fresh
        return fresh

    def redact(self, room: str, seq: int) -> Redacted:
        """Remove a text."""
        found = self._store.rooms.get(room, _Room())
        for index, row in enumerate(found.rows):
            if row.first <= seq <= row.last:
                batch = decode_batch(row.body)
                entries = [(post, i) for post in batch.posts for i in range(len(post.texts))]
                post, at = entries[seq - row.first]
                self._may_fail()
                is_topic = post.kind == Kind.TOPIC and found.topic == post.texts[at]
                if is_topic:
                    found.topic = ""
                post.texts[at] = removed(post.texts[at])
                found.rows[index] = row._replace(body=encode(batch))
                others = [each for each in found.removed if each != seq]
                found.removed = [*others, seq][-REMOVED_MAX:]
                return Redacted(post.nick, post.ts, is_topic)
        raise NotInLog(room)

    def _may_fail(self) -> None:
        if self._store.is_full:
            message = "the log cannot be written: full"
            raise LogFailed(message)

    def close(self) -> None:
        """Do nothing."""


class MemoryReader:
    """The read side of a log in memory."""

    def __init__(self, store: MemoryStore) -> None:
        self._store = store
        self.epoch, self.secret = store.epoch, store.secret

    def generation(self, room: str) -> int:
        """Return what all rooms share here, and the room's own."""
        found = self._store.rooms.get(room)
        return self._store.generation + found.generation if found else 0

    def is_banned(self, identity: bytes, now_ms: int) -> bool:
        """Look through all that is written down."""
        return any(
            isinstance(each, Sanction)
            and (each.room, each.kind, each.identity) == (EVERYWHERE, "ban", identity)
            and (each.until_ms == FOR_EVER or each.until_ms > now_ms)
            for each in self._store.records.values()
        )

    def read(self, room: str, mode: Mode, at: int, limit: int) -> PageRead:
        """Read a page."""
        found = self._store.rooms.get(room, _Room())
        record = _record(room, found)
        rows = found.rows
        if mode == Mode.BEFORE:
            wanted = [row for row in rows if row.first < at]
            taken = _taken(wanted[::-1], limit, lambda row: min(row.last, at - 1) - row.first + 1)
            page = wanted[len(wanted) - taken :]
            return PageRead(record, [row.body for row in page], more=len(page) < len(wanted))
        if mode == Mode.SINCE:
            at = max((row.last for row in rows if row.ts < at), default=0)
        wanted = [row for row in rows if row.last > at]
        page = wanted[: _taken(wanted, limit, lambda row: row.last - max(row.first - 1, at))]
        return PageRead(record, [row.body for row in page], more=len(page) < len(wanted))

    def close(self) -> None:
        """Do nothing."""


class _Counts(Protocol):
    def __call__(self, row: _Row, /) -> int: ...


def _taken(rows: list[_Row], limit: int, count_of: _Counts) -> int:
    count, size_bytes = 0, 0
    for index, row in enumerate(rows, 1):
        count += count_of(row)
        size_bytes += len(row.body)
        if count >= limit or size_bytes >= HISTORY_BYTES_MAX:
            return index
    return len(rows)


def _record(name: str, room: _Room) -> RoomRecord:
    ts = room.rows[-1].ts if room.rows else 0
    return RoomRecord(
        name, room.generation, room.first, room.head, room.topic, ts, tuple(room.removed)
    )


def kept_texts(reader: Reader, room: str) -> list[str]:
    """Return all texts of a room, page by page."""
    texts: list[str] = []
    seq, is_more = 0, True
    while is_more:
        page = reader.read(room, Mode.AFTER, seq, HISTORY_ENTRIES_MAX)
        for body in page.batches:
            seq = last_seq(decode_batch(body))
            texts += texts_of(body)
        is_more = page.more
    return texts


def texts_of(body: bytes) -> list[str]:
    """Return the texts of an encoded batch."""
    return [text for _, text in numbered(body)]


def numbered(body: bytes) -> list[tuple[int, str]]:
    """Return the texts of an encoded batch with their seqs."""
    return [(seq, text) for seq, _, text in entries_of(body)]


def entries_of(body: bytes) -> list[tuple[int, int, str]]:
    """Return seq, time and text of each entry of an encoded batch."""
    batch = decode_batch(body)
    flat = [(post.ts, text) for post in batch.posts for text in post.texts]
    return [(batch.first + index, ts, text) for index, (ts, text) in enumerate(flat)]
