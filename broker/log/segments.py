"""Segments: the files that commits are appended to, one record each, before anything else.

A record (`broker.log.records`) is on the disk when `SegmentWriter.append` returns; what a crash cut
short fails its CRC-32 and never counted. A place in the segments is a *position*: the segment's
number in the upper bits, the offset in its file in the lower 40.

The idea is that of Bitcask and of every log-structured store: bytes are written once, in the
order in which they came. https://riak.com/assets/bitcask-intro.pdf
"""

from __future__ import annotations

import contextlib
import errno
import mmap
import os
import struct
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from broker.log.interface import LogUnusable
from broker.log.records import (
    HEAD_BYTES,
    MAGIC_BYTES,
    MAGICS,
    Contents,
    Head,
    open_contents,
    open_whole,
    pack_head,
    parse_head,
)

SEGMENT_BYTES_MAX = 64 * 1024 * 1024  # A record never spans two files; a larger one has its own.
# Space taken ahead: a commit that need not make the file longer waits a third less for the disk.
AHEAD_BYTES = 8 * 1024 * 1024
# Of it so much is left behind the last record, also on a disk that is full for everybody else: a
# start gives it back to the index, which must be told of the last records.
SPARE_BYTES = 2 * 1024 * 1024
OFFSET_BITS = 40
OFFSET_MASK = (1 << OFFSET_BITS) - 1
FIRST = 1 << OFFSET_BITS  # The position of the very first record.
SPARE_DESCRIPTORS = 2  # To begin a segment: its file, and for a moment the folder.
OPEN_FILES_MAX = 8  # Of a reader: a file that was dropped takes space until it is closed.
SCAN_BYTES = 64 * 1024
SEARCH_BYTES = 1024 * 1024

_HIGH_WATER = struct.Struct("<Q")


class Record(NamedTuple):
    """A record as it lies in a segment."""

    contents: Contents
    start: int  # Position of its first body;
    end: int  # and of what follows it.
    before: int | None = None  # Where the record before it ended; an old one does not say.


class Damaged(LogUnusable):
    """A segment is not what was written; the message says which, and where."""

    @classmethod
    def at(cls, path: Path, offset: int, what: str = "is damaged at") -> Damaged:
        """Return the error about a place in a segment, with what to do."""
        message = (
            f"{path} {what} {offset}: `hubbub-broker check` tells what is whole; restore a "
            "backup, or keep that much with `hubbub-broker salvage`"
        )
        return cls(message)


class InDoubt(LogUnusable):
    """A record lies in its file whole, but may not be on the disk, and cannot be withdrawn.

    Nobody may be told anything of it: whoever opens the segments next finds it and decides.
    """


def path_of(folder: Path, segment: int) -> Path:
    """Return the file of a segment."""
    return folder / f"hubbub-{segment:08d}.segment"


def numbers(folder: Path) -> list[int]:
    """Return the numbers of the segments that a folder has, in order."""
    return sorted(int(path.stem.rpartition("-")[2]) for path in folder.glob("hubbub-*.segment"))


def place_text(position: int) -> str:
    """Return a position as people read it."""
    return f"segment {position >> OFFSET_BITS}, offset {position & OFFSET_MASK}"


