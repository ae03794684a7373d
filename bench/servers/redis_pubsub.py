"""Redis pub/sub: a channel per room, nothing kept.

PUBLISH is answered with how many heard it, which counts as an acknowledgement.
"""

from __future__ import annotations

import re
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Final

from bench.dialect import Conversation, Dialect, Ear, Say, Voice
from bench.servers import redis
from bench.servers.fixed import FixedEar
from bench.servers.reading import Cut, expect
from bench.target import Target

_PONG: Final = re.compile(rb"\+PONG\r\n")
_SUBSCRIBED: Final = re.compile(rb"\*3\r\n\$9\r\nsubscribe\r\n\$\d+\r\n[^\r\n]*\r\n:1\r\n")
_RECEIVERS: Final = re.compile(rb":\d+\r\n|-[^\r\n]*\r\n")


class PubSubDialect:
    """RESP2 with SUBSCRIBE and PUBLISH."""

    channels: tuple[int, ...] = (0,)
    acknowledges = True
    keepalive: tuple[Say, ...] = ()  # As it ships, the server waits for ever.
    is_same_for_all = True
    ping = b""

    def __init__(self, target: Target) -> None:
        self.text_bytes = target.text_bytes

    def join(self, index: int, room: str) -> Conversation[Ear]:  # noqa: ARG002
        """Subscribe."""
        says = [Say(0, redis.command("SUBSCRIBE", room))]
        _, rest = yield from expect(says, _SUBSCRIBED, redis.REFUSAL)
        head = redis.command_head("message", room, text_bytes=self.text_bytes)
        return FixedEar(0, head, self.text_bytes, b"\r\n", pending=rest)

    def speak(self, index: int, rooms: list[str]) -> Conversation[Voice]:  # noqa: ARG002
        """Make sure that the server answers."""
        _, rest = yield from expect([Say(0, redis.command("PING"))], _PONG, redis.REFUSAL)
        heads = [redis.command_head("PUBLISH", r, text_bytes=self.text_bytes) for r in rooms]
        return redis.RedisVoice(0, heads, b"\r\n", Cut(_RECEIVERS, rest))


class PubSubServer:
    """redis-server without snapshots, which pub/sub does not need."""

    name = "redis_pubsub"
    is_durable = False
    is_peer = True
    has_rooms = True

    def start(self, folder: Path, text_bytes: int) -> AbstractContextManager[Target]:
        """Start it."""
        return redis.serving(self, folder, text_bytes, {"save": ""})

    def dialect(self, target: Target) -> Dialect:
        """Return what it speaks."""
        return PubSubDialect(target)


SERVER = PubSubServer()
