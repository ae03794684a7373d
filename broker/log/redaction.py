"""Removing a text from the log for good: its bytes become NULs, in place. ADR 0029.

A removal is decided by one transaction of the index, which holds what shall lie in the segments
(`redactions`) until it does: readers look there first, and whoever opens the log finishes it.
"""

from __future__ import annotations

import sqlite3
import struct
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any, NamedTuple
from zlib import crc32

import msgspec
from msgspec import Raw, Struct

from broker.log.compaction import SPARSE_PART
from broker.log.index import SEQ_BITS, SEQ_MASK, WASTE
from broker.log.interface import LogFailed, NotInLog, Redacted
from broker.log.records import MAGICS, Contents, Head, pack_head, pack_old_head
from broker.log.segments import (
    OFFSET_BITS,
    OFFSET_MASK,
    SEARCH_BYTES,
    SEGMENT_BYTES_MAX,
    SegmentReader,
    place_text,
)
from common.spans import removed
from common.wire import DECODE_ERRORS, Kind, encode

# How a CRC-32 is written in as many bytes as the one before it took: MessagePack's unsigned
# integers, and where it does not fit, -1 (UNCHECKED).
_FITTING = {1: (0x80, "B", b""), 2: (1 << 8, "B", b"\xcc"), 3: (1 << 16, ">H", b"\xcd")}
_UNCHECKED = {1: b"\xff", 2: b"\xd0\xff", 3: b"\xd1\xff\xff"}
_FIVE = struct.Struct(">BI")
_UINT32 = 0xCE


class _Place(Struct, array_like=True):
    """A `BatchPlace` whose check is as it was written."""

    room: int
    last: int
    count: int
    ts: int
    size_bytes: int
    check: Raw


class _Checks(Struct, array_like=True):
    """`Contents`, as far as checks are to be changed."""

    made: Raw
    topics: Raw
    marks: Raw
    batches: list[_Place]


class _Topics(Struct, array_like=True):
    """`Contents`, as far as topics are to be changed."""

    made: Raw
    topics: list[tuple[int, str]]
    marks: Raw
    batches: Raw


_decode_checks = msgspec.msgpack.Decoder(_Checks).decode
_decode_topics = msgspec.msgpack.Decoder(_Topics).decode


class _Said(NamedTuple):
    """An entry, and its batch's body without the text."""

    nick: str
    ts: int
    kind: int
    text: str
    body: bytes


class _Row(NamedTuple):
    """A batch as the index knows it."""

    place: int
    entries: int
    body: bytes  # Empty where it lies in a segment.
    position: int
    size_bytes: int
    check: int | None


class Plan(NamedTuple):
    """What a removal changes."""

    said: Redacted
    place: int  # Of the batch in the index.
    body: bytes  # To be kept there; empty where it lies in a segment.
    check: int
    pieces: dict[int, bytes]  # What shall lie in the segments, by position.
    topic: str  # The room's, should it be this text.
    is_needed: bool  # False: nothing is left to be removed.


def check_bytes(check: int, size_bytes: int) -> bytes:
    """Return a CRC-32 as MessagePack of so many bytes (1, 2, 3 or 5); UNCHECKED if it is larger."""
    if size_bytes == _FIVE.size:
        return _FIVE.pack(_UINT32, check)
    limit, form, prefix = _FITTING[size_bytes]
    return prefix + struct.pack(form, check) if check < limit else _UNCHECKED[size_bytes]


def without_text(body: bytes, seq: int) -> _Said | None:
    """Return an entry of a batch; None where there is none of this seq. Raises `ValueError`."""
    try:
        batch: Any = msgspec.msgpack.decode(body)
        first, posts = batch[4], batch[5]
        if encode(batch) != body:
            raise ValueError("it was not written by Hubbub")
        index = seq - first
        for ts, nick, kind, texts in posts:
            if 0 <= index < len(texts):
                text = texts[index]
                texts[index] = removed(text)
                return _Said(nick, ts, kind, text, encode(batch))
            index -= len(texts)
    except (*DECODE_ERRORS, TypeError, IndexError) as error:
        raise ValueError(f"it cannot be read: {error}") from error
    return None


def _contents(old: bytes, index: int, check: int | None, room: int, text: str) -> bytes:
    """Return a record's contents with another check of a batch, and without a topic."""
    topics = _decode_topics(old)
    topics.topics = [
        (each, removed(topic) if (each, topic) == (room, text) else topic)
        for each, topic in topics.topics
    ]
    fresh = encode(topics)
    if check is not None:
        checks = _decode_checks(fresh)
        place = checks.batches[index]
        place.check = Raw(check_bytes(check, len(bytes(place.check))))
        fresh = encode(checks)
    if len(fresh) != len(old):
        raise ValueError("its record was not written by Hubbub")
    return fresh


