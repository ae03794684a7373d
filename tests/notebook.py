"""What is written down of rights, in memory: a `Keeper` for tests without a log's files."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from broker.log.interface import LogFailed
from broker.log.rights_records import (
    AuditEntry,
    Change,
    Member,
    NickRecord,
    NoEntry,
    Put,
    Record,
    Redacted,
    Rights,
    RoomFacts,
    Sanction,
    about,
)


class Notebook:
    """Keeps everything, but for calls in `failing`, which it refuses as on a full disk.

    rooms: of a log in memory, to make (with `make`) and rename them there as well.
    """

    def __init__(
        self, rooms: dict[str, Any] | None = None, make: Callable[[], Any] = object
    ) -> None:
        self.failing: set[str] = set()  # Names of methods.
        self._in_log, self._make = ({} if rooms is None else rooms), make
        self.records: dict[tuple[object, ...], Record] = {}
        self.audits: list[AuditEntry] = []
        self.renamed: list[tuple[str, str]] = []
        self.generations: dict[str, int] = {}
        self.redacted: list[tuple[str, int]] = []

    def load_rights(self) -> Rights:
        """Return everything that is written down."""
        found = list(self.records.values())
        return Rights(
            [each for each in found if isinstance(each, NickRecord)],
            [each for each in found if isinstance(each, RoomFacts)],
            [each for each in found if isinstance(each, Member)],
            [each for each in found if isinstance(each, Sanction)],
        )

    def keep(self, changes: Sequence[Change], *, audit: Sequence[AuditEntry] = ()) -> None:
        """Write changes and audit entries down."""
        self._check("keep")
        self.keep_soon(changes)
        self.audits += [each._replace(id=len(self.audits) + 1) for each in audit]

    def keep_soon(self, changes: Sequence[Change]) -> None:
        """Write changes down."""
        for change in changes:
            if isinstance(change, Put):
                self.records[about(change.record)] = change.record
            else:
                self.records.pop(about(change.record), None)

    def audit(self, limit: int, before_id: int | None = None) -> list[AuditEntry]:
        """Return the newest audit entries, newest first."""
        found = [each for each in self.audits if before_id is None or each.id < before_id]
        return found[::-1][:limit]

    def found_room(self, name: str) -> None:
        """Note that a room is there."""
        self._check("found_room")
        if name not in self._in_log:
            self._in_log[name] = self._make()

    def rename_room(self, old: str, new: str) -> None:
        """Note a room's new name."""
        self._check("rename_room")
        self.renamed.append((old, new))
        if old in self._in_log:
            self._in_log[new] = self._in_log.pop(old)
        self.generations[new] = self.generations.pop(old, 0)

    def raise_generation(self, room: str) -> int:
        """Return the room's next generation."""
        self._check("raise_generation")
        self.generations[room] = self.generations.get(room, 0) + 1
        return self.generations[room]

    def set_retention(self, room: str, messages: int | None, days: int | None) -> None:
        """Note how much of a room is kept."""
        self._check("set_retention")
        facts = self.records.get(("room", room), RoomFacts(room))
        assert isinstance(facts, RoomFacts)
        self.keep_soon([Put(facts._replace(retain_messages=messages, retain_days=days))])

    def redact(self, room: str, seq: int) -> Redacted:
        """Note that a text was removed."""
        self._check("redact")
        if not seq:
            raise NoEntry
        self.redacted.append((room, seq))
        return Redacted("ann", 1)

    def _check(self, call: str) -> None:
        if call in self.failing:
            raise LogFailed("the log cannot be written: for a test")
