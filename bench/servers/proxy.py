"""A bare libzmq XSUB/XPUB proxy: what the transport alone can do.

A message is one frame, `room NUL text`. Every client has a PUB and a SUB connection, as somebody
who talks and listens would.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

import zmq

from bench import zmtp
from bench.dialect import Conversation, Dialect, Ear, Heard, Say, Voice
from bench.servers import process
from bench.servers.fixed import FixedEar, FixedVoice
from bench.target import Target

_PUB: Final = 0
_SUB: Final = 1


def topic(room: str) -> bytes:
    """Return what every message of a room begins with."""
    return room.encode() + b"\0"


def message_head(room: str, text_bytes: int) -> bytes:
    """Return a message up to its text."""
    return zmtp.head(len(topic(room)) + text_bytes) + topic(room)


def _connect() -> Conversation[dict[int, zmtp.Frames]]:
    return zmtp.shake_hands({_PUB: b"PUB", _SUB: b"SUB"})


class ProxyDialect:
    """ZMTP 3.0."""

    channels: tuple[int, ...] = (0, 1)
    acknowledges = False
    keepalive: tuple[Say, ...] = ()  # libzmq sends no heartbeats unless told to.
    is_same_for_all = True
    ping = b""

    def __init__(self, target: Target) -> None:
        self.text_bytes = target.text_bytes

    def join(self, index: int, room: str) -> Conversation[Ear]:  # noqa: ARG002
        """Subscribe.

        A subscription is not answered, but a PING behind it is, by the thread that hands on both
        the subscription and, in front of the proxy, every message that comes after it.
        """
        links = yield from _connect()
        frames = links[_SUB]
        says = [Say(_SUB, zmtp.subscribe(topic(room)) + zmtp.ping())]
        while not frames.pongs:
            heard: Heard = yield says
            says = []
            if heard.channel == _SUB:
                frames.feed(heard.data)
        head = message_head(room, self.text_bytes)
        return FixedEar(_SUB, head, self.text_bytes, pending=frames.take_rest())

    def speak(self, index: int, rooms: list[str]) -> Conversation[Voice]:  # noqa: ARG002
        """Connect. Subscriptions come on the same connection; the proxy drops what nobody hears."""
        yield from _connect()
        return FixedVoice(_PUB, [message_head(room, self.text_bytes) for room in rooms])


class ProxyServer:
    """`bench.servers.proxy_server` in a process of its own."""

    name = "proxy"
    is_durable = False
    is_peer = True
    has_rooms = True

    @contextmanager
    def start(self, folder: Path, text_bytes: int) -> Iterator[Target]:
        """Start it."""
        port = process.free_port()
        target = process.local_target(
            self,
            [port, port + 1],
            text_bytes,
            version=f"libzmq {zmq.zmq_version()}",
            settings=["none (SNDHWM and RCVHWM 1000)"],
        )
        command = process.module_command("bench.servers.proxy_server", str(port))
        with process.serving(self, command, folder, target) as served:
            yield served

    def dialect(self, target: Target) -> Dialect:
        """Return what it speaks."""
        return ProxyDialect(target)


SERVER = ProxyServer()