class Redactor:
    """Plans a removal from what index and segments hold now. Belongs to the log."""

    def __init__(self, db: sqlite3.Connection, segments: SegmentReader, room: int) -> None:
        self._db = db
        self._segments = segments
        self._room = room

    def plan(self, seq: int) -> Plan:
        """Return what to change for a text to be gone.

        Raises `NotInLog` and `LogFailed` where that cannot be told; `sqlite3.Error`, `OSError`.
        """
        row = self._row(seq)
        if row is None:
            raise NotInLog(f"there is no entry {seq}")
        body = row.body or self._segments.read(row.position, row.size_bytes)
        try:
            if len(body) < row.size_bytes or (row.check is not None and crc32(body) != row.check):
                raise ValueError("it is not what was written")
            said = without_text(body, seq)
            if said is None:  # It was lost, and salvage said so.
                raise NotInLog(f"there is no entry {seq}")
            pieces: dict[int, bytes] = {}
            is_needed = said.body != body
            if is_needed:
                for position in self._copies(body) if row.body else ():
                    is_told = self._record(position) is not None
                    told = self._pieces(position, body, said) if is_told else {}
                    pieces |= told or {position: said.body}
                if not row.body:
                    pieces = self._pieces(row.position, body, said)
        except ValueError as error:
            where = place_text(row.position) if row.position else "the index"
            message = (
                f"the batch with entry {seq}, in {where}, is damaged: {error}. `hubbub-broker "
                "check` tells more; nothing was removed"
            )
            raise LogFailed(message) from error
        topic = said.text if said.kind == Kind.TOPIC else ""
        redacted = Redacted(said.nick, said.ts)
        kept = said.body if row.body else b""
        return Plan(redacted, row.place, kept, crc32(said.body), pieces, topic, is_needed)

    def _row(self, seq: int) -> _Row | None:
        base = self._room << SEQ_BITS
        if not 0 < seq <= SEQ_MASK:
            return None
        found = self._db.execute(
            "SELECT place, count, body, position, size_bytes, crc FROM batches "
            "WHERE place BETWEEN ? AND ? ORDER BY place LIMIT 1",
            (base | seq, base | SEQ_MASK),
        ).fetchone()
        row = _Row(*found) if found else None
        is_there = row is not None and (row.place & SEQ_MASK) - row.entries < seq
        return row if is_there else None

    def _copies(self, body: bytes) -> Iterator[int]:
        """Yield where a body that was moved into the index still lies in a segment."""
        sparse = self._db.execute(
            "SELECT id FROM segments WHERE live_bytes <= ?", (SEGMENT_BYTES_MAX // SPARSE_PART,)
        ).fetchall()
        for (segment,) in sparse:
            at = segment << OFFSET_BITS
            while data := self._segments.read(at, SEARCH_BYTES + len(body)):
                place = data.find(body)
                while place >= 0:
                    if place < SEARCH_BYTES:
                        yield at + place
                    place = data.find(body, place + 1)
                at += SEARCH_BYTES

    def _pieces(self, position: int, old: bytes, said: _Said) -> dict[int, bytes]:
        """Return what shall lie in a segment, where a record has the batch's body."""
        found = self._record(position)
        if found is None:
            raise ValueError("no whole record holds it")
        start, head, packed, contents = found
        at = start + head.size_bytes + head.contents_bytes
        index = 0
        while at < position:
            at += contents.batches[index].size_bytes
            index += 1
        batch = contents.batches[index]
        if at != position or batch.size_bytes != len(old):
            raise ValueError("its record does not tell of it")
        check = crc32(said.body)
        if head.before is not None:
            packed = _contents(packed, index, check, batch.room, said.text)
            fresh = pack_head(start, head.before, packed, head.bodies_bytes)
        else:
            packed = _contents(packed, index, None, batch.room, said.text)
            bodies_at = start + head.size_bytes + head.contents_bytes
            bodies = bytearray(self._segments.read(bodies_at, head.bodies_bytes))
            bodies[position - bodies_at : position - bodies_at + len(old)] = said.body
            fresh = pack_old_head(packed, bytes(bodies))
        return {start: fresh + packed, position: said.body}

    def _record(self, position: int) -> tuple[int, Head, bytes, Contents] | None:
        """Return the record around a position: where it begins, its head, and its contents."""
        for magic in MAGICS:
            for start in self._places_before(magic, position):
                head = self._segments.head(start)
                if head is None or not _may_begin(head, start):
                    continue
                record = self._segments.record(start)
                if record is None:
                    continue
                if record.start <= position < record.end:
                    packed = self._segments.read(start + head.size_bytes, head.contents_bytes)
                    return start, head, packed, record.contents
                break  # The one around the position would begin later.
        return None

    def _places_before(self, magic: bytes, position: int) -> Iterator[int]:
        """Yield where a record might begin, the nearest first."""
        begin, end = position >> OFFSET_BITS << OFFSET_BITS, position
        while end > begin:
            at = max(begin, end - SEARCH_BYTES)
            data = self._segments.read(at, end - at + len(magic) - 1)
            place = data.rfind(magic)
            while place >= 0:
                yield at + place
                place = data.rfind(magic, 0, place + len(magic) - 1)
            end = at


def _may_begin(head: Head, start: int) -> bool:
    """Tell whether a head may be that of a record there; a text does not know its position."""
    return head.before in (None, start) or not start & OFFSET_MASK


def plan(db: sqlite3.Connection, folder: Path, room: int, seq: int) -> Plan:
    """Return what to change for a text of a room (its id) to be gone; see `Redactor.plan`."""
    with closing(SegmentReader(folder)) as segments:
        return Redactor(db, segments, room).plan(seq)


def decide(db: sqlite3.Connection, made: Plan, room: int) -> None:
    """Write a plan within a transaction: from its end on, no reader sees the text."""
    db.execute("UPDATE batches SET crc = ? WHERE place = ?", (made.check, made.place))
    if made.body:
        db.execute("UPDATE batches SET body = ? WHERE place = ?", (made.body, made.place))
    if made.topic:
        query = "UPDATE rooms SET topic = '' WHERE id = ? AND topic = ?"
        db.execute(query, (room, made.topic))
    pieces = [(WASTE, b""), *made.pieces.items()]
    db.executemany("INSERT OR REPLACE INTO redactions VALUES (?, ?)", pieces)
