"""Bans and mutes: how one is made and lifted, in a room or everywhere. Pure.

Whether one holds goes by the wall clock. One whose time is up is dropped for good only when that
clock is to be trusted: a clock that was ahead for a moment shall not pardon anybody.
"""

from __future__ import annotations

from broker.chat.floor import Actor, Floor
from broker.chat.rights import SANCTIONS_PER_ROOM_MAX
from broker.log.rights_records import Change, Delete, Put, Sanction
from common.errors import Code, Refused
from common.names import fold
from common.order import Role

SANCTION_S_MAX = 10 * 365 * 86_400


def imposed(floor: Floor, actor: Actor, wanted: Sanction, seconds: int) -> list[Change]:
    """Return what to write down for a ban or a mute, for ever with 0 seconds; raise `Refused`.

    It takes the place of those of its kind that the same person has there, under whatever nick.
    """
    if seconds > SANCTION_S_MAX:
        raise Refused(Code.BAD_PAYLOAD, f"at most {SANCTION_S_MAX} seconds")
    rights, room, trusted_ms = floor.rights, wanted.room, floor.trusted_ms()
    whose = (wanted.kind, wanted.identity)
    found = rights.sanctions(room, trusted_ms)
    earlier = [each for each in found if (each.kind, each.identity) == whose]
    check_may_change(floor, actor, earlier)
    if len(found) - len(earlier) >= SANCTIONS_PER_ROOM_MAX:
        raise Refused(Code.TOO_MANY, f"there are at most {SANCTIONS_PER_ROOM_MAX} of them")
    made = wanted._replace(
        until_ms=floor.now_ms + 1_000 * seconds if seconds else 0,
        by_nick=actor.nick,
        by_identity=actor.owner,
        since_ms=floor.now_ms,
    )
    return [*(Delete(each) for each in (*rights.over(room, trusted_ms), *earlier)), Put(made)]


def check_may_change(floor: Floor, actor: Actor, held: list[Sanction]) -> None:
    """Raise `Refused` for what holds against the actor, or was imposed by a higher role.

    By the roles of now: what a moderator imposed who is none any more, any other may change.
    """
    rights = floor.rights
    for each in held:
        if each.identity == actor.owner or fold(each.nick) == fold(actor.nick):
            raise Refused(Code.FORBIDDEN, f"nobody can lift a {each.kind} of their own")
        # Who sits at the broker's host has no identity.
        by = rights.role(each.room, each.by_identity) if each.by_identity else Role.OPERATOR
        if by > actor.role:
            detail = f"{each.by_nick}, who imposed the {each.kind}, has a higher role than you"
            raise Refused(Code.FORBIDDEN, detail)


def lifted(floor: Floor, room: str, kind: str, identity: bytes, nick: str) -> list[Sanction]:
    """Return what holds against an identity or a nick."""
    return [
        each
        for each in floor.rights.sanctions(room, floor.now_ms)
        if each.kind == kind
        and ((identity and each.identity == identity) or (nick and fold(each.nick) == fold(nick)))
    ]
