"""What is past retention, and dropping it. A room may have its own, else the broker's holds."""

from __future__ import annotations

import sqlite3
from collections import Counter
from collections.abc import Iterable, Mapping
from typing import NamedTuple

from broker.log.index import SEQ_BITS, SEQ_MASK, change_live
from broker.log.rights_records import Change, Put, RoomFacts
from broker.log.room import Room
from broker.log.segments import OFFSET_BITS

TRIM_ROOMS_MAX = 64  # A trim looks at so many rooms and drops so many batches of each,
TRIM_BATCHES_MAX = 512  # so that chat never waits long for it.
DAY_MS = 86_400_000


class _Kept(NamedTuple):
    """What a room of its own keeps; None: as everywhere."""

    messages: int | None
    days: int | None


class Retention:
    """Belongs to the log, and writes on its connection."""

    def __init__(
        self, db: sqlite3.Connection, rooms: Mapping[str, Room], messages: int, days: int
    ) -> None:
        """rooms: the log's own, which change. messages, days: of the broker; 0: for ever."""
        self._db = db
        self._rooms = rooms
        self._everywhere = _Kept(messages, days)
        self._own: dict[str, _Kept] = {}
        self._queue: list[str] = []

    def note(self, facts: RoomFacts) -> None:
        """Go by a room's facts from here on."""
        if facts.retain_messages is None and facts.retain_days is None:
            self._own.pop(facts.room, None)
        else:
            self._own[facts.room] = _Kept(facts.retain_messages, facts.retain_days)

    def follow(self, changes: Iterable[Change]) -> None:
        """Go by what was kept just now."""
        for change in changes:
            if isinstance(change.record, RoomFacts):
                is_kept = isinstance(change, Put)
                self.note(change.record if is_kept else RoomFacts(change.record.room))

    def rename(self, old: str, new: str) -> None:
        """Go on for a room under its new name."""
        self._own.pop(new, None)
        if old in self._own:
            self._own[new] = self._own.pop(old)

    def cuts(self, now_ms: int) -> dict[str, int]:
        """Return the last seq to drop of each room whose turn it is and that has one."""
        if not self._queue:
            self._queue = list(self._rooms)
        turn, self._queue = self._queue[:TRIM_ROOMS_MAX], self._queue[TRIM_ROOMS_MAX:]
        # One that was renamed meanwhile has its turn next time.
        cuts = {name: self._cut(name, now_ms) for name in turn if name in self._rooms}
        return {name: cut for name, cut in cuts.items() if cut}

    def _cut(self, name: str, now_ms: int) -> int:
        room, own = self._rooms[name], self._own.get(name, self._everywhere)
        messages = self._everywhere.messages if own.messages is None else own.messages
        days = self._everywhere.days if own.days is None else own.days
        oldest_ms = now_ms - days * DAY_MS if days else 0
        last_unwanted = room.head - messages if messages else 0
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

    def drop(self, cuts: Mapping[str, int]) -> None:
        """Drop the entries up to these seqs; raise `sqlite3.Error`."""
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
