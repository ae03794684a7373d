"""The index of the log: one SQLite file that says where in the segments each batch lies.

It is written now and then, not with each commit: the segments are what survives a crash, and
whoever opens the log brings its index up to date (`recover`). So it needs no fsync of its own.
https://sqlite.org/wal.html, https://sqlite.org/rowidtable.html
"""

from __future__ import annotations

import os
import sqlite3
from collections import Counter
from collections.abc import Mapping
from contextlib import closing
from pathlib import Path

import msgspec

from broker.log.interface import LogUnusable, Marks
from broker.log.records import UNCHECKED
from broker.log.rights_store import rename_room
from broker.log.segments import (
    FIRST,
    OFFSET_BITS,
    OFFSET_MASK,
    Damaged,
    HighWater,
    Record,
    SegmentReader,
    numbers,
    overwrite,
    path_of,
    place_text,
    sync_folder,
    write_again,
)
from broker.log.senders import add_marks
from common.wire import DECODE_ERRORS, encode

SEQ_BITS = 40  # 10^12 entries a room, 8 million rooms.
SEQ_MASK = (1 << SEQ_BITS) - 1

# The index is written at the latest when so many batches wait for it: some ten milliseconds of
# work, and what a reader keeps in memory meanwhile.
WAITING_MAX = 4_096

# The row of `redactions` that says that SQLite's own files may still hold a removed text.
WASTE = 0

# What the rows of `meta` are called that say which texts were removed last; the room's id follows.
REMOVED_OF = "removed of "
_decode_seqs = msgspec.msgpack.Decoder(tuple[int, ...]).decode

BatchRow = tuple[int, int, int, bytes, int, int, int | None]  # As in `batches`.


def connect(path: Path, *, read_only: bool = False) -> sqlite3.Connection:
    """Open the file with the settings that every connection shares."""
    uri = f"{path.resolve().as_uri()}?mode={'ro' if read_only else 'rwc'}"
    connection = sqlite3.connect(uri, uri=True, isolation_level=None)
    connection.execute("PRAGMA busy_timeout = 5000")
    if not read_only:  # What was removed is not to be read in a free page; some builds need it.
        connection.execute("PRAGMA secure_delete = ON")
    return connection


def meta(connection: sqlite3.Connection, key: str) -> object:
    """Return one of the log's own values; None where there is none."""
    row = connection.execute("SELECT value FROM meta WHERE key = ?", (key,)).fetchone()
    return row[0] if row else None


def set_meta(connection: sqlite3.Connection, key: str, value: object) -> None:
    """Keep one of the log's own values."""
    connection.execute("INSERT OR REPLACE INTO meta VALUES (?, ?)", (key, value))


def read_identity(connection: sqlite3.Connection) -> tuple[int, bytes]:
    """Return the log's epoch and secret."""
    epoch, secret = meta(connection, "epoch"), meta(connection, "secret")
    assert isinstance(epoch, int)
    assert isinstance(secret, bytes)
    return epoch, secret


def read_indexed(connection: sqlite3.Connection) -> int:
    """Return the position up to which the index knows the segments."""
    row = connection.execute("SELECT value FROM meta WHERE key = 'indexed'").fetchone()
    return int(row[0]) if row else FIRST


def read_tail(connection: sqlite3.Connection, room_id: int, trimmed: int) -> tuple[int, int]:
    """Return a room's last seq and its time; without rows the last seq dropped, and 0."""
    row = connection.execute(
        "SELECT place, ts FROM batches WHERE place BETWEEN ? AND ? ORDER BY place DESC LIMIT 1",
        (room_id << SEQ_BITS, room_id << SEQ_BITS | SEQ_MASK),
    ).fetchone()
    return (row[0] & SEQ_MASK, row[1]) if row else (trimmed, 0)


def read_removed(connection: sqlite3.Connection) -> dict[int, tuple[int, ...]]:
    """Return which texts were removed last, by the room's id; raise `sqlite3.Error`, `LogUnusable`.

    Seqs, in the order of their removal, REMOVED_MAX of a room at most.
    """
    rows = connection.execute("SELECT key, value FROM meta WHERE key GLOB ?", (f"{REMOVED_OF}*",))
    try:
        return {int(key.removeprefix(REMOVED_OF)): _decode_seqs(packed) for key, packed in rows}
    except (*DECODE_ERRORS, TypeError) as error:
        message = (
            f"what the log knows of removed texts cannot be read: {error}; restore a backup, or "
            "keep what is whole with `hubbub-broker salvage`"
        )
        raise LogUnusable(message) from error


