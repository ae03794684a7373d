"""A thread-per-client TCP server, as in the first ancestor: everybody hears everything.

Talkers are clients like the others, so they hear everything too.
"""

from __future__ import annotations

import platform
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from bench.dialect import Conversation, Dialect, Ear, Say, Voice
from bench.servers import process
from bench.servers.fixed import FixedEar, FixedVoice
from bench.servers.reading import expect
from bench.target import Target

_NEVER: Final = re.compile(rb"(?!)")


def nick(kind: str, index: int) -> str:
    """Return the nick of a member (m) or talker (t); all are of one length."""
    return f"{kind}{index:07x}"


def _log_in(name: str) -> Conversation[bytes]:
    welcome = re.compile(f"welcome {name}\n".encode())
    _, rest = yield from expect([Say(0, f"{name}\n".encode())], welcome, _NEVER)
    return rest


class ThreadsDialect:
    """Lines; the first one is the nick."""

    channels: tuple[int, ...] = (0,)
    acknowledges = False
    keepalive: tuple[Say, ...] = ()
    is_same_for_all = True
    ping = b""

    def __init__(self, target: Target) -> None:
        self.text_bytes = target.text_bytes

    def join(self, index: int, room: str) -> Conversation[Ear]:  # noqa: ARG002 - no rooms
        """Say who it is."""
        rest = yield from _log_in(nick("m", index))
        head = f"{nick('t', 0)}: ".encode()
        varies = slice(1, len(nick("t", 0)))
        return FixedEar(0, head, self.text_bytes, b"\n", varies=varies, pending=rest)

    def speak(self, index: int, rooms: list[str]) -> Conversation[Voice]:
        """Say who it is."""
        yield from _log_in(nick("t", index))
        return FixedVoice(0, [b""] * len(rooms), b"\n")


class ThreadsServer:
    """`bench.servers.threads_server` in a process of its own."""

    name = "threads"
    is_durable = False
    is_peer = True
    has_rooms = False

    @contextmanager
    def start(self, folder: Path, text_bytes: int) -> Iterator[Target]:
        """Start it."""
        port = process.free_port()
        target = process.local_target(
            self,
            [port],
            text_bytes,
            version=f"Python {platform.python_version()}",
            settings=["no rooms"],
        )
        command = process.module_command("bench.servers.threads_server", str(port))
        with process.serving(self, command, folder, target) as served:
            yield served

    def dialect(self, target: Target) -> Dialect:
        """Return what it speaks."""
        return ThreadsDialect(target)


SERVER = ThreadsServer()
