"""Reading the embedded log: pages of a room's history. Writes nothing."""

from __future__ import annotations

from pathlib import Path

from broker.log import PageRead, RoomRecord
from broker.log_sqlite import SEQ_BITS, SEQ_MASK, connect, read_identity, read_tail
from common.limits import HISTORY_BYTES_MAX
from common.wire import Mode

CACHE_KIB = 16 * 1024  # Hot tails stay in memory; the operating system caches the rest.


class SqliteReader:
    """One read-only connection. Belongs to the thread that makes it."""

    def __init__(self, path: Path) -> None:
        """Open a log that `broker.log_sqlite.prepare` has made."""
        self._db = connect(path, read_only=True)
        self._db.execute(f"PRAGMA cache_size = -{CACHE_KIB}")
        self.epoch, self.secret = read_identity(self._db)

    def generation(self, room: str) -> int:
        """Return the room's generation; 0 for a room that the log does not know yet."""
        row = self._db.execute("SELECT generation FROM rooms WHERE name = ?", (room,)).fetchone()
        return int(row[0]) if row else 0

    def read(self, room: str, mode: Mode, at: int, limit: int) -> PageRead:
        """Read a page; an unknown room is an empty one. One snapshot for all of it."""
        self._db.execute("BEGIN")
        try:
            row = self._db.execute(
                "SELECT id, generation, first, trimmed, topic FROM rooms WHERE name = ?", (room,)
            ).fetchone()
            if row is None:
                return PageRead(RoomRecord(room, 0, 1, 0, ""), [], more=False)
            room_id, generation, first, trimmed, topic = row
            head, ts = read_tail(self._db, room_id, trimmed)
            record = RoomRecord(room, generation, first, head, topic, ts)
            base = room_id << SEQ_BITS
            if mode == Mode.BEFORE:
                batches, more = self._before(base, record, at, limit)
            else:
                if mode == Mode.SINCE:
                    at = self._seq_before(base, record, at)
                batches, more = self._after(base, record, at, limit)
            return PageRead(record, batches, more)
        finally:
            self._db.execute("COMMIT")

    def _after(
        self, base: int, record: RoomRecord, seq: int, limit: int
    ) -> tuple[list[bytes], bool]:
        """Read batches from the one with seq + 1 on."""
        batches: list[bytes] = []
        seq = max(seq, record.first - 1)  # What lies before is gone, and no reason to read on.
        last, count, size_bytes = seq, 0, 0
        if seq < record.head:
            for place, in_batch_count, body in self._db.execute(
                "SELECT place, count, body FROM batches WHERE place > ? AND place <= ? "
                "ORDER BY place",
                (base | seq, base | record.head),
            ):
                batches.append(body)
                last = place & SEQ_MASK
                count += min(in_batch_count, last - seq)  # The first may begin before seq.
                size_bytes += len(body)
                if count >= limit or size_bytes >= HISTORY_BYTES_MAX:
                    break
        # What was trimmed is not to come: a page without batches must not promise more.
        return batches, max(last, record.first - 1) < record.head

    def _before(
        self, base: int, record: RoomRecord, seq: int, limit: int
    ) -> tuple[list[bytes], bool]:
        """Read backwards from the batch with seq - 1, as many as hold `limit` entries."""
        newest = min(seq - 1, record.head)
        batches: list[bytes] = []
        first, size_bytes = record.head + 1, 0
        row = self._db.execute(
            "SELECT min(place) FROM batches WHERE place >= ? AND place <= ?",
            (base | max(newest, 0), base | record.head),
        ).fetchone()
        if newest >= record.first and row[0] is not None:
            for place, count, body in self._db.execute(
                "SELECT place, count, body FROM batches WHERE place > ? AND place <= ? "
                "ORDER BY place DESC",
                (base, row[0]),
            ):
                batches.append(body)
                first = (place & SEQ_MASK) - count + 1
                size_bytes += len(body)
                if newest - first + 1 >= limit or size_bytes >= HISTORY_BYTES_MAX:
                    break
            batches.reverse()
        return batches, bool(batches) and first > record.first

    def _seq_before(self, base: int, record: RoomRecord, since_ms: int) -> int:
        """Return the seq after which the first batch with a post at or after a time begins.

        Times rise within a room, so halving finds it: some 40 look-ups in 10^12 entries.
        """
        low, high = record.first - 1, record.head
        while low < high:
            middle = (low + high) // 2
            place, ts = self._db.execute(
                "SELECT place, ts FROM batches WHERE place > ? AND place <= ? "
                "ORDER BY place LIMIT 1",
                (base | middle, base | record.head),
            ).fetchone()
            if ts < since_ms:
                low = place & SEQ_MASK
            else:
                high = middle
        return low

    def close(self) -> None:
        """Release the file."""
        self._db.close()