def write_removed(connection: sqlite3.Connection, room_id: int, seqs: tuple[int, ...]) -> None:
    """Keep which texts of a room were removed last; raise `sqlite3.Error`."""
    set_meta(connection, f"{REMOVED_OF}{room_id}", encode(seqs))


class Waiting:
    """What the records since the last writing of the index bring for it."""

    def __init__(self) -> None:
        self.rows: list[BatchRow] = []
        self._made: list[tuple[int, str]] = []
        self._topics: dict[int, str] = {}
        self._segments: set[int] = set()  # That have any of these records.

    @property
    def is_empty(self) -> bool:
        """Tell whether there is nothing for the index to learn."""
        return not self._segments

    def add(self, record: Record) -> None:
        """Take one more record, in the order of the log."""
        contents, position = record.contents, record.start
        for batch in contents.batches:
            place = batch.room << SEQ_BITS | batch.last
            size_bytes = batch.size_bytes
            check = None if batch.check == UNCHECKED else batch.check
            self.rows.append((place, batch.count, batch.ts, b"", position, size_bytes, check))
            position += size_bytes
        self._made += contents.made
        self._topics.update(contents.topics)
        self._segments.add(record.start >> OFFSET_BITS)

    def write(self, connection: sqlite3.Connection, indexed: int) -> None:
        """Write it within a transaction; `indexed` is where its last record ends.

        Raises `sqlite3.Error`.
        """
        for room_id, name in self._made:
            _name_room(connection, room_id, name)
        connection.executemany("INSERT INTO batches VALUES (?, ?, ?, ?, ?, ?, ?)", self.rows)
        if self._topics:
            connection.executemany(
                "UPDATE rooms SET topic = ? WHERE id = ?",
                [(topic, room_id) for room_id, topic in self._topics.items()],
            )
        live = Counter(dict.fromkeys(self._segments, 0))
        for row in self.rows:
            live[row[4] >> OFFSET_BITS] += row[5]
        change_live(connection, live)
        set_meta(connection, "indexed", indexed)

    def clear(self) -> None:
        """Begin anew, after a commit."""
        self.rows.clear()
        self._made.clear()
        self._topics.clear()
        self._segments.clear()


def _name_room(connection: sqlite3.Connection, room_id: int, name: str) -> None:
    """Make a room, or give one that is there another name; raise `sqlite3.Error`."""
    row = connection.execute("SELECT name FROM rooms WHERE id = ?", (room_id,)).fetchone()
    if row is None:
        connection.execute("INSERT INTO rooms VALUES (?, ?, 0, 1, 0, '')", (room_id, name))
    elif row[0] != name:
        connection.execute("UPDATE rooms SET name = ? WHERE id = ?", (name, room_id))
        rename_room(connection, row[0], name)


def change_live(connection: sqlite3.Connection, changes: Mapping[int, int]) -> None:
    """Add to the bytes that each segment has in use; raise `sqlite3.Error`."""
    connection.executemany(
        "INSERT INTO segments VALUES (?, ?) ON CONFLICT (id) "
        "DO UPDATE SET live_bytes = live_bytes + excluded.live_bytes",
        list(changes.items()),
    )


def finish_redactions(connection: sqlite3.Connection, folder: Path) -> None:
    """Put in place what removals have decided; raise `sqlite3.Error`, `OSError`, `Damaged`."""
    pieces = connection.execute(
        "SELECT position, data FROM redactions WHERE position > ?", (WASTE,)
    ).fetchall()
    for position, data in pieces:
        overwrite(folder, position, data)
    if pieces:
        connection.execute("DELETE FROM redactions WHERE position > ?", (WASTE,))


def recover(connection: sqlite3.Connection, folder: Path) -> int:
    """Bring the index up to date with the segments; return the position where they end.

    Raises `LogUnusable` where segments are missing, damaged or do not fit together, or end before
    what was acknowledged; `sqlite3.Error` and `OSError`. Does nothing after a clean stop.
    """
    finish_redactions(connection, folder)
    there = numbers(folder)
    position = read_indexed(connection)
    if position == FIRST:
        position = there[0] << OFFSET_BITS if there else FIRST  # All there is, or an error.
    else:
        _check_segments(connection, folder, position >> OFFSET_BITS)
        path = path_of(folder, position >> OFFSET_BITS)
        if path.exists() and path.stat().st_size < position & OFFSET_MASK:
            raise Damaged.at(path, path.stat().st_size, "was cut off at")
    with closing(HighWater(folder, is_writer=True)) as high_water:
        if there:
            with closing(SegmentReader(folder)) as reader:
                position = _replay(connection, folder, reader, position, high_water.get())
                _remove_later(folder, reader, position)
        else:
            _check_end(folder, position, high_water.get())
        high_water.set(position)
    return position


