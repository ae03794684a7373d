"""`hubbub-broker salvage`: copies what is whole of a damaged log into a new one.

Every entry keeps its place. Where some are missing, the new log says how many, and so readers are
told (`common.spans.lost`). What is looked through is only read.
"""

from __future__ import annotations

import secrets
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing, suppress
from pathlib import Path
from typing import NamedTuple
from zlib import crc32

from broker.log.datadir import is_held
from broker.log.index import (
    SEQ_BITS,
    SEQ_MASK,
    Waiting,
    connect,
    meta,
    read_indexed,
    set_meta,
)
from broker.log.interface import LogUnusable, Marks
from broker.log.records import BatchPlace, Contents
from broker.log.rights_store import NAMES, rename_room
from broker.log.segments import (
    FIRST,
    OFFSET_BITS,
    HighWater,
    Record,
    SegmentReader,
    SegmentWriter,
    numbers,
)
from broker.log.senders import add_marks, is_readable
from broker.log.writer import FILE_NAME, SCHEMA_VERSION, prepare, schema_of
from broker.maintenance.export import CLOSED
from common.errors import HubbubError
from common.spans import last_seq, lost, lost_count
from common.wire import DECODE_ERRORS, decode_batch, encode

SCRATCH_NAME = "salvage.tmp"
RECORD_BYTES = 1024 * 1024  # So much goes into one record of the new log.
CLOSED_BYTES = 12  # In the name of a closed room.
GENERATION_SPAN = 1 << 30
SCRATCH = """
CREATE TABLE rooms (id INTEGER PRIMARY KEY, name TEXT, generation INTEGER, trimmed INTEGER,
    head INTEGER, topic TEXT);
CREATE TABLE found (room INTEGER, last INTEGER, first INTEGER, ts INTEGER, position INTEGER,
    size_bytes INTEGER, body BLOB, PRIMARY KEY (room, last)) WITHOUT ROWID;
"""


class SalvageFailed(HubbubError):
    """Nothing was salvaged; the message says why."""


class _Room(NamedTuple):
    """What is known of a room, as in the scratch file."""

    id: int  # In the damaged log.
    name: str
    generation: int
    trimmed: int | None  # None where the index does not say.
    head: int
    topic: str


class Lost(NamedTuple):
    """Entries of a room that are in the new log in name only."""

    room: str
    first: int
    last: int


class Salvaged(NamedTuple):
    """What came of it."""

    entries: int
    lost: list[Lost]


def salvage(folder: Path, target: Path, tell: Callable[[str], None]) -> Salvaged:
    """Make a log in a new folder of all that is whole in another one; raise `SalvageFailed`.

    tell: hears of what could not be used as it should be.
    """
    if is_held(folder):
        raise SalvageFailed(f"a broker uses {folder}: stop it first")
    if target.exists() and (not target.is_dir() or any(target.iterdir())):
        raise SalvageFailed(f"{target} is there already: choose a new folder")
    if not numbers(folder) and not (folder / FILE_NAME).is_file():
        raise SalvageFailed(f"there is no log in {folder}")
    try:
        target.mkdir(parents=True, exist_ok=True, mode=0o700)
        scratch = connect(target / SCRATCH_NAME)
        with closing(scratch), closing(SegmentReader(folder)) as segments:
            scratch.executescript(SCRATCH)
            scratch.execute("PRAGMA synchronous = OFF")
            scratch.execute("BEGIN")
            search = _Search(folder, segments, scratch, tell)
            try:
                search.index()
            except (sqlite3.Error, LogUnusable) as error:
                tell(f"{FILE_NAME} cannot be used any further: {error}")
            search.segments()
            search.name_rooms()
            scratch.execute("COMMIT")
            writer = _Writer(target, segments, scratch, search)
            salvaged = writer.write()
        for path in target.glob(f"{SCRATCH_NAME}*"):
            path.unlink()
        prepare(target)  # As the broker will.
    except (sqlite3.Error, OSError, LogUnusable) as error:
        raise SalvageFailed(f"{target} cannot be written: {error}") from error
    return salvaged


