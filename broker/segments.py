"""Segments: the files that commits are appended to, one record each, before anything else.

A record is a head, its contents (what the record holds, MessagePack) and the bodies of its
batches, one after the other. It is on the disk when `SegmentWriter.append` returns; what a crash
cut short fails its CRC-32 and never counted. A place in the segments is a *position*: the
segment's number in the upper bits, the offset in its file in the lower 40.

The idea is that of Bitcask and of every log-structured store: bytes are written once, in the
order in which they came. https://riak.com/assets/bitcask-intro.pdf
"""

from __future__ import annotations

import contextlib
import mmap
import os
import struct
import zlib
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import msgspec
from msgspec import Struct

from broker.log import LogUnusable, Marks

SEGMENT_BYTES_MAX = 64 * 1024 * 1024  # A record never spans two files; a larger one has its own.
# Space taken ahead: a commit that need not make the file longer waits a third less for the disk.
AHEAD_BYTES = 8 * 1024 * 1024
OFFSET_BITS = 40
OFFSET_MASK = (1 << OFFSET_BITS) - 1
FIRST = 1 << OFFSET_BITS  # The position of the very first record.
OPEN_FILES_MAX = 8  # Of a reader: a file that was dropped takes space until it is closed.
SCAN_BYTES = 64 * 1024

_MAGIC = b"HUBR"
_HEAD = struct.Struct("<4sIII")  # Magic, CRC-32 of the rest, bytes of contents and of bodies.
_CHECKED = struct.Struct("<II")
_HIGH_WATER = struct.Struct("<Q")
_HIGH_WATER_NAME = "committed"


class BatchPlace(Struct, array_like=True, gc=False):
    """One batch of a record."""

    room: int  # rooms.id
    last: int
    count: int
    ts: int
    size_bytes: int


class Contents(Struct, array_like=True):
    """What a record holds beside the bodies: enough to make the index again."""

    made: list[tuple[int, str]]  # Rooms that begin with it: id and name.
    topics: list[tuple[int, str]]
    marks: dict[bytes, Marks]
    batches: list[BatchPlace]


class Record(NamedTuple):
    """A record as it lies in a segment."""

    contents: Contents
    start: int  # Position of its first body;
    end: int  # and of what follows it.


class Damaged(LogUnusable):
    """A segment is not what was written; the message says which, and where."""


_decode = msgspec.msgpack.Decoder(Contents).decode


def path_of(folder: Path, segment: int) -> Path:
    """Return the file of a segment."""
    return folder / f"hubbub-{segment:08d}.segment"


def numbers(folder: Path) -> list[int]:
    """Return the numbers of the segments that a folder has, in order."""
    return sorted(int(path.stem.rpartition("-")[2]) for path in folder.glob("hubbub-*.segment"))


def make_durable(folder: Path, segment: int) -> None:
    """Wait until all that was written to a segment is on the disk; raise `OSError`."""
    file = os.open(path_of(folder, segment), os.O_RDONLY)
    try:
        os.fsync(file)
    finally:
        os.close(file)


class HighWater:
    """Where the committed records end: eight bytes that all processes of a broker share.

    Readers must not run ahead of the writer's fsync. Nothing here needs to survive a crash:
    whoever opens the segments for writing finds their end and says it again.
    """

    def __init__(self, folder: Path, *, is_writer: bool) -> None:
        path = folder / _HIGH_WATER_NAME
        if is_writer:
            with path.open("ab") as file:
                file.truncate(_HIGH_WATER.size)
        with path.open("r+b" if is_writer else "rb") as file:
            access = mmap.ACCESS_WRITE if is_writer else mmap.ACCESS_READ
            self._memory = mmap.mmap(file.fileno(), _HIGH_WATER.size, access=access)

    def get(self) -> int:
        """Return the position where the next record will be."""
        position: int = _HIGH_WATER.unpack(self._memory)[0]
        return position

    def set(self, position: int) -> None:
        """Let readers read up to here."""
        _HIGH_WATER.pack_into(self._memory, 0, position)

    def close(self) -> None:
        """Release the memory."""
        self._memory.close()


