"""Every peer, started as for a measurement: its members hear what was said, all of it, in order."""

from __future__ import annotations

import os
import selectors
import socket
from collections.abc import Iterator
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import pytest

from bench import text
from bench.dialect import Conversation, Dialect, Ear, Heard, Say, Unexpected, Voice
from bench.servers import process, registry
from bench.servers.base import NotInstalled, Server
from bench.servers.process import StartFailed, descendants
from bench.target import Target
from tests.installed import started
from tests.waiting import DEADLINE_S, eventually

TEXT_BYTES = 64
ONE_BY_ONE = 5
AT_ONCE = 300
READ_BYTES = 65_536


class Client:
    """One client's connections, driven by hand; what comes is cut into pieces of some size."""

    def __init__(self, target: Target, dialect: Dialect, *, cut_bytes: int = READ_BYTES) -> None:
        self._cut_bytes = cut_bytes
        self._stack = ExitStack()
        self._selector = self._stack.enter_context(selectors.DefaultSelector())
        self._sockets: list[socket.socket] = []
        self.heard_bytes = 0
        for channel, port_at in enumerate(dialect.channels):
            address = (target.host, target.ports[port_at])
            tcp = self._stack.enter_context(socket.create_connection(address, DEADLINE_S))
            self._selector.register(tcp, selectors.EVENT_READ, channel)
            self._sockets.append(tcp)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._stack.close()

    def write(self, says: list[Say] | tuple[Say, ...]) -> None:
        for say in says:
            self._sockets[say.channel].sendall(say.data)

    def hear(self, wait_s: float) -> list[Heard]:
        heard = []
        for key, _ in self._selector.select(wait_s):
            data = self._sockets[key.data].recv(READ_BYTES)
            assert data, "the server closed the connection"
            cuts = range(0, len(data), self._cut_bytes)
            heard += [Heard(key.data, data[at : at + self._cut_bytes]) for at in cuts]
        return heard

    def converse(self, conversation: Conversation[Any]) -> Any:  # noqa: ANN401 - ear or voice
        try:
            says = next(conversation)
            while True:
                self.write(says)
                says = []
                for heard in self.hear(DEADLINE_S):
                    says += conversation.send(heard)
        except StopIteration as end:
            return end.value


class Member(Client):
    """A client that hears a room."""

    def __init__(
        self,
        target: Target,
        dialect: Dialect,
        index: int,
        room: str,
        *,
        cut_bytes: int = READ_BYTES,
    ) -> None:
        super().__init__(target, dialect, cut_bytes=cut_bytes)
        self.ear: Ear = self.converse(dialect.join(index, room))
        self.count = 0
        self.texts = b""

    def listen(self, wait_s: float = 0.0) -> None:
        """Hear what has come."""
        for heard in self.hear(wait_s):
            if heard.channel == self.ear.channel:
                self.heard_bytes += len(heard.data)
                self.count += self.ear.feed(heard.data)
                self.write(self.ear.take_says())
        self.texts += self.ear.take_texts()

    def has_heard(self, count: int) -> bool:
        self.listen()
        return self.count >= count


class Talker(Client):
    """A client that sends."""

    def __init__(self, target: Target, dialect: Dialect, index: int, rooms: list[str]) -> None:
        super().__init__(target, dialect)
        self.voice: Voice = self.converse(dialect.speak(index, rooms))
        self.settled = 0

    def say(self, room: int, texts: bytes, count: int) -> None:
        assert self.voice.free() >= count
        self.write(self.voice.say([(room, texts, count)]))

    def has_settled(self, count: int) -> bool:
        for heard in self.hear(0.0):
            self.settled += sum(self.voice.feed(heard))
        return self.settled >= count


@pytest.fixture(params=registry.peers())
def server(request: pytest.FixtureRequest) -> Server:
    return registry.load(request.param)


@pytest.fixture
def target(server: Server, tmp_path: Path) -> Iterator[Target]:
    before = descendants(os.getpid())
    with started(server, tmp_path / "server", TEXT_BYTES) as target:
        assert target.pids
        yield target
    assert descendants(os.getpid()) == before
    for port in target.ports:
        with pytest.raises(ConnectionRefusedError):
            socket.create_connection((target.host, port), DEADLINE_S).close()


def test_members_hear_their_room_and_nothing_else(server: Server, target: Target) -> None:
    dialect = server.dialect(target)
    maker = text.Maker(1, TEXT_BYTES, AT_ONCE)
    rooms = ["r0001", "r0002"] if server.has_rooms else ["r0001"]
    with ExitStack() as stack:
        members = [
            stack.enter_context(Member(target, dialect, 0, rooms[0])),
            stack.enter_context(Member(target, dialect, 1, rooms[0], cut_bytes=1)),
            stack.enter_context(Member(target, dialect, 2, rooms[-1])),
        ]
        talker = stack.enter_context(Talker(target, dialect, 0, rooms))
        expected = [b""] * len(rooms)
        number = 0
        for count in [1] * ONE_BY_ONE + [AT_ONCE]:
            # By the last turn the members have heard messages, and so, before these, all that
            # the server says about others who joined.
            before = [(member.count, member.heard_bytes) for member in members]
            for room in range(len(rooms)):
                texts = maker.make(number, count)
                number += count
                talker.say(room, texts, count)
                expected[room] += texts
                for member in (members[:2], members[2:])[room] if server.has_rooms else members:
                    total = len(expected[room]) // TEXT_BYTES
                    eventually(partial(member.has_heard, total), f"{total} messages")
            if dialect.acknowledges:
                eventually(partial(talker.has_settled, number), "acknowledgements")
        assert members[0].texts == expected[0]
        assert members[1].texts == expected[0]
        assert members[2].texts == expected[-1]
        if dialect.acknowledges:
            assert talker.settled == number
        for member, (count, heard_bytes) in zip(members, before, strict=True):
            assert member.count * TEXT_BYTES == len(member.texts)
            assert member.count - count == AT_ONCE
            if member.ear.stride is not None:
                assert member.heard_bytes - heard_bytes == AT_ONCE * member.ear.stride


def test_a_server_that_does_not_come_up_tells_why_and_leaves_nothing(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = descendants(os.getpid())
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))  # Taken, but nobody answers there.
        monkeypatch.setattr(process, "free_port", lambda: other.getsockname()[1])
        with pytest.raises(StartFailed, match=r"(?i)address already in use|bind.*fail|in use"):
            started(server, tmp_path / "server", TEXT_BYTES).__enter__()
    assert descendants(os.getpid()) == before


def test_a_talker_notices_that_nobody_stores_what_it_says(tmp_path: Path) -> None:
    dialect_of = registry.load("jetstream").dialect
    with started(registry.load("nats"), tmp_path / "server", TEXT_BYTES) as target:
        dialect = dialect_of(target)
        with Talker(target, dialect, 0, ["r0001"]) as talker:
            talker.say(0, text.make(0, 0, 0, TEXT_BYTES), 1)
            with pytest.raises(Unexpected, match="there is no stream"):
                eventually(partial(talker.has_settled, 1), "a refusal")


def test_a_missing_program_is_named_together_with_what_installs_it() -> None:
    with pytest.raises(NotInstalled, match="no-such-server is not installed: `make peers`"):
        process.program("no-such-server")