def _check_end(folder: Path, end: int, committed: int) -> None:
    """Raise `Damaged` where the log ends before what was acknowledged."""
    if end < committed:
        message = (
            f"the log in {folder} ends at {place_text(end)}, but what was acknowledged went up "
            f"to {place_text(committed)}: `hubbub-broker check` tells more; restore a "
            "backup with `hubbub-broker restore`, or go on without what is missing by removing "
            f"the file {HighWater.NAME} there"
        )
        raise Damaged(message)


def _check_segments(connection: sqlite3.Connection, folder: Path, growing: int) -> None:
    """See that the segments which the index needs are there, and remove those before them."""
    needed = {row[0] for row in connection.execute("SELECT id FROM segments")} | {growing}
    there = set(numbers(folder))
    if not needed <= there:
        missing = ", ".join(map(str, sorted(needed - there)))
        message = (
            f"the log in {folder} lacks its segments {missing}: put back the hubbub-*.segment "
            "files that belong to its hubbub.db, restore a backup with `hubbub-broker restore`, "
            "or keep what is whole with `hubbub-broker salvage`"
        )
        raise LogUnusable(message)
    for segment in there - needed:
        if segment < growing:  # A crash came between the index and the file.
            path_of(folder, segment).unlink()


def _remove_later(folder: Path, reader: SegmentReader, end: int) -> None:
    """Remove the segments behind the one in which the records end: nothing in them counted.

    A crash came before the first record of a segment was committed. Beside the one before it,
    which goes on, it would make a record that the next crash cuts short look damaged.

    Raises `Damaged` where such a segment has a record, and then removes none; `OSError`.
    """
    later = [segment for segment in numbers(folder) if segment > end >> OFFSET_BITS]
    for segment in later:
        if reader.has_record(segment):
            raise Damaged.at(path_of(folder, segment), 0, "lacks what was before")
    for segment in later:
        path_of(folder, segment).unlink()
    if later:
        sync_folder(folder)


def _replay(
    connection: sqlite3.Connection,
    folder: Path,
    reader: SegmentReader,
    position: int,
    committed: int,
) -> int:
    """Tell the index of the whole records from a position on; return where they end."""
    begin = position  # Of the last record.
    heads: dict[int, int] = {}
    waiting = Waiting()
    marks: dict[bytes, Marks] = {}

    def write() -> None:
        write_again(folder, begin, position)  # The others were on the disk before it was written.
        connection.execute("BEGIN IMMEDIATE")
        waiting.write(connection, position)
        if marks:
            connection.execute("INSERT INTO sends (marks) VALUES (?)", (encode(marks),))
        connection.execute("COMMIT")
        waiting.clear()
        marks.clear()

    for record in reader.whole_records(position):
        for batch in record.contents.batches:
            head = heads.get(batch.room)
            if head is None:
                head = _head(connection, batch.room)
            if batch.last - batch.count != head:
                message = f"the log's record before {record.end} does not follow what is before it"
                raise LogUnusable(message)
            heads[batch.room] = batch.last
        waiting.add(record)
        add_marks(marks, record.contents.marks)
        # The first one of a segment begins where its file does.
        begin = max(position, record.end >> OFFSET_BITS << OFFSET_BITS)
        position = record.end
        if len(waiting.rows) >= WAITING_MAX:
            write()
    _check_end(folder, position, committed)  # Before anything behind it is given up.
    if not waiting.is_empty:
        # On a full disk the space that was taken ahead may be the only one for the index.
        os.truncate(path_of(folder, position >> OFFSET_BITS), position & OFFSET_MASK)
        write()
    return position


def _head(connection: sqlite3.Connection, room_id: int) -> int:
    row = connection.execute("SELECT trimmed FROM rooms WHERE id = ?", (room_id,)).fetchone()
    return read_tail(connection, room_id, row[0])[0] if row else 0
