"""Hubbub itself: the broker as it ships, and its protocol by bytes. docs/PROTOCOL.md."""

from __future__ import annotations

import contextlib
import os
import secrets
import select
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Final

import msgspec

from bench import zmtp
from bench.dialect import Conversation, Ear, Heard, Patience, Post, Say, Unexpected, Voice
from bench.servers.process import descendants, tied
from bench.target import HUBBUB, Target
from bench.text import framed, unframed
from common import topics, wire
from common.errors import Code, Malformed
from common.limits import NUMBER_MAX, SEND_TEXTS_MAX, SENDS_IN_FLIGHT_MAX
from common.version import VERSION

ROOT: Final = Path(__file__).resolve().parent.parent.parent
COMMANDS: Final = 0  # The channels: to ROUTER,
ROOMS: Final = 1  # and to XPUB.
STOP_S_MAX: Final = 15.0
# What differs from how the broker ships; the banner says so.
FLAGS: Final = {"--rate": "10000000", "--burst": "100000000", "--max-clients": "9000"}

_encode = msgspec.msgpack.encode


class _Post(msgspec.Struct, array_like=True, gc=False):
    """A `wire.Post` whose texts stay as they came: no string for each of a million a second."""

    ts: int
    nick: str
    kind: int
    texts: msgspec.Raw


class _Batch(msgspec.Struct, array_like=True, gc=False, tag=1):
    """A `wire.Batch` of such posts."""

    room: str
    epoch: int
    prev: int
    first: int
    posts: list[_Post]


class _Ack(msgspec.Struct, array_like=True, gc=False):
    """A `wire.Ack` whose places stay as they came."""

    number: int
    kept: msgspec.Raw


_decode = msgspec.msgpack.Decoder(_Batch | wire.Presence).decode
_decode_ack = msgspec.msgpack.Decoder(_Ack).decode
_ACK_HEAD: Final = wire.REPLY_HEADS[wire.Ack]


class HubbubEar:
    """A subscriber of one room."""

    channel = ROOMS
    stride: int | None = None  # Batches carry several texts, and numbers of any size.

    def __init__(self, frames: zmtp.Frames, topic_bytes: int, text_bytes: int) -> None:
        self._frames = frames
        self._topic_bytes = topic_bytes
        self._text_head = _text_head(text_bytes)
        self._lone_head = _list_head(1) + self._text_head
        self._stride = len(self._text_head) + text_bytes
        self._texts: list[bytes] = []

    def feed(self, data: bytes) -> int:
        """Take bytes as they came; return how many more texts are whole now."""
        count = 0
        for (frame,) in self._frames.feed(data):
            publication = _decode(frame[self._topic_bytes :])
            if type(publication) is _Batch:
                for post in publication.posts:
                    count += self._take(bytes(post.texts))
        return count

    def _take(self, texts: bytes) -> int:
        """Take a MessagePack array of texts of one size; return how many there are."""
        if texts.startswith(self._lone_head):
            self._texts.append(texts[len(self._lone_head) :])
            return 1
        count = len(texts) // self._stride
        list_head = _list_head(count)
        if texts[: len(list_head)] != list_head:
            raise Unexpected(f"a post whose {len(texts)} bytes are not {count} texts")
        self._texts.append(unframed(texts[len(list_head) :], self._text_head, count))
        return count

    def take_texts(self) -> bytes:
        """Return and forget the texts heard."""
        texts, self._texts = self._texts, []
        return b"".join(texts)

    def take_says(self) -> list[Say]:
        """Return the PONGs that are due."""
        answers = self._frames.take_answers()
        return [Say(ROOMS, answers)] if answers else []


@cache
def _text_head(size: int) -> bytes:
    """Return what stands before a text of this size: MessagePack."""
    return _encode("x" * size)[:-size]


@cache
def _list_head(count: int) -> bytes:
    """Return what stands before a list of so many items."""
    return _encode([None] * count)[: -count or None]


