"""Who is in a room, and which rooms there are: WHO and ROOMS. Pure."""

from __future__ import annotations

from broker.chat.floor import Floor
from broker.chat.sessions import Session
from common import wire
from common.limits import ROOMS_BYTES_MAX, ROOMS_PAGE_MAX

NAMES_PER_COST = 64  # So many nicks or rooms in an answer cost as much as a text.


class Listings:
    """Of one broker."""

    def __init__(self, floor: Floor) -> None:
        self._floor = floor

    def who(self, session: Session, command: wire.Who) -> None:
        """Tell who is in a room."""
        floor = self._floor
        room = floor.member_room(session, command.room)
        roster = room.roster
        floor.charge(session, len(roster) // NAMES_PER_COST)
        nicks = roster.show(session.user)
        floor.reply(
            session.route,
            wire.Members(command.id, room.name, roster.version, len(roster), nicks),
        )

    def rooms(self, session: Session, command: wire.Rooms) -> None:
        """Tell the open rooms after a name."""
        infos: list[wire.RoomInfo] = []
        size_bytes, is_more = 0, False
        for room in self._floor.rooms.after(command.after):
            if len(infos) == ROOMS_PAGE_MAX or size_bytes >= ROOMS_BYTES_MAX:
                is_more = True
                break
            infos.append(wire.RoomInfo(room.name, len(room.roster), room.head, room.topic))
            size_bytes += len(room.name.encode()) + len(room.topic.encode())
        self._floor.charge(session, len(infos) // NAMES_PER_COST)
        self._floor.reply(session.route, wire.RoomList(command.id, infos, is_more))
