"""Flask-SocketIO: Socket.IO rooms over WebSocket, as in the second ancestor.

Sources: https://socket.io/docs/v4/engine-io-protocol/ (version 4) and
https://socket.io/docs/v4/socket-io-protocol/ (version 5). In `42["message",...]` the 4 is
Engine.IO's message and the 2 is Socket.IO's event; a number after it asks for an answer.
"""

from __future__ import annotations

import importlib.metadata
import importlib.util
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from bench import websocket
from bench.dialect import Conversation, Dialect, Ear, Say, Unexpected, Voice
from bench.servers import process
from bench.servers.base import NotInstalled
from bench.servers.fixed import AnsweredVoice, FixedEar
from bench.servers.reading import Cut, expect
from bench.target import Target

_PATH: Final = "/socket.io/?EIO=4&transport=websocket"
_PING: Final = b"\x81\x012"  # Frames of the server are not masked.
_PONG: Final = websocket.frame(b"3")
_TAIL: Final = b'"}]'
# Engine.IO's opening packet; before it comes the end of the HTTP response.
_OPENED: Final = re.compile(rb'\r\n\r\n\x81(?s:.{1,3})0\{"sid"[^}]*\}')
_CONNECTED: Final = re.compile(rb'\x81.40\{"sid"[^}]*\}', re.DOTALL)
_JOINED: Final = re.compile(rb"\x81.430\[\]", re.DOTALL)
_REFUSED: Final = re.compile(rb"HTTP/1\.[01] [2-5]\d\d[^\r\n]*\r\n|\x81.4[14]|\x88[\0-\x7d]")
_PING_OR_CLOSE: Final = re.compile(rb"\x81\x012|\x88[\0-\x7d]")


def _connect(host: str) -> Conversation[bytes]:
    says = [Say(0, websocket.upgrade(host, _PATH))]
    yield from expect(says, _OPENED, _REFUSED)
    _, rest = yield from expect([Say(0, websocket.frame(b"40"))], _CONNECTED, _REFUSED)
    return rest


def event(room: str) -> bytes:
    """Return a message event up to its text."""
    return f'42["message",{{"room":"{room}","text":"'.encode()


class SocketIoEar(FixedEar):
    """Hears one room's messages; answers PING."""

    def other(self, pending: bytes) -> int:
        """Take a PING in between."""
        if pending.startswith(_PING):
            self.answer(_PONG)
            return len(_PING)
        return 0 if _PING.startswith(pending) else super().other(pending)


class SocketIoVoice(AnsweredVoice):
    """Emits messages to rooms; answers PING with its next message."""

    def settle(self, match: re.Match[bytes]) -> int:
        """Take a PING."""
        if match[0] != _PING:
            raise Unexpected("the server closed the WebSocket")
        self.answer(_PONG)
        return 0


class SocketIoDialect:
    """WebSocket, Engine.IO 4, Socket.IO 5."""

    channels: tuple[int, ...] = (0,)
    acknowledges = False
    # One that nobody asked for is forgotten, so that it may also answer a PING that nobody read.
    keepalive: tuple[Say, ...] = (Say(0, _PONG),)
    is_same_for_all = True
    ping = _PING

    def __init__(self, target: Target) -> None:
        self._host = f"{target.host}:{target.ports[0]}"
        self.text_bytes = target.text_bytes

    def join(self, index: int, room: str) -> Conversation[Ear]:  # noqa: ARG002
        """Connect and join the room, which the server answers."""
        yield from _connect(self._host)
        says = [Say(0, websocket.frame(f'420["join",{{"room":"{room}"}}]'.encode()))]
        _, rest = yield from expect(says, _JOINED, _REFUSED)
        head = self._head(room, is_masked=False)
        return SocketIoEar(0, head, self.text_bytes, _TAIL, pending=rest)

    def speak(self, index: int, rooms: list[str]) -> Conversation[Voice]:  # noqa: ARG002
        """Connect: anybody may send to any room."""
        rest = yield from _connect(self._host)
        heads = [self._head(room, is_masked=True) for room in rooms]
        return SocketIoVoice(0, heads, _TAIL, Cut(_PING_OR_CLOSE, rest))

    def _head(self, room: str, *, is_masked: bool) -> bytes:
        size = len(event(room)) + self.text_bytes + len(_TAIL)
        return websocket.head(size, is_masked=is_masked) + event(room)


class SocketIoServer:
    """`bench.servers.socketio_app` in a process of its own."""

    name = "socketio"
    is_durable = False
    is_peer = True
    has_rooms = True

    @contextmanager
    def start(self, folder: Path, text_bytes: int) -> Iterator[Target]:
        """Start it."""
        for module in ("flask_socketio", "simple_websocket"):
            if importlib.util.find_spec(module) is None:
                raise NotInstalled(f"{module} is not installed: it is in the extra named bench")
        port = process.free_port()
        target = process.local_target(
            self,
            [port],
            text_bytes,
            version=importlib.metadata.version("flask-socketio"),
            settings=[
                "async_mode threading",
                "async_handlers False (keeps each sender's order)",
                "allow_unsafe_werkzeug True",
                "no request log",
            ],
        )
        command = process.module_command("bench.servers.socketio_app", str(port))
        with process.serving(self, command, folder, target) as served:
            yield served

    def dialect(self, target: Target) -> Dialect:
        """Return what it speaks."""
        return SocketIoDialect(target)


SERVER = SocketIoServer()
