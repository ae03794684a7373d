"""What stands on the wire: frames, payload schemas, encoders and decoders. PROTOCOL.md. Pure.

Every payload is one MessagePack array with a fixed order of fields. Fields are only ever
appended, and a decoder ignores those that it does not know, so old and new programs can talk.
"""

from __future__ import annotations

import enum
from collections.abc import Callable
from typing import Annotated, Final

import msgspec
from msgspec import Meta

from common import limits, order
from common.errors import Code, Malformed, Refused, versions_text
from common.fields import Id, Key, Limit, Nick, Number, Owner, Room, Texts
from common.fields import Payload as Payload  # noqa: PLC0414 - whoever reads the wire has it there

MAGIC: Final = b"HUB" + bytes([limits.PROTOCOL_VERSION])
NO_TOKEN: Final = bytes(limits.TOKEN_BYTES)
HEAD_BYTES: Final = len(MAGIC) + 1 + limits.TOKEN_BYTES


class Command(enum.IntEnum):
    """The fifth byte of a client's message."""

    GREET = 1
    HELLO = 2
    BYE = 3
    NICK = 4
    JOIN = 5
    PART = 6
    SEND = 7
    WHO = 8
    ROOMS = 9
    HISTORY = 10
    ORDER = 11
    TALK = 12
    MINE = 13
    READ = 14
    ADMIN = 15


class Reply(enum.IntEnum):
    """The fifth byte of the broker's answer."""

    GREETING = 129
    WELCOME = 130
    GOODBYE = 131
    RENAMED = 132
    JOINED = 133
    PARTED = 134
    ACK = 135
    MEMBERS = 136
    ROOM_LIST = 137
    PAGE = 138
    DONE = 139
    MY_ROOMS = 140
    INTRODUCTION = 141
    TABLE = 142
    ERROR = 192


class Kind(enum.IntEnum):
    """What a post is."""

    TEXT = 0
    ACTION = 1  # /me
    TOPIC = 2  # The room's topic, from here on.


class Mode(enum.IntEnum):
    """Which way HISTORY reads."""

    AFTER = 0  # Entries after a seq, oldest first.
    BEFORE = 1  # The last entries before a seq.
    SINCE = 2  # Entries from a time (milliseconds since 1970) on, oldest first.


# --- commands ---------------------------------------------------------------
class Greet(Payload):
    """Ask who is there; needs no session."""

    id: Id


class Hello(Payload):
    """Begin a session, or take it up again after a reconnect or a restart of the broker."""

    id: Id
    nick: Nick
    owner: Owner  # The person's secret: sessions that share it may share a nick.
    instance: Id  # Drawn at random by each process: tells a resume from a stolen token.
    number: Number  # The lowest number of a SEND that is not acknowledged yet.


class IdOnly(Payload):
    """The first field of any command."""

    id: Id


class Bye(Payload):
    """End the session at once, without a grace period."""

    id: Id


class SetNick(Payload):
    """Take another nick."""

    id: Id
    nick: Nick


class Join(Payload):
    """Become a member of a room; makes the room where there is none."""

    id: Id
    room: Room
    resume: bool = False  # A member before a reconnect or restart: not announced again.
    epoch: Id = 0  # With `resume`: of the log, and the newest seq that one knows to be in it.
    head: Id = 0
    birth: Id = 0  # With `resume`: of the room that one was in, as JOINED told it.


class Part(Payload):
    """Leave a room."""

    id: Id
    room: Room


class Draft(Payload):
    """Texts to say in one room: what becomes a `Post`."""

    room: Room
    kind: Kind
    texts: Texts


class Send(Payload):
    """Say up to limits.SEND_TEXTS_MAX texts in rooms; `number` rises by one with each SEND."""

    number: Number
    posts: Annotated[list[Draft], Meta(min_length=1, max_length=limits.SEND_POSTS_MAX)]


class Who(Payload):
    """Ask for the users of a room."""

    id: Id
    room: Room


class Rooms(Payload):
    """Ask for the rooms after a name, in order of their names."""

    id: Id
    after: Annotated[str, Meta(max_length=4 * limits.ROOM_CHARS_MAX)] = ""


class History(Payload):
    """Ask for entries of a room, on the history endpoint."""

    id: Id
    room: Room
    ticket: Key
    mode: Mode
    at: Id  # A seq for AFTER and BEFORE, milliseconds since 1970 for SINCE.
    limit: Limit


# --- replies ----------------------------------------------------------------
class Greeting(Payload):
    """Who is there, and where its other two endpoints are on the same host."""

    id: int
    program: str  # The broker's version.
    protocol: int
    rooms_port: int
    history_port: int
    epoch: int
    uptime_s: int
    clients: int
    clients_max: int
    rooms: int
    pyzmq: str
    libzmq: str
    entries: int = 0  # Committed since the start.
    refused: int = 0  # Messages and subscriptions refused since the start.
    log_failures: int = 0  # Commits that failed since the start.
    restarts: int = 0  # Of the live process, since the broker was started.


