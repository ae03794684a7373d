"""Who may do what: doors, roles, bans and mutes of all rooms, as they are written down. Pure.

The log has it (`broker.log.rights_records`); this is the memory of it, and changes only by what
was written down before.
"""

from __future__ import annotations

import math
from collections.abc import Container, Hashable, Iterable, Iterator
from typing import TypeVar

from broker.chat.lookalikes import key_of
from broker.log.rights_records import (
    EVERYWHERE,
    Change,
    Delete,
    Member,
    NickRecord,
    Put,
    Record,
    RoomFacts,
    Sanction,
    about,
    renamed,
)
from broker.log.rights_records import (
    Rights as Written,
)
from common.names import is_closed, is_talk
from common.order import Role

BAN, MUTE = "ban", "mute"
# The `since_ms` of somebody who was invited and has not come yet; in a talk, who said nothing yet.
PENDING = 0
MEMBERS_PER_ROOM_MAX = 4_096  # Of one room; each is a row, and told anew when keys change.
SANCTIONS_PER_ROOM_MAX = 1_024
CLOSED_PER_IDENTITY_MAX = 1_024  # Private rooms of one person; with the talks: one MY_ROOMS.
TALKS_PER_IDENTITY_MAX = 1_024  # Apart from rooms: strangers begin talks with whom they like.

K = TypeVar("K", bound=Hashable)