class HubbubVoice:
    """A session that sends; coalesces as the client library does, with its window."""

    def __init__(self, frames: dict[int, zmtp.Frames], token: bytes, rooms: list[str]) -> None:
        self._frames = frames
        head = wire.MAGIC + bytes([wire.Command.SEND]) + token
        self._head = zmtp.head(len(head), more=True) + head
        kind = _encode(int(wire.Kind.TEXT))
        self._post_heads = [_list_head(3) + _encode(room) + kind for room in rooms]
        self._counts: dict[int, int] = {}  # Texts of each SEND under way, by its number.
        self._number = 0  # Of the last SEND.

    def free(self) -> int:
        """Return how many texts fit the SENDs that may still be under way."""
        return (SENDS_IN_FLIGHT_MAX - len(self._counts)) * SEND_TEXTS_MAX

    def say(self, posts: Sequence[Post]) -> list[Say]:
        """Return one SEND: what a client's queue holds goes at once."""
        self._number += 1
        self._counts[self._number] = sum(count for _, _, count in posts)
        assert self._counts[self._number] <= SEND_TEXTS_MAX
        _, texts, count = posts[0]
        text_head = _text_head(len(texts) // count)
        parts = [_list_head(2), _encode(self._number), _list_head(len(posts))]
        for room, texts, count in posts:
            parts += (
                self._post_heads[room],
                _list_head(count),
                framed(text_head, texts, count, b""),
            )
        payload = b"".join(parts)
        return [Say(COMMANDS, self._head + zmtp.head(len(payload)) + payload)]

    def feed(self, heard: Heard) -> list[int]:
        """Take ACKs. Those of one drain may come in any order, but then all at once."""
        settled = []
        for frames in self._frames[heard.channel].feed(heard.data):
            if heard.channel == COMMANDS:
                if frames[0] == _ACK_HEAD:
                    settled.append(self._settle(_decode_ack(frames[1]).number))
                else:
                    self._refused(_reply(frames))
        return settled

    def _settle(self, number: int) -> int:
        return self._counts.pop(number)

    def _refused(self, reply: wire.Payload) -> None:
        raise Unexpected(f"a SEND was answered with {reply}")


class PatientHubbubVoice(HubbubVoice):
    """One that waits when it is told to slow down, as the client library does.

    What was refused, and what it had sent behind that, is said again when the time has passed.
    """

    def __init__(self, frames: dict[int, zmtp.Frames], token: bytes, rooms: list[str]) -> None:
        super().__init__(frames, token, rooms)
        self.patience = Patience()
        self._under_way: dict[int, list[Say]] = {}  # By number, rising.
        self._wait_ms = 0  # Told, and not begun yet: voices have no clock.
        self._until_s: float | None = None  # Nothing is said before.

    def free(self) -> int:
        """Return how many texts may be said; none while it waits."""
        return 0 if self._wait_ms or self._until_s is not None else super().free()

    def say(self, posts: Sequence[Post]) -> list[Say]:
        """Return one SEND."""
        says = super().say(posts)
        self._under_way[self._number] = says
        return says

    def due(self, now_s: float) -> list[Say]:
        """Return all that is not acknowledged, when the time to wait has passed."""
        if self._wait_ms:
            self._until_s = max(self._until_s or 0.0, now_s + self._wait_ms / 1_000)
            self._wait_ms = 0
        if self._until_s is None or now_s < self._until_s:
            return []
        self._until_s = None
        return [say for says in self._under_way.values() for say in says]

    def _settle(self, number: int) -> int:
        # What was sent again although it was kept is acknowledged again.
        return super()._settle(number) if self._under_way.pop(number, None) else 0

    def _refused(self, reply: wire.Payload) -> None:
        if type(reply) is not wire.Error or reply.code not in {Code.SLOW_DOWN, Code.GAP}:
            super()._refused(reply)
            return
        # A gap is what everything behind a refused SEND meets: it is said again with that one.
        if reply.code == Code.SLOW_DOWN:
            patience = self.patience
            patience.refusals += 1
            patience.untimed += reply.value <= 0
            patience.wait_ms_max = max(patience.wait_ms_max, reply.value)
            self._wait_ms = max(self._wait_ms, reply.value, 1)


class HubbubDialect:
    """ZMTP to ROUTER and XPUB, MessagePack inside."""

    channels = (0, 1)
    acknowledges = True
    keepalive = (Say(ROOMS, zmtp.pong()),)
    is_same_for_all = True
    ping = zmtp.ping()

    def __init__(self, text_bytes: int) -> None:
        self.text_bytes = text_bytes
        self.asks_who = False  # Whether each member asks for everybody's names too.
        self.is_patient = False  # Whether talkers wait where they are told to slow down.
        self.nicks = ""  # Before everybody's name.

    def join(self, index: int, room: str) -> Conversation[Ear]:
        """Converse as a client does: HELLO, JOIN, subscribe, until the room's head is heard."""
        token, links = yield from _enter(f"{self.nicks}m{index:05d}")
        joined = yield from _join(links, token, room)
        if self.asks_who:
            who = _command(token, wire.Who(3, joined.room))
            yield from _ask(links, who, wire.Members)
        says = [Say(ROOMS, zmtp.subscribe(joined.subscription))]
        while True:
            heard = yield says
            says = []
            messages = links[heard.channel].feed(heard.data)
            if heard.channel == ROOMS and messages:
                return HubbubEar(links[ROOMS], len(joined.subscription), self.text_bytes)

    def speak(self, index: int, rooms: list[str]) -> Conversation[Voice]:
        """Converse until every room is joined; nothing is subscribed but the inbox."""
        token, links = yield from _enter(f"{self.nicks}t{index:05d}")
        yield from _join_all(links, token, rooms)
        kind = PatientHubbubVoice if self.is_patient else HubbubVoice
        return kind(links, token, rooms)


Links = dict[int, zmtp.Frames]


def _command(token: bytes, command: wire.Payload) -> Say:
    return Say(COMMANDS, zmtp.message(*wire.command_frames(token, command)))


def _reply(frames: list[bytes]) -> wire.Payload:
    try:
        return wire.parse_reply(frames)
    except Malformed as error:
        raise Unexpected(str(error)) from error


def _enter(nick: str) -> Conversation[tuple[bytes, Links]]:
    """Connect, open the inbox and say HELLO."""
    links = yield from zmtp.shake_hands({COMMANDS: b"DEALER", ROOMS: b"SUB"})
    token = secrets.token_bytes(16)
    instance = int.from_bytes(secrets.token_bytes(7), "big") & NUMBER_MAX
    hello = wire.Hello(1, nick, secrets.token_bytes(16), instance, 1)
    inbox = Say(ROOMS, zmtp.subscribe(topics.inbox(token)))
    yield from _ask(links, _command(token, hello), wire.Welcome, inbox)
    return token, links


def _join(links: Links, token: bytes, room: str) -> Conversation[wire.Joined]:
    joined = yield from _ask(links, _command(token, wire.Join(2, room)), wire.Joined)
    assert isinstance(joined, wire.Joined)
    return joined


def _join_all(links: Links, token: bytes, rooms: list[str]) -> Conversation[None]:
    """Say all JOINs at once; every room would cost a round trip otherwise."""
    joins = [_command(token, wire.Join(2, room)) for room in rooms]
    says = [Say(COMMANDS, b"".join(join.data for join in joins))]
    left = len(rooms)
    while left:
        heard = yield says
        says = []
        for frames in links[heard.channel].feed(heard.data):
            if heard.channel == COMMANDS:
                if type(reply := _reply(frames)) is not wire.Joined:
                    raise Unexpected(f"Joined was expected, not {reply}")
                left -= 1


def _ask(
    links: Links, command: Say, kind: type[wire.Payload], *before: Say
) -> Conversation[wire.Payload]:
    """Say a command and return its answer. What comes on the other channel is not ours yet."""
    says = [*before, command]
    while True:
        heard = yield says
        says = []
        messages = links[heard.channel].feed(heard.data)
        if heard.channel == COMMANDS and messages:
            reply = _reply(messages[0])
            if type(reply) is not kind:
                raise Unexpected(f"{kind.__name__} was expected, not {reply}")
            return reply


class Hubbub:
    """The broker of this checkout."""

    name = HUBBUB
    is_durable = True
    is_peer = False
    has_rooms = True
    switches: tuple[str, ...] = ()  # Flags without a value.

    def __init__(self, settings: Mapping[str, str] | None = None) -> None:
        """Take flags of the broker that hold beside, or in place of, `FLAGS`."""
        self._settings = FLAGS | dict(settings or {})

    @contextlib.contextmanager
    def start(self, folder: Path, text_bytes: int) -> Iterator[Target]:
        """Start a broker on free ports."""
        flags = [word for flag in self._settings.items() for word in flag]
        process, port = launch(folder / "data", 0, *self.switches, *flags)
        try:
            found = target("127.0.0.1", port, [process.pid], text_bytes, self._settings)
            yield msgspec.structs.replace(
                found,
                name=self.name,
                settings=[*found.settings, *self.switches],
                server_key=self.server_key(folder / "data"),
            )
        finally:
            end(process)

    def server_key(self, data: Path) -> str:  # noqa: ARG002 - others look there
        """Return the broker's public key in hex; "" where nothing is encrypted."""
        return ""

    def dialect(self, target: Target) -> HubbubDialect:
        """Return what it speaks."""
        return HubbubDialect(target.text_bytes)


def target(
    host: str, port: int, pids: list[int], text_bytes: int, settings: Mapping[str, str] = FLAGS
) -> Target:
    """Return a broker that runs."""
    return Target(
        name=HUBBUB,
        version=VERSION,
        is_durable=True,
        host=host,
        ports=[port, port + 1],
        pids=pids,
        settings=[f"{flag} {value}" for flag, value in settings.items()],
        text_bytes=text_bytes,
    )


def launch(data: Path, port: int = 0, *flags: str) -> tuple[subprocess.Popen[bytes], int]:
    """Start a broker with its log in `data`; return its process and its base port."""
    words = [word for flag in FLAGS.items() for word in flag]
    command = [sys.executable, "-m", "broker"]
    errors_path = data.with_name(data.name + ".stderr")
    with errors_path.open("ab") as errors:
        process = subprocess.Popen(
            tied([*command, "--port", str(port), "--data", str(data), *words, *flags]),
            cwd=ROOT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=errors,
            start_new_session=True,  # Ctrl+C is for the load tool, which ends the broker itself.
        )
    assert process.stdout is not None
    line = process.stdout.readline().decode()
    if not line.startswith("hubbub broker ready on tcp://"):
        end(process)
        raise Unexpected(f"the broker did not start: {errors_path.read_text(errors='replace')}")
    return process, int(line.rsplit(":", 1)[1])


def kill(process: subprocess.Popen[bytes]) -> None:
    """Kill a broker with all its processes at once (kill -9), and wait until they are gone.

    Raises `Unexpected` when one stays; `end` is still to be called.
    """
    # The supervisor first: it would start the others again. A descriptor stays with its process,
    # while the number of one that has ended may become somebody else's.
    descriptors = [os.pidfd_open(pid) for pid in descendants(process.pid)]
    try:
        for descriptor in descriptors:
            signal.pidfd_send_signal(descriptor, signal.SIGKILL)
        for descriptor in descriptors:
            if not select.select([descriptor], [], [], STOP_S_MAX)[0]:
                raise Unexpected("a process of the broker outlives kill -9")
    finally:
        for descriptor in descriptors:
            os.close(descriptor)


def end(process: subprocess.Popen[bytes]) -> None:
    """End a broker, in order if it still can."""
    process.terminate()
    try:
        process.wait(STOP_S_MAX)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
    for pipe in (process.stdin, process.stdout):
        if pipe is not None:
            pipe.close()


SERVER = Hubbub()
