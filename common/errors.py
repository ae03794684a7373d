"""The exception tree and the error codes of the wire. PROTOCOL.md, "Errors".

    HubbubError
    +-- Refused            somebody said no, with a code from the table below
    |   +-- Untrusted      we said no: the broker is not the one that we know, or not encrypted
    +-- Unreachable        nobody answers at the address, within the time-out
    |   +-- Barred         somebody is there, and no handshake comes about
    +-- Closed             the connection was closed by its own program
    +-- Malformed          bytes from the other side that the protocol does not know

Peer input never meets `assert`: it meets one of these.
"""

from __future__ import annotations

import enum
from typing import NamedTuple


class Code(enum.StrEnum):
    """Why a command was refused. The value is what stands on the wire."""

    BAD_FRAMES = "bad_frames"
    BAD_VERSION = "bad_version"
    BAD_COMMAND = "bad_command"
    BAD_PAYLOAD = "bad_payload"
    NO_SESSION = "no_session"
    SESSION_TAKEN = "session_taken"
    FULL = "full"
    CLOSING = "closing"
    NICK_INVALID = "nick_invalid"
    NICK_TAKEN = "nick_taken"
    ROOM_INVALID = "room_invalid"
    TOO_MANY_ROOMS = "too_many_rooms"
    NOT_MEMBER = "not_member"
    TEXT_INVALID = "text_invalid"
    GAP = "gap"
    NOT_KEPT = "not_kept"
    SLOW_DOWN = "slow_down"
    LOG_FAILED = "log_failed"
    BAD_TICKET = "bad_ticket"
    NOT_ALLOWED = "not_allowed"
    NOT_INVITED = "not_invited"
    NO_SUCH_NICK = "no_such_nick"
    NICK_RESERVED = "nick_reserved"
    FORBIDDEN = "forbidden"
    BANNED = "banned"
    MUTED = "muted"
    SLOW_MODE = "slow_mode"
    TOPIC_CLOSED = "topic_closed"
    TOO_MANY = "too_many"
    DRAINING = "draining"
    RELOAD_FAILED = "reload_failed"


class Meaning(NamedTuple):
    """What a code tells a person, and what becomes of the session."""

    text: str
    session_survives: bool
    exit_status: int  # Of the command line, after sysexits.h: 1, 75 try again, 77 not allowed.


MEANINGS: dict[str, Meaning] = {
    Code.BAD_FRAMES: Meaning("the message has the wrong frames", True, 1),
    Code.BAD_VERSION: Meaning("the broker speaks another version of the protocol", False, 1),
    Code.BAD_COMMAND: Meaning("the broker does not know this command", True, 1),
    Code.BAD_PAYLOAD: Meaning("the payload is not what this command takes", True, 1),
    Code.NO_SESSION: Meaning("there is no such session; say HELLO", False, 75),
    Code.SESSION_TAKEN: Meaning("another process uses this session", False, 77),
    Code.FULL: Meaning("the broker has as many clients as it takes", False, 75),
    Code.CLOSING: Meaning("the broker is closing", False, 75),
    Code.NICK_INVALID: Meaning("this cannot be a nick", True, 77),
    Code.NICK_TAKEN: Meaning("somebody else has this nick", True, 77),
    Code.ROOM_INVALID: Meaning("this cannot be a room", True, 1),
    Code.TOO_MANY_ROOMS: Meaning("no further room can be joined", True, 75),
    Code.NOT_MEMBER: Meaning("join the room first", True, 77),
    Code.TEXT_INVALID: Meaning("this text cannot be sent", True, 1),
    Code.GAP: Meaning("a lower number is missing; send again from there", True, 75),
    Code.NOT_KEPT: Meaning("this number is past and was not kept", True, 1),
    Code.SLOW_DOWN: Meaning("too many messages at once", True, 75),
    Code.LOG_FAILED: Meaning("the broker could not write its log; nothing was kept", True, 75),
    Code.BAD_TICKET: Meaning("this ticket does not open the room's history", True, 77),
    Code.NOT_ALLOWED: Meaning("your key is not on the broker's list", False, 77),
    Code.NOT_INVITED: Meaning("there is no such room, or it is not open to you", True, 77),
    Code.NO_SUCH_NICK: Meaning("nobody of that name is known here", True, 1),
    Code.NICK_RESERVED: Meaning("this name is the operators' own", True, 77),
    Code.FORBIDDEN: Meaning("your role in this room is not enough for that", True, 77),
    Code.BANNED: Meaning("you are banned", True, 77),
    Code.MUTED: Meaning("you are muted in this room", True, 77),
    Code.SLOW_MODE: Meaning("this room is slow: wait before you say more", True, 75),
    Code.TOPIC_CLOSED: Meaning("only others may set this room's topic", True, 77),
    Code.TOO_MANY: Meaning("there are as many of them as can be", True, 75),
    Code.DRAINING: Meaning("the broker is about to be stopped and takes nobody new", False, 75),
    Code.RELOAD_FAILED: Meaning("the settings could not be read again", True, 1),
}
assert set(MEANINGS) == set(Code)
UNKNOWN = Meaning("the broker refused, for a reason that this version does not know", True, 1)


def versions_text(*, client: int, broker: int) -> str:
    """Return a sentence about two versions that differ: who is older, and what to do."""
    older = "broker" if broker < client else "client"
    return (
        f"the client speaks version {client} of the protocol, the broker version {broker}: "
        f"update the {older}, which is older"
    )


class HubbubError(Exception):
    """The root of everything that Hubbub raises on purpose."""


class Refused(HubbubError):
    """A command was refused, with a code; `detail` is for people, `value` for programs."""

    def __init__(self, code: Code | str, detail: str = "", value: int = 0) -> None:
        self.code: str = str(code)
        self.value = value
        known = MEANINGS.get(str(code), UNKNOWN)
        self.detail = detail or known.text
        self.session_survives = known.session_survives
        self.exit_status = known.exit_status
        super().__init__(self.detail)


class Untrusted(Refused):
    """The broker's key is not the one that is known, or it does not encrypt any more."""

    CODE = "untrusted"  # Never on the wire.

    def __init__(self, detail: str) -> None:
        super().__init__(self.CODE, detail)
        self.session_survives = False
        self.exit_status = MEANINGS[Code.NOT_ALLOWED].exit_status


class Unreachable(HubbubError):
    """Nobody answered within the time-out."""


class Barrier(enum.Enum):
    """Why a handshake of ZMTP failed, as far as it tells."""

    NOT_ALLOWED = "the broker does not allow your key"
    OTHER_MECHANISM = "only one of broker and client encrypts"
    FOREIGN = "what answers there is no broker"
    BROKEN_OFF = "the broker breaks off the handshake"  # With CURVE: also at a wrong key.


class Barred(Unreachable):
    """Somebody is there, and no handshake comes about."""

    def __init__(self, barrier: Barrier) -> None:
        self.barrier = barrier
        super().__init__(barrier.value)


class Closed(HubbubError):
    """The connection was closed by its own program."""


class Malformed(HubbubError):
    """Bytes from the other side that the protocol does not know."""
