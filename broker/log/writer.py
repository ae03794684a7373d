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
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from zlib import crc32

from broker.keys import SECRET_BYTES
from broker.log import progress, retention, schema
from broker.log.administration import Administration
from broker.log.compaction import Compaction
from broker.log.index import (
    WAITING_MAX,
    Waiting,
    connect,
    read_identity,
    read_indexed,
    read_removed,
    read_tail,
    recover,
    set_meta,
)
from broker.log.interface import (
    Committed,
    LogFailed,
    LogUnusable,
    Proposal,
    RoomRecord,
    marks_of,
)
from broker.log.records import BatchPlace, Contents
from broker.log.retention import Retention
from broker.log.rights_store import Soon, read_rights, write_changes
from broker.log.room import Room
from broker.log.segments import OFFSET_BITS, HighWater, Record, SegmentWriter, numbers
from broker.log.senders import Senders
from common.wire import Batch, encode

FILE_NAME = "hubbub.db"
APPLICATION_ID = 0x48554242  # "HUBB": file(1) and we can tell whose database it is.
SCHEMA_VERSION = schema.VERSION
FULL_ERRORS = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
PRIMARY_CODE = 0xFF  # Of what SQLite says, without its details.
SENDER_DAYS = 7  # How long a client may take to send again what was not acknowledged.
DAY_MS = retention.DAY_MS
# Chat does not wait for whoever else has the database locked: the index can be written later.
BUSY_MS = 10
SENDERS_EVERY_MS = 3_600_000  # They have no order by time: a look is a look at all of them.


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
        connection.execute(f"PRAGMA application_id = {APPLICATION_ID}")
    if version < SCHEMA_VERSION:
        schema.upgrade(connection, version)
    if is_empty:
        set_meta(connection, "secret", secrets.token_bytes(SECRET_BYTES))
        _set_epoch(connection)
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


class SqliteLog(Administration):
    """The write side. Belongs to the one thread that makes it."""

    def __init__(self, path: Path, *, retain_messages: int, retain_days: int) -> None:
        """Open a log that `prepare` has made; raise `LogUnusable`, `sqlite3.Error`, `OSError`."""
        self._path, self._folder = path, path.parent
        if not path.exists():  # Or it would be made, and empty.
            message = f"the log {path} was removed: put it back, or restore a backup"
            raise LogUnusable(message)
        self._db = connect(path)
        self._file = path.stat().st_ino
        self._is_removed = False  # The database, as far as was looked.
        self._db.execute("PRAGMA secure_delete = ON")  # What is removed is not to stay as waste.
        self._db.execute("PRAGMA synchronous = NORMAL")  # The segments are what must not be lost.
        end = recover(self._db, self._folder)
        self.epoch, self.secret = read_identity(self._db)
        self._rooms = {
            name: Room(room_id, generation, first, topic, read_tail(self._db, room_id, trimmed))
            for room_id, name, generation, first, trimmed, topic in self._db.execute(
                "SELECT id, name, generation, first, trimmed, topic FROM rooms"
            )
        }
        removed = read_removed(self._db)
        for room in self._rooms.values():
            room.removed = removed.get(room.id, ())
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
        self._retention = Retention(self._db, self._rooms, retain_messages, retain_days)
        for facts in read_rights(self._db).rooms:
            self._retention.note(facts)
        self._soon = Soon()
        (self._redactions,) = self._db.execute(
            "SELECT coalesce((SELECT value FROM meta WHERE key = 'redactions'), 0)"
        ).fetchone()
        self._has_waste = self._db.execute("SELECT 1 FROM redactions").fetchone() is not None
        self._senders_ms = 0  # When senders of long ago were last looked for.
        self._db.execute(f"PRAGMA busy_timeout = {BUSY_MS}")

    def rooms(self) -> list[RoomRecord]:
        """Return every room that has entries, or had."""
        return [
            RoomRecord(
                name, room.generation, room.first, room.head, room.topic, room.ts, room.removed
            )
            for name, room in self._rooms.items()
        ]

    def append(self, proposals: Sequence[Proposal]) -> None:
        """Commit the proposals as one record; raise `LogFailed` and keep nothing.

        Nothing of this object changes before the record is on the disk, so a failure needs no
        undoing. Raises `LogUnusable` when it cannot be known what is kept.
        """
        with self._all_or_nothing():
            self._append(proposals)

    @contextlib.contextmanager
    def _all_or_nothing(self) -> Iterator[None]:
        """Surround what commits a record, and changes this object only then."""
        if self._is_removed:
            self._check_database()
        end = self._segments.end
        try:
            yield
        except MemoryError as error:
            if self._segments.end != end:
                raise  # Something was written: only a restart is sure to find out what.
            self._roll_back()
            raise LogFailed("the log cannot be written: no memory is left") from error

    def _append(self, proposals: Sequence[Proposal]) -> None:
        heads: dict[str, int] = {}
        made: dict[str, Room] = {}
        batches: list[BatchPlace] = []
        committed: list[Committed] = []
        for proposal in proposals:
            name = proposal.room
            room = self._rooms.get(name) or made.get(name)
            if room is None:
                room = made[name] = Room(self._room_id_last + len(made) + 1, 0, 1, "", (0, 0))
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
        if self._waiting.is_empty and not self._soon:
            return
        self._db.execute("BEGIN IMMEDIATE")
        if not self._waiting.is_empty:
            self._waiting.write(self._db, self._segments.records_end)
        self._senders.write()
        write_changes(self._db, self._soon.changes())
        self._db.execute("COMMIT")
        self._waiting.clear()
        self._senders.written()
        self._soon.clear()

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
        try:
            self._finish_redactions()
            self._write_index()
            self._senders.fold()
            self._forget_senders(now_ms)
            self._compaction.step(read_indexed(self._db) >> OFFSET_BITS)
            cuts = self._retention.cuts(now_ms)
            if cuts:
                self._retention.drop(cuts)
        except (sqlite3.Error, OSError) as error:
            self._roll_back()
            message = f"the log cannot be trimmed: {error}"
            raise LogFailed(message) from error
        for name, cut in cuts.items():
            self._rooms[name].first = cut + 1
        return {name: cut + 1 for name, cut in cuts.items()}

    def _name(self, room_id: int, name: str) -> None:
        """Commit a room's name; raise `LogFailed` and keep nothing."""
        with self._all_or_nothing():
            try:
                self._write_index()  # What is kept for the old name comes before.
            except sqlite3.Error as error:
                self._roll_back()
                message = f"the log cannot be written: {error}"
                raise LogFailed(message) from error
            self._commit(Contents([(room_id, name)], [], {}, []), [])
        self._room_id_last = max(self._room_id_last, room_id)
        try:
            self._write_index()
        except sqlite3.Error:  # It is on the disk, and readers see it: the index has time.
            self._roll_back()

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
