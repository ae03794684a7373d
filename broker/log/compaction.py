"""Gives back the space of segments: of those where nothing is left, and of those with little.

Retention drops batches in the index; the file goes when all of its batches are dropped. What a
quiet room has in a file that is mostly dropped moves into the index, so that no file stays for
a few lines' sake.
"""

from __future__ import annotations

import sqlite3
from pathlib import Path

from broker.log.index import SEQ_BITS, change_live
from broker.log.records import BatchPlace
from broker.log.segments import (
    OFFSET_BITS,
    SEGMENT_BYTES_MAX,
    Damaged,
    Record,
    SegmentReader,
    path_of,
)

SPARSE_PART = 4  # A file with less than such a part in use is emptied,
MOVED_BYTES_MAX = 1024 * 1024  # with so much moved in one go
SEEN_BATCHES_MAX = 4_096  # and so many looked at: chat never waits long for it.


class Compaction:
    """Belongs to the log, and writes on its connection between its transactions."""

    def __init__(self, db: sqlite3.Connection, folder: Path) -> None:
        self._db = db
        self._folder = folder
        self._segments = SegmentReader(folder)
        # How far the files were looked through: one after the other, then from the first again,
        # for a file may come to have little in use long after those behind it.
        self._position = 0
        self._stuck: set[int] = set()  # Files in which not every record can be found stay.

    def step(self, growing: int) -> None:
        """Do a bounded piece of work on the segments before `growing`: that one is still written.

        A segment that was begun, but has no record yet, is not the one that grows: should the
        process end now the next one goes on in the one before it, and needs its file.
        Raises `sqlite3.Error`, `OSError`.
        """
        sparse = self._db.execute(
            "SELECT id FROM segments WHERE id < ? AND live_bytes BETWEEN 1 AND ? "
            "ORDER BY id < ?, id",
            (growing, SEGMENT_BYTES_MAX // SPARSE_PART, self._position >> OFFSET_BITS),
        ).fetchall()
        chosen = next((segment for (segment,) in sparse if segment not in self._stuck), None)
        if chosen is not None:
            self._empty(chosen)
        self._remove_empty(growing)

    def _empty(self, segment: int) -> None:
        """Move what is in use of a segment into the index, as far as one step goes."""
        begin, end = segment << OFFSET_BITS, segment + 1 << OFFSET_BITS
        position = self._position if begin < self._position < end else begin
        moved_bytes, seen = 0, 0
        db = self._db
        db.execute("BEGIN IMMEDIATE")
        try:
            for record in self._segments.records(position, end):
                moved_bytes += self._move(record)
                seen += len(record.contents.batches)
                position = record.end
                if moved_bytes >= MOVED_BYTES_MAX or seen >= SEEN_BATCHES_MAX:
                    break
            else:
                position = end
        except Damaged:
            position = end
        except OSError:
            self._position = end  # The others have their turn before it is tried again.
            raise
        change_live(db, {segment: -moved_bytes})
        db.execute("COMMIT")
        self._position = position
        if position == end and self._live_bytes(segment):
            # What lies behind the damage may be in use: `hubbub-broker check` tells.
            self._stuck.add(segment)

    def _live_bytes(self, segment: int) -> int:
        query = "SELECT live_bytes FROM segments WHERE id = ?"
        live_bytes: int = self._db.execute(query, (segment,)).fetchone()[0]
        return live_bytes

    def _move(self, record: Record) -> int:
        """Move a record's batches that are in use; return their bytes."""
        moved_bytes, position = 0, record.start
        for batch in record.contents.batches:
            if self._is_in_use(batch, position):
                body = self._segments.read(position, batch.size_bytes)
                self._db.execute(
                    "UPDATE batches SET body = ?, position = 0, size_bytes = 0 WHERE place = ?",
                    (body, batch.room << SEQ_BITS | batch.last),
                )
                moved_bytes += batch.size_bytes
            position += batch.size_bytes
        return moved_bytes

    def _is_in_use(self, batch: BatchPlace, position: int) -> bool:
        found = self._db.execute(
            "SELECT 1 FROM batches WHERE place = ? AND position = ?",
            (batch.room << SEQ_BITS | batch.last, position),
        )
        return found.fetchone() is not None

    def _remove_empty(self, growing: int) -> None:
        db = self._db
        empty = db.execute(
            "SELECT id FROM segments WHERE id < ? AND live_bytes = 0", (growing,)
        ).fetchall()
        if not empty:
            return
        # No file goes before the index that does without it is on the disk.
        db.execute("PRAGMA synchronous = FULL")
        db.execute("BEGIN IMMEDIATE")
        db.executemany("DELETE FROM segments WHERE id = ?", empty)
        db.execute("COMMIT")
        db.execute("PRAGMA synchronous = NORMAL")
        for (segment,) in empty:
            self._segments.close()  # It may hold the file, and with it the space.
            path_of(self._folder, segment).unlink(missing_ok=True)

    def close(self) -> None:
        """Release the files."""
        self._segments.close()
