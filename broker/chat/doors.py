"""What a room gets when its door is moved: a name, a birth, and who has a place behind it. Pure."""

from __future__ import annotations

from itertools import count

from broker import keys
from broker.chat.floor import Floor
from broker.chat.rights import PENDING
from broker.chat.rooms import Room
from broker.log.rights_records import Change, Member, Put
from common.errors import Code, Refused
from common.names import check_room
from common.order import Role


def birth(floor: Floor, secret: bytes, room: str) -> int:
    """Return a number that no room has."""
    births = (keys.birth(secret, room, at_ms) for at_ms in count(floor.now_ms))
    return next(each for each in births if floor.rights.born(each) is None)


def closed_name(floor: Floor, secret: bytes, room: str) -> str:
    """Return a name that no room has: rooms of one name may be closed at the same time."""
    for at_ms in count(floor.now_ms):
        name = keys.closed_name(secret, "+", room, at_ms)
        if floor.rooms.get(name) is None and not floor.rights.is_known(name):
            break
    return name


def open_name(floor: Floor, room: str, wanted: str, role: Role) -> str:
    """Return as what a private room is opened: its former name, or another that is free.

    Raises `Refused`, `room_invalid` too. What operators have set for a name waits for its room.
    """
    rights = floor.rights
    former = check_room(rights.title(room).removeprefix("+"))
    name = check_room(wanted) if wanted else former
    if floor.rooms.get(name) is not None or (name != former and rights.is_known(name)):
        raise Refused(
            Code.FORBIDDEN,
            f"there is a room #{name} already: open this one by another name, "
            "with /room public NAME",
        )
    if name != former and role < Role.OPERATOR and not rights.may_be_owned(name):
        raise Refused(Code.FORBIDDEN, f"#{name} is nobody's room")
    return name


def people(floor: Floor, room: Room, owner: bytes) -> dict[bytes, str]:
    """Return who shall have a place in a room when it is closed, and how they are called."""
    found = {each.identity: each.nick for each in floor.rights.members(room.name)}
    if owner:
        here = next((each.user.nick for each in floor.sessions.of(owner)), "")
        found[owner] = here or found.get(owner, "")
    return found | {user.owner: user.nick for user in room.roster}


def check_heir(floor: Floor, room: Room, heir: bytes, nick: str) -> None:
    """Raise `Refused` when somebody cannot be given a room: who is not in it, and did not come."""
    if not floor.rights.may_be_owned(room.name):
        raise Refused(Code.FORBIDDEN, "the room is nobody's")
    place = floor.rights.member(room.name, heir)
    is_here = any(room.name in each.rooms for each in floor.sessions.of(heir))
    if not is_here and (place is None or place.since_ms == PENDING):
        raise Refused(Code.NO_SUCH_NICK, f"{nick} is not in this room")


def handed_on(floor: Floor, room: Room, heir: bytes) -> list[Change]:
    """Return what makes a room somebody else's; its owner keeps order there from then on."""
    rights, facts = floor.rights, floor.rights.facts(room.name)
    changes: list[Change] = [Put(facts._replace(owner=heir))]
    place = rights.member(room.name, heir)
    if place is not None:
        changes.append(Put(place._replace(role=Role.OWNER)))
    if facts.owner and rights.check_place(room.name, facts.owner):
        nick = people(floor, room, facts.owner)[facts.owner]
        place = rights.member(room.name, facts.owner) or Member(
            room.name, facts.owner, nick, Role.MODERATOR, room.head, floor.now_ms
        )
        changes.append(Put(place._replace(role=Role.MODERATOR)))
    return changes
