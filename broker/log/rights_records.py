"""What the log writes down of names, rooms' doors, roles and order. Pure.

Identities are a client's CURVE key (32 bytes) or, on plain endpoints, a digest of a person's
secret (`broker.keys.owner`). Times are milliseconds since 1970.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple, Protocol

BROKER = ""  # In place of a room: what holds in all of them.


class NickRecord(NamedTuple):
    """A nick, and whose it is."""

    nick: str
    identity: bytes
    used_ms: int


class RoomFacts(NamedTuple):
    """What its owner made of a room."""

    room: str  # Its name on the wire.
    title: str = ""  # What people call a closed room.
    owner: bytes = b""  # Empty: nobody's but the operators'.
    topic_by: int = 0  # The lowest `common.order.Role` that may set the topic.
    slow_s: int = 0
    retain_messages: int | None = None  # None: as the broker's setting says.
    retain_days: int | None = None


class Member(NamedTuple):
    """Somebody with a role in a room, or with a place in a closed one."""

    room: str
    identity: bytes
    nick: str  # The last one that was seen there.
    role: int  # `common.order.Role`
    read_seq: int = 0
    since_ms: int = 0


class Sanction(NamedTuple):
    """A ban or a mute."""

    room: str  # Or BROKER.
    kind: str  # BAN or MUTE
    identity: bytes  # Empty where only the name is known.
    nick: str
    until_ms: int  # 0: for ever.
    reason: str
    by_nick: str
    by_identity: bytes
    since_ms: int


BAN, MUTE = "ban", "mute"


class AuditEntry(NamedTuple):
    """Who did what to whom, when. `id` is the log's own: 0 before it is written."""

    id: int
    ts_ms: int
    actor_nick: str
    actor_identity: bytes
    action: str
    target: str
    room: str
    detail: str


Record = NickRecord | RoomFacts | Member | Sanction


class Put(NamedTuple):
    """Write a record down, in place of the one about the same."""

    record: Record


class Drop(NamedTuple):
    """Strike out the record about the same as this one."""

    record: Record


Change = Put | Drop


class Rights(NamedTuple):
    """Everything that is written down, but the audit."""

    nicks: list[NickRecord]
    rooms: list[RoomFacts]
    members: list[Member]
    sanctions: list[Sanction]


class Redacted(NamedTuple):
    """Of a text that was removed."""

    nick: str
    ts_ms: int


class Keeper(Protocol):
    """The log's part in it; one owner, one thread. All calls but `keep_soon` wait for the disk.

    Those that change something raise `LogFailed` and change nothing then.
    """

    def load_rights(self) -> Rights:
        """Return everything that is written down."""

    def keep(self, changes: Sequence[Change], *, audit: Sequence[AuditEntry] = ()) -> None:
        """Write changes and audit entries down together."""

    def keep_soon(self, changes: Sequence[Change]) -> None:
        """Write changes down that may be lost when the power fails within a second."""

    def audit(self, limit: int, before_id: int | None = None) -> list[AuditEntry]:
        """Return the newest audit entries, newest first."""

    def found_room(self, name: str) -> None:
        """Have a room in the log, without an entry."""

    def rename_room(self, old: str, new: str) -> None:
        """Give a room another name; nobody finds it under the old one from here on."""

    def raise_generation(self, room: str) -> int:
        """Make all keys and tickets of a room worthless; return its new generation."""

    def set_retention(self, room: str, messages: int | None, days: int | None) -> None:
        """Keep more or less of a room than the broker's settings say."""

    def redact(self, room: str, seq: int) -> Redacted:
        """Remove the text of an entry for good; raise `NoEntry` where there is none."""


class NoEntry(Exception):
    """There is no such entry, or no more."""


def about(record: Record) -> tuple[object, ...]:
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
