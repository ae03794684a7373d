"""Reading the embedded log: pages of a room's history. Writes nothing.

What the index knows comes from there, and what was committed since from the tail of the
segments: the snapshot of the index says where the one ends and the other begins.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Iterator
from itertools import chain
from pathlib import Path
from typing import NamedTuple, TypeVar
from zlib import crc32

from broker.log.index import (
    SEQ_BITS,
    SEQ_MASK,
    connect,
    read_identity,
    read_indexed,
    read_tail,
)
from broker.log.interface import LogFailed, PageRead, RoomRecord
from broker.log.rights_store import is_banned
from broker.log.segments import Damaged, SegmentReader, place_text
from broker.log.tail import Tail, TailBatch
from common.limits import HISTORY_BYTES_MAX
from common.spans import lost
from common.wire import Mode, encode

CACHE_KIB = 16 * 1024  # Hot parts of the index; the operating system caches the segments.
READS_MAX = 3  # A segment may be dropped between the look into the index and the read.

# Of a batch: place, count, ts, body, position, size_bytes, crc. As in the index; a batch of the
# tail has its place made up.
Row = tuple[int, int, int, bytes, int, int, int | None]
ROOM = "SELECT id, generation, first, trimmed, topic FROM rooms"
COLUMNS = "place, count, ts, body, position, size_bytes, crc"


Found = TypeVar("Found")


class _Changed(Exception):
    """A body is not what the snapshot tells: it may have been changed meanwhile."""


def _tell_nobody(_line: str) -> None:
    """Keep it to oneself."""


class _View(NamedTuple):
    """A room at one moment."""

    base: int  # Of the places of its batches.
    record: RoomRecord
    indexed_head: int  # The last seq that the index knows; the tail has the rest.
    tail: list[TailBatch]

    def tail_rows(self) -> Iterator[Row]:
        """Yield the batches of the tail, oldest first."""
        for batch in self.tail:
            place = self.base | batch.last
            yield place, batch.entries, batch.ts, b"", batch.position, batch.size_bytes, batch.check


class SqliteReader:
    """One read-only connection. Belongs to the thread that makes it."""

    def __init__(self, path: Path, tell: Callable[[str], None] = _tell_nobody) -> None:
        """Open a log that `broker.log.writer.prepare` has made.

        tell: hears of batches that are damaged, each time that one is asked for.
        """
        self._tell = tell
        self._is_patient = True  # A segment that is gone may have been dropped: look again.
        self._db = connect(path, read_only=True)
        self._db.execute(f"PRAGMA cache_size = -{CACHE_KIB}")
        self.epoch, self.secret = read_identity(self._db)
        self._segments = SegmentReader(path.parent)
        self._tail = Tail(path.parent, self._segments)
        self.entries_count = 0  # In all pages that were read.

    def rooms(self) -> list[str]:
        """Return the names of the rooms that have entries, or had; raise `sqlite3.Error`."""
        self._db.execute("BEGIN")
        try:
            self._tail.catch_up(read_indexed(self._db))
            names: dict[int, str] = dict(self._db.execute("SELECT id, name FROM rooms"))
        finally:
            self._db.execute("COMMIT")
        return list((names | self._tail.new_names()).values())

    def generation(self, room: str) -> int:
        """Return the room's generation; 0 for an unknown room, and for one that is new.

        Raises `LogFailed`, `sqlite3.Error`.
        """
        return self._patiently(lambda: self._generation(room))

    def _generation(self, name: str) -> int:
        row = self._room(name)
        return row[1] if row else 0

    def is_banned(self, identity: bytes, now_ms: int) -> bool:
        """Tell whether somebody is banned from the whole broker. Raises `sqlite3.Error`."""
        return is_banned(self._db, identity, now_ms)

    def read(self, room: str, mode: Mode, at: int, limit: int) -> PageRead:
        """Read a page; an unknown room is an empty one. One snapshot for all of it.

        Of a batch that is not what was written, its place is told instead: see `lost`.

        Raises `LogFailed`, `sqlite3.Error`.
        """
        return self._patiently(lambda: self._read(room, mode, at, limit))

    def _patiently(self, look: Callable[[], Found]) -> Found:
        """Return what a look finds in one snapshot; raise `LogFailed`, `sqlite3.Error`."""
        for tries_left in reversed(range(READS_MAX)):
            self._is_patient = tries_left > 0
            self._db.execute("BEGIN")
            try:
                return look()
            except (FileNotFoundError, _Changed):
                continue
            except Damaged as error:  # In the tail, which all rooms share; the index will pass it.
                if self._is_patient:
                    continue
                raise LogFailed(str(error)) from error
            except OSError as error:
                message = f"a segment of the log cannot be read: {error.strerror}"
                raise LogFailed(message) from error
            finally:
                self._db.execute("COMMIT")
        message = "the log has lost a segment"
        raise LogFailed(message)

    def _read(self, room: str, mode: Mode, at: int, limit: int) -> PageRead:
        view = self._view(room)
        if view is None:
            return PageRead(RoomRecord(room, 0, 1, 0, ""), [], more=False)
        if mode == Mode.BEFORE:
            batches, more = self._before(view, at, limit)
        else:
            if mode == Mode.SINCE:
                at = self._seq_before(view, at)
            batches, more = self._after(view, at, limit)
        return PageRead(view.record, batches, more)

    def _room(self, name: str) -> tuple[int, int, int, int, str] | None:
        """Return id, generation, first, trimmed and topic of a room that has this name now."""
        tail = self._tail
        tail.catch_up(read_indexed(self._db))
        room_id = tail.room_id(name)
        found: tuple[int, int, int, int, str] | None
        if room_id is None:
            found = self._db.execute(f"{ROOM} WHERE name = ?", (name,)).fetchone()
            is_renamed = found is not None and found[0] in tail.new_names()
            return None if is_renamed else found
        found = self._db.execute(f"{ROOM} WHERE id = ?", (room_id,)).fetchone()
        return found or (room_id, 0, 1, 0, "")

    def _view(self, name: str) -> _View | None:
        """Return the room as index and tail show it together."""
        row = self._room(name)
        if row is None:
            return None
        room_id, generation, first, trimmed, topic = row
        tail = self._tail
        head, ts = indexed_head, _ = read_tail(self._db, room_id, trimmed)
        newer = tail.batches(room_id, indexed_head)
        if newer:
            head, ts = newer[-1].last, newer[-1].ts
        newer_topic = tail.topic(room_id)
        record = RoomRecord(
            name, generation, first, head, topic if newer_topic is None else newer_topic, ts
        )
        return _View(room_id << SEQ_BITS, record, indexed_head, newer)

    def _body(self, view: _View, row: Row) -> bytes:
        """Return a batch's body: in the row as long ago, or where its segment has it."""
        place, count, _, body, position, size_bytes, check = row
        if not body:
            try:
                body = self._segments.read(position, size_bytes)
            except FileNotFoundError:
                if self._is_patient:
                    raise
            if len(body) < size_bytes:
                body = b""
        if body and (check is None or crc32(body) == check):
            return body
        kept = self._removal(position, check)
        if kept is not None:
            return kept
        if self._is_patient:
            raise _Changed
        last = place & SEQ_MASK
        self._tell(
            f"#{view.record.name}: entries {last - count + 1} to {last} are damaged, in "
            f"{place_text(position) if position else 'the index'}; others are told that they are "
            "missing. `hubbub-broker check` tells more"
        )
        return encode(lost(view.record.name, self.epoch, last - count + 1, last))

    def _removal(self, position: int, check: int | None) -> bytes | None:
        """Return a body that shall lie in a segment, and may not yet: a text was removed."""
        row = self._db.execute(
            "SELECT data FROM redactions WHERE position = ?", (position,)
        ).fetchone()
        return row[0] if row and crc32(row[0]) == check else None

    def _rows_after(self, view: _View, seq: int) -> Iterator[Row]:
        """Yield the batches whose last seq comes after another seq, oldest first."""
        indexed = self._db.execute(
            f"SELECT {COLUMNS} FROM batches WHERE place > ? AND place <= ? ORDER BY place",  # noqa: S608
            (view.base | seq, view.base | view.indexed_head),
        )
        newer = (row for row in view.tail_rows() if row[0] & SEQ_MASK > seq)
        return chain(indexed, newer)

    def _after(self, view: _View, seq: int, limit: int) -> tuple[list[bytes], bool]:
        """Read batches from the one with seq + 1 on."""
        record = view.record
        batches: list[bytes] = []
        seq = max(seq, record.first - 1)  # What lies before is gone, and no reason to read on.
        last, count, size_bytes = seq, 0, 0
        if seq < record.head:
            for row in self._rows_after(view, seq):
                body = self._body(view, row)
                batches.append(body)
                last = row[0] & SEQ_MASK
                count += min(row[1], last - seq)  # The first may begin before seq.
                size_bytes += len(body)
                if count >= limit or size_bytes >= HISTORY_BYTES_MAX:
                    break
        self.entries_count += count
        # What was trimmed is not to come: a page without batches must not promise more.
        return batches, max(last, record.first - 1) < record.head

    def _rows_before(self, view: _View, newest: int) -> Iterator[Row]:
        """Yield the batches that begin before the entry after `newest`, newest first."""
        newer = [row for row in view.tail_rows() if (row[0] & SEQ_MASK) - row[1] < newest]
        yield from reversed(newer)
        base = view.base
        row = self._db.execute(
            "SELECT min(place) FROM batches WHERE place >= ? AND place <= ?",
            (base | min(newest, view.indexed_head), base | view.indexed_head),
        ).fetchone()
        if row[0] is not None:
            yield from self._db.execute(
                f"SELECT {COLUMNS} FROM batches WHERE place > ? AND place <= ? "  # noqa: S608
                "ORDER BY place DESC",
                (base, row[0]),
            )

    def _before(self, view: _View, seq: int, limit: int) -> tuple[list[bytes], bool]:
        """Read backwards from the batch with seq - 1, as many as hold `limit` entries."""
        record = view.record
        newest = min(seq - 1, record.head)
        batches: list[bytes] = []
        first, size_bytes = record.head + 1, 0
        if newest >= record.first:
            for row in self._rows_before(view, newest):
                body = self._body(view, row)
                batches.append(body)
                first = (row[0] & SEQ_MASK) - row[1] + 1
                size_bytes += len(body)
                if newest - first + 1 >= limit or size_bytes >= HISTORY_BYTES_MAX:
                    break
            batches.reverse()
            self.entries_count += newest - first + 1 if batches else 0
        return batches, bool(batches) and first > record.first

    def _seq_before(self, view: _View, since_ms: int) -> int:
        """Return the seq after which the first batch with a post at or after a time begins.

        Times rise within a room, so halving finds it: some 40 look-ups in 10^12 entries.
        """
        low, high = view.record.first - 1, view.indexed_head
        while low < high:
            middle = (low + high) // 2
            place, ts = self._db.execute(
                "SELECT place, ts FROM batches WHERE place > ? AND place <= ? "
                "ORDER BY place LIMIT 1",
                (view.base | middle, view.base | view.indexed_head),
            ).fetchone()
            if ts < since_ms:
                low = place & SEQ_MASK
            else:
                high = middle
        if low == view.indexed_head:
            older = bisect_left(view.tail, since_ms, key=lambda batch: batch.ts)
            low = view.tail[older - 1].last if older else low
        return low

    def close(self) -> None:
        """Release the files."""
        self._db.close()
        self._segments.close()
        self._tail.close()
