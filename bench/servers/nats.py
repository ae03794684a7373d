"""NATS core: subjects `r.<room>`, at most once, nothing kept.

Source: https://docs.nats.io/reference/reference-protocols/nats-protocol
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from bench.dialect import Conversation, Dialect, Ear, Say, Unexpected, Voice
from bench.servers import process
from bench.servers.fixed import AnsweredVoice, FixedEar
from bench.servers.reading import Cut, expect
from bench.target import Target

PING: Final = b"PING\r\n"
PONG: Final = b"PONG\r\n"
REFUSAL: Final = re.compile(rb"-ERR [^\r\n]*\r\n")
# What the server may say to any client at any time.
OTHER: Final = rb"PING\r\n|PONG\r\n|INFO [^\r\n]*\r\n|-ERR [^\r\n]*\r\n"
_OTHER: Final = re.compile(OTHER)
_INFO: Final = re.compile(rb"INFO [^\r\n]*\r\n")
_PONG: Final = re.compile(PONG)
# As the client libraries say it, but for protocol 1, with which the server sends another INFO
# some time after it has answered. `no_responders` tells a publisher that nobody stores.
_OPTIONS: Final = {
    "verbose": False,
    "pedantic": False,
    "lang": "hubbub-bench",
    "version": "1",
    "protocol": 0,
    "headers": True,
    "no_responders": True,
}
CONNECT: Final = b"CONNECT " + json.dumps(_OPTIONS).encode() + b"\r\n"


def subject(room: str) -> str:
    """Return the subject of a room."""
    return f"r.{room}"


def connect(*commands: str) -> Conversation[bytes]:
    """Log in, give commands that are not answered, and wait until the server has read them.

    Returns what it said after that.
    """
    yield from expect([], _INFO, REFUSAL)
    lines = "".join(f"{command}\r\n" for command in commands).encode()
    _, rest = yield from expect([Say(0, CONNECT + lines + PING)], _PONG, REFUSAL)
    return rest


def answer_to(said: bytes) -> bytes:
    """Return what to answer to something that matches `OTHER`; raise `Unexpected` at an error."""
    if said.startswith(b"-ERR"):
        raise Unexpected(f"the server said {said!r}")
    return PONG if said == PING else b""


class NatsEar(FixedEar):
    """Hears messages of one subject; answers PING."""

    def other(self, pending: bytes) -> int:
        """Take a PING or INFO in between."""
        if match := _OTHER.match(pending):
            if answer := answer_to(match[0]):
                self.answer(answer)
            return match.end()
        if b"\r\n" in pending:
            return super().other(pending)
        return 0


class NatsVoice(AnsweredVoice):
    """Publishes; answers PING with its next message."""

    def settle(self, match: re.Match[bytes]) -> int:
        """Take a PING or INFO."""
        if answer := answer_to(match[0]):
            self.answer(answer)
        return 0


class NatsDialect:
    """The text protocol of NATS."""

    channels: tuple[int, ...] = (0,)
    acknowledges = False
    # A PONG unasked is taken like one that was asked for: it settles a PING nobody has read.
    keepalive: tuple[Say, ...] = (Say(0, PONG),)
    is_same_for_all = True
    ping = PING

    def __init__(self, target: Target) -> None:
        self.text_bytes = target.text_bytes

    def join(self, index: int, room: str) -> Conversation[Ear]:  # noqa: ARG002
        """Subscribe."""
        rest = yield from connect(f"SUB {subject(room)} 1")
        head = f"MSG {subject(room)} 1 {self.text_bytes}\r\n".encode()
        return NatsEar(0, head, self.text_bytes, b"\r\n", pending=rest)

    def speak(self, index: int, rooms: list[str]) -> Conversation[Voice]:  # noqa: ARG002
        """Connect: anybody may publish."""
        rest = yield from connect()
        heads = [f"PUB {subject(room)} {self.text_bytes}\r\n".encode() for room in rooms]
        return NatsVoice(0, heads, b"\r\n", Cut(_OTHER, rest))


class NatsServer:
    """nats-server without a configuration file."""

    name = "nats"
    is_durable = False
    is_peer = True
    has_rooms = True

    @contextmanager
    def start(self, folder: Path, text_bytes: int) -> Iterator[Target]:
        """Start it."""
        program, port = process.program("nats-server"), process.free_port()
        target = process.local_target(
            self,
            [port],
            text_bytes,
            version=process.version(program, "--version"),
            settings=[f"addr {process.HOST}"],
        )
        command = [program, "--addr", process.HOST, "--port", str(port)]
        with process.serving(self, command, folder, target) as served:
            yield served

    def dialect(self, target: Target) -> Dialect:
        """Return what it speaks."""
        return NatsDialect(target)


SERVER = NatsServer()
