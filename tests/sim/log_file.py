"""The checkers' own reading of the log's files, from docs/PROTOCOL.md and the format's description.

Nothing of the product is imported: a mistake in its readers must not hide here as well. What
stands here of the format: a record is "HUBS", a CRC-32, sizes of contents and of bodies, where
the record before it ended, the contents (MessagePack), the bodies of its batches one after the
other. The CRC is that of the record's own position, the one before it, the sizes and the
contents, which have a CRC-32 for each body.
"""

from __future__ import annotations

import sqlite3
import struct
import zlib
from collections.abc import Iterator, Mapping
from contextlib import closing
from pathlib import Path
from typing import Any, NamedTuple

import msgspec

MAGIC = b"HUBS"
HEAD = struct.Struct("<4sIIIQ")
CHECKED = struct.Struct("<QQII")
OFFSET_BITS = 40
SEQ_BITS = 40
TOPIC = 2
decode = msgspec.msgpack.decode


class Spoken(NamedTuple):
    """One entry of a room."""

    ts: int
    nick: str
    kind: int
    text: str


class Record(NamedTuple):
    """One record of a segment."""

    offset: int
    end: int
    batches: list[tuple[str, int, int, int, list[Spoken]]]  # Room, epoch, prev, first, entries.


def read_batch(body: bytes | bytearray) -> tuple[str, int, int, int, list[Spoken]]:
    """Return room, epoch, prev, first and entries of a batch."""
    tag, room, epoch, prev, first, posts = decode(body)[:6]
    if tag != 1:
        message = f"a batch with the tag {tag}"
        raise ValueError(message)
    entries = [Spoken(ts, nick, kind, text) for ts, nick, kind, texts in posts for text in texts]
    return room, epoch, prev, first, entries


def read_records(name: str, data: bytes | bytearray, offset: int = 0) -> Iterator[Record]:
    """Yield the whole records of a segment's bytes, up to the first that is not."""
    while data[offset : offset + 4] == MAGIC and offset + HEAD.size <= len(data):
        _, check, contents_bytes, bodies_bytes, before = HEAD.unpack_from(data, offset)
        start = offset + HEAD.size
        end = start + contents_bytes + bodies_bytes
        if end > len(data):
            return
        contents = data[start : start + contents_bytes]
        own = segment_number(name) << OFFSET_BITS | offset
        seen = zlib.crc32(
            contents, zlib.crc32(CHECKED.pack(own, before, contents_bytes, bodies_bytes))
        )
        if seen != check:
            return
        _made, _topics, _marks, places = decode(contents)[:4]
        position = start + contents_bytes
        batches = []
        for place in places:
            body = data[position : position + place[4]]
            if zlib.crc32(body) != place[5]:
                return
            batches.append(read_batch(body))
            position += place[4]
        yield Record(offset, end, batches)
        offset = end


def segment_number(name: str) -> int:
    """Return the number in a segment's name."""
    return int(name.removesuffix(".segment").rpartition("-")[2])


class Kept(NamedTuple):
    """What the files hold of a room."""

    first: int
    entries: dict[int, Spoken]


def read_log(folder: Path) -> dict[str, Kept]:
    """Return what a log that was stopped cleanly holds: the index, and what lies behind it."""
    files = {each.name: each.read_bytes() for each in folder.glob("*.segment")}
    segments = {segment_number(name): data for name, data in files.items()}
    with closing(sqlite3.connect(f"file:{folder / 'hubbub.db'}?mode=ro", uri=True)) as database:
        found = database.execute("SELECT value FROM meta WHERE key = 'indexed'").fetchone()
        indexed = found[0] if found else 0
        names = dict(database.execute("SELECT id, name FROM rooms"))
        rooms = {
            name: Kept(first, {})
            for name, first in database.execute("SELECT name, first FROM rooms")
        }
        for place, count, body, position, size_bytes in database.execute(
            "SELECT place, count, body, position, size_bytes FROM batches ORDER BY place"
        ):
            if not body:
                start = position & (1 << OFFSET_BITS) - 1
                body = segments[position >> OFFSET_BITS][start : start + size_bytes]  # noqa: PLW2901
            room, _, _, first, entries = read_batch(body)
            last = place & (1 << SEQ_BITS) - 1
            if (room, first + len(entries) - 1) != (names[place >> SEQ_BITS], last) or count != len(
                entries
            ):
                message = f"the index is wrong about {room} {last}"
                raise ValueError(message)
            rooms[room].entries.update(enumerate(entries, first))
    for name in sorted(files):
        for record in read_records(name, files[name]):
            if segment_number(name) << OFFSET_BITS | record.offset >= indexed:
                for room, _, _, first, entries in record.batches:
                    kept = rooms.setdefault(room, Kept(1, {}))
                    kept.entries.update(enumerate(entries, first))
    return rooms


