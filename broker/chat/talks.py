"""Talks between two, and what somebody has read in closed rooms. Pure. PROTOCOL.md, "Talks".

A talk is a closed room of two: history, order and repair are those of any room.
"""

from __future__ import annotations

from typing import Protocol

from broker import keys
from broker.chat.floods import Move
from broker.chat.floor import Floor
from broker.chat.rights import PENDING
from broker.chat.rooms import Room
from broker.chat.sessions import Session
from broker.log.rights_records import Change, Delete, Member, Put, RoomFacts
from common import order, wire
from common.errors import Code, Refused
from common.limits import ROOMS_PER_SESSION_MAX
from common.names import fold, is_closed, is_talk
from common.order import Role

# Of one person: a chat joins these by itself, and has rooms to spare. Who is flooded sees the last.
UNANSWERED_MAX = 256


class Joining(Protocol):
    """What lets a session into a room, and tells it what it needs there."""

    def __call__(
        self, session: Session, room: Room, request_id: int, *, is_resume: bool = False
    ) -> None:
        """Do so; raise `Refused`."""


class Talks:
    """Of one broker."""

    def __init__(self, floor: Floor, secret: bytes, join: Joining) -> None:
        """Make the names of talks with the log's secret."""
        self._floor = floor
        self._secret = secret
        self._join = join

    def talk(self, session: Session, command: order.Talk) -> None:
        """Open the talk with somebody; their nick must be in use, or owned."""
        floor, user = self._floor, session.user
        floor.move(session, Move.RIGHTS)
        peer = floor.find(command.nick) or self._met(user.owner, command.nick)
        if peer is None:
            raise Refused(Code.NO_SUCH_NICK, f"nobody called {command.nick} is known here")
        identity, nick = peer
        if identity == user.owner:
            raise Refused(Code.NO_SUCH_NICK, "a talk takes two")
        pair = b"".join(sorted((user.owner, identity))).hex()
        name = keys.closed_name(self._secret, "@", pair, 0)
        room = floor.rooms.get(name)
        if room is None or any(
            floor.rights.member(name, each) is None for each in (user.owner, identity)
        ):
            if len(session.rooms) >= ROOMS_PER_SESSION_MAX:
                raise Refused(Code.TOO_MANY_ROOMS)
            floor.move(session, Move.TALK)
            room = self._begin(name, [(user.owner, user.nick), (identity, nick)])
        floor.arrived(session, room)
        self._join(session, room, command.id)

    def _met(self, identity: bytes, nick: str) -> tuple[bytes, str] | None:
        """Return with whom of that nick, though not here, somebody has a talk already."""
        rights, wanted = self._floor.rights, fold(nick)
        for place in rights.closed_rooms(identity):
            if is_talk(place.room):
                for other in rights.members(place.room):
                    if other.identity != identity and fold(other.nick) == wanted:
                        return other.identity, other.nick
        return None

    def _begin(self, name: str, two: list[tuple[bytes, str]]) -> Room:
        """Begin a talk, or do so anew where one of the two has left it. The first one asks."""
        floor, asked = self._floor, two[1][0]
        if any(not self._has_place(name, each, is_asked=each == asked) for each, _ in two):
            raise Refused(Code.TOO_MANY, "no further talk can be begun")
        room = floor.rooms.get(name) or floor.rooms.found(name)
        changes: list[Change] = [Put(RoomFacts(name))]
        changes += (
            Put(
                Member(name, each, nick, Role.MEMBER, 0, PENDING if each == asked else floor.now_ms)
            )
            for each, nick in two
            if floor.rights.member(name, each) is None
        )
        if room.is_kept:
            floor.keep_soon(changes)
        else:  # Only remembered: who begins talks by the thousand and says nothing leaves no trace.
            floor.rights.apply(changes)
        return room

    def _has_place(self, name: str, identity: bytes, *, is_asked: bool) -> bool:
        """Tell whether somebody may have one more talk, one that others ask them for.

        What they never answered gives way, longest silent first: nobody fills somebody else's
        places. What they have said something in does not.
        """
        floor, rights = self._floor, self._floor.rights
        if rights.member(name, identity) is not None:
            return True
        waiting = rights.unanswered(identity)
        is_flooded = is_asked and len(waiting) >= UNANSWERED_MAX
        if waiting and (is_flooded or not rights.check_place(name, identity)):
            place = min(waiting, key=lambda each: (self._spoken_ms(each.room), each.room))
            floor.keep_soon([Delete(place)])
            for session in floor.sessions.of(identity):
                if place.room in session.rooms:
                    why = "it gave way to newer talks"
                    floor.send_away(session, floor.room(place.room), why)
        return rights.check_place(name, identity)

    def _spoken_ms(self, name: str) -> int:
        room = self._floor.rooms.get(name)
        return room.ts if room is not None else 0

    def mine(self, session: Session, command: order.Mine) -> None:
        """Tell somebody all closed rooms that they belong to, and up to where they were read."""
        floor, identity = self._floor, session.user.owner
        rooms = []
        for place in floor.rights.closed_rooms(identity):
            room = floor.rooms.get(place.room)
            if room is not None:
                title = self.title(place.room, identity)
                role = floor.rights.role(place.room, identity)
                # A talk that was not answered yet is no invitation: it is there to be read.
                is_pending = place.since_ms == PENDING and not is_talk(place.room)
                rooms.append(
                    order.MyRoom(place.room, title, role, room.head, place.read_seq, is_pending)
                )
        floor.charge(session, len(rooms) // 64)
        floor.reply(session.route, order.MyRooms(command.id, rooms))

    def read(self, session: Session, command: order.Read) -> None:
        """Note up to where somebody has read a closed room."""
        floor = self._floor
        room = floor.member_room(session, command.room)
        place = floor.rights.member(room.name, session.user.owner)
        if place is not None and is_closed(room.name):
            seq = min(command.seq, room.head)
            if seq > place.read_seq or place.nick != session.user.nick:
                change = place._replace(read_seq=max(seq, place.read_seq), nick=session.user.nick)
                floor.keep_soon([Put(change)])
        floor.reply(session.route, order.Done(command.id, room.name))

    def title(self, name: str, identity: bytes) -> str:
        """Return what a room is called by somebody in it: a talk is called by the other one."""
        if not is_talk(name):
            return self._floor.rights.title(name)
        for place in self._floor.rights.members(name):
            if place.identity != identity:
                user = next((each.user for each in self._floor.sessions.of(place.identity)), None)
                return f"@{user.nick if user is not None else place.nick}"
        return "@"

    def nudge(self, room: Room) -> None:
        """Tell who belongs to a talk, and is elsewhere, that something was said.

        Once, until they come.
        """
        floor = self._floor
        for place in floor.rights.members(room.name):
            for session in floor.sessions.of(place.identity):
                if room.name not in session.rooms and room.name not in session.nudged:
                    session.nudged.add(room.name)
                    title = self.title(room.name, place.identity)
                    floor.notify(session, wire.Notice("said", room.name, title))
