"""What a program hears from the client library. Pure data: no I/O, no logic.

Every event is immutable and can be handed to any thread.
"""

from __future__ import annotations

from typing import Final

from msgspec import Struct

from common.order import ORDER_KIND
from common.wire import Kind

KIND_NAMES: Final[dict[int, str]] = {
    Kind.TEXT: "text",
    Kind.ACTION: "action",
    Kind.TOPIC: "topic",
    ORDER_KIND: "order",
}
KIND_UNKNOWN: Final = "notice"  # What a newer broker's kinds are called here.
KIND_REMOVED: Final = "removed"  # An operator removed the text; it is empty here.
KINDS: Final[dict[str, Kind]] = {KIND_NAMES[kind]: kind for kind in Kind}


class Entry(Struct, frozen=True, gc=False):
    """One line of a room's log."""

    room: str
    seq: int  # Rises within the room; two entries of a room never share one.
    ts: int  # Milliseconds since 1970, the broker's clock.
    # "text", "action", "topic"; "order": what somebody did about the room or somebody in it;
    # "removed"; or "notice" for a kind not known here, and in answers of history() for what the
    # broker cannot read any more: then without a nick.
    kind: str
    nick: str
    text: str


class Joined(Struct, frozen=True):
    """The room stands: its history up to the head at the time of joining was delivered."""

    room: str
    topic: str
    users: int
    nicks: list[str] | None  # None in rooms above `limits.PRESENCE_NAMES_MAX` users.
    title: str = ""  # What people call a closed room: "+plans", "@bob". Empty for others.
    role: int = 0  # One's own, `common.order.Role`.
    slow_s: int = 0  # Between two texts of one person.
    topic_by: int = 0  # The lowest role that may set the topic.


class Left(Struct, frozen=True):
    """No longer a member: after part(), sent away, or because joining again was refused."""

    room: str
    code: str = ""  # Why; empty after part(). Of a notice ("kicked"), or of `common.errors`.
    reason: str = ""


class Moved(Struct, frozen=True):
    """The room has another name from here on: it was made private, or opened to all."""

    room: str
    to: str
    title: str


class Removed(Struct, frozen=True):
    """An operator removed the text of an entry: whoever shows it shows so instead."""

    room: str
    seq: int


class Told(Struct, frozen=True):
    """A word from the broker to this person alone. PROTOCOL.md, "NOTICE", lists the codes."""

    code: str
    room: str = ""  # On the wire; one need not be in it.
    title: str = ""  # Of the room, where it has one.
    nick: str = ""  # Who did it, or whom it is about.
    text: str = ""  # The reason, or what is announced.
    value: int = 0


class Presence(Struct, frozen=True):
    """Who came and went; only what is news. With three empty lists only the count changed."""

    room: str
    users: int
    joined: list[str]
    left: list[str]
    renamed: list[tuple[str, str]]  # (old, new)
    # All who are there, where that is not what the lists make of those before: after a restart.
    nicks: list[str] | None = None


class Missing(Struct, frozen=True):
    """Here `count` entries are gone: they are not kept any more, or damaged."""

    room: str
    count: int


class Reset(Struct, frozen=True):
    """Another log is behind the broker: seqs start over, history is replayed as at the join."""

    room: str


class Stalled(Struct, frozen=True):
    """The broker cannot read this room's log; the room waits, and asks again every few seconds."""

    room: str
    detail: str


class State(Struct, frozen=True):
    """The connection as a whole."""

    state: str  # "connecting", "online", "offline", "closing" or "refused" (see rename()).
    detail: str
    wait_s: int = 0  # "refused": so long until the client tries again by itself; 0: it does not.


Event = (
    Entry | Joined | Left | Moved | Removed | Told | Presence | Missing | Reset | Stalled | State
)


class Sent(Struct, frozen=True, gc=False):
    """A text that is in the log."""

    room: str
    seq: int
    ts: int  # Milliseconds since 1970, the broker's clock.