class Welcome(Payload):
    """The session stands."""

    id: int
    nick: str
    resumed: bool  # The broker still knew the session and its rooms.
    motd: str


class Goodbye(Payload):
    """The session ended."""

    id: int


class Renamed(Payload):
    """The nick from here on."""

    id: int
    nick: str


class Joined(Payload):
    """Everything that a member needs: subscription, ticket, state of log and presence."""

    id: int
    room: str  # The room's only spelling.
    subscription: bytes
    ticket: bytes
    epoch: int
    first: int  # The oldest entry that the log still has; head + 1 when it has none.
    head: int  # The newest entry; 0 when there was none ever.
    topic: str
    version: int
    users: int
    nicks: list[str] | None  # None above limits.PRESENCE_NAMES_MAX users.
    title: str = ""  # What people call a closed room; empty for others.
    role: int = 0  # One's own, `order.Role`.
    slow_s: int = 0  # Between two texts of one person.
    topic_by: int = 0  # The lowest role that may set the topic.
    removed: list[int] | None = None  # Seqs of texts that were removed lately; None: of none.
    birth: int = 0  # Which of all rooms that ever had this name; 0: not known.


class Parted(Payload):
    """No longer a member."""

    id: int
    room: str


class Place(Payload):
    """Where a post of a SEND was kept: its texts are in the log at first, first + 1, ..."""

    first: int  # 0 where the post was not kept: `code` says why.
    ts: int  # Milliseconds since 1970, the broker's clock; where it was not kept those to wait.
    code: str = ""


class Ack(Payload):
    """The SEND is in the log: each of its posts that could be kept."""

    number: int
    kept: list[Place]  # One for each post of the SEND, in their order.


class Members(Payload):
    """The users of a room at this version."""

    id: int
    room: str
    version: int
    users: int
    nicks: list[str]


class RoomInfo(Payload):
    """One line of a ROOM_LIST."""

    room: str
    users: int
    head: int
    topic: str


class RoomList(Payload):
    """Rooms in order of their names."""

    id: int
    rooms: list[RoomInfo]
    more: bool


class Page(Payload):
    """The head of a HISTORY answer; the batches follow, a frame each."""

    id: int
    room: str
    epoch: int
    first: int
    head: int
    more: bool  # There are further entries in the direction of reading.


class Error(Payload):
    """A command was refused. `id` is 0 where it could not be read."""

    id: int
    code: str
    detail: str
    survives: bool
    value: int = 0  # GAP: the number expected. SLOW_DOWN: milliseconds. BAD_VERSION: ours.


# --- publications -----------------------------------------------------------
class Post(Payload):
    """Texts that one sender said at once; each text is an entry with a seq of its own."""

    ts: int
    nick: str
    kind: int
    texts: list[str]


class Batch(Payload, tag=1):
    """Consecutive entries of a room, or none: then it is a head beacon."""

    room: str
    epoch: int
    prev: int  # The last seq before this batch.
    first: int  # The seq of the first text; texts count on from it.
    posts: list[Post]


class Changes(Payload):
    """Who came and went since the previous version."""

    joined: list[str]
    left: list[str]
    renamed: list[tuple[str, str]]
    returned: list[str]  # There again after a restart: not news.


class Presence(Payload, tag=2):
    """The users of a room changed from version `prev` to `version`."""

    room: str
    prev: int
    version: int
    users: int
    changes: Changes | None  # None above limits.PRESENCE_NAMES_MAX users.


class Notice(Payload, tag=3):
    """A word from the broker to one session, on its inbox topic."""

    code: str  # PROTOCOL.md, "NOTICE".
    room: str = ""
    title: str = ""  # Of the room, where it has one.
    nick: str = ""  # Who did it, or whom it is about.
    text: str = ""  # The reason, or what is announced.
    value: int = 0


Publication = Batch | Presence | Notice | order.Removed

COMMANDS: Final[dict[int, type[Payload]]] = {
    Command.GREET: Greet,
    Command.HELLO: Hello,
    Command.BYE: Bye,
    Command.NICK: SetNick,
    Command.JOIN: Join,
    Command.PART: Part,
    Command.SEND: Send,
    Command.WHO: Who,
    Command.ROOMS: Rooms,
    Command.HISTORY: History,
    Command.ORDER: order.Order,
    Command.TALK: order.Talk,
    Command.MINE: order.Mine,
    Command.READ: order.Read,
    Command.ADMIN: order.Admin,
}
REPLIES: Final[dict[int, type[Payload]]] = {
    Reply.GREETING: Greeting,
    Reply.WELCOME: Welcome,
    Reply.GOODBYE: Goodbye,
    Reply.RENAMED: Renamed,
    Reply.JOINED: Joined,
    Reply.PARTED: Parted,
    Reply.ACK: Ack,
    Reply.MEMBERS: Members,
    Reply.ROOM_LIST: RoomList,
    Reply.PAGE: Page,
    Reply.DONE: order.Done,
    Reply.MY_ROOMS: order.MyRooms,
    Reply.INTRODUCTION: order.Introduction,
    Reply.TABLE: order.Table,
    Reply.ERROR: Error,
}
assert set(COMMANDS) == set(Command)
assert set(REPLIES) == set(Reply)

