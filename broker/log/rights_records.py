"""What the log keeps beside messages: names, rooms' facts, members, sanctions. Pure.

The log only keeps these; what they mean is decided in `broker.chat`. A person's identity is a
key's 32 bytes, or the 16-byte digest of a client's secret (`broker.keys.owner`).
"""

from __future__ import annotations

from typing import NamedTuple

from common.names import is_closed

EVERYWHERE = ""  # The room of a sanction for the whole broker.
FOR_EVER = 0  # The `until_ms` of a sanction that does not end by itself.


class NickRecord(NamedTuple):
    """A name and whose it is. The key is `nick`."""

    nick: str  # As the core compares names.
    identity: bytes
    used_ms: int  # When it was last used, milliseconds since 1970; negative: and only tried.


class RoomFacts(NamedTuple):
    """What is set for a room. The key is `room`, its name on the wire."""

    room: str
    # What people see in place of the name of a closed room; of an open one the name that it had
    # when it was closed, if it was.
    title: str = ""
    owner: bytes = b""  # Identity.
    birth: int = 0  # Which room it is, whatever it is called; 0 where that is not known.
    topic_by: int = 0  # Who may set the topic, as the core's roles.
    slow_s: int = 0
    retain_messages: int | None = None  # None: as everywhere; 0: all. The log goes by these two.
    retain_days: int | None = None


class Member(NamedTuple):
    """Somebody's place in a room. The key is `room` and `identity`."""

    room: str
    identity: bytes
    nick: str = ""
    role: int = 0
    read_seq: int = 0  # The newest entry that was read.
    since_ms: int = 0


class Sanction(NamedTuple):
    """A ban or a mute. The key is `room`, `kind`, `identity` and `nick`."""

    room: str  # EVERYWHERE, or the only room where it holds.
    kind: str  # "ban" or "mute"
    identity: bytes
    nick: str
    until_ms: int = FOR_EVER
    reason: str = ""
    by_nick: str = ""
    by_identity: bytes = b""
    since_ms: int = 0


Record = NickRecord | RoomFacts | Member | Sanction


class Put(NamedTuple):
    """Keep a record, in place of the one with the same key."""

    record: Record


class Delete(NamedTuple):
    """Drop the record with the same key; the other fields do not count."""

    record: Record


Change = Put | Delete


class Rights(NamedTuple):
    """All that is kept but the audit log, in no order."""

    nicks: list[NickRecord]
    rooms: list[RoomFacts]
    members: list[Member]
    sanctions: list[Sanction]


class AuditEntry(NamedTuple):
    """Who did what to whom, and when. Of a new one the `id` does not count."""

    id: int
    ts_ms: int
    actor_nick: str
    actor_identity: bytes
    action: str
    target: str
    room: str
    detail: str
    is_operator: bool = False  # Who did it: such entries are kept apart from everybody else's.


def renamed(record: RoomFacts | Member | Sanction, room: str) -> RoomFacts | Member | Sanction:
    """Return what is kept when a room has another name; once opened it is known by its old one."""
    if isinstance(record, RoomFacts) and is_closed(record.room) and not is_closed(room):
        return record._replace(room=room, title=record.room)
    return record._replace(room=room)


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
