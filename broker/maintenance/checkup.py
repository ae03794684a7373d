"""`hubbub-broker check`: reads all of a log and says whether it is what was written.

Only reads, so a broker may run meanwhile; then it looks at what that had committed. ADR 0020.
"""

from __future__ import annotations

import contextlib
import sqlite3
from collections import Counter
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from zlib import crc32

from msgspec import Struct

from broker.log import progress
from broker.log.datadir import is_held
from broker.log.index import SEQ_BITS, SEQ_MASK, connect, meta, read_identity, read_indexed
from broker.log.interface import LogUnusable
from broker.log.segments import (
    FIRST,
    OFFSET_BITS,
    OFFSET_MASK,
    HighWater,
    Record,
    SegmentReader,
    numbers,
    path_of,
)
from broker.log.senders import unreadable_count
from broker.log.writer import FILE_NAME, SCHEMA_VERSION, schema_of
from common.spans import last_seq, lost_count, texts_count
from common.wire import DECODE_ERRORS, decode_batch

PROBLEMS_MAX = 1_000  # Told one by one; the others are counted.
ANY_SEGMENT = 0  # The numbers of real ones begin at 1.
TRIES_MAX = 3  # Retention may drop a segment between the look into the index and the read.
INTEGRITY_MAX = 10  # So much of what SQLite has to say about its file.


Entries = tuple[str, int, int]  # Of a room, from one seq to another.
NO_ENTRIES: Entries = ("", 0, 0)


class Problem(Struct):
    """Something that is not what was written."""

    file: str
    offset: int  # In the file; -1 where it has no place.
    what: str
    room: str = ""  # The entries that it takes away, where they are known.
    first: int = 0
    last: int = 0

    def line(self) -> str:
        """Return it for people."""
        place = f" at {self.offset}" if self.offset >= 0 else ""
        room = f": #{self.room}, entries {self.first} to {self.last}" if self.room else ""
        return f"{self.file}{place}{room}: {self.what}"


class Report(Struct):
    """What was looked at, and what is wrong."""

    folder: str
    is_running: bool = False
    rooms: int = 0
    entries: int = 0
    batches: int = 0
    bytes: int = 0  # Of the batches' bodies.
    segments: int = 0
    records: int = 0
    salvaged: int = 0  # Entries that an earlier salvage could not find.
    problems: list[Problem] = []
    problems_more: int = 0
    notes: list[str] = []
    what_to_do: str = (
        "stop the broker, then restore a backup with `hubbub-broker restore`, or copy all that is "
        "whole into a new folder with `hubbub-broker salvage`"
    )

    def lines(self) -> Iterator[str]:
        """Yield it for people."""
        yield (
            f"{self.folder}: {self.rooms} rooms, {self.entries} entries in {self.batches} batches "
            f"({self.bytes} bytes), {self.records} records in {self.segments} segments"
        )
        if self.is_running:
            yield "a broker runs: looked at what it had committed"
        if self.salvaged:
            yield f"{self.salvaged} entries were given up in a salvage before"
        yield from (f"note: {note}" for note in self.notes)
        yield from (f"problem: {problem.line()}" for problem in self.problems)
        if self.problems_more:
            yield f"problem: and {self.problems_more} more"
        if self.problems:
            yield f"what to do: {self.what_to_do}"
        else:
            yield "whole: all of it was read, and is what was written"


def check(folder: Path) -> Report:
    """Read all of a log; never raises for what is wrong with it."""
    for _ in range(TRIES_MAX):
        checkup = _Checkup(folder)
        checkup.run()
        if not checkup.is_outrun():
            break
    return checkup.report


