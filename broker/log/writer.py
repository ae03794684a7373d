"""The embedded log's write side: segments that grow, and an index over them in SQLite.

A commit is one record in a segment and one fsync (`broker.log.segments`); the index learns of it
about once a second, or after so many batches (`broker.log.index`). Readers look into both. Opens,
migrates, appends, trims. ADR 0002 and 0017.
"""

from __future__ import annotations

import contextlib
import errno
import secrets
import sqlite3
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from zlib import crc32

from broker.keys import SECRET_BYTES
from broker.log import progress
from broker.log.compaction import Compaction
from broker.log.index import (
    SEQ_BITS,
    SEQ_MASK,
    WAITING_MAX,
    Waiting,
    change_live,
    connect,
    read_identity,
    read_indexed,
    read_tail,
    recover,
    set_meta,
)
from broker.log.interface import Committed, LogFailed, LogUnusable, Proposal, RoomRecord, marks_of
from broker.log.records import BatchPlace, Contents
from broker.log.segments import OFFSET_BITS, HighWater, Record, SegmentWriter, numbers
from broker.log.senders import Senders
from common.wire import Batch, encode

FILE_NAME = "hubbub.db"
APPLICATION_ID = 0x48554242  # "HUBB": file(1) and we can tell whose database it is.
# 1 had no `sends`; 2 had every body in `batches`, 3 no CRC of each, as old rows still have.
SCHEMA_VERSION = 4

TRIM_ROOMS_MAX = 64  # A trim looks at so many rooms and drops so many batches of each,
TRIM_BATCHES_MAX = 512  # so that chat never waits long for it.
FULL_ERRORS = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
PRIMARY_CODE = 0xFF  # Of what SQLite says, without its details.
SENDER_DAYS = 7  # How long a client may take to send again what was not acknowledged.
DAY_MS = 86_400_000
# Chat does not wait for whoever else has the database locked: the index can be written later.
BUSY_MS = 10
SENDERS_EVERY_MS = 3_600_000  # They have no order by time: a look is a look at all of them.

SCHEMA = """
CREATE TABLE meta (key TEXT PRIMARY KEY, value) WITHOUT ROWID;
CREATE TABLE rooms (
    id INTEGER PRIMARY KEY,
    name TEXT NOT NULL UNIQUE,
    generation INTEGER NOT NULL,
    first INTEGER NOT NULL,  -- The oldest entry kept.
    trimmed INTEGER NOT NULL,  -- The newest entry dropped; the head of a room without rows.
    topic TEXT NOT NULL
);
CREATE TABLE batches (
    place INTEGER PRIMARY KEY,  -- rooms.id << 40 | last seq
    count INTEGER NOT NULL,
    ts INTEGER NOT NULL,  -- Of the last post, milliseconds since 1970; rises within a room.
    body BLOB NOT NULL  -- Empty where it lies in a segment.
);
CREATE TABLE senders (
    sender BLOB PRIMARY KEY,
    ts INTEGER NOT NULL,
    marks BLOB NOT NULL  -- MessagePack: {number: payload of its ACK} of the last SENDs.
) WITHOUT ROWID;
"""
SCHEMA_SENDS = """
CREATE TABLE sends (
    id INTEGER PRIMARY KEY,  -- One per writing of the index, until it is in `senders`.
    marks BLOB NOT NULL  -- MessagePack: {sender: {number: payload of its ACK}}
);
"""
SCHEMA_SEGMENTS = """
ALTER TABLE batches ADD COLUMN position INTEGER NOT NULL DEFAULT 0;
ALTER TABLE batches ADD COLUMN size_bytes INTEGER NOT NULL DEFAULT 0;
CREATE TABLE segments (
    id INTEGER PRIMARY KEY,
    live_bytes INTEGER NOT NULL  -- Of the batches that are not dropped yet.
);
"""
SCHEMA_CHECKS = "ALTER TABLE batches ADD COLUMN crc INTEGER"  # CRC-32 of the body.


class _Room:
    """The writer's own memory of a room."""

    __slots__ = ("first", "generation", "head", "id", "topic", "ts")

    def __init__(
        self, room_id: int, generation: int, first: int, topic: str, tail: tuple[int, int]
    ) -> None:
        self.id = room_id
        self.generation = generation
        self.first = first
        self.topic = topic
        self.head, self.ts = tail


def prepare(folder: Path) -> Path:
    """Make or check the log in a folder and return its file; raise `LogUnusable`.

    A new log, and one that does not go on from where the folder's last one was (a restored
    backup), gets a new epoch: clients then know not to trust the places that they remember.
    """
    path = folder / FILE_NAME
    try:
        connection = connect(path)
        try:
            _prepare(connection, path)
        finally:
            connection.close()
    except (sqlite3.Error, OSError) as error:
        message = f"the log {path} cannot be used: {error}; {_remedy(error)}"
        raise LogUnusable(message) from error
    return path