class SegmentWriter:
    """Appends records. Belongs to the one thread that makes it."""

    def __init__(self, folder: Path, end: int) -> None:
        """Go on at a position: whatever lies behind it was never committed. Raises `OSError`."""
        self._folder = folder
        self._sync: Callable[[int], None] = os.fdatasync
        self._open(end)

    def _open(self, position: int) -> None:
        self.end = position
        path = path_of(self._folder, position >> OFFSET_BITS)
        self._file = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
        # A record that was cut short, or that a text imitates, must never be read as one.
        os.ftruncate(self._file, position & OFFSET_MASK)
        os.fsync(self._file)
        self._space = position & OFFSET_MASK
        folder = os.open(self._folder, os.O_RDONLY)
        try:
            os.fsync(folder)  # The file's name is to survive as well.
        finally:
            os.close(folder)

    @property
    def segment(self) -> int:
        """The number of the segment that grows."""
        return self.end >> OFFSET_BITS

    def append(self, contents: bytes, bodies: Sequence[bytes]) -> int:
        """Write a record and wait until it is on the disk; return its first body's position.

        Raises `OSError`; then nothing is kept, and the next record goes where this one would.
        """
        sizes = _CHECKED.pack(len(contents), sum(map(len, bodies)))
        check = zlib.crc32(contents, zlib.crc32(sizes))
        for body in bodies:
            check = zlib.crc32(body, check)
        # Joined once: of a megabyte each copy counts.
        record = b"".join((_MAGIC, check.to_bytes(4, "little"), sizes, contents, *bodies))
        if (self.end & OFFSET_MASK) + len(record) > SEGMENT_BYTES_MAX and self.end & OFFSET_MASK:
            self._rotate()
        offset = self.end & OFFSET_MASK
        try:
            self._make_space(offset + len(record))
            _write(self._file, record, offset)
            self._sync(self._file)
        except OSError:
            with contextlib.suppress(OSError):
                os.pwrite(self._file, bytes(len(_MAGIC)), offset)  # It was refused: for good.
            raise
        start = self.end + _HEAD.size + len(contents)
        self.end += len(record)
        return start

    def _make_space(self, size_bytes: int) -> None:
        if size_bytes > self._space:
            space = size_bytes + AHEAD_BYTES
            os.posix_fallocate(self._file, self._space, space - self._space)
            self._space = space

    def _rotate(self) -> None:
        """Begin the next segment, and give back the space that this one did not need.

        Raises `OSError`; then this one goes on.
        """
        full, space, end = self._file, self._space, self.end
        try:
            self._open(self.segment + 1 << OFFSET_BITS)
        except OSError:
            if self._file != full:
                os.close(self._file)
            self._file, self._space, self.end = full, space, end
            raise
        with contextlib.suppress(OSError):
            os.ftruncate(full, end & OFFSET_MASK)
        os.close(full)

    def close(self) -> None:
        """Release the file."""
        with contextlib.suppress(OSError):
            os.ftruncate(self._file, self.end & OFFSET_MASK)
        os.close(self._file)


def _write(file: int, data: bytes, offset: int) -> None:
    """Write all of it: one call may write less."""
    view = memoryview(data)
    while view:
        written = os.pwrite(file, view, offset)
        view, offset = view[written:], offset + written


class SegmentReader:
    """Reads bodies and records. Belongs to one thread."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._files: dict[int, int] = {}  # Segment to descriptor; the oldest used goes first.

    def _file(self, segment: int) -> int:
        file = self._files.pop(segment, None)
        if file is None:
            file = os.open(path_of(self._folder, segment), os.O_RDONLY)
            if len(self._files) == OPEN_FILES_MAX:
                os.close(self._files.pop(next(iter(self._files))))
        self._files[segment] = file
        return file

    def read(self, position: int, size_bytes: int) -> bytes:
        """Return what lies there; raise `OSError`, `FileNotFoundError` for a dropped segment."""
        return os.pread(self._file(position >> OFFSET_BITS), size_bytes, position & OFFSET_MASK)

    def records(self, position: int, high_water: int) -> Iterator[Record]:
        """Yield the committed records from a position up to another; raise `OSError`."""
        window, window_at = b"", 0
        while position < high_water:
            offset = position - window_at
            if not 0 <= offset <= len(window) - _HEAD.size:
                window, window_at, offset = self.read(position, SCAN_BYTES), position, 0
            if window[offset : offset + len(_MAGIC)] != _MAGIC:
                position = (position >> OFFSET_BITS) + 1 << OFFSET_BITS
                continue
            _, _, contents_bytes, bodies_bytes = _HEAD.unpack_from(window, offset)
            offset += _HEAD.size
            contents = window[offset : offset + contents_bytes]
            if len(contents) < contents_bytes:
                contents = self.read(position + _HEAD.size, contents_bytes)
            start = position + _HEAD.size + contents_bytes
            position = start + bodies_bytes
            yield Record(_decode(contents), start, position)

    def whole_records(self, position: int) -> Iterator[Record]:
        """Yield the records from a position on, as a crash may have left them: only whole ones.

        Raises `OSError`; `Damaged` where a record is broken that others follow.
        """
        while True:
            record = self._whole_record(position)
            if record is not None:
                position = record.end
                yield record
                continue
            segment = position >> OFFSET_BITS
            if not path_of(self._folder, segment + 1).exists():
                return
            if self.read(position, len(_MAGIC)) == _MAGIC:
                message = f"{path_of(self._folder, segment)} is damaged at {position & OFFSET_MASK}"
                raise Damaged(message)
            position = segment + 1 << OFFSET_BITS

    def _whole_record(self, position: int) -> Record | None:
        head = self.read(position, _HEAD.size)
        if len(head) < _HEAD.size or not head.startswith(_MAGIC):
            return None
        _, check, contents_bytes, bodies_bytes = _HEAD.unpack(head)
        rest_bytes = contents_bytes + bodies_bytes
        file_bytes = os.fstat(self._file(position >> OFFSET_BITS)).st_size
        if (position & OFFSET_MASK) + _HEAD.size + rest_bytes > file_bytes:
            return None
        rest = self.read(position + _HEAD.size, rest_bytes)
        if zlib.crc32(rest, zlib.crc32(head[-_CHECKED.size :])) != check:
            return None
        start = position + _HEAD.size + contents_bytes
        return Record(_decode(rest[:contents_bytes]), start, start + bodies_bytes)

    def close(self) -> None:
        """Release the files."""
        for file in self._files.values():
            os.close(file)
        self._files.clear()
