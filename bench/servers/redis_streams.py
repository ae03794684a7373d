"""Redis Streams: a stream per room, in an append-only file that is synced before each reply.

Members ask with a blocking XREAD for what came after the last id they saw, and ask again with
each answer, as Redis's documentation shows it.
"""

from __future__ import annotations

import re
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Final

from bench.dialect import Conversation, Dialect, Ear, Say, Unexpected, Voice
from bench.servers import redis
from bench.servers.reading import Cut, CutEar, expect
from bench.target import Target

FIELD: Final = "t"
# The newest entry, or nothing when the stream is not there yet.
_NEWEST: Final = re.compile(rb"\*0\r\n|\*1\r\n\*2\r\n\$\d+\r\n(\d+-\d+)\r\n(?s:.*)")
_PONG: Final = re.compile(rb"\+PONG\r\n")
_ID_OR_ERROR: Final = re.compile(rb"\$\d+\r\n\d+-\d+\r\n|-[^\r\n]*\r\n")


def read(room: str, last_id: bytes) -> bytes:
    """Return the command that waits for what comes after an entry."""
    return redis.command("XREAD", "BLOCK", "0", "STREAMS", room, last_id.decode())


class StreamsEar(CutEar):
    """Reads its room's stream, one XREAD after the other."""

    def __init__(self, room: str, text_bytes: int, last_id: bytes, rest: bytes) -> None:
        answer = rb"\*1\r\n\*2\r\n%b\*(\d+)\r\n" % re.escape(redis.bulk(room))
        entry = rb"\*2\r\n\$\d+\r\n(\d+-\d+)\r\n\*2\r\n%b\$%d\r\n(.{%d})\r\n" % (
            re.escape(redis.bulk(FIELD)),
            text_bytes,
            text_bytes,
        )
        pattern = re.compile(answer + b"|" + entry + rb"|-[^\r\n]*\r\n", re.DOTALL)
        super().__init__(0, Cut(pattern, rest), self._take)
        self._room = room
        self._last_id = last_id
        self._left = 0

    def _take(self, match: re.Match[bytes]) -> bytes:
        count, entry_id, text = match.groups()
        if count is not None:
            self._left = int(count)
            return b""
        if text is None:
            raise Unexpected(f"the server said {match[0]!r}")
        self._last_id = entry_id
        self._left -= 1
        if not self._left:
            self.says.append(Say(0, read(self._room, self._last_id)))
        return bytes(text)


class StreamsDialect:
    """RESP2 with XADD and XREAD."""

    channels: tuple[int, ...] = (0,)
    acknowledges = True
    keepalive: tuple[Say, ...] = ()
    is_same_for_all = False  # Each is told where it stands itself.
    ping = b""

    def __init__(self, target: Target) -> None:
        self.text_bytes = target.text_bytes

    def join(self, index: int, room: str) -> Conversation[Ear]:  # noqa: ARG002
        """Find the stream's end and wait for what comes after it."""
        says = [
            Say(0, redis.command("XREVRANGE", room, "+", "-", "COUNT", "1")),
            Say(0, redis.command("PING")),
        ]
        newest = re.compile(b"(?:" + _NEWEST.pattern + b")" + _PONG.pattern)
        found, _ = yield from expect(says, newest, redis.REFUSAL)
        last_id = found[1] or b"0-0"
        # XREAD itself is answered by the first message only. It comes right behind this PING.
        says = [Say(0, redis.command("PING") + read(room, last_id))]
        _, rest = yield from expect(says, _PONG, redis.REFUSAL)
        return StreamsEar(room, self.text_bytes, last_id, rest)

    def speak(self, index: int, rooms: list[str]) -> Conversation[Voice]:  # noqa: ARG002
        """Make sure that the server answers."""
        _, rest = yield from expect([Say(0, redis.command("PING"))], _PONG, redis.REFUSAL)
        heads = [
            redis.command_head("XADD", room, "*", FIELD, text_bytes=self.text_bytes)
            for room in rooms
        ]
        return redis.RedisVoice(0, heads, b"\r\n", Cut(_ID_OR_ERROR, rest))


class StreamsServer:
    """redis-server with an append-only file, every write synced."""

    name = "redis_streams"
    is_durable = True
    is_peer = True
    has_rooms = True

    def start(self, folder: Path, text_bytes: int) -> AbstractContextManager[Target]:
        """Start it."""
        settings = {"appendonly": "yes", "appendfsync": "always"}
        return redis.serving(self, folder, text_bytes, settings)

    def dialect(self, target: Target) -> Dialect:
        """Return what it speaks."""
        return StreamsDialect(target)


SERVER = StreamsServer()