class _Search:
    """Looks through a log, and notes in the scratch file where each whole batch lies."""

    def __init__(
        self,
        folder: Path,
        segments: SegmentReader,
        scratch: sqlite3.Connection,
        tell: Callable[[str], None],
    ) -> None:
        self._folder = folder
        self._segments = segments
        self._scratch = scratch
        self._tell = tell
        self.secret: bytes | None = None
        self.senders: list[tuple[bytes, int, bytes]] = []
        self.sends: list[bytes] = []
        self.marks: dict[bytes, Marks] = {}
        self.rights: dict[str, list[tuple[object, ...]]] = {}  # By table.
        self.renamed: list[tuple[str, str]] = []  # Rooms, since `rights` was written.
        self._trimmed: dict[int, int] = {}
        self._names: dict[int, str] = {}  # What the log calls its rooms,
        self._heard: dict[int, str] = {}  # and what they are called in their newest batches.
        self._indexed = 0
        self._removals: dict[int, bytes] = {}  # Bodies without a text that was removed.
        # Of a room that is not in the index, which knows them all where it can be read.
        self._generation: int | None = None

    def index(self) -> None:
        """Take what the index knows; raise `sqlite3.Error`, `LogUnusable` where that ends."""
        path = self._folder / FILE_NAME
        with closing(connect(path, read_only=True)) as db:
            version = schema_of(db, path)
            # What older versions did not have; see `broker.log.schema`.
            self._columns = "position, size_bytes, crc"
            if version < 4:  # noqa: PLR2004 - the schema that brought it
                self._columns = "position, size_bytes, NULL" if version > 2 else "0, 0, NULL"  # noqa: PLR2004
            secret = meta(db, "secret")
            self.secret = secret if isinstance(secret, bytes) else None
            if version == SCHEMA_VERSION:
                self._read_rights(db)
                found = db.execute("SELECT position, data FROM redactions").fetchall()
                self._removals.update(found)
            rooms = db.execute("SELECT id, name, generation, trimmed, topic FROM rooms").fetchall()
            self._generation = 0
            self._indexed = read_indexed(db)
            for room_id, name, generation, trimmed, topic in rooms:
                self._trimmed[room_id] = trimmed
                self._names[room_id] = name
                row = (room_id, name, generation, trimmed, trimmed, topic)
                self._scratch.execute("INSERT INTO rooms VALUES (?, ?, ?, ?, ?, ?)", row)
                self._rows(db, room_id)
            self.senders = [
                row
                for row in db.execute("SELECT sender, ts, marks FROM senders")
                if is_readable(row[2], is_sends=False)
            ]
            if version > 1:
                rows = db.execute("SELECT marks FROM sends ORDER BY id")
                self.sends = [marks for (marks,) in rows if is_readable(marks, is_sends=True)]

    def _read_rights(self, db: sqlite3.Connection) -> None:
        for table in NAMES:
            try:
                self.rights[table] = db.execute(f"SELECT * FROM {table}").fetchall()  # noqa: S608 - our own words
            except sqlite3.Error as error:
                self._tell(f"what was kept as {table} cannot be read, and is given up: {error}")

    def _rows(self, db: sqlite3.Connection, room_id: int) -> None:
        base = room_id << SEQ_BITS
        for place, ts, body, position, size_bytes, check in db.execute(
            f"SELECT place, ts, body, {self._columns} FROM batches "  # noqa: S608 - fixed words
            "WHERE place BETWEEN ? AND ? ORDER BY place",
            (base, base | SEQ_MASK),
        ):
            last = place & SEQ_MASK
            self._scratch.execute("UPDATE rooms SET head = ? WHERE id = ?", (last, room_id))
            found, in_index = body, body
            if not body:
                found = b""
                with suppress(OSError):
                    found = self._segments.read(position, size_bytes)
                if crc32(found) != check and position in self._removals:
                    found = in_index = self._removals[position]
            if len(found) >= size_bytes and (check is None or crc32(found) == check):
                self._note(found, ts, position, in_index, place)

    def segments(self) -> None:
        """Take what the segments hold beside that."""
        for segment in numbers(self._folder):
            position: int | None = segment << OFFSET_BITS
            while position is not None:
                record = self._segments.record(position)
                if record is None:
                    position = self._segments.next_record(position)
                else:
                    self._record(record)
                    position = record.end

    def _record(self, record: Record) -> None:
        position = record.start
        for room_id, name in record.contents.made:
            old = self._names.get(room_id)
            if old is None or record.end > self._indexed:  # Else the index knows better.
                self._names[room_id] = name
                self._add_room(room_id)
                if old is not None:
                    self.renamed.append((old, name))
        for batch in record.contents.batches:
            body = self._segments.read(position, batch.size_bytes)
            if crc32(body) == batch.check:
                self._note(body, batch.ts, position, b"", batch.room << SEQ_BITS | batch.last)
            position += batch.size_bytes
        for room_id, topic in record.contents.topics:
            self._scratch.execute("UPDATE rooms SET topic = ? WHERE id = ?", (topic, room_id))
        add_marks(self.marks, record.contents.marks)

    def _add_room(self, room_id: int) -> None:
        row = (room_id, self._generation)
        self._scratch.execute("INSERT OR IGNORE INTO rooms VALUES (?, '', ?, NULL, 0, '')", row)

    def _note(self, body: bytes, ts: int, position: int, in_index: bytes, place: int) -> None:
        """Note a batch if it is one for this place (room's id and last seq, as in the index)."""
        room_id, expected = place >> SEQ_BITS, place & SEQ_MASK
        try:
            batch = decode_batch(body)
        except DECODE_ERRORS:
            return
        last = last_seq(batch)
        self._heard[room_id] = batch.room
        if last != expected or last <= self._trimmed.get(room_id, 0):
            return
        self._add_room(room_id)
        self._scratch.execute("UPDATE rooms SET head = max(head, ?) WHERE id = ?", (last, room_id))
        self._scratch.execute(
            "INSERT OR IGNORE INTO found VALUES (?, ?, ?, ?, ?, ?, ?)",
            (room_id, last, batch.first, ts, position, len(body), in_index),
        )

    def name_rooms(self) -> None:
        """Give each room its name, and what can be told of its generation."""
        taken = set(self._names.values())
        for (room_id,) in self._scratch.execute("SELECT id FROM rooms ORDER BY id").fetchall():
            name = self._names.get(room_id)
            if name is None:
                # Its batches may be older than its name: it may be a closed room by now.
                name = self._heard[room_id]
                is_doubtful = not name.startswith(CLOSED) and self._has_closed_rooms()
                if name in taken or is_doubtful:
                    name = f"+{secrets.token_hex(CLOSED_BYTES)}"
                    self._tell(f"a room that was #{self._heard[room_id]} once is {name} now")
                taken.add(name)
            self._scratch.execute("UPDATE rooms SET name = ? WHERE id = ?", (name, room_id))
        # Of an unknown generation no key or ticket may be good that ever was.
        self._scratch.execute(
            "UPDATE rooms SET generation = ? WHERE generation IS NULL",
            (secrets.randbelow(GENERATION_SPAN) + GENERATION_SPAN,),
        )

    def _has_closed_rooms(self) -> bool:
        names = {*self._names.values(), *self._heard.values()}
        return any(name.startswith(CLOSED) for name in names)