class Witness:
    """What was durable, record by record, read from what a power cut would leave.

    It sees each record before anybody is told of it, so it also knows what was trimmed since.
    """

    def __init__(self) -> None:
        self.rooms: dict[str, dict[int, Spoken]] = {}
        self.trimmed: dict[str, int] = {}  # The newest entry that retention dropped.
        self._journal: dict[tuple[int, int], Record] = {}  # By segment and offset, in order.
        self._end = (0, 0)

    def copy(self) -> Witness:
        """Return the same knowledge, for a backup."""
        other = Witness()
        other.rooms = {room: dict(entries) for room, entries in self.rooms.items()}
        other.trimmed = dict(self.trimmed)
        other._journal = dict(self._journal)
        other._end = self._end
        return other

    def head(self, room: str) -> int:
        """Return the seq of the newest durable entry."""
        return next(reversed(self.rooms[room]), 0) if room in self.rooms else 0

    def follow(self, durable: Mapping[str, bytes | bytearray]) -> None:
        """Read what has become durable since the last time. Raises `ValueError`."""
        number, offset = self._end
        for name in sorted(durable):
            if segment_number(name) >= number:
                at = offset if segment_number(name) == number else 0
                for record in read_records(name, durable[name], at):
                    self._add(segment_number(name), record)

    def _add(self, number: int, record: Record) -> None:
        for room, _, prev, first, entries in record.batches:
            head = self.head(room)
            if prev != head or first != head + 1 or not entries:
                message = f"{room}: a batch of {first} after {prev} follows {head} in the log"
                raise ValueError(message)
            self.rooms.setdefault(room, {}).update(enumerate(entries, first))
        self._journal[number, record.offset] = record
        self._end = (number, record.end)

    def survey(self, durable: Mapping[str, bytes | bytearray]) -> list[str]:
        """Read everything again after a restart; return what was durable and is gone."""
        numbers = set(map(segment_number, durable))  # Others were emptied by retention.
        there = {
            (segment_number(name), record.offset): record
            for name in sorted(durable)
            for record in read_records(name, durable[name])
        }
        gone = [
            f"{batch[0]} {batch[3]}..{batch[3] + len(batch[4]) - 1}"
            for place, record in self._journal.items()
            if place[0] in numbers and there.get(place) != record
            for batch in record.batches
        ]
        if not gone:
            self.follow(durable)
        return gone

    def has(self, room: str, seq: int, text: str) -> bool:
        """Tell whether a text is durable at this place."""
        spoken = self.rooms.get(room, {}).get(seq)
        return spoken is not None and spoken.text == text

    def topic(self, room: str) -> str:
        """Return the topic that the room's entries lead to."""
        for spoken in reversed(self.rooms.get(room, {}).values()):
            if spoken.kind == TOPIC:
                return spoken.text
        return ""


def body_of(publication: bytes) -> Any:  # noqa: ANN401 - whatever stands on the wire
    """Return what is published behind a topic: PROTOCOL.md, "Publications"."""
    if publication.startswith(b"\0"):
        return decode(publication[11:])
    return decode(publication[publication.index(b"\0") + 17 :])
