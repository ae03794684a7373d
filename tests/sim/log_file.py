"""The checkers' own reading of the log's files, from docs/PROTOCOL.md and the format's description.

Nothing of the product is imported: a mistake in its readers must not hide here as well. What
stands here of the format: a record is "HUBS", a CRC-32, sizes of contents and of bodies, where
the record before it ended, the contents (MessagePack: rooms that get a name, topics, what senders
sent, batches), the bodies of its batches one after the other. The CRC is that of the record's own
position, the one before it, the sizes and the contents, which have a CRC-32 for each body.
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
ORDER = 3  # What the broker tells of an order in a room; no text that somebody said.
decode = msgspec.msgpack.decode


class Spoken(NamedTuple):
    """One entry of a room."""

    ts: int
    nick: str
    kind: int
    text: str


Batch = tuple[str, int, int, int, list[Spoken]]  # Room, epoch, prev, first, entries.


class Record(NamedTuple):
    """One record of a segment."""

    offset: int
    end: int
    named: list[tuple[int, str]]  # Rooms (their ids) that have a name from here on.
    batches: list[tuple[int, Batch]]  # The room's id; a batch keeps the name that it had then.


def read_batch(body: bytes | bytearray) -> Batch:
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
        named, _topics, _marks, places = decode(contents)[:4]
        position = start + contents_bytes
        batches = []
        for place in places:
            body = data[position : position + place[4]]
            if zlib.crc32(body) != place[5]:
                return
            batches.append((place[0], read_batch(body)))
            position += place[4]
        yield Record(offset, end, [(room_id, name) for room_id, name in named], batches)
        offset = end


def segment_number(name: str) -> int:
    """Return the number in a segment's name."""
    return int(name.removesuffix(".segment").rpartition("-")[2])


class Kept(NamedTuple):
    """What the files hold of a room."""

    first: int
    entries: dict[int, Spoken]


def read_log(folder: Path) -> dict[int, Kept]:
    """Return what a log that was stopped cleanly holds: the index, and what lies behind it.

    By the rooms' ids: names may change.
    """
    files = {each.name: each.read_bytes() for each in folder.glob("*.segment")}
    segments = {segment_number(name): data for name, data in files.items()}
    with closing(sqlite3.connect(f"file:{folder / 'hubbub.db'}?mode=ro", uri=True)) as database:
        found = database.execute("SELECT value FROM meta WHERE key = 'indexed'").fetchone()
        indexed = found[0] if found else 0
        rooms = {
            room_id: Kept(first, {})
            for room_id, first in database.execute("SELECT id, first FROM rooms")
        }
        for place, count, body, position, size_bytes in database.execute(
            "SELECT place, count, body, position, size_bytes FROM batches ORDER BY place"
        ):
            if not body:
                start = position & (1 << OFFSET_BITS) - 1
                body = segments[position >> OFFSET_BITS][start : start + size_bytes]  # noqa: PLW2901
            room, _, _, first, entries = read_batch(body)
            last = place & (1 << SEQ_BITS) - 1
            if first + len(entries) - 1 != last or count != len(entries):
                message = f"the index is wrong about {room} {last}"
                raise ValueError(message)
            rooms[place >> SEQ_BITS].entries.update(enumerate(entries, first))
    for name in sorted(files):
        for record in read_records(name, files[name]):
            if segment_number(name) << OFFSET_BITS | record.offset >= indexed:
                for room_id, (_, _, _, first, entries) in record.batches:
                    kept = rooms.setdefault(room_id, Kept(1, {}))
                    kept.entries.update(enumerate(entries, first))
    return rooms


def nothing_of(text: str) -> str:
    """Return what stands in the log for a text that was removed: as many NULs as it had bytes."""
    return "\0" * len(text.encode())


