"""The embedded log: one SQLite file, WAL, synchronous=FULL. Opens, migrates, appends, trims.

A batch is one row whose key is the room's number and the batch's last seq in one integer, so
rows of a room lie together, a page of history is one range scan, and an append touches one
B-tree. https://sqlite.org/wal.html, https://sqlite.org/rowidtable.html
"""

from __future__ import annotations

import contextlib
import secrets
import sqlite3
from collections.abc import Mapping, Sequence
from pathlib import Path

from broker import progress
from broker.keys import SECRET_BYTES
from broker.log import Committed, LogFailed, LogUnusable, Marks, Proposal, RoomRecord, marks_of
from broker.log_senders import Senders
from common.wire import Batch, encode

FILE_NAME = "hubbub.db"
APPLICATION_ID = 0x48554242  # "HUBB": file(1) and we can tell whose database it is.
SCHEMA_VERSION = 2  # 1 had no `sends`.

SEQ_BITS = 40  # 10^12 entries a room, 8 million rooms.
SEQ_MASK = (1 << SEQ_BITS) - 1

TRIM_ROOMS_MAX = 64  # A trim looks at so many rooms and drops so many batches of each,
TRIM_BATCHES_MAX = 512  # so that chat never waits long for it.
SENDER_DAYS = 7  # How long a client may take to send again what was not acknowledged.
WAL_PAGES_MAX = 4_000  # A checkpoint every 16 MiB: rarer pauses than the default's 4 MiB.
WAL_BYTES = WAL_PAGES_MAX * 4_096
DAY_MS = 86_400_000
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
    body BLOB NOT NULL
);
CREATE TABLE senders (
    sender BLOB PRIMARY KEY,
    ts INTEGER NOT NULL,
    marks BLOB NOT NULL  -- MessagePack: {number: payload of its ACK} of the last SENDs.
) WITHOUT ROWID;
"""
SCHEMA_SENDS = """
CREATE TABLE sends (
    id INTEGER PRIMARY KEY,  -- One per commit, until it is in `senders`.
    marks BLOB NOT NULL  -- MessagePack: {sender: {number: payload of its ACK}}
);
"""


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


def connect(path: Path, *, read_only: bool = False) -> sqlite3.Connection:
    """Open the file with the settings that every connection shares."""
    uri = f"{path.resolve().as_uri()}?mode={'ro' if read_only else 'rwc'}"
    connection = sqlite3.connect(uri, uri=True, isolation_level=None)
    connection.execute("PRAGMA busy_timeout = 5000")
    return connection


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
    except sqlite3.Error as error:
        message = f"the log {path} cannot be used: {error}; restore it or choose another --data"
        raise LogUnusable(message) from error
    return path


def fold(folder: Path) -> None:
    """Fold the write-ahead log into the file, when nobody has it open: one file is a backup."""
    with contextlib.suppress(sqlite3.Error):  # What is in the write-ahead log is safe there.
        connection = connect(folder / FILE_NAME)
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        connection.close()


def _prepare(connection: sqlite3.Connection, path: Path) -> None:
    version = connection.execute("PRAGMA user_version").fetchone()[0]
    application = connection.execute("PRAGMA application_id").fetchone()[0]
    is_empty = not connection.execute("SELECT 1 FROM sqlite_schema").fetchone()
    if not is_empty and application != APPLICATION_ID:
        message = f"{path} is a database, but not Hubbub's: choose another --data"
        raise LogUnusable(message)
    if version > SCHEMA_VERSION:
        message = (
            f"the log {path} was made by a newer Hubbub (schema {version}, this one knows "
            f"{SCHEMA_VERSION}): install the newer version or choose another --data"
        )
        raise LogUnusable(message)
    connection.execute("PRAGMA journal_mode = WAL")  # Only now: others' files stay untouched.
    connection.execute("BEGIN IMMEDIATE")
    if is_empty:
        for statement in SCHEMA.split(";\n"):
            connection.execute(statement)
        connection.execute(f"PRAGMA application_id = {APPLICATION_ID}")
        _set_meta(connection, "secret", secrets.token_bytes(SECRET_BYTES))
    if version < SCHEMA_VERSION:
        connection.execute(SCHEMA_SENDS)
        connection.execute(f"PRAGMA user_version = {SCHEMA_VERSION}")
    if is_empty or not _is_continued(connection, path.parent):
        _set_meta(connection, "epoch", secrets.randbelow(2**32 - 1) + 1)
    connection.execute("COMMIT")


def _is_continued(connection: sqlite3.Connection, folder: Path) -> bool:
    """Tell whether the log has at least what was committed in this folder."""
    epoch, _ = read_identity(connection)
    rooms = connection.execute("SELECT id, trimmed FROM rooms").fetchall()
    total = sum(read_tail(connection, room_id, trimmed)[0] for room_id, trimmed in rooms)
    return progress.is_continued(folder, epoch, total)


def _meta(connection: sqlite3.Connection, key: str) -> object:
    row = connection.execute("SELECT value FROM meta WHERE key = ?", (key,)).fetchone()
    return row[0] if row else None


def _set_meta(connection: sqlite3.Connection, key: str, value: object) -> None:
    connection.execute("INSERT OR REPLACE INTO meta VALUES (?, ?)", (key, value))


def read_identity(connection: sqlite3.Connection) -> tuple[int, bytes]:
    """Return the log's epoch and secret."""
    epoch, secret = _meta(connection, "epoch"), _meta(connection, "secret")
    assert isinstance(epoch, int)
    assert isinstance(secret, bytes)
    return epoch, secret


