"""Records: one commit as bytes. Pure: no I/O.

A record is a head, its contents (what the record holds, MessagePack) and the bodies of its
batches, one after the other. The head's CRC-32 covers the record's own position, where the record
before it ended, and the contents; the contents have a CRC-32 of each body. So a record counts only
where it was written, and a body can be checked alone, long afterwards. ADR 0020.

Records of schema 3 (`HUBR`) have one CRC-32 of contents and bodies, and no positions.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Sequence
from typing import NamedTuple

import msgspec
from msgspec import Struct

from broker.log.interface import Marks
from common.spans import is_removed

UNCHECKED = -1  # The CRC of a body that an older version wrote.

MAGIC_BYTES = 4
_MAGIC = b"HUBS"
_OLD_MAGIC = b"HUBR"
MAGICS = (_MAGIC, _OLD_MAGIC)
# Magic, CRC-32, bytes of contents and of bodies, where the record before it ended.
_HEAD = struct.Struct("<4sIIIQ")
_OLD_HEAD = struct.Struct("<4sIII")
_CHECKED = struct.Struct("<QQII")
_OLD_CHECKED = struct.Struct("<II")
HEAD_BYTES = _HEAD.size  # An old one is shorter.


class BatchPlace(Struct, array_like=True, gc=False):
    """One batch of a record."""

    room: int  # rooms.id
    last: int
    count: int
    ts: int
    size_bytes: int
    check: int = UNCHECKED  # CRC-32 of the body.


class Contents(Struct, array_like=True):
    """What a record holds beside the bodies: enough to make the index again."""

    made: list[tuple[int, str]]  # Rooms that begin with it: id and name.
    topics: list[tuple[int, str]]
    marks: dict[bytes, Marks]
    batches: list[BatchPlace]


class Head(NamedTuple):
    """The beginning of a record."""

    check: int
    contents_bytes: int
    bodies_bytes: int
    before: int | None  # The position where the record before it ended; None in an old one.
    size_bytes: int  # Of the head itself.

    @property
    def record_bytes(self) -> int:
        """The size of the whole record."""
        return self.size_bytes + self.contents_bytes + self.bodies_bytes


_decode = msgspec.msgpack.Decoder(Contents).decode


def pack_head(position: int, before: int, contents: bytes, bodies_bytes: int) -> bytes:
    """Return the head of a record that is written at a position."""
    sizes = (len(contents), bodies_bytes)
    check = zlib.crc32(contents, zlib.crc32(_CHECKED.pack(position, before, *sizes)))
    return _HEAD.pack(_MAGIC, check, *sizes, before)


def pack_old_head(contents: bytes, bodies: bytes) -> bytes:
    """Return the head of a record of schema 3, which only a removal still changes."""
    sizes = (len(contents), len(bodies))
    check = zlib.crc32(bodies, zlib.crc32(contents, zlib.crc32(_OLD_CHECKED.pack(*sizes))))
    return _OLD_HEAD.pack(_OLD_MAGIC, check, *sizes)


def parse_head(data: bytes, offset: int = 0) -> Head | None:
    """Return the head that stands there; None where none does."""
    magic = data[offset : offset + MAGIC_BYTES]
    if magic == _MAGIC and len(data) - offset >= _HEAD.size:
        _, check, contents_bytes, bodies_bytes, before = _HEAD.unpack_from(data, offset)
        return Head(check, contents_bytes, bodies_bytes, before, _HEAD.size)
    if magic == _OLD_MAGIC and len(data) - offset >= _OLD_HEAD.size:
        _, check, contents_bytes, bodies_bytes = _OLD_HEAD.unpack_from(data, offset)
        return Head(check, contents_bytes, bodies_bytes, None, _OLD_HEAD.size)
    return None


def open_contents(head: Head, position: int, contents: bytes) -> Contents | None:
    """Return the contents; None where they are not what was written at this position.

    Those of an old record are only checked together with its bodies: see `open_whole`.
    """
    if head.before is not None:
        sizes = (head.contents_bytes, head.bodies_bytes)
        seed = zlib.crc32(_CHECKED.pack(position, head.before, *sizes))
        if zlib.crc32(contents, seed) != head.check:
            return None
    try:
        found = _decode(contents)
    except (msgspec.DecodeError, ValueError):  # ValueError: a text that is not UTF-8.
        return None
    # A topic that was removed is none.
    found.topics = [(room, "" if is_removed(topic) else topic) for room, topic in found.topics]
    is_sized = sum(batch.size_bytes for batch in found.batches) == head.bodies_bytes
    return found if is_sized else None


def open_whole(head: Head, position: int, rest: bytes) -> Contents | None:
    """Return the contents of a record of which every byte is as it was written, else None.

    rest: contents and bodies. The batches of an old record get their CRC here.
    """
    contents = open_contents(head, position, rest[: head.contents_bytes])
    if contents is None:
        return None
    if head.before is None:
        sizes = _OLD_CHECKED.pack(head.contents_bytes, head.bodies_bytes)
        if zlib.crc32(rest, zlib.crc32(sizes)) != head.check:
            return None
    checks = checks_of(contents.batches, memoryview(rest)[head.contents_bytes :])
    for batch, check in zip(contents.batches, checks, strict=True):
        if batch.check == UNCHECKED:
            batch.check = check
        elif batch.check != check:
            return None
    return contents


def checks_of(batches: Sequence[BatchPlace], bodies: memoryview) -> list[int]:
    """Return the CRC-32 of each batch's body, of bodies that lie one after the other."""
    checks = []
    start = 0
    for batch in batches:
        checks.append(zlib.crc32(bodies[start : start + batch.size_bytes]))
        start += batch.size_bytes
    return checks
