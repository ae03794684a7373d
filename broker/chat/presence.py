"""When rooms are told who came and went, and whose coming is no news. Pure.

What changed in a room is its `broker.chat.roster`'s. PROTOCOL.md, "Presence".
"""

from __future__ import annotations

import math

from broker.chat.floods import RETURN_S
from broker.chat.rooms import Room, telling_s
from broker.chat.sessions import User

PRESENCE_TICK_S = 0.1  # Who comes and goes within a tick is told in one frame.
# So long after its start (`RETURN_S`) the broker takes resumed members for old ones,
GONE_MAX = 10_000  # until so many have left already: then it no longer knows who is an old one.


class Presence:
    """Of all rooms of one broker. Times are those of the steady clock, in seconds."""

    def __init__(self, now_s: float) -> None:
        """Begin with the broker."""
        self._started_s = now_s
        self._stirred: dict[str, Room] = {}  # Rooms with something to tell.
        self._gone: set[tuple[str, str]] = set()  # Room and nick: who has left since the start.
        self._told_until_s = 0.0
        self.deadline_s = math.inf

    def stir(self, room: Room, now_s: float) -> None:
        """Note that there is something to tell in a room."""
        self._stirred[room.name] = room
        if self.deadline_s == math.inf:
            self.deadline_s = max(now_s + PRESENCE_TICK_S, self._told_until_s)

    def take(self, now_s: float) -> list[Room]:
        """Return the rooms to be told now, if it is time."""
        if now_s < self.deadline_s:
            return []
        rooms = list(self._stirred.values())
        self._stirred.clear()
        self.deadline_s = math.inf
        self._told_until_s = now_s + telling_s(sum(len(room.roster) for room in rooms))
        return rooms

    def is_old(self, room: Room, user: User, now_s: float) -> bool:
        """Tell whether the room may know a user of old whom this broker has not seen in it yet."""
        is_start = now_s - self._started_s < RETURN_S
        return is_start and len(self._gone) < GONE_MAX and (room.name, user.nick) not in self._gone

    def left(self, room: Room, user: User, now_s: float) -> None:
        """Note that a room is to be told that a user left: the user's return will be news."""
        self.stir(room, now_s)
        if self.is_old(room, user, now_s):
            self._gone.add((room.name, user.nick))
