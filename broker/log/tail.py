"""What was committed since the index was last written, as a reader sees it."""

from __future__ import annotations

from bisect import bisect_right
from pathlib import Path
from typing import NamedTuple

from broker.log.records import UNCHECKED
from broker.log.segments import FIRST, HighWater, SegmentReader


class TailBatch(NamedTuple):
    """A batch that the index does not know yet, or did not when this was read."""

    last: int
    entries: int
    ts: int
    position: int
    size_bytes: int
    check: int | None  # CRC-32 of the body; None where an older version wrote it.


class Tail:
    """The newest batches of each room. Belongs to one reader; bounded by what may wait there."""

    def __init__(self, folder: Path, segments: SegmentReader) -> None:
        self._segments = segments
        self._high_water = HighWater(folder, is_writer=False)
        self._indexed = FIRST  # What lies before is dropped here,
        self._position = FIRST  # and what lies before this was read.
        self._batches: dict[int, list[TailBatch]] = {}
        self._ids: dict[str, int] = {}  # Of rooms that were made or renamed,
        self._names: dict[int, str] = {}  # and the other way round.
        self._topics: dict[int, str] = {}

    def catch_up(self, indexed: int) -> None:
        """Hold what was committed from the position on up to which the index goes.

        Raises `OSError`, `Damaged`.
        """
        if indexed > self._indexed:
            self._forget(indexed)
        for record in self._segments.records(self._position, self._high_water.get()):
            contents, position = record.contents, record.start
            for room_id, name in contents.made:
                self._name(room_id, name)
            self._topics.update(contents.topics)
            for batch in contents.batches:
                size_bytes = batch.size_bytes
                check = None if batch.check == UNCHECKED else batch.check
                found = TailBatch(batch.last, batch.count, batch.ts, position, size_bytes, check)
                self._batches.setdefault(batch.room, []).append(found)
                position += size_bytes
            self._position = record.end

    def _name(self, room_id: int, name: str) -> None:
        """Note a new room, or the new name of one."""
        self._ids.pop(self._names.get(room_id, ""), None)
        self._ids[name], self._names[room_id] = room_id, name

    def _forget(self, indexed: int) -> None:
        """Drop what the index has learnt; rooms and topics go when that is all of it."""
        self._indexed = indexed
        if indexed >= self._position:
            self._position = indexed
            self._ids.clear()
            self._names.clear()
            self._topics.clear()
        kept = {
            room_id: [batch for batch in batches if batch.position >= indexed]
            for room_id, batches in self._batches.items()
        }
        self._batches = {room_id: batches for room_id, batches in kept.items() if batches}

    def new_names(self) -> dict[int, str]:
        """Return the names of rooms that the index may not have yet, by id."""
        return self._names

    def room_id(self, name: str) -> int | None:
        """Return the id of a room whose name is newer than the index."""
        return self._ids.get(name)

    def topic(self, room_id: int) -> str | None:
        """Return the topic that was set since; None when none was."""
        return self._topics.get(room_id)

    def batches(self, room_id: int, after: int) -> list[TailBatch]:
        """Return the batches of a room whose last seq comes after another seq, oldest first."""
        batches = self._batches.get(room_id, [])
        return batches[bisect_right(batches, after, key=lambda batch: batch.last) :]

    def close(self) -> None:
        """Release the shared memory."""
        self._high_water.close()