class Rights:
    """Of one broker. Times are milliseconds since 1970."""

    def __init__(
        self,
        written: Written,
        *,
        operators: frozenset[bytes] = frozenset(),
        commons: frozenset[str] = frozenset(),
    ) -> None:
        """Begin with what is written down; `commons` are rooms that nobody but operators owns."""
        self.operators = operators
        self._commons = commons
        self._facts: dict[str, RoomFacts] = {}
        self._births: dict[int, str] = {}
        self._members: dict[str, dict[bytes, Member]] = {}
        self._closed: dict[bytes, set[str]] = {}
        self._sanctions: dict[str, dict[tuple[object, ...], Sanction]] = {}
        # The same by room, kind, and whom they hold against: an identity, or a folded nick.
        self._against: dict[tuple[str, str, bytes | str], dict[tuple[object, ...], Sanction]] = {}
        for facts in written.rooms:
            self._put(facts)
        for member in written.members:
            self._put(member)
        for sanction in written.sanctions:
            self._put(sanction)

    # --- what is written down -----------------------------------------------
    def apply(self, changes: Iterable[Change]) -> None:
        """Take in what was written down."""
        for change in changes:
            if isinstance(change, Put):
                self._put(change.record)
            elif isinstance(change, Delete):
                self._drop(change.record)

    def _put(self, record: Record) -> None:
        match record:
            case RoomFacts():
                self._drop(record)
                self._facts[record.room] = record
                if record.birth:
                    self._births[record.birth] = record.room
            case Member():
                self._members.setdefault(record.room, {})[record.identity] = record
                if is_closed(record.room):
                    self._closed.setdefault(record.identity, set()).add(record.room)
            case Sanction():
                self._drop(record)
                self._sanctions.setdefault(record.room, {})[about(record)] = record
                for whose in _whose(record):
                    self._against.setdefault(whose, {})[about(record)] = record
            case NickRecord():
                pass  # The register's: `broker.chat.nicks`.

    def _drop(self, record: Record) -> None:
        match record:
            case RoomFacts():
                facts = self._facts.pop(record.room, None)
                if facts is not None and self._births.get(facts.birth) == record.room:
                    del self._births[facts.birth]
            case Member():
                members = self._members.get(record.room, {})
                members.pop(record.identity, None)
                if not members:
                    self._members.pop(record.room, None)
                rooms = self._closed.get(record.identity, set())
                rooms.discard(record.room)
                if not rooms:
                    self._closed.pop(record.identity, None)
            case Sanction():
                _take_out(self._sanctions, record.room, about(record))
                for whose in _whose(record):
                    _take_out(self._against, whose, about(record))
            case NickRecord():
                pass

    def rename(self, before: str, room: str) -> None:
        """Take in that a room has another name."""
        for record in tuple(self.records_of(before)):
            self._drop(record)
            self._put(renamed(record, room))

    # --- doors and roles ----------------------------------------------------
    def facts(self, room: str) -> RoomFacts:
        """Return what its owner made of a room."""
        return self._facts.get(room) or RoomFacts(room)

    def title(self, room: str) -> str:
        """Return what people call a closed room; nothing for one that is open."""
        return self.facts(room).title if is_closed(room) else ""

    def called(self, title: str) -> list[str]:
        """Return the rooms that people call so."""
        return [facts.room for facts in self._facts.values() if facts.title == title]

    def is_known(self, room: str) -> bool:
        """Tell whether anything is written down of the room itself."""
        return room in self._facts

    def born(self, birth: int) -> str | None:
        """Return what the room of a birth is called now; None where there is none."""
        return self._births.get(birth)

    def may_be_owned(self, room: str) -> bool:
        """Tell whether a room can have an owner beside the operators."""
        return room not in self._commons

    def role(self, room: str, identity: bytes) -> Role:
        """Return what somebody may do in a room."""
        if identity in self.operators:
            return Role.OPERATOR
        facts = self._facts.get(room)
        if facts is not None and facts.owner == identity:
            return Role.OWNER
        member = self._members.get(room, {}).get(identity)
        return Role(member.role) if member is not None else Role.GUEST

    def member(self, room: str, identity: bytes) -> Member | None:
        """Return what is written down of somebody in a room."""
        return self._members.get(room, {}).get(identity)

    def members(self, room: str) -> list[Member]:
        """Return all who have a role or a place in a room."""
        return list(self._members.get(room, {}).values())

    def closed_rooms(self, identity: bytes) -> list[Member]:
        """Return one's places in closed rooms, in the order of the rooms' names."""
        return [self._members[name][identity] for name in sorted(self._closed.get(identity, ()))]

    def check_place(self, room: str, identity: bytes) -> bool:
        """Tell whether there is room for one more place in a room."""
        members = self._members.get(room, {})
        if identity in members:
            return True
        if is_closed(room):
            places_max = TALKS_PER_IDENTITY_MAX if is_talk(room) else CLOSED_PER_IDENTITY_MAX
            mine = self._closed.get(identity, ())
            if sum(is_talk(each) == is_talk(room) for each in mine) >= places_max:
                return False
        return not self.is_full(room)

    def is_full(self, room: str) -> bool:
        """Tell whether a room has as many places as can be."""
        return len(self._members.get(room, {})) >= MEMBERS_PER_ROOM_MAX

    def pending(self, identity: bytes) -> Member | None:
        """Return an invitation that somebody has not followed yet; None where there is none."""
        return next((each for each in self._pending(identity) if not is_talk(each.room)), None)

    def unanswered(self, identity: bytes) -> list[Member]:
        """Return one's places in talks that others began, and in which one said nothing."""
        return [each for each in self._pending(identity) if is_talk(each.room)]

    def _pending(self, identity: bytes) -> Iterator[Member]:
        places = (self._members[name][identity] for name in self._closed.get(identity, ()))
        return (place for place in places if place.since_ms == PENDING)

    # --- bans and mutes -----------------------------------------------------
    def sanction(
        self, room: str, kind: str, identity: bytes, nick_key: str, now_ms: int
    ) -> Sanction | None:
        """Return what holds against somebody, in a room or in all, and holds longest, if any."""
        found = [
            each
            for whose in (identity, nick_key)
            for name in (room, EVERYWHERE)
            for each in self._against.get((name, kind, whose), {}).values()
            if not is_over(each, now_ms)
        ]
        return max(found, key=_end_ms, default=None)

    def is_banned(self, identity: bytes, now_ms: int) -> bool:
        """Tell whether somebody, whatever their nick, is banned from the whole broker."""
        held = self._against.get((EVERYWHERE, BAN, identity), {})
        return identity not in self.operators and any(
            not is_over(each, now_ms) for each in held.values()
        )

    def sanctions(self, room: str, now_ms: int) -> list[Sanction]:
        """Return all that hold in a room."""
        return [
            each for each in self._sanctions.get(room, {}).values() if not is_over(each, now_ms)
        ]

    def all_sanctions(self, now_ms: int) -> Iterator[Sanction]:
        """Yield all that hold anywhere, in the order of the rooms' names."""
        for room in sorted(self._sanctions):
            yield from self.sanctions(room, now_ms)

    def over(self, room: str, now_ms: int) -> list[Sanction]:
        """Return those of a room whose time is up."""
        return [each for each in self._sanctions.get(room, {}).values() if is_over(each, now_ms)]

    def records_of(self, room: str) -> Iterator[RoomFacts | Member | Sanction]:
        """Yield everything that is written down of a room."""
        if room in self._facts:
            yield self._facts[room]
        yield from self.members(room)
        yield from self._sanctions.get(room, {}).values()

    def homeless(self, rooms: Container[str]) -> list[RoomFacts | Member | Sanction]:
        """Return what an order left that was cut short: of rooms that there are not.

        Also places in open rooms, which nobody needs. What is kept of an open room is the
        operators' word, and waits for the room.
        """
        names = {*self._facts, *self._members, *self._sanctions} - {EVERYWHERE}
        found = [each for name in sorted(names) for each in self.records_of(name)]
        return [
            each
            for each in found
            if (each.room not in rooms and not _is_of_open(each))
            or (isinstance(each, Member) and each.role <= Role.MEMBER and not is_closed(each.room))
        ]


def _is_of_open(record: RoomFacts | Member | Sanction) -> bool:
    return isinstance(record, RoomFacts) and not is_closed(record.room)


def _whose(sanction: Sanction) -> list[tuple[str, str, bytes | str]]:
    """Return under what a sanction is found."""
    found: list[tuple[str, str, bytes | str]] = [
        (sanction.room, sanction.kind, key_of(sanction.nick))
    ]
    if sanction.identity:
        found.append((sanction.room, sanction.kind, sanction.identity))
    return found


def _take_out(
    shelf: dict[K, dict[tuple[object, ...], Sanction]], key: K, what: tuple[object, ...]
) -> None:
    held = shelf.get(key, {})
    held.pop(what, None)
    if not held:
        shelf.pop(key, None)


def _end_ms(sanction: Sanction) -> float:
    return sanction.until_ms or math.inf


def is_over(sanction: Sanction, now_ms: int) -> bool:
    """Tell whether a sanction's time is up."""
    return 0 < sanction.until_ms <= now_ms


def left_ms(sanction: Sanction, now_ms: int) -> int:
    """Return how long a sanction still holds; 0 for ever."""
    return max(1, sanction.until_ms - now_ms) if sanction.until_ms else 0
