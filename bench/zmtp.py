"""ZMTP 3.0 by bytes: just enough to stand in for a libzmq socket that has no security. No I/O.

What stands between this and a peer that wants CURVE is `bench.curve`.

Source: RFC 23/ZMTP (https://rfc.zeromq.org/spec/23/); PING and PONG are from 37/ZMTP, and libzmq
answers them whatever minor version a peer has announced.
"""

from __future__ import annotations

from typing import Final

from bench.dialect import Conversation, Heard, Say, Unexpected

MORE: Final = 1  # Flags of a frame.
_LONG: Final = 2
COMMAND: Final = 4
_SHORT_BYTES_MAX: Final = 255
GREETING_BYTES: Final = 64
_VERSION_AT: Final = 10
_MECHANISM: Final = slice(12, 32)
_MAJOR_MIN: Final = 3
_MECHANISM_BYTES: Final = 20
_SIGNATURE: Final = b"\xff" + bytes(8) + b"\x7f"
_PING_CONTEXT_AT: Final = 7  # After the name and two bytes of time to live.

FRAME_BYTES_MAX: Final = 1 << 24  # Far above what any server here sends at once.
PARTS_MAX: Final = 8_192  # A page of history has a frame for each batch, 4,096 at most.

NULL: Final = b"NULL"  # Mechanisms.
CURVE: Final = b"CURVE"
READY: Final = b"\5READY"  # What a connection is open with.


def greeting(mechanism: bytes) -> bytes:
    """Return the 64 bytes with which a client begins that wants this security."""
    named = mechanism.ljust(_MECHANISM_BYTES, b"\0")
    return (_SIGNATURE + b"\x03\x00" + named).ljust(GREETING_BYTES, b"\0")


def check_greeting(data: bytes, mechanism: bytes) -> None:
    """Raise `Unexpected` unless these 64 bytes are of ZMTP 3 and of this security."""
    if data[0] != _SIGNATURE[0] or data[_VERSION_AT] < _MAJOR_MIN:
        raise Unexpected(f"not a greeting of ZMTP 3: {data!r}")
    wanted = data[_MECHANISM].rstrip(b"\0")
    if wanted != mechanism:
        raise Unexpected(f"the peer's security is {wanted!r}, not {mechanism!r}")


def frame_at(pending: bytearray, at: int, bytes_max: int) -> tuple[int, int, int] | None:
    """Return flags, start and end of the frame at this place, or None if it is not whole.

    Raises `Unexpected` when it breaks the bound, or is none.
    """
    if len(pending) < at + 2:
        return None
    flags = pending[at]
    if flags & ~(MORE | _LONG | COMMAND):
        raise Unexpected(f"reserved flags in a frame: {bytes(pending[at : at + 32])!r}")
    if flags & _LONG:
        start = at + 9
        if len(pending) < start:
            return None
        size = int.from_bytes(pending[at + 1 : start], "big")
    else:
        start = at + 2
        size = pending[at + 1]
    if size > bytes_max:
        raise Unexpected(f"a frame of {size} bytes; at most {bytes_max} are read")
    return (flags, start, start + size) if len(pending) >= start + size else None


def head(size: int, *, more: bool = False, flags: int = 0) -> bytes:
    """Return what stands before a frame of `size` bytes."""
    flags |= MORE if more else 0
    if size > _SHORT_BYTES_MAX:
        return bytes((flags | _LONG,)) + size.to_bytes(8, "big")
    return bytes((flags, size))


def message(*parts: bytes) -> bytes:
    """Return a message of one or more frames."""
    last = len(parts) - 1
    return b"".join(head(len(p), more=at < last) + p for at, p in enumerate(parts))


def subscribe(topic: bytes) -> bytes:
    """Return what a SUB socket says to hear every message that begins with `topic`."""
    return message(b"\1" + topic)


def unsubscribe(topic: bytes) -> bytes:
    """Return what a SUB socket says to undo a `subscribe`."""
    return message(b"\0" + topic)