COMMAND_CODES: Final = {schema: bytes([code]) for code, schema in COMMANDS.items()}
REPLY_HEADS: Final = {schema: MAGIC + bytes([code]) for code, schema in REPLIES.items()}

encode: Final = msgspec.msgpack.Encoder().encode
decode_batch: Final = msgspec.msgpack.Decoder(Batch).decode
_decode_publication: Final[Callable[[bytes], Publication]] = msgspec.msgpack.Decoder(
    Publication
).decode
_decode_reply: Final = {
    code: msgspec.msgpack.Decoder(schema).decode for code, schema in REPLIES.items()
}

_decode_id: Final = msgspec.msgpack.Decoder(IdOnly).decode

# What a typed decoder raises on hostile bytes: MessagePack, types, bounds, UTF-8, nesting.
DECODE_ERRORS: Final = (msgspec.MsgspecError, UnicodeDecodeError, RecursionError, ValueError)


def command_frames(token: bytes, command: Payload) -> list[bytes]:
    """Return the two frames of a client's message."""
    return [MAGIC + COMMAND_CODES[type(command)] + token, encode(command)]


def reply_frames(reply: Payload) -> list[bytes]:
    """Return the two frames of the broker's answer."""
    return [REPLY_HEADS[type(reply)], encode(reply)]


def open_command(frames: list[bytes]) -> tuple[int, bytes, bytes]:
    """Split a client's message into command, token and payload; raise `Refused`."""
    if len(frames) == limits.COMMAND_FRAMES:
        head, payload = frames
        if len(head) == HEAD_BYTES and head.startswith(MAGIC):
            return head[4], head[5:], payload
    raise _bad_frames(frames)


def _bad_frames(frames: list[bytes]) -> Refused:
    """Return what is wrong with a message that does not begin as one does."""
    if len(frames) != limits.COMMAND_FRAMES:
        return Refused(Code.BAD_FRAMES, f"a message has 2 frames, not {len(frames)}")
    head = frames[0]
    if head[:3] != MAGIC[:3] or len(head) < len(MAGIC):
        return Refused(Code.BAD_FRAMES, "the first frame begins with HUB and a version")
    if head[3] != limits.PROTOCOL_VERSION:
        ours = limits.PROTOCOL_VERSION
        return Refused(Code.BAD_VERSION, versions_text(client=head[3], broker=ours), ours)
    return Refused(Code.BAD_FRAMES, f"the first frame has {HEAD_BYTES} bytes")


def other_version(broker: int) -> Error:
    """Return what a client tells its program of a broker of another version."""
    text = versions_text(client=limits.PROTOCOL_VERSION, broker=broker)
    return Error(0, Code.BAD_VERSION, text, survives=False, value=broker)


def salvage_id(payload: bytes) -> int:
    """Return the first field of a payload that cannot be read otherwise; 0 at worst."""
    try:
        return _decode_id(payload).id
    except DECODE_ERRORS:
        return 0


def refusal_frames(request_id: int, refusal: Refused) -> list[bytes]:
    """Return the ERROR that tells a refusal."""
    survives = refusal.session_survives
    return reply_frames(Error(request_id, refusal.code, refusal.detail, survives, refusal.value))


def parse_reply(frames: list[bytes]) -> Payload:
    """Read an answer of the broker; raise `Malformed`. Frames after the second are a page's.

    An answer of another version is read as `bad_version`, whatever it says in that version.
    """
    if len(frames) < limits.COMMAND_FRAMES:
        message = f"an answer of {len(frames)} frames"
        raise Malformed(message)
    head = frames[0]
    decode = _decode_reply.get(head[4]) if len(head) > len(MAGIC) else None
    if head[:3] == MAGIC[:3] and len(head) > len(MAGIC) and head[:4] != MAGIC:
        return other_version(head[3])
    if head[:4] != MAGIC or decode is None:
        message = f"an answer that begins with {head[:8]!r}"
        raise Malformed(message)
    try:
        return decode(frames[1])
    except DECODE_ERRORS as error:
        message = f"an answer that cannot be read: {error}"
        raise Malformed(message) from error


def parse_publication(body: bytes) -> Publication:
    """Read the body of a published frame; raise `Malformed`."""
    try:
        return _decode_publication(body)
    except DECODE_ERRORS as error:
        message = f"a publication that cannot be read: {error}"
        raise Malformed(message) from error