def read_tail(connection: sqlite3.Connection, room_id: int, trimmed: int) -> tuple[int, int]:
    """Return a room's last seq and its time; without rows the last seq dropped, and 0."""
    row = connection.execute(
        "SELECT place, ts FROM batches WHERE place BETWEEN ? AND ? ORDER BY place DESC LIMIT 1",
        (room_id << SEQ_BITS, room_id << SEQ_BITS | SEQ_MASK),
    ).fetchone()
    return (row[0] & SEQ_MASK, row[1]) if row else (trimmed, 0)


class SqliteLog:
    """The write side. Belongs to the one thread that makes it."""

    def __init__(self, path: Path, *, retain_messages: int, retain_days: int) -> None:
        """Open a log that `prepare` has made."""
        self._retain_messages = retain_messages
        self._retain_ms = retain_days * DAY_MS
        self._db = connect(path)
        self._db.execute("PRAGMA synchronous = FULL")
        self._db.execute(f"PRAGMA wal_autocheckpoint = {WAL_PAGES_MAX}")
        self.epoch, self.secret = read_identity(self._db)
        self._rooms = {
            name: _Room(room_id, generation, first, topic, read_tail(self._db, room_id, trimmed))
            for room_id, name, generation, first, trimmed, topic in self._db.execute(
                "SELECT id, name, generation, first, trimmed, topic FROM rooms"
            )
        }
        self._room_id_last = max((room.id for room in self._rooms.values()), default=0)
        self._senders = Senders(self._db)
        self._committed: list[Committed] = []
        self._folder = path.parent
        self._total = sum(room.head for room in self._rooms.values())
        self._noted_total = -1
        self._note_progress()
        self._trim_queue: list[str] = []
        self._senders_ms = 0  # When senders of long ago were last looked for.

    def reserve(self) -> None:
        """Let the write-ahead log have its full size at once, if the disk has the space.

        To make a file longer the file system writes its own journal with each fsync; in one that
        is long enough a commit takes a third less. SQLite has no setting for it, but what a
        transaction wrote before it was undone stays there as space.
        """
        try:
            self._db.execute("BEGIN IMMEDIATE")
            self._db.execute("CREATE TABLE filler (body BLOB)")
            self._db.execute("INSERT INTO filler VALUES (zeroblob(?))", (WAL_BYTES,))
        except sqlite3.Error:
            pass  # Full: appends will say so, in words, when it matters.
        finally:
            self._roll_back()

    def rooms(self) -> list[RoomRecord]:
        """Return every room that has entries, or had."""
        return [
            RoomRecord(name, room.generation, room.first, room.head, room.topic, room.ts)
            for name, room in self._rooms.items()
        ]

    def append(self, proposals: Sequence[Proposal]) -> None:
        """Commit the proposals in one transaction; raise `LogFailed` and keep nothing.

        Nothing of this object changes before the commit, so a failure needs no undoing.
        """
        tails: dict[str, tuple[int, int]] = {}
        made: dict[str, _Room] = {}
        rows: list[tuple[int, int, int, bytes]] = []
        committed: list[Committed] = []
        for proposal in proposals:
            name = proposal.room
            room = self._rooms.get(name) or made.get(name)
            if room is None:
                room = made[name] = _Room(self._room_id_last + len(made) + 1, 0, 1, "", (0, 0))
            prev, _ = tails.get(name, (room.head, 0))
            first, last, ts = prev + 1, prev + proposal.count, proposal.posts[-1].ts
            body = encode(Batch(name, self.epoch, prev, first, proposal.posts))
            rows.append((room.id << SEQ_BITS | last, proposal.count, ts, body))
            committed.append(Committed(proposal, prev, first, last, body))
            tails[name] = last, ts
        topics = {each.room: each.topic for each in proposals if each.topic is not None}
        fresh = marks_of(proposals, [batch.first for batch in committed])
        self._commit(rows, made, topics, fresh)
        self._rooms.update(made)
        self._room_id_last += len(made)
        for name, (head, ts) in tails.items():
            self._rooms[name].head, self._rooms[name].ts = head, ts
        for name, topic in topics.items():
            self._rooms[name].topic = topic
        self._senders.committed(fresh)
        self._committed += committed
        self._total += sum(proposal.count for proposal in proposals)

    def _commit(
        self,
        rows: list[tuple[int, int, int, bytes]],
        made: dict[str, _Room],
        topics: dict[str, str],
        fresh: Mapping[bytes, Marks],
    ) -> None:
        db = self._db
        try:
            db.execute("BEGIN IMMEDIATE")
            db.executemany(
                "INSERT INTO rooms VALUES (?, ?, 0, 1, 0, '')",
                [(room.id, name) for name, room in made.items()],
            )
            db.executemany("INSERT INTO batches VALUES (?, ?, ?, ?)", rows)
            self._senders.write(fresh)
            if topics:
                db.executemany(
                    "UPDATE rooms SET topic = ? WHERE name = ?",
                    [(topic, name) for name, topic in topics.items()],
                )
            db.execute("COMMIT")
        except sqlite3.Error as error:
            self._roll_back()
            message = f"the log cannot be written: {error}"
            raise LogFailed(message) from error

    def _roll_back(self) -> None:
        if self._db.in_transaction:  # A full disk has rolled back by itself.
            self._db.execute("ROLLBACK")

    def follow(self) -> list[Committed]:
        """Return what was committed since the last call, in the order of the log."""
        committed, self._committed = self._committed, []
        return committed

    def recall(self, sender: bytes) -> Mapping[int, bytes]:
        """Return the living memory of a sender's last SENDs: it changes with each commit."""
        return self._senders.recall(sender)

    def forget(self, sender: bytes) -> None:
        """Drop the sender from memory, not from the log."""
        self._senders.forget(sender)

    def trim(self, now_ms: int) -> dict[str, int]:
        """Drop whole batches past retention, of a bounded number of rooms a call.

        A batch goes when all its entries are past; one that is half past stays whole.
        Returns the oldest seq kept of each room that lost some. Also notes the progress.
        """
        self._note_progress()
        oldest_ms = now_ms - self._retain_ms if self._retain_ms else 0
        try:
            self._senders.fold()
            self._forget_senders(now_ms)
            cuts = self._cuts(oldest_ms)
            if cuts:
                self._drop(cuts)
        except sqlite3.Error as error:
            self._roll_back()
            message = f"the log cannot be trimmed: {error}"
            raise LogFailed(message) from error
        for name, cut in cuts.items():
            self._rooms[name].first = cut + 1
        return {name: cut + 1 for name, cut in cuts.items()}

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
        """Drop the entries up to these seqs; one commit, for each waits for the disk."""
        db = self._db
        db.execute("BEGIN IMMEDIATE")
        for name, cut in cuts.items():
            room_id = self._rooms[name].id
            base = room_id << SEQ_BITS
            db.execute("DELETE FROM batches WHERE place BETWEEN ? AND ?", (base, base | cut))
            db.execute(
                "UPDATE rooms SET first = ?, trimmed = ? WHERE id = ?", (cut + 1, cut, room_id)
            )
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
        """Release the file; the WAL is folded into it when nobody else reads."""
        self._note_progress()
        self._db.close()
