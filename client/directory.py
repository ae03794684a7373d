"""What closed rooms are called, and what rooms were called before. Pure.

On the wire a closed room has a name that nobody chose; people call it by a title, `+plans` or
`@bob`. The session's thread writes here; any thread may look: what it looks through is replaced
as a whole, never changed.
"""

from __future__ import annotations

from common.errors import Code, Refused
from common.limits import ROOMS_PER_SESSION_MAX
from common.names import fold, is_closed, is_wire_name


class Directory:
    """Of one session. `moved` leads from each former name to the one of now."""

    def __init__(self) -> None:
        self.moved: dict[str, str] = {}
        self._titles: dict[str, str] = {}

    def call(self, room: str, title: str) -> None:
        """Note what a joined room is called; an empty title: by its name."""
        if title:
            self._titles = {**self._titles, room: title}
        elif room in self._titles:
            self._titles = {name: each for name, each in self._titles.items() if name != room}

    def drop(self, room: str) -> None:
        """Forget a room that was left."""
        self.call(room, "")

    def move(self, was: str, to: str) -> None:
        """Note a room's new name. Of all former names so many are known as one may have rooms."""
        self.drop(was)
        self.moved.pop(to, None)
        for former, name in self.moved.items():
            if name == was:
                self.moved[former] = to
        self.moved[was] = to
        if len(self.moved) > ROOMS_PER_SESSION_MAX:
            del self.moved[next(iter(self.moved))]

    def free(self, room: str) -> None:
        """Forget that a room had this name: another one is meant from here on."""
        self.moved.pop(room, None)

    def find(self, address: str) -> str:
        """Return the name on the wire of a joined room that is called so; raise `Refused`."""
        if not is_closed(address) or is_wire_name(address):
            return address
        found = [room for room, title in self._titles.items() if fold(title) == fold(address)]
        return the_only(found, address, Refused(Code.NOT_MEMBER, f"join {address} first"))


def the_only(rooms: list[str], address: str, nobody: Refused) -> str:
    """Return the one room that is called so; raise `nobody`, or a refusal that lists them."""
    if not rooms:
        raise nobody
    if len(rooms) > 1:
        listing = ", ".join(rooms)
        raise Refused(Code.ROOM_INVALID, f"several rooms are called {address}: {listing}")
    return rooms[0]