def _remedy(error: sqlite3.Error | OSError) -> str:
    if isinstance(error, OSError):
        is_full, is_locked = error.errno in FULL_ERRORS, False
    else:
        code = getattr(error, "sqlite_errorcode", 0) & PRIMARY_CODE
        is_full, is_locked = code == sqlite3.SQLITE_FULL, code == sqlite3.SQLITE_BUSY
    if is_full:
        return "make room"
    if is_locked:
        return "another program holds a lock on it (sqlite3?): end that, and start again"
    return (
        "`hubbub-broker check` tells what is whole: restore a backup, or keep that much with "
        "`hubbub-broker salvage`"
    )


def fold(folder: Path) -> None:
    """Fold SQLite's write-ahead log into its file, when nobody has it open."""
    with contextlib.suppress(sqlite3.Error):  # What is in the write-ahead log is safe there.
        connection = connect(folder / FILE_NAME)
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        connection.close()


def _prepare(connection: sqlite3.Connection, path: Path) -> None:
    is_empty = not connection.execute("SELECT 1 FROM sqlite_schema").fetchone()
    version = 0 if is_empty else schema_of(connection, path)
    if is_empty and not numbers(path.parent) and progress.noted_total(path.parent):
        message = (
            f"{path} is gone: there were messages in it, says the file {progress.FILE_NAME} beside "
            "it. Restore a backup with `hubbub-broker restore`, or begin anew by removing that file"
        )
        raise LogUnusable(message)
    connection.execute("PRAGMA journal_mode = WAL")  # Only now: others' files stay untouched.
    connection.execute("BEGIN IMMEDIATE")
    if is_empty:
        for statement in SCHEMA.split(";\n"):
            connection.execute(statement)
        connection.execute(f"PRAGMA application_id = {APPLICATION_ID}")
        set_meta(connection, "secret", secrets.token_bytes(SECRET_BYTES))
        _set_epoch(connection)
    if version < 2:  # noqa: PLR2004 - the schema that brought them
        connection.execute(SCHEMA_SENDS)
    if version < 3:  # noqa: PLR2004 - likewise
        for statement in SCHEMA_SEGMENTS.split(";\n"):
            connection.execute(statement)
    if version < SCHEMA_VERSION:
        connection.execute(SCHEMA_CHECKS)
        connection.execute(f"PRAGMA user_version = {SCHEMA_VERSION}")
    connection.execute("COMMIT")
    recover(connection, path.parent)
    if not _is_continued(connection, path.parent):
        _set_epoch(connection)


def schema_of(connection: sqlite3.Connection, path: Path) -> int:
    """Return the version of a log's schema; raise `LogUnusable` where it is none of ours."""
    version: int = connection.execute("PRAGMA user_version").fetchone()[0]
    application = connection.execute("PRAGMA application_id").fetchone()[0]
    if application != APPLICATION_ID:
        message = f"{path} is a database, but not Hubbub's: choose another --data"
        raise LogUnusable(message)
    if version > SCHEMA_VERSION:
        message = (
            f"the log {path} was made by a newer Hubbub (schema {version}, this one knows "
            f"{SCHEMA_VERSION}): install the newer version or choose another --data"
        )
        raise LogUnusable(message)
    return version


def _set_epoch(connection: sqlite3.Connection) -> None:
    set_meta(connection, "epoch", secrets.randbelow(2**32 - 1) + 1)


def _is_continued(connection: sqlite3.Connection, folder: Path) -> bool:
    """Tell whether the log has at least what was committed in this folder."""
    epoch, _ = read_identity(connection)
    rooms = connection.execute("SELECT id, trimmed FROM rooms").fetchall()
    total = sum(read_tail(connection, room_id, trimmed)[0] for room_id, trimmed in rooms)
    return progress.is_continued(folder, epoch, total)


