"""What the generator must know of a server's protocol. No I/O: bytes in, bytes out.

The generator owns every socket and every clock; a dialect only says what to write and what the
bytes that came mean. So one driver, with one way of counting, measures every server.

A text is `text.TEXT_BYTES_MIN` bytes of ASCII or more, and in one run all have the same size.
"""

from __future__ import annotations

from collections.abc import Generator, Sequence
from typing import NamedTuple, Protocol, TypeVar, runtime_checkable

import msgspec

T = TypeVar("T")


class Say(NamedTuple):
    """Bytes to write on one of a client's connections."""

    channel: int  # Index into `Dialect.channels`.
    data: bytes


class Heard(NamedTuple):
    """Bytes that came on one of a client's connections, as TCP cut them."""

    channel: int
    data: bytes


# Texts of one size, one after the other, for one room: its index in `Dialect.speak`, the texts, and
# how many there are.
Post = tuple[int, bytes, int]

# A client's way from fresh TCP connections to its place, written as a generator: it yields what
# to say (perhaps nothing), is sent what was heard next, and returns what it has become. It raises
# `Unexpected` when the server answers otherwise than it should.
Conversation = Generator[list[Say], Heard, T]


class Unexpected(Exception):
    """The server said something that the dialect does not expect here; the message quotes it."""


class Ear(Protocol):
    """A client that is a member of one room and hears it.

    `stride` is how many bytes a message takes on the wire when that is always the same, so that
    messages can be counted in the kernel without being read; None when it varies.
    """

    channel: int  # The connection that brings the messages.
    stride: int | None

    def feed(self, data: bytes) -> int:
        """Take bytes as they came; return how many more messages are whole now."""

    def take_texts(self) -> bytes:
        """Return and forget the texts heard since the last call, one after the other."""

    def take_says(self) -> list[Say]:
        """Return what must be said in answer, such as PONG; mostly nothing."""


class Voice(Protocol):
    """A client that sends to one or more rooms."""

    def free(self) -> int:
        """Return how many texts the protocol's own window lets out now; a large number if any."""

    def say(self, posts: Sequence[Post]) -> list[Say]:
        """Return what sends these texts, all of one size, in one go."""

    def feed(self, heard: Heard) -> list[int]:
        """Take bytes that came; return how many texts each acknowledgement in them settles.

        Empty for servers that acknowledge nothing. Acknowledgements come in the order of sending.
        """


class Patience(msgspec.Struct):
    """How often a voice was told to slow down."""

    refusals: int = 0
    untimed: int = 0  # Of these: without a time to wait.
    wait_ms_max: int = 0  # The longest time that was told.


@runtime_checkable
class PatientVoice(Voice, Protocol):
    """A voice that waits when the server refuses for a while, and says it again."""

    patience: Patience

    def due(self, now_s: float) -> list[Say]:
        """Return what is to be said again now; mostly nothing."""


class Dialect(Protocol):
    """One server's protocol; made anew in the generator's process, by name."""

    channels: tuple[int, ...]  # For each connection of a client: index into `Target.ports`.
    acknowledges: bool  # Whether `Voice.feed` ever returns anything.
    # Whether all members of a room are sent the same bytes, whatever they say (but for pings): then
    # a sample of them is read, and the others' bytes are compared with it.
    is_same_for_all: bool
    # What a drained client says every few seconds, and others in answer to a ping; on the ear's
    # channel, as the ping.
    keepalive: tuple[Say, ...]
    ping: bytes  # What the server asks of a client that is silent; b"" for nothing.

    def join(self, index: int, room: str) -> Conversation[Ear]:
        """Converse until client `index` hears the room."""

    def speak(self, index: int, rooms: list[str]) -> Conversation[Voice]:
        """Converse until talker `index` can send to these rooms. Indices are its own, from 0."""
