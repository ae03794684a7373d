"""What orders are called where people read of them, and what they need. Pure."""

from __future__ import annotations

from common.names import is_talk
from common.order import Action, Role

DEEDS = {
    Action.PRIVATE: "close the room",
    Action.PUBLIC: "open the room to all",
    Action.INVITE: "invite",
    Action.UNINVITE: "take an invitation back",
    Action.KICK: "kick",
    Action.BAN: "ban",
    Action.UNBAN: "lift a ban",
    Action.MUTE: "mute",
    Action.UNMUTE: "lift a mute",
    Action.OP: "make moderators",
    Action.DEOP: "take a moderator's role",
    Action.SLOW: "make the room slow",
    Action.TOPIC_BY: "say who sets the topic",
    Action.REPORT: "report",
}
assert set(DEEDS) == set(Action)

NEEDED = {
    Action.PRIVATE: Role.OWNER,
    Action.PUBLIC: Role.OWNER,
    Action.INVITE: Role.MODERATOR,
    Action.UNINVITE: Role.MODERATOR,
    Action.KICK: Role.MODERATOR,
    Action.BAN: Role.MODERATOR,
    Action.UNBAN: Role.MODERATOR,
    Action.MUTE: Role.MODERATOR,
    Action.UNMUTE: Role.MODERATOR,
    Action.OP: Role.OWNER,
    Action.DEOP: Role.OWNER,
    Action.SLOW: Role.MODERATOR,
    Action.TOPIC_BY: Role.OWNER,
    Action.REPORT: Role.GUEST,
}
ABOUT_SOMEBODY = frozenset(NEEDED) - {Action.PRIVATE, Action.PUBLIC, Action.SLOW, Action.TOPIC_BY}
LIFTING = frozenset({Action.UNBAN, Action.UNMUTE, Action.UNINVITE, Action.DEOP, Action.REPORT})
TIMED = frozenset({Action.BAN, Action.MUTE})
WITH_VALUE = TIMED | {Action.SLOW, Action.TOPIC_BY, Action.OP}

UNITS = ((86_400, "d"), (3_600, "h"), (60, "min"))


def words_against(room: str, needed: Role, action: Action) -> str:
    """Return why somebody may not do something in a room, by its name on the wire."""
    if is_talk(room):
        return "a talk between two has no order to keep: only reports"
    whose = (
        "nobody but members" if needed <= Role.MEMBER else f"only a room's {needed.name.lower()}"
    )
    return f"{whose} may {DEEDS[action]}"


def span_text(seconds: int) -> str:
    """Return a time as people read it: 90 s, 10 min, 2 h, 7 d."""
    for unit_s, name in UNITS:
        if seconds >= unit_s and not seconds % unit_s:
            return f"{seconds // unit_s} {name}"
    return f"{seconds} s"


def time_text(seconds: int) -> str:
    """Return how long an order holds, to go behind it; nothing for ever."""
    return f" for {span_text(seconds)}" if seconds else ""