class SqliteLog:
    """The write side. Belongs to the one thread that makes it."""

    def __init__(self, path: Path, *, retain_messages: int, retain_days: int) -> None:
        """Open a log that `prepare` has made; raise `LogUnusable`, `sqlite3.Error`, `OSError`."""
        self._retain_messages = retain_messages
        self._retain_ms = retain_days * DAY_MS
        self._path, self._folder = path, path.parent
        if not path.exists():  # Or it would be made, and empty.
            message = f"the log {path} was removed: put it back, or restore a backup"
            raise LogUnusable(message)
        self._db = connect(path)
        self._file = path.stat().st_ino
        self._is_removed = False  # The database, as far as was looked.
        self._db.execute("PRAGMA synchronous = NORMAL")  # The segments are what must not be lost.
        end = recover(self._db, self._folder)
        self.epoch, self.secret = read_identity(self._db)
        self._rooms = {
            name: _Room(room_id, generation, first, topic, read_tail(self._db, room_id, trimmed))
            for room_id, name, generation, first, trimmed, topic in self._db.execute(
                "SELECT id, name, generation, first, trimmed, topic FROM rooms"
            )
        }
        self._room_id_last = max((room.id for room in self._rooms.values()), default=0)
        try:
            self._senders = Senders(self._db)
        except LogUnusable:
            self._db.close()
            raise
        self._segments = SegmentWriter(self._folder, end)
        self._high_water = HighWater(self._folder, is_writer=True)
        self._compaction = Compaction(self._db, self._folder)
        self._waiting = Waiting()
        self._committed: list[Committed] = []
        self._total = sum(room.head for room in self._rooms.values())
        self._noted_total = -1
        self._note_progress()
        self._trim_queue: list[str] = []
        self._senders_ms = 0  # When senders of long ago were last looked for.
        self._db.execute(f"PRAGMA busy_timeout = {BUSY_MS}")

    def rooms(self) -> list[RoomRecord]:
        """Return every room that has entries, or had."""
        return [
            RoomRecord(name, room.generation, room.first, room.head, room.topic, room.ts)
            for name, room in self._rooms.items()
        ]

    def append(self, proposals: Sequence[Proposal]) -> None:
        """Commit the proposals as one record; raise `LogFailed` and keep nothing.

        Nothing of this object changes before the record is on the disk, so a failure needs no
        undoing. Raises `LogUnusable` when it cannot be known what is kept.
        """
        if self._is_removed:
            self._check_database()
        end = self._segments.end
        try:
            self._append(proposals)
        except MemoryError as error:
            if self._segments.end != end:
                raise  # Something was written: only a restart is sure to find out what.
            self._roll_back()
            raise LogFailed("the log cannot be written: no memory is left") from error

    def _append(self, proposals: Sequence[Proposal]) -> None:
        heads: dict[str, int] = {}
        made: dict[str, _Room] = {}
        batches: list[BatchPlace] = []
        committed: list[Committed] = []
        for proposal in proposals:
            name = proposal.room
            room = self._rooms.get(name) or made.get(name)
            if room is None:
                room = made[name] = _Room(self._room_id_last + len(made) + 1, 0, 1, "", (0, 0))
            prev = heads.get(name, room.head)
            first, last, ts = prev + 1, prev + proposal.count, proposal.posts[-1].ts
            body = encode(Batch(name, self.epoch, prev, first, proposal.posts))
            batches.append(BatchPlace(room.id, last, proposal.count, ts, len(body), crc32(body)))
            committed.append(Committed(proposal, prev, first, last, body))
            heads[name] = last
        topics = {each.room: each.topic for each in proposals if each.topic is not None}
        fresh = marks_of(proposals, [batch.first for batch in committed])
        rooms = self._rooms | made if made else self._rooms
        contents = Contents(
            [(room.id, name) for name, room in made.items()],
            [(rooms[name].id, topic) for name, topic in topics.items()],
            fresh,
            batches,
        )
        self._commit(contents, [each.body for each in committed])
        self._rooms.update(made)
        self._room_id_last += len(made)
        for batch, each in zip(batches, committed, strict=True):
            room = self._rooms[each.proposal.room]
            room.head, room.ts = batch.last, batch.ts
        for name, topic in topics.items():
            self._rooms[name].topic = topic
        self._senders.committed(fresh)
        self._committed += committed
        self._total += sum(proposal.count for proposal in proposals)

    def _commit(self, contents: Contents, bodies: Sequence[bytes]) -> None:
        """Write a record, and let readers see it."""
        try:
            if len(self._waiting.rows) >= WAITING_MAX:
                self._write_index()
            start = self._segments.append(encode(contents), bodies)
        except (OSError, sqlite3.Error) as error:
            self._roll_back()
            reason = error.strerror if isinstance(error, OSError) else error
            message = f"the log cannot be written: {reason}"
            raise LogFailed(message) from error
        self._waiting.add(Record(contents, start, self._segments.end))
        self._high_water.set(self._segments.end)

    def _write_index(self) -> None:
        """Tell the index of all that was committed; raise `sqlite3.Error`."""
        if not self._waiting.rows:
            return
        self._db.execute("BEGIN IMMEDIATE")
        self._waiting.write(self._db, self._segments.records_end)
        self._senders.write()
        self._db.execute("COMMIT")
        self._waiting.clear()
        self._senders.written()

    def _roll_back(self) -> None:
        if self._db.in_transaction:  # A full disk has rolled back by itself.
            self._db.execute("ROLLBACK")

    def follow(self) -> list[Committed]:
        """Return what was committed since the last call, in the order of the log."""
        committed, self._committed = self._committed, []
        return committed

    def recall(self, sender: bytes) -> Mapping[int, bytes]:
        """Return the living memory of a sender's last SENDs: it changes with each commit."""
        try:
            return self._senders.recall(sender)
        except sqlite3.Error as error:
            message = f"the log cannot be read: {error}"
            raise LogFailed(message) from error

    def forget(self, sender: bytes) -> None:
        """Drop the sender from memory, not from the log."""
        self._senders.forget(sender)

    def trim(self, now_ms: int) -> dict[str, int]:
        """Drop whole batches past retention, of a bounded number of rooms a call.

        A batch goes when all its entries are past; one that is half past stays whole.
        Returns the oldest seq kept of each room that lost some. Also notes the progress.
        """
        self._check_database()
        self._note_progress()
        oldest_ms = now_ms - self._retain_ms if self._retain_ms else 0
        try:
            self._write_index()
            self._senders.fold()
            self._forget_senders(now_ms)
            self._compaction.step(read_indexed(self._db) >> OFFSET_BITS)
            cuts = self._cuts(oldest_ms)
            if cuts:
                self._drop(cuts)
        except (sqlite3.Error, OSError) as error:
            self._roll_back()
            message = f"the log cannot be trimmed: {error}"
            raise LogFailed(message) from error
        for name, cut in cuts.items():
            self._rooms[name].first = cut + 1
        return {name: cut + 1 for name, cut in cuts.items()}

    def _check_database(self) -> None:
        """Raise `LogFailed` when the file was removed or replaced: SQLite would not notice.

        What is said after that must not be acknowledged. The segments have what was said since
        the last look, and a lost index can be made again of all segments only.
        """
        try:
            self._is_removed = self._path.stat().st_ino != self._file
        except OSError:
            self._is_removed = True
        if self._is_removed:
            message = (
                f"{self._path} was removed or replaced under the running broker, which keeps "
                "nothing from here on: put it back, or stop the broker and restore a backup"
            )
            raise LogFailed(message)

    def _cuts(self, oldest_ms: int) -> dict[str, int]:
        """Return the last seq to drop of each room whose turn it is and that has one."""
        if not self._trim_queue:
            self._trim_queue = list(self._rooms)
        turn, self._trim_queue = (
            self._trim_queue[:TRIM_ROOMS_MAX],
            self._trim_queue[TRIM_ROOMS_MAX:],
        )
        cuts = {name: self._cut(self._rooms[name], oldest_ms) for name in turn}
        return {name: cut for name, cut in cuts.items() if cut}

    def _cut(self, room: _Room, oldest_ms: int) -> int:
        last_unwanted = room.head - self._retain_messages if self._retain_messages else 0
        base = room.id << SEQ_BITS
        cut = 0
        for place, ts in self._db.execute(
            "SELECT place, ts FROM batches WHERE place BETWEEN ? AND ? ORDER BY place LIMIT ?",
            (base, base | SEQ_MASK, TRIM_BATCHES_MAX),
        ):
            if place & SEQ_MASK > last_unwanted and ts >= oldest_ms:
                break
            cut = place & SEQ_MASK
        return cut

    def _drop(self, cuts: Mapping[str, int]) -> None:
        """Drop the entries up to these seqs."""
        db = self._db
        freed: Counter[int] = Counter()
        db.execute("BEGIN IMMEDIATE")
        for name, cut in cuts.items():
            room_id = self._rooms[name].id
            places = (room_id << SEQ_BITS, room_id << SEQ_BITS | cut)
            for segment, size_bytes in db.execute(
                "SELECT position >> ?, sum(size_bytes) FROM batches "
                "WHERE place BETWEEN ? AND ? AND position > 0 GROUP BY 1",
                (OFFSET_BITS, *places),
            ):
                freed[segment] -= size_bytes
            db.execute("DELETE FROM batches WHERE place BETWEEN ? AND ?", places)
            db.execute(
                "UPDATE rooms SET first = ?, trimmed = ? WHERE id = ?", (cut + 1, cut, room_id)
            )
        change_live(db, freed)
        db.execute("COMMIT")

    def _forget_senders(self, now_ms: int) -> None:
        if 0 <= now_ms - self._senders_ms < SENDERS_EVERY_MS:
            return
        self._senders.drop_older(now_ms - SENDER_DAYS * DAY_MS)
        self._senders_ms = now_ms

    def _note_progress(self) -> None:
        if self._total != self._noted_total:
            self._noted_total = self._total
            progress.note(self._folder, self.epoch, self._total)

    def close(self) -> None:
        """Write the index and release the files."""
        self._note_progress()
        with contextlib.suppress(sqlite3.Error):  # Whoever opens the log does it.
            self._write_index()
        self._db.close()
        self._segments.close()
        self._compaction.close()
        self._high_water.close()