def ping(context: bytes = b"") -> bytes:
    """Return a PING that libzmq answers with a PONG of the same context, 16 bytes at most."""
    return command(b"\4PING\0\0" + context)  # No time to live: the peer sets no timer for us.


def pong() -> bytes:
    """Return a PONG that nobody asked for: a sign of life."""
    return command(b"\4PONG")


def opening(socket_type: bytes) -> bytes:
    """Return the greeting and READY of a socket of this type, such as `b"SUB"`.

    Both may go at once. What follows them must wait for the other side's READY: libzmq closes some
    connections whose first message comes with it.
    """
    name = b"Socket-Type"
    value = len(socket_type).to_bytes(4, "big") + socket_type
    return greeting(NULL) + command(READY + bytes((len(name),)) + name + value)


def command(body: bytes) -> bytes:
    """Return a command: its name, with its length before it, and what it says."""
    return head(len(body), flags=COMMAND) + body


class Frames:
    """Cuts what comes from a peer, its greeting first, into messages."""

    def __init__(self, frame_bytes_max: int = FRAME_BYTES_MAX) -> None:
        self.is_ready = False  # The peer has said READY.
        self.pongs = 0  # How many of our PINGs it has answered.
        self._frame_bytes_max = frame_bytes_max
        self._pending = bytearray()
        self._is_greeted = False
        self._parts: list[bytes] = []
        self._answers = b""

    def feed(self, data: bytes) -> list[list[bytes]]:
        """Take bytes as they came; return the messages that are whole now, each as its frames.

        Raises `Unexpected` when they are no ZMTP 3, want security, or break a bound.
        """
        self._pending += data
        if not self._is_greeted:
            if len(self._pending) < GREETING_BYTES:
                return []
            self._is_greeted = True
            check_greeting(bytes(self._pending[:GREETING_BYTES]), NULL)
            del self._pending[:GREETING_BYTES]
        messages: list[list[bytes]] = []
        at = 0
        while (cut := frame_at(self._pending, at, self._frame_bytes_max)) is not None:
            flags, start, at = cut
            self._take(flags, bytes(self._pending[start:at]), messages)
        del self._pending[:at]
        return messages

    def take_answers(self) -> bytes:
        """Return and forget the PONGs that must be written."""
        answers, self._answers = self._answers, b""
        return answers

    def take_rest(self) -> bytes:
        """Return and forget the bytes of a frame that is not whole: somebody else reads on."""
        rest = bytes(self._pending)
        self._pending.clear()
        return rest

    def _take(self, flags: int, body: bytes, messages: list[list[bytes]]) -> None:
        if flags & COMMAND:
            self._obey(body)
            return
        self._parts.append(body)
        if len(self._parts) > PARTS_MAX:
            raise Unexpected(f"a message of more than {PARTS_MAX} frames")
        if not flags & MORE:
            messages.append(self._parts)
            self._parts = []

    def _obey(self, body: bytes) -> None:
        if body.startswith(b"\4PING"):
            self._answers += command(b"\4PONG" + body[_PING_CONTEXT_AT:])
        elif body.startswith(b"\4PONG"):
            self.pongs += 1
        elif body.startswith(READY):
            self.is_ready = True
        else:  # ERROR, or something for a mechanism that we did not offer.
            raise Unexpected(f"the peer says {body!r}")


def shake_hands(socket_types: dict[int, bytes]) -> Conversation[dict[int, Frames]]:
    """Converse on these channels, each as a socket of its type, until every peer is ready.

    A peer's first messages may come with its READY: they are dropped. Only PUB sees such, the
    subscriptions, and it may send without having seen them.
    """
    links = {channel: Frames() for channel in socket_types}
    says = [Say(channel, opening(kind)) for channel, kind in socket_types.items()]
    while not all(link.is_ready for link in links.values()):
        heard: Heard = yield says
        link = links[heard.channel]
        link.feed(heard.data)
        answer = link.take_answers()
        says = [Say(heard.channel, answer)] if answer else []
    return links