class _Checkup:
    """One look at a log, at one moment of it."""

    def __init__(self, folder: Path) -> None:
        self.report = Report(str(folder), is_running=is_held(folder))
        self._folder = folder
        self._segments = SegmentReader(folder)
        self._missing: set[int] = set()
        self._live_bytes: Counter[int] = Counter()
        self._heads: dict[int, int] = {}
        self._names: dict[int, str] = {}
        self._rows = 0
        self._redactions: dict[int, bytes] = {}
        self._redactions_count: object = None
        self._high_water: int | None = None  # Up to where records were committed, if it is known.

    def run(self) -> None:
        with closing(self._segments):
            try:
                self._run()
            except (sqlite3.Error, LogUnusable) as error:
                self._problem(FILE_NAME, -1, str(error))
            except OSError as error:
                if isinstance(error, FileNotFoundError):
                    self._missing.add(ANY_SEGMENT)
                self._problem(Path(error.filename or self._folder).name, -1, str(error.strerror))

    def is_outrun(self) -> bool:
        """Tell whether the log was changed meanwhile: a segment dropped, or a text removed."""
        if not self.report.problems or not self.report.is_running:
            return False
        with contextlib.suppress(sqlite3.Error):
            db = connect(self._folder / FILE_NAME, read_only=True)
            with closing(db):
                needed = {row[0] for row in db.execute("SELECT id FROM segments")}
                is_changed = self._redactions_count != meta(db, "redactions")
                return is_changed or bool(self._redactions) or not self._missing <= needed
        return False

    def _problem(self, file: str, offset: int, what: str, entries: Entries = NO_ENTRIES) -> None:
        if len(self.report.problems) < PROBLEMS_MAX:
            self.report.problems.append(Problem(file, offset, what, *entries))
        else:
            self.report.problems_more += 1

    def _run(self) -> None:
        path = self._folder / FILE_NAME
        there = numbers(self._folder)
        if not path.exists():
            what = "the index is missing"
            if there:
                what += "; if all segments are there, a start of the broker makes it again"
            self._problem(FILE_NAME, -1, what)
            self._note_high_water()
            self._look_at_records(there)
            return
        noted_total = progress.noted_total(self._folder)  # Before the index: it may only grow.
        with closing(connect(path, read_only=True)) as db:
            if schema_of(db, path) < SCHEMA_VERSION:
                self._problem(FILE_NAME, -1, "an older Hubbub made it")
                self.report.what_to_do = "start the broker on it once, then check"
                return
            for (line,) in db.execute(f"PRAGMA integrity_check({INTEGRITY_MAX})"):
                if line != "ok":
                    self._problem(FILE_NAME, -1, f"SQLite finds: {line}")
            db.execute("BEGIN")
            indexed = read_indexed(db)
            self._redactions = dict(
                db.execute("SELECT position, data FROM redactions WHERE position > 0")
            )
            self._redactions_count = meta(db, "redactions")
            self._note_high_water()
            for (segment,) in db.execute("SELECT id FROM segments"):
                if segment not in there and not path_of(self._folder, segment).exists():
                    self._missing.add(segment)
                    self._problem(path_of(self._folder, segment).name, -1, "the file is missing")
            self._look_at_records(numbers(self._folder))
            self._look_at_rooms(db)
            self._look_at_segments(db)
            self._look_at_tail(indexed)
            if count := unreadable_count(db):
                self._problem(FILE_NAME, -1, f"what {count} senders sent last cannot be read")
            epoch, _ = read_identity(db)
        self._look_at_progress(epoch, noted_total)

    def _note_high_water(self) -> None:
        try:
            with closing(HighWater(self._folder, is_writer=False)) as high_water:
                self._high_water = high_water.get()
        except (OSError, ValueError):
            self.report.notes.append(f"no file {HighWater.NAME} says where the log must end")

    # --- records ------------------------------------------------------------
    def _look_at_records(self, there: list[int]) -> None:
        """See that records follow each other without a break, in each segment and across them."""
        before = None
        for segment in there:
            begin = segment << OFFSET_BITS
            size_bytes = path_of(self._folder, segment).stat().st_size
            end = begin + size_bytes
            is_last = segment == there[-1]
            limit = self._high_water
            if self.report.is_running and limit is not None and segment >= limit >> OFFSET_BITS:
                end = min(end, max(limit, begin))
            self.report.segments += 1
            before = self._look_at_segment(begin, end, before, is_last=is_last)

    def _look_at_segment(self, begin: int, end: int, before: int | None, *, is_last: bool) -> int:
        name = path_of(self._folder, begin >> OFFSET_BITS).name
        position = begin
        while position < end:
            record = self._segments.record(position)
            if record is not None and record.end <= end:
                if record.before is not None and not self._follows(record.before, before, position):
                    self._problem(
                        name, position & OFFSET_MASK, "what was written before it is gone"
                    )
                self.report.records += 1
                position = before = record.end
                continue
            following = self._segments.next_record(position)
            if following is None and not self._has_bytes(position, end, is_last=is_last):
                return position  # Space that was taken ahead, or what a crash left at the end.
            end_of_damage = min(following or end, end)
            count = end_of_damage - position
            self._problem(name, position & OFFSET_MASK, f"{count} bytes are not what was written")
            position = before = end_of_damage
        return position

    def _follows(self, told: int, before: int | None, position: int) -> bool:
        """Tell whether a record comes after what was seen before it, as far as that is there."""
        if position & OFFSET_MASK:
            return told == position
        if before is None or before >> OFFSET_BITS != told >> OFFSET_BITS:
            return told == FIRST or not path_of(self._folder, told >> OFFSET_BITS).exists()
        return told == before

    def _has_bytes(self, position: int, end: int, *, is_last: bool) -> bool:
        """Tell whether anything was written there; at the very end a crash may leave a torn one."""
        if is_last and (self._high_water or 0) <= position:
            return False
        return bool(self._segments.read(position, end - position).strip(b"\0"))

    # --- the index ----------------------------------------------------------
    def _look_at_rooms(self, db: sqlite3.Connection) -> None:
        rooms = db.execute("SELECT id, name, first, trimmed FROM rooms ORDER BY id").fetchall()
        for room_id, name, first, trimmed in rooms:
            self.report.rooms += 1
            self._names[room_id] = name
            if first != trimmed + 1:
                self._problem(FILE_NAME, -1, f"#{name} begins at {first}, trimmed up to {trimmed}")
            self._heads[room_id] = self._look_at_room(db, room_id, name, trimmed)
        (count,) = db.execute("SELECT count(*) FROM batches").fetchone()
        if count != self._rows:
            self._problem(FILE_NAME, -1, f"{count - self._rows} batches are of no room")

    def _look_at_room(self, db: sqlite3.Connection, room_id: int, name: str, prev: int) -> int:
        newest_ms = 0
        base = room_id << SEQ_BITS
        for place, count, ts, body, position, size_bytes, check in db.execute(
            "SELECT place, count, ts, body, position, size_bytes, crc FROM batches "
            "WHERE place BETWEEN ? AND ? ORDER BY place",
            (base, base | SEQ_MASK),
        ):
            self._rows += 1
            last = place & SEQ_MASK
            first = last - count + 1
            if first != prev + 1:
                self._problem(FILE_NAME, -1, "not in the index", (name, prev + 1, first - 1))
            if ts < newest_ms:
                self._problem(FILE_NAME, -1, "older than what is before it", (name, first, last))
            self._live_bytes[position >> OFFSET_BITS] += size_bytes
            self._look_at_body(body or (position, size_bytes), check, (name, first, last))
            prev, newest_ms = last, ts
        return prev

    def _look_at_body(
        self, body: bytes | tuple[int, int], check: int | None, entries: Entries
    ) -> None:
        """See that a body is what was written: by its CRC, and by what it says itself."""
        file, offset, size_bytes = FILE_NAME, -1, len(body)
        if isinstance(body, tuple):
            position, size_bytes = body
            file = path_of(self._folder, position >> OFFSET_BITS).name
            offset = position & OFFSET_MASK
            try:
                body = self._segments.read(position, size_bytes)
            except OSError as error:
                self._missing.add(position >> OFFSET_BITS)
                self._problem(file, offset, f"cannot be read: {error.strerror}", entries)
                return
            if crc32(body) != check and position in self._redactions:
                body = self._redactions[position]  # Decided; the next start puts it in place.
        if len(body) < size_bytes or (check is not None and crc32(body) != check):
            self._problem(file, offset, "not what was written", entries)
            return
        try:
            batch = decode_batch(body)
        except DECODE_ERRORS as error:
            self._problem(file, offset, f"cannot be read: {error}", entries)
            return
        # A batch that is older than its room's name has another one.
        if (batch.first, last_seq(batch)) != entries[1:]:
            self._problem(file, offset, "another batch is there", entries)
            return
        self.report.batches += 1
        self.report.salvaged += lost_count(batch)
        self.report.entries += texts_count(batch)
        self.report.bytes += size_bytes

    def _look_at_segments(self, db: sqlite3.Connection) -> None:
        """See that no segment is taken for emptier than it is: it would be dropped."""
        for segment, live_bytes in db.execute("SELECT id, live_bytes FROM segments"):
            if live_bytes != self._live_bytes[segment]:
                what = f"segment {segment} has {self._live_bytes[segment]} bytes in use, noted are"
                self._problem(FILE_NAME, -1, f"{what} {live_bytes}")

    # --- what the index does not know yet -----------------------------------
    def _look_at_tail(self, indexed: int) -> None:
        end = indexed
        for record in self._tail(indexed):
            end = record.end
            position = record.start
            self._names.update(record.contents.made)
            self.report.rooms = len(self._names)
            for batch in record.contents.batches:
                first, name = batch.last - batch.count + 1, self._names.get(batch.room, "?")
                if first != self._heads.get(batch.room, 0) + 1:
                    file = path_of(self._folder, position >> OFFSET_BITS).name
                    what = "does not follow what is before it"
                    self._problem(file, position & OFFSET_MASK, what, (name, first, batch.last))
                self._heads[batch.room] = batch.last
                place = position, batch.size_bytes
                self._look_at_body(place, batch.check, (name, first, batch.last))
                position += batch.size_bytes
        if end < (self._high_water or 0):
            file = path_of(self._folder, end >> OFFSET_BITS).name
            what = "ends here, but more was acknowledged"
            self._problem(file, end & OFFSET_MASK, what)

    def _tail(self, position: int) -> Iterator[Record]:
        limit = self._high_water if self.report.is_running else None
        while limit is None or position < limit:
            try:
                record = self._segments.record(position)
            except FileNotFoundError:
                return
            if record is not None:
                position = record.end
                yield record
            elif path_of(self._folder, (position >> OFFSET_BITS) + 1).exists():
                position = (position >> OFFSET_BITS) + 1 << OFFSET_BITS
            else:
                return

    def _look_at_progress(self, epoch: int, noted_total: int) -> None:
        total = sum(self._heads.values())
        if noted_total > total:
            self._problem(
                progress.FILE_NAME, -1, f"tells of {noted_total} entries, the log has {total}"
            )
        elif not progress.is_continued(self._folder, epoch, total) and not self.report.is_running:
            self.report.notes.append("clients will start over: this is not the log they knew")
