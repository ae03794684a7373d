"""What is typed about doors, talks and order in a room, and what it means. Pure.

Each function takes what stands behind a command; None means that it is not written so.
"""

from __future__ import annotations

from msgspec import Struct

from client.times import seconds_of
from common.errors import Code, Refused
from common.limits import NUMBER_MAX
from common.names import check_nick, check_room
from common.order import Action, Role

TOPIC_BY = {
    "all": Role.GUEST,
    "members": Role.MEMBER,
    "moderators": Role.MODERATOR,
    "owner": Role.OWNER,
}


TOPIC_WHO = "|".join(TOPIC_BY)
TIME_HINT = "write a time as 30s, 10m, 2h, 1d or 1w; without one it holds for ever"


class GiveOrder(Struct, frozen=True):
    """Do something about the current room, or somebody in it."""

    action: Action
    nick: str = ""
    value: int = 0
    reason: str = ""


class ShowRoom(Struct, frozen=True):
    """Tell what the current room is, and what one may do there."""


class TellNick(Struct, frozen=True):
    """Say something in the talk with somebody, without going there."""

    nick: str
    text: str


class OpenTalk(Struct, frozen=True):
    """Go to the talk with somebody."""

    nick: str


class Ignore(Struct, frozen=True):
    """Show nothing of somebody; None lists whom."""

    nick: str | None


class Unignore(Struct, frozen=True):
    """Show somebody again."""

    nick: str


Order = GiveOrder | ShowRoom | TellNick | OpenTalk | Ignore | Unignore


def room(text: str) -> Order | None:
    """Read what stands behind /room."""
    match text.split():
        case []:
            return ShowRoom()
        case ["private"]:
            return GiveOrder(Action.PRIVATE)
        case ["public", *name] if len(name) <= 1:
            names = [check_room(each.removeprefix("#")) for each in name]
            return GiveOrder(Action.PUBLIC, reason="".join(names))
        case ["owner", nick]:
            return GiveOrder(Action.OP, _nick(nick), Role.OWNER)
        case ["slow", seconds]:
            return slow(seconds)
        case ["topic", who] if who in TOPIC_BY:
            return GiveOrder(Action.TOPIC_BY, value=TOPIC_BY[who])
    what = f"private, public [NAME], slow SECONDS, topic {TOPIC_WHO}, or owner NICK"
    raise Refused(Code.BAD_PAYLOAD, f"write {what}")


def slow(text: str) -> Order | None:
    """Read what stands behind /slow: seconds, or a time like 1m."""
    is_number = text.isascii() and text.isdigit() and len(text) <= len(str(NUMBER_MAX))
    seconds = int(text) if is_number else seconds_of(text)
    if seconds is None or seconds > NUMBER_MAX:
        return None
    return GiveOrder(Action.SLOW, value=seconds)


def about_nick(action: Action, text: str) -> Order | None:
    """Read a nick alone."""
    nick, _, rest = text.partition(" ")
    return None if rest else GiveOrder(action, _nick(nick))


def with_reason(action: Action, text: str) -> Order | None:
    """Read a nick, and perhaps a reason."""
    nick, _, reason = text.partition(" ")
    return GiveOrder(action, _nick(nick), reason=reason.strip())


def with_time(action: Action, text: str) -> Order | None:
    """Read a nick, perhaps a time, perhaps a reason.

    What was meant as a time and is none must not make it hold for ever.
    """
    nick, _, rest = text.partition(" ")
    time, _, reason = rest.strip().partition(" ")
    if not time[:1].isdigit():
        return GiveOrder(action, _nick(nick), reason=rest.strip())
    seconds = seconds_of(time)
    if not seconds:
        raise Refused(Code.BAD_PAYLOAD, TIME_HINT)
    return GiveOrder(action, _nick(nick), seconds, reason.strip())


def report(text: str) -> Order | None:
    """Read a nick and a reason."""
    nick, _, reason = text.partition(" ")
    return GiveOrder(Action.REPORT, _nick(nick), reason=reason.strip()) if reason.strip() else None


def tell(text: str) -> Order | None:
    """Read a nick and a text."""
    nick, _, words = text.partition(" ")
    return TellNick(_nick(nick), words.strip()) if words.strip() else None


def talk(text: str) -> Order | None:
    """Read whom to talk with."""
    return OpenTalk(_nick(text))


def ignore(text: str) -> Order | None:
    """Read whom to ignore; nobody lists them."""
    return Ignore(_nick(text) if text else None)


def unignore(text: str) -> Order | None:
    """Read whom to show again."""
    return Unignore(_nick(text))


def _nick(text: str) -> str:
    return check_nick(text.removeprefix("@"))
