"""What the broker tells one person alone, and what a room is, in words. Pure."""

from __future__ import annotations

from client import render
from client.events import Joined, Told
from client.times import span_text
from common.names import is_closed, is_talk
from common.order import Role

ROLE_WORDS = {
    Role.GUEST: "a guest",
    Role.MEMBER: "a member",
    Role.MODERATOR: "a moderator",
    Role.OWNER: "its owner",
    Role.OPERATOR: "an operator",
}
TOPIC_WORDS = {
    Role.GUEST: "everybody",
    Role.MEMBER: "members",
    Role.MODERATOR: "moderators",
    Role.OWNER: "the owner",
    Role.OPERATOR: "operators",
}
# By the code of a notice; PROTOCOL.md, "NOTICE". Others are not for people.
TEXTS = {
    "kicked": "{who} kicked you from {where}{reason}",
    "banned": "{who} banned you from {where}{time}{reason}",
    "uninvited": "{who} took you out of {where}{reason}",
    "muted": "{who} muted you in {where}{time}{reason}: there you can only read",
    "unmuted": "{who} lets you speak in {where} again",
    "role": "{who} made you {role} of {where}",
    "invited": "{who} invites you to {where}: /join {where}",
    "report": "{who} reports from {where}: {text}",
    "announcement": "the operators say: {text}",
    "removed": "an operator removed a message of yours{reason}",
}


def told_text(told: Told) -> str:
    """Return what a notice says, before it is made safe; empty for what is not for people."""
    if is_talk(told.room) and told.code == "uninvited":
        return ""  # Nobody was put out: what becomes of the talk says it.
    return TEXTS.get(told.code, "").format(
        who=told.nick or "an operator",
        where=told.title or f"#{told.room}",
        time=f" for {span_text(told.value)}" if told.value else "",
        reason=f" ({told.text})" if told.text else "",
        text=told.text,
        role=role_words(told.value),
    )


def role_words(role: int) -> str:
    """Return what somebody with a role is."""
    return ROLE_WORDS.get(Role(role), "") if role in list(Role) else f"of the role {role}"


def room_lines(room: Joined) -> list[str]:
    """Return what a room is, and what one may do there."""
    label = room.title or render.label(room.room)
    if is_talk(room.room):
        return [f"{label} is a talk between two: only they read it, and the broker's operator"]
    door = "private: who is invited may enter" if is_closed(room.room) else "open to all"
    topic_by = TOPIC_WORDS.get(Role(room.topic_by), "") if room.topic_by in list(Role) else "others"
    slow = f"one text each {span_text(room.slow_s)}" if room.slow_s else "not slow"
    return [
        f"{label} is {door}; you are {role_words(room.role)}",
        f"the topic is set by {topic_by}; {slow}",
    ]