class _Writer:
    """Writes the new log."""

    def __init__(
        self, target: Path, segments: SegmentReader, scratch: sqlite3.Connection, search: _Search
    ) -> None:
        self._target = target
        self._segments = segments
        self._scratch = scratch
        self._search = search
        self._lost: list[Lost] = []
        self._entries = 0

    def write(self) -> Salvaged:
        with closing(connect(prepare(self._target))) as db:
            self._db = db
            self._epoch = meta(db, "epoch")
            if self._search.secret is not None:
                set_meta(db, "secret", self._search.secret)
            self._new = SegmentWriter(self._target, FIRST)
            with closing(self._new), closing(HighWater(self._target, is_writer=True)) as high_water:
                rooms = self._scratch.execute("SELECT * FROM rooms ORDER BY id").fetchall()
                for room_id, row in enumerate(rooms, 1):
                    self._room(room_id, _Room(*row))
                high_water.set(self._new.end)
            self._write_marks()
        return Salvaged(self._entries, self._lost)

    def _room(self, room_id: int, room: _Room) -> None:
        made, batches, bodies = [(room_id, room.name)], list[BatchPlace](), list[bytes]()
        db, trimmed = self._db, room.trimmed
        db.execute("BEGIN IMMEDIATE")
        # The first record of a room has its name; a room without batches is in the index alone.
        is_made = False
        for first, last, ts, body in self._pieces(room):
            if trimmed is None:
                trimmed = first - 1
            batches.append(BatchPlace(room_id, last, last - first + 1, ts, len(body), crc32(body)))
            bodies.append(body)
            if sum(map(len, bodies)) >= RECORD_BYTES:
                self._append(made, batches, bodies)
                made, batches, bodies, is_made = [], [], [], True
        if batches:
            self._append(made, batches, bodies)
        elif not is_made:
            db.execute("INSERT INTO rooms VALUES (?, ?, 0, 1, 0, '')", (room_id, room.name))
        db.execute(
            "UPDATE rooms SET generation = ?, first = ?, trimmed = ?, topic = ? WHERE id = ?",
            (room.generation, (trimmed or 0) + 1, trimmed or 0, room.topic, room_id),
        )
        db.execute("COMMIT")

    def _pieces(self, room: _Room) -> Iterator[tuple[int, int, int, bytes]]:
        """Yield first, last, time and body of each batch of a room, and of what is missing."""
        name, prev, newest_ms = room.name, room.trimmed, 0
        for first, last, ts, position, size_bytes, body in self._scratch.execute(
            "SELECT first, last, ts, position, size_bytes, body FROM found WHERE room = ? "
            "ORDER BY last",
            (room.id,),
        ):
            found = body or self._segments.read(position, size_bytes)
            begin = first if prev is None else prev + 1
            if first < begin:
                continue  # Two that overlap: nothing that was ever written does.
            if first > begin:
                yield self._missing(name, begin, first - 1, newest_ms)
            batch = decode_batch(found)
            if lost_count(batch):
                self._lost.append(Lost(name, first, last))
            else:
                self._entries += last - first + 1
            newest_ms = max(newest_ms, ts)
            yield first, last, newest_ms, found
            prev = last
        if prev is not None and room.head > prev:
            yield self._missing(name, prev + 1, room.head, newest_ms)

    def _missing(self, name: str, first: int, last: int, ts: int) -> tuple[int, int, int, bytes]:
        self._lost.append(Lost(name, first, last))
        assert isinstance(self._epoch, int)
        return first, last, ts, encode(lost(name, self._epoch, first, last))

    def _append(
        self, made: list[tuple[int, str]], batches: list[BatchPlace], bodies: list[bytes]
    ) -> None:
        contents = Contents(made, [], {}, batches)
        start = self._new.append(encode(contents), bodies)
        waiting = Waiting()
        waiting.add(Record(contents, start, self._new.end))
        waiting.write(self._db, self._new.end)

    def _write_marks(self) -> None:
        db, search = self._db, self._search
        db.execute("BEGIN IMMEDIATE")
        db.executemany("INSERT OR REPLACE INTO senders VALUES (?, ?, ?)", search.senders)
        for table, rows in search.rights.items():
            for row in rows:
                places = ", ".join("?" * len(row))
                db.execute(f"INSERT INTO {table} VALUES ({places})", row)  # noqa: S608 - our own words
        for old, new in search.renamed:
            rename_room(db, old, new)
        sends = [*search.sends, *([encode(search.marks)] if search.marks else [])]
        db.executemany("INSERT INTO sends (marks) VALUES (?)", [(marks,) for marks in sends])
        db.execute("COMMIT")
