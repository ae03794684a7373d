"""NATS JetStream: a file stream over all rooms, synced to disk before each acknowledgement.

Source: https://docs.nats.io/reference/reference-protocols/nats_api_reference
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

from bench.dialect import Conversation, Dialect, Ear, Heard, Post, Say, Unexpected, Voice
from bench.servers import process
from bench.servers.nats import OTHER, PING, PONG, REFUSAL, NatsVoice, answer_to, connect, subject
from bench.servers.reach import converse
from bench.servers.reading import Cut, CutEar, expect
from bench.target import Target

STREAM: Final = "ROOMS"
# What the client libraries let out unacknowledged. The server holds 10,000 for all talkers
# together and refuses more, so the sum of the generator's windows must stay below that.
PENDING_MAX: Final = 4_000
_INBOX_ID: Final = 1
_ROOM_ID: Final = 2
# A reply of the API: its subject, subscription and size, then JSON; HMSG says nobody answers.
_REPLY: Final = rb"MSG _INBOX\S* \d+ \d+\r\n([^\r\n]*)\r\n"
_IS_REPLY: Final = re.compile(_REPLY)
_NOBODY: Final = rb"HMSG [^\r\n]*\r\nNATS/1.0 503[^\r\n]*\r\n(?:[^\r\n]+\r\n)*\r\n\r\n"
_REFUSAL: Final = re.compile(REFUSAL.pattern + b"|" + _NOBODY)
_ACKS: Final = re.compile(_REPLY + b"|" + _NOBODY + b"|" + OTHER)


def ask(api: str, request: dict[str, Any], inbox: str) -> Conversation[bytes]:
    """Make a request of the JetStream API; return what came after the reply.

    Raises `Unexpected` when it is refused.
    """
    body = json.dumps(request).encode()
    line = f"PUB $JS.API.{api} {inbox} {len(body)}\r\n".encode()
    reply, rest = yield from expect([Say(0, line + body + b"\r\n")], _IS_REPLY, _REFUSAL)
    if "error" in json.loads(reply[1]):
        raise Unexpected(f"{api} was answered with {reply[1]!r}")
    return rest


def make_stream() -> Conversation[None]:
    """Make the stream that stores every room."""
    inbox = "_INBOX.setup"
    yield from connect(f"SUB {inbox} {_INBOX_ID}")
    stream = {"name": STREAM, "subjects": [subject(">")], "storage": "file", "num_replicas": 1}
    yield from ask(f"STREAM.CREATE.{STREAM}", stream, inbox)


class JetStreamVoice(NatsVoice):
    """Publishes with a reply subject, on which the stream acknowledges each message."""

    def __init__(self, heads: list[bytes], cut: Cut) -> None:
        super().__init__(0, heads, b"\r\n", cut)
        self._pending = 0

    def free(self) -> int:
        """Return how many more may be under way."""
        return PENDING_MAX - self._pending

    def say(self, posts: Sequence[Post]) -> list[Say]:
        """Return what publishes the texts."""
        self._pending += sum(count for _, _, count in posts)
        return super().say(posts)

    def feed(self, heard: Heard) -> list[int]:
        """Take bytes that came; return a 1 for each acknowledgement."""
        settled = super().feed(heard)
        self._pending -= len(settled)
        return settled

    def settle(self, match: re.Match[bytes]) -> int:
        """Check that the stream has stored a message."""
        if match[0].startswith(b"MSG"):
            # Both stand at a fixed place; parsing every JSON would cost more than sending.
            if b'"seq":' not in match[1] or b'"error"' in match[1]:
                raise Unexpected(f"the stream did not store a message: {match[1]!r}")
            return 1
        if match[0].startswith(b"HMSG"):
            raise Unexpected("there is no stream for this subject")
        return super().settle(match)


class JetStreamDialect:
    """NATS with JetStream's requests, acknowledgements and push consumers."""

    channels: tuple[int, ...] = (0,)
    acknowledges = True
    keepalive: tuple[Say, ...] = (Say(0, PONG),)
    is_same_for_all = False  # Each is told where it stands itself.
    ping = PING

    def __init__(self, target: Target) -> None:
        self.text_bytes = target.text_bytes

    def join(self, index: int, room: str) -> Conversation[Ear]:
        """Subscribe, and have a push consumer of the room's new messages made."""
        inbox, own = f"_INBOX.m{index}", f"d.{index}"
        yield from connect(f"SUB {inbox} {_INBOX_ID}", f"SUB {own} {_ROOM_ID}")
        consumer = {
            "deliver_subject": own,
            "deliver_policy": "new",
            "ack_policy": "none",
            "filter_subject": subject(room),
        }
        request = {"stream_name": STREAM, "config": consumer}
        rest = yield from ask(f"CONSUMER.CREATE.{STREAM}", request, inbox)
        # The subject for replies has a time and growing numbers in it: sizes vary.
        pattern = rb"MSG %b %d \S+ %d\r\n(.{%d})\r\n|" % (
            re.escape(subject(room).encode()),
            _ROOM_ID,
            self.text_bytes,
            self.text_bytes,
        )
        cut = Cut(re.compile(pattern + OTHER, re.DOTALL), rest)
        ear = CutEar(0, cut, lambda match: _text(match, ear))
        return ear

    def speak(self, index: int, rooms: list[str]) -> Conversation[Voice]:
        """Subscribe to the acknowledgements."""
        inbox = f"_INBOX.t{index}"
        rest = yield from connect(f"SUB {inbox} {_INBOX_ID}")
        heads = [f"PUB {subject(room)} {inbox} {self.text_bytes}\r\n".encode() for room in rooms]
        return JetStreamVoice(heads, Cut(_ACKS, rest))


def _text(match: re.Match[bytes], ear: CutEar) -> bytes:
    text: bytes | None = match[1]
    if text is None and (answer := answer_to(match[0])):
        ear.says.append(Say(0, answer))
    return text or b""


class JetStreamServer:
    """nats-server with JetStream, every write synced."""

    name = "jetstream"
    is_durable = True
    is_peer = True
    has_rooms = True

    @contextmanager
    def start(self, folder: Path, text_bytes: int) -> Iterator[Target]:
        """Start it and make the stream."""
        program, port = process.program("nats-server"), process.free_port()
        folder.mkdir(parents=True, exist_ok=True)
        file = folder / "nats.conf"
        store = json.dumps(str(folder / "store"))
        file.write_text(
            f"listen: {process.HOST}:{port}\n"
            f"jetstream {{ store_dir: {store}, sync_interval: always }}\n"
        )
        target = process.local_target(
            self,
            [port],
            text_bytes,
            version=process.version(program, "--version"),
            settings=[f"listen {process.HOST}", "sync_interval always", "one stream, in files"],
        )
        command = [program, "--config", str(file)]
        with process.serving(self, command, folder, target) as served:
            converse(served, self.dialect(served), make_stream())
            yield served

    def dialect(self, target: Target) -> Dialect:
        """Return what it speaks."""
        return JetStreamDialect(target)


SERVER = JetStreamServer()
