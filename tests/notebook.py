"""What is written down of rights, in memory: a `Keeper` for tests without a log's files."""

from __future__ import annotations

from collections.abc import Sequence

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
)


class Notebook:
    """Keeps everything; `is_failing` makes it refuse, as a log on a full disk does."""

    def __init__(self) -> None:
        self.is_failing = False
        self.records: dict[tuple[object, ...], Record] = {}
        self.audits: list[AuditEntry] = []
        self.rooms: list[str] = []
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
        self._check()
        self.keep_soon(changes)
        self.audits += [each._replace(id=len(self.audits) + 1) for each in audit]

    def keep_soon(self, changes: Sequence[Change]) -> None:
        """Write changes down."""
        for change in changes:
            if isinstance(change, Put):
                self.records[_about(change.record)] = change.record
            else:
                self.records.pop(_about(change.record), None)

    def audit(self, limit: int, before_id: int | None = None) -> list[AuditEntry]:
        """Return the newest audit entries, newest first."""
        found = [each for each in self.audits if before_id is None or each.id < before_id]
        return found[::-1][:limit]

    def found_room(self, name: str) -> None:
        """Note that a room is there."""
        self._check()
        self.rooms.append(name)

    def rename_room(self, old: str, new: str) -> None:
        """Note a room's new name."""
        self._check()
        self.renamed.append((old, new))
        self.generations[new] = self.generations.pop(old, 0)

    def raise_generation(self, room: str) -> int:
        """Return the room's next generation."""
        self._check()
        self.generations[room] = self.generations.get(room, 0) + 1
        return self.generations[room]

    def set_retention(self, room: str, messages: int | None, days: int | None) -> None:
        """Note how much of a room is kept."""
        self._check()
        facts = self.records.get(("room", room), RoomFacts(room))
        assert isinstance(facts, RoomFacts)
        self.keep_soon([Put(facts._replace(retain_messages=messages, retain_days=days))])

    def redact(self, room: str, seq: int) -> Redacted:
        """Note that a text was removed."""
        self._check()
        if not seq:
            raise NoEntry
        self.redacted.append((room, seq))
        return Redacted("ann", 1)

    def _check(self) -> None:
        if self.is_failing:
            raise LogFailed("the log cannot be written: for a test")


def _about(record: Record) -> tuple[object, ...]:
    """Return what a record is about: another one about the same takes its place."""
    match record:
        case NickRecord():
            return "nick", record.nick
        case RoomFacts():
            return "room", record.room
        case Member():
            return "member", record.room, record.identity
        case Sanction():
            return "sanction", record.room, record.kind, record.identity, record.nick