def sync_folder(folder: Path) -> None:
    """Wait until what was made and removed in a folder is on the disk; raise `OSError`."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


class HighWater:
    """Where the committed records end: eight bytes that all processes of a broker share.

    Readers must not run ahead of the writer's fsync. Nothing here needs to survive a crash:
    whoever opens the segments for writing finds their end and says it again. An end before what
    is noted here means that something acknowledged is gone: this never runs ahead of the disk.
    """

    NAME = "committed"

    def __init__(self, folder: Path, *, is_writer: bool) -> None:
        path = folder / self.NAME
        if is_writer:
            with path.open("ab") as file:
                file.truncate(_HIGH_WATER.size)
                # Space of its own: memory that a full disk cannot hold kills who writes to it.
                os.posix_fallocate(file.fileno(), 0, _HIGH_WATER.size)
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
        self.records_end = end  # Of the last record; a segment may have been begun after it.
        self._open(end)
        self._spare: list[int] = []
        self._take_spare()

    def _open(self, position: int) -> None:
        self.end = position
        path = path_of(self._folder, position >> OFFSET_BITS)
        self._file = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
        # A record that was cut short, or that a text imitates, must never be read as one.
        os.ftruncate(self._file, position & OFFSET_MASK)
        os.fsync(self._file)
        self._space = position & OFFSET_MASK
        sync_folder(self._folder)  # The file's name is to survive as well.

    @property
    def segment(self) -> int:
        """The number of the segment that grows."""
        return self.end >> OFFSET_BITS

    def append(self, contents: bytes, bodies: Sequence[bytes]) -> int:
        """Write a record and wait until it is on the disk; return its first body's position.

        Raises `OSError`; then nothing is kept, and the next record goes where this one would.
        Raises `InDoubt`; then this writer must not be used again.
        """
        bodies_bytes = sum(map(len, bodies))
        size_bytes = HEAD_BYTES + len(contents) + bodies_bytes
        if (self.end & OFFSET_MASK) + size_bytes > SEGMENT_BYTES_MAX and self.end & OFFSET_MASK:
            self._rotate()
        head = pack_head(self.end, self.records_end, contents, bodies_bytes)
        # Joined once: of a megabyte each copy counts.
        record = b"".join((head, contents, *bodies))
        offset = self.end & OFFSET_MASK
        self._make_space(offset + len(record))
        is_whole = False
        try:
            _write(self._file, record, offset)
            is_whole = True
            self._sync(self._file)
            self._check_name()
        except (OSError, MemoryError) as error:
            self._withdraw(offset, error, is_whole=is_whole)
            raise
        start = self.end + HEAD_BYTES + len(contents)
        self.end += len(record)
        self.records_end = self.end
        return start

    def _make_space(self, size_bytes: int) -> None:
        wanted_bytes = size_bytes + SPARE_BYTES
        if wanted_bytes <= self._space:
            return
        for space in (size_bytes + AHEAD_BYTES, wanted_bytes):
            try:
                os.posix_fallocate(self._file, self._space, space - self._space)
            except OSError:
                if space == wanted_bytes:
                    raise  # Not even this record has room.
            else:
                self._space = space
                return

    def _check_name(self) -> None:
        """Raise `OSError` when the file was removed: what is in it ends with this process."""
        if not os.fstat(self._file).st_nlink:
            message = (
                f"{path_of(self._folder, self.segment)} was removed under the running broker; "
                f"until it ends, /proc/{os.getpid()}/fd/{self._file} has its content: copy that "
                "back, then restart the broker"
            )
            raise FileNotFoundError(errno.ENOENT, message)

    def _withdraw(self, offset: int, error: OSError | MemoryError, *, is_whole: bool) -> None:
        """Take a refused record out of the file, for good.

        After a failed fsync the system may hold pages to be written that are not, and will not
        be (https://wiki.postgresql.org/wiki/Fsync_Errors). No fsync is repeated for them: the
        next record is written anew over this one, and counts only when its own fsync succeeds.
        But a process that starts now would read this one as whole.
        """
        try:
            os.ftruncate(self._file, offset)
        except OSError as failure:
            if is_whole:
                path = path_of(self._folder, self.segment)
                message = (
                    f"the log cannot be written: {error}; nor can the record at {offset} "
                    f"of {path} be taken back ({failure.strerror}), so nobody is told about it"
                )
                raise InDoubt(message) from error
            return
        self._space = offset
        if is_whole:
            with contextlib.suppress(OSError):  # Only a power cut right now could bring it back.
                self._sync(self._file)

    def _rotate(self) -> None:
        """Begin the next segment, and give back the space that this one did not need.

        Raises `OSError`; then this one goes on.
        """
        full, end = self._file, self.end
        # What a failed write left behind the last record is harmless in the last segment only: when
        # another one follows it looks like a record that was broken later.
        os.ftruncate(full, end & OFFSET_MASK)
        self._space = end & OFFSET_MASK
        os.fsync(full)
        self._release_spare()
        try:
            self._open(self.segment + 1 << OFFSET_BITS)
        except OSError:
            if self._file != full:
                os.close(self._file)
                with contextlib.suppress(OSError):
                    path_of(self._folder, self.segment).unlink()
            self._file, self._space, self.end = full, end & OFFSET_MASK, end
            self._take_spare()
            raise
        os.close(full)
        self._take_spare()

    def _take_spare(self) -> None:
        """Hold descriptors for the next segment: peers may take all others at any time."""
        with contextlib.suppress(OSError):
            while len(self._spare) < SPARE_DESCRIPTORS:
                self._spare.append(os.dup(self._file))

    def _release_spare(self) -> None:
        while self._spare:
            os.close(self._spare.pop())

    def close(self) -> None:
        """Release the file."""
        self._release_spare()
        with contextlib.suppress(OSError):
            os.ftruncate(self._file, self.end & OFFSET_MASK)
        os.close(self._file)


def write_again(folder: Path, start: int, end: int) -> None:
    """Write what lies between two positions of a segment once more, and wait for the disk.

    A record that its reader finds whole may be in memory alone: its fsync failed or never was,
    and the process that knew it is dead. An fsync of pages that the system holds for written
    does nothing, so they are written. Raises `OSError`.
    """
    offset = start & OFFSET_MASK
    file = os.open(path_of(folder, start >> OFFSET_BITS), os.O_RDWR)
    try:
        _write(file, os.pread(file, end - start, offset), offset)
        os.fsync(file)
    finally:
        os.close(file)


def overwrite(folder: Path, position: int, data: bytes) -> None:
    """Put other bytes in place of those in a segment, and wait for the disk.

    One that was emptied since needs none. Raises `OSError`; `Damaged` where there is no place.
    """
    path, offset = path_of(folder, position >> OFFSET_BITS), position & OFFSET_MASK
    try:
        file = os.open(path, os.O_RDWR)
    except FileNotFoundError:
        return
    try:
        size_bytes = os.fstat(file).st_size
        if size_bytes < offset + len(data):
            raise Damaged.at(path, size_bytes, "was cut off at")
        _write(file, data, offset)
        os.fsync(file)
    finally:
        os.close(file)


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
        """Yield the committed records from a position up to another; bodies are not looked at.

        Raises `OSError`; `Damaged` where no record is though one was committed.
        """
        window, window_at = b"", 0
        while position < high_water:
            offset = position - window_at
            if not 0 <= offset <= len(window) - HEAD_BYTES:
                window, window_at, offset = self.read(position, SCAN_BYTES), position, 0
            head = parse_head(window, offset)
            if head is None:
                if position >> OFFSET_BITS == high_water >> OFFSET_BITS:
                    raise self._damaged(position)
                position = (position >> OFFSET_BITS) + 1 << OFFSET_BITS
                continue
            offset += head.size_bytes
            packed = window[offset : offset + head.contents_bytes]
            if len(packed) < head.contents_bytes:
                packed = self.read(position + head.size_bytes, head.contents_bytes)
            contents = open_contents(head, position, packed)
            if contents is None:
                raise self._damaged(position)
            start = position + head.size_bytes + head.contents_bytes
            position += head.record_bytes
            yield Record(contents, start, position, head.before)

    def whole_records(self, position: int) -> Iterator[Record]:
        """Yield the records from a position on, as a crash may have left them: only whole ones.

        The last one may be cut short: it was never committed. One that others follow was, and so
        was one after which the next segment does not go on: each record tells where the one
        before it ended.

        Raises `OSError`; `Damaged` where a record is broken or gone that others follow.
        """
        before = position
        while True:
            record = self.whole_record(position)
            if record is not None:
                if record.before is not None and record.before != before:
                    raise self._damaged(position, "lacks what was before")
                position = before = record.end
                yield record
                continue
            segment = position >> OFFSET_BITS
            is_last = not self.has_record(segment + 1)
            is_broken = not is_last and self.read(position, MAGIC_BYTES) in MAGICS
            if is_broken or self.next_record(position) is not None:
                raise self._damaged(position)
            if is_last:
                return
            position = segment + 1 << OFFSET_BITS

    def has_record(self, segment: int) -> bool:
        """Tell whether there is such a segment, and in it a record that counted."""
        begin = segment << OFFSET_BITS
        return path_of(self._folder, segment).exists() and (
            self.whole_record(begin) is not None or self.next_record(begin) is not None
        )

    def _damaged(self, position: int, what: str = "is damaged at") -> Damaged:
        path = path_of(self._folder, position >> OFFSET_BITS)
        return Damaged.at(path, position & OFFSET_MASK, what)

    def whole_record(self, position: int) -> Record | None:
        """Return the record that begins there, if all of it is as it was written."""
        head = parse_head(self.read(position, HEAD_BYTES))
        if head is None or not self._has_space(position, head.record_bytes):
            return None
        rest = self.read(position + head.size_bytes, head.contents_bytes + head.bodies_bytes)
        contents = open_whole(head, position, rest)
        if contents is None:
            return None
        start = position + head.size_bytes + head.contents_bytes
        return Record(contents, start, position + head.record_bytes, head.before)

    def head(self, position: int) -> Head | None:
        """Return what looks like a record's head there, if anything does; raise `OSError`."""
        return parse_head(self.read(position, HEAD_BYTES))

    def record(self, position: int) -> Record | None:
        """Return the record that begins there, if its contents are as they were written.

        Its bodies are not looked at, but those of an old record, which can't be told apart.
        """
        head = parse_head(self.read(position, HEAD_BYTES))
        if head is None or not self._has_space(position, head.record_bytes):
            return None
        if head.before is None:
            return self.whole_record(position)
        packed = self.read(position + head.size_bytes, head.contents_bytes)
        contents = open_contents(head, position, packed)
        if contents is None:
            return None
        start = position + head.size_bytes + head.contents_bytes
        return Record(contents, start, position + head.record_bytes, head.before)

    def _has_space(self, position: int, size_bytes: int) -> bool:
        file_bytes = os.fstat(self._file(position >> OFFSET_BITS)).st_size
        return (position & OFFSET_MASK) + size_bytes <= file_bytes

    def next_record(self, position: int) -> int | None:
        """Return where the next record of the segment begins behind a position; raise `OSError`.

        A text that imitates a record does not count: it would have to know its own position.
        """
        at = position + 1
        while data := self.read(at, SEARCH_BYTES):
            places = [place for magic in MAGICS for place in _places(data, magic)]
            for place in sorted(places):
                if self._is_record(at + place):
                    return at + place
            if len(data) <= HEAD_BYTES:
                return None
            at += len(data) - MAGIC_BYTES + 1  # A magic may lie across the border.
        return None

    def _is_record(self, position: int) -> bool:
        """Tell whether a record was written there; its bodies may be broken."""
        head = parse_head(self.read(position, HEAD_BYTES))
        if head is None or not self._has_space(position, head.size_bytes + head.contents_bytes):
            return False
        if head.before is None:
            return self.whole_record(position) is not None
        # Only the first of a segment comes after one that ended elsewhere.
        if position & OFFSET_MASK and head.before != position:
            return False
        contents = self.read(position + head.size_bytes, head.contents_bytes)
        return open_contents(head, position, contents) is not None

    def close(self) -> None:
        """Release the files."""
        for file in self._files.values():
            os.close(file)
        self._files.clear()


def _places(data: bytes, wanted: bytes) -> Iterator[int]:
    """Yield where a few bytes stand in data."""
    place = data.find(wanted)
    while place >= 0:
        yield place
        place = data.find(wanted, place + 1)
