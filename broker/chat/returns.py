"""Where somebody is led who resumes a room by a name that it may not have any more. Pure."""

from __future__ import annotations

from broker.chat.floor import Floor
from broker.chat.rights import PENDING
from broker.chat.sessions import Session
from common import wire
from common.errors import Code, Refused
from common.names import is_closed


def moved_meanwhile(floor: Floor, session: Session, name: str, birth: int) -> str | None:
    """Return what a room is called now that a session may know by another name, if any."""
    found = _closed_meanwhile(floor, session, name, birth)
    return found or _opened_meanwhile(floor, session, name)


def _closed_meanwhile(floor: Floor, session: Session, name: str, birth: int) -> str | None:
    """Return the private room that was open as `name` when a session was last in it, if any.

    Who is in a room when it is closed has a place there, and may have been away, or the broker
    was restarted, so that no session knows. Others may close rooms of any title, and invite
    anybody: so its birth decides, and an invitation that nobody followed is no place.
    """
    if is_closed(name) or name in session.rooms:
        return None
    room = floor.rights.born(birth)
    if room is None or not is_closed(room) or floor.rooms.get(room) is None:
        return None
    place = floor.rights.member(room, session.user.owner)
    return room if place is not None and place.since_ms != PENDING else None


def _opened_meanwhile(floor: Floor, session: Session, name: str) -> str | None:
    """Return the open room that was closed as `name` when a session was last in it, if any.

    Nobody needs a place in it any more; but who was away, or whose broker was restarted before
    they heard of it, knows no other name.
    """
    if not is_closed(name) or floor.rooms.get(name) is not None:
        return None
    found = [room for room in floor.rights.called(name) if not is_closed(room)]
    is_there = len(found) == 1 and floor.rooms.get(found[0]) is not None
    return found[0] if is_there and found[0] not in session.rooms else None


def check_resumed(floor: Floor, name: str, command: wire.Join, epoch: int) -> None:
    """Raise `Refused` for the resumption of an open room that is not called so any more.

    It was closed meanwhile: what was meant for who was in it is not for whoever comes now. One
    without entries may be forgotten by a restart, and made again by anybody: then its birth is no
    room's any more.
    """
    if not command.resume or command.epoch != epoch:
        return
    room = floor.rooms.get(name)
    is_gone = command.head and (room is None or not room.head)
    if is_gone or floor.rights.born(command.birth) not in (None, name):
        raise Refused(Code.NOT_INVITED, "there is no such room any more")