class Witness:
    """What was durable, record by record, read from what a power cut would leave.

    It sees each record before anybody is told of it, so it also knows what was trimmed since, and
    what was removed. A room is known here by its first name, with its id behind that if another
    room had it before: names on the wire change, and may be had by one room after another.
    """

    def __init__(self) -> None:
        self.rooms: dict[str, dict[int, Spoken]] = {}
        self.trimmed: dict[str, int] = {}  # The newest entry that retention dropped.
        self.now: dict[str, str] = {}  # Which room has a name on the wire now.
        self.had: dict[str, set[str]] = {}  # All names on the wire that a room had.
        self.drops: set[str] = set()  # Texts that an operator wants to be gone, or are.
        self.places: dict[str, tuple[str, int]] = {}  # Where each text is that somebody said.
        self._of_id: dict[int, str] = {}
        self._journal: dict[tuple[int, int], Record] = {}  # By segment and offset, in order.
        self._end = (0, 0)

    def copy(self) -> Witness:
        """Return the same knowledge, for a backup."""
        other = Witness()
        other.rooms = {room: dict(entries) for room, entries in self.rooms.items()}
        other.trimmed = dict(self.trimmed)
        other.now = dict(self.now)
        other.had = {room: set(names) for room, names in self.had.items()}
        other.drops = set(self.drops)
        other.places = dict(self.places)
        other._of_id = dict(self._of_id)
        other._journal = dict(self._journal)
        other._end = self._end
        return other

    def room(self, name: str) -> str:
        """Return the room that has a name on the wire now, or one that the log does not know."""
        return self.now.get(name, f"{name} anew" if name in self.had else name)

    def called(self, name: str) -> list[str]:
        """Return all rooms that have or had a name on the wire."""
        return [room for room, names in self.had.items() if name in names]

    def by_id(self, room_id: int) -> str:
        """Return the room that has an id in the log."""
        return self._of_id[room_id]

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
        for room_id, name in record.named:
            self._name(room_id, name)
        for room_id, (name, _, prev, first, entries) in record.batches:
            room = self._of_id[room_id]
            head = self.head(room)
            if prev != head or first != head + 1 or not entries:
                message = f"{room}: a batch of {first} after {prev} follows {head} in the log"
                raise ValueError(message)
            if self.now.get(name) != room:
                message = f"{room}: a batch of {first} is named {name}"
                raise ValueError(message)
            self.rooms.setdefault(room, {}).update(enumerate(entries, first))
            for seq, spoken in enumerate(entries, first):
                if spoken.kind != ORDER:
                    self.places.setdefault(spoken.text, (room, seq))
        self._journal[number, record.offset] = record
        self._end = (number, record.end)

    def _name(self, room_id: int, name: str) -> None:
        room = self._of_id.get(room_id)
        if room is None:
            room = self._of_id[room_id] = name if name not in self.had else f"{name} ({room_id})"
            self.had[room] = set()
        if self.now.get(name, room) != room:
            message = f"{room} is named {name}, as {self.now[name]} is"
            raise ValueError(message)
        for former in [each for each, other in self.now.items() if other == room]:
            del self.now[former]
        self.now[name] = room
        self.had[room].add(name)

    def survey(self, durable: Mapping[str, bytes | bytearray]) -> list[str]:
        """Read everything again after a restart; return what was durable and is gone."""
        numbers = set(map(segment_number, durable))  # Others were emptied by retention.
        there = {
            (segment_number(name), record.offset): record
            for name in sorted(durable)
            for record in read_records(name, durable[name])
        }
        gone = []
        for place, record in self._journal.items():
            found = there.get(place)
            if place[0] in numbers and (found is None or not self._is_same(record, found)):
                gone += [f"{each[0]} {each[3]} and what follows" for _, each in record.batches]
                gone += [f"the name {name}" for _, name in record.named]
        if not gone:
            self.follow(durable)
        return gone

    def _is_same(self, record: Record, found: Record) -> bool:
        """Tell whether a record is as it was, but for texts that are to be gone."""
        if record == found:
            return True
        return (
            record[:3] == found[:3]
            and len(record.batches) == len(found.batches)
            and all(
                (room_id, batch[:4]) == (other_id, other[:4])
                and len(batch[4]) == len(other[4])
                and all(map(self.is_text, batch[4], other[4]))
                for (room_id, batch), (other_id, other) in zip(
                    record.batches, found.batches, strict=True
                )
            )
        )

    def is_text(self, spoken: Spoken, found: Spoken) -> bool:
        """Tell whether an entry is as it was said, or its text was removed as an operator wants."""
        if spoken == found:
            return True
        is_rest_same = spoken[:3] == found[:3] and spoken.text in self.drops
        return is_rest_same and found.text == nothing_of(spoken.text)

    def has(self, room: str, seq: int, text: str) -> bool:
        """Tell whether a text is durable at this place."""
        spoken = self.rooms.get(room, {}).get(seq)
        return spoken is not None and self.is_text(spoken, spoken._replace(text=text))

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
