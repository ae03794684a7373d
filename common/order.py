"""What is said about doors, roles and order: closed rooms, talks, moderation, administration. Pure.

Payloads of `common.wire`, in a file of their own. PROTOCOL.md, "Order".
"""

from __future__ import annotations

import enum
from typing import Annotated

from msgspec import Meta

from common import limits
from common.fields import Id, Nick, Payload, Room

# The kind of a post in which the broker tells what somebody did in the room; `wire.Kind` are those
# that clients say.
ORDER_KIND = 3


class Role(enum.IntEnum):
    """What somebody may do in a room; each may do what those before it may."""

    GUEST = 0  # Of an open room: nothing is written down of them.
    MEMBER = 1
    MODERATOR = 2
    OWNER = 3
    OPERATOR = 4  # Of the broker: in every room.


class Action(enum.StrEnum):
    """What ORDER does in a room. The value is what stands on the wire."""

    PRIVATE = "private"  # Only members get in from here on; those who are in it are members.
    PUBLIC = "public"
    INVITE = "invite"
    UNINVITE = "uninvite"
    KICK = "kick"
    BAN = "ban"
    UNBAN = "unban"
    MUTE = "mute"
    UNMUTE = "unmute"
    OP = "op"
    DEOP = "deop"
    SLOW = "slow"  # `value`: seconds between two texts of one person; 0 ends it.
    TOPIC_BY = "topic_by"  # `value`: the lowest Role that may set the topic.
    REPORT = "report"  # To the room's moderators and the operators.


ActionName = Annotated[str, Meta(max_length=limits.ACTION_CHARS_MAX)]
SomeNick = Annotated[str, Meta(max_length=4 * limits.NICK_CHARS_MAX)]
SomeRoom = Annotated[str, Meta(max_length=4 * limits.ROOM_CHARS_MAX)]
Reason = Annotated[str, Meta(max_length=limits.REASON_CHARS_MAX)]
Words = Annotated[str, Meta(max_length=limits.TEXT_CHARS_MAX)]


# --- commands ---------------------------------------------------------------
class Order(Payload):
    """Do something about a room or somebody in it; answered with DONE."""

    id: Id
    room: Room
    action: ActionName  # One of `Action`; of others the broker says that it does not know them.
    nick: SomeNick = ""
    value: Id = 0  # Seconds for BAN, MUTE (0: for ever) and SLOW.
    reason: Reason = ""


class Talk(Payload):
    """Open the talk between two with somebody; answered with JOINED."""

    id: Id
    nick: Nick


class Mine(Payload):
    """Ask for the closed rooms that one belongs to; answered with MY_ROOMS."""

    id: Id


class Read(Payload):
    """Note up to where one has read a closed room; answered with DONE."""

    id: Id
    room: Room
    seq: Id


class Admin(Payload):
    """Something that operators do, whatever room they are in; answered with TABLE."""

    id: Id
    verb: ActionName
    room: SomeRoom = ""
    nick: SomeNick = ""
    value: Id = 0
    text: Words = ""


# --- replies ----------------------------------------------------------------
class Done(Payload):
    """It is done, and written down."""

    id: int
    room: str  # Its name from here on: PRIVATE and PUBLIC change it.
    title: str = ""  # What people call it; empty where that is its name.


class MyRoom(Payload):
    """One line of MY_ROOMS."""

    room: str
    title: str
    role: int
    head: int
    read: int  # The seq up to which it was read.
    pending: bool = False  # One was invited, and has not come yet.


class MyRooms(Payload):
    """All closed rooms that one belongs to."""

    id: int
    rooms: list[MyRoom]


class Table(Payload):
    """What an operator asked for; a table of texts."""

    id: int
    columns: list[str]
    rows: list[list[str]]
    more: bool = False  # There are further rows than one answer has.


class Introduction(Payload):
    """Whom one is about to talk to; told in the clear, on the introduction endpoint."""

    id: int
    protocol: int
    key: bytes  # The broker's public key, 32 bytes (RFC 7748, Curve25519).
    program: str


# --- publications -----------------------------------------------------------
class Removed(Payload, tag=4):
    """An operator removed a text: whoever shows it shows so instead."""

    room: str
    epoch: int
    seq: int
