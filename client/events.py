"""What a program hears from the client library. Pure data: no I/O, no logic.

Every event is immutable and can be handed to any thread.
"""

from __future__ import annotations

from typing import Final

from msgspec import Struct

from common.wire import Kind

KIND_NAMES: Final[dict[int, str]] = {
    Kind.TEXT: "text",
    Kind.ACTION: "action",
    Kind.TOPIC: "topic",
}
KIND_UNKNOWN: Final = "notice"  # What a newer broker's kinds are called here.
KINDS: Final[dict[str, Kind]] = {name: Kind(code) for code, name in KIND_NAMES.items()}


class Entry(Struct, frozen=True, gc=False):
    """One line of a room's log."""

    room: str
    seq: int  # Rises within the room; two entries of a room never share one.
    ts: int  # Milliseconds since 1970, the broker's clock.
    kind: str  # "text", "action", "topic", or "notice" for a kind not known here, and in answers
    # of history() for what the broker cannot read any more: then without a nick.
    nick: str
    text: str


class Joined(Struct, frozen=True):
    """The room stands: its history up to the head at the time of joining was delivered."""

    room: str
    topic: str
    users: int
    nicks: list[str] | None  # None in rooms above `limits.PRESENCE_NAMES_MAX` users.


class Left(Struct, frozen=True):
    """No longer a member: after part(), or because joining again was refused."""

    room: str


class Presence(Struct, frozen=True):
    """Who came and went; only what is news. With three empty lists only the count changed."""

    room: str
    users: int
    joined: list[str]
    left: list[str]
    renamed: list[tuple[str, str]]  # (old, new)


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


Event = Entry | Joined | Left | Presence | Missing | Reset | Stalled | State


class Sent(Struct, frozen=True, gc=False):
    """A text that is in the log."""

    room: str
    seq: int
    ts: int  # Milliseconds since 1970, the broker's clock.
