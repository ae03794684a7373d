"""A drain takes a bounded number of messages, posts, commits, bytes of answers. inproc only."""

from __future__ import annotations

from collections.abc import Iterator
from typing import cast
from unittest.mock import create_autospec

import pytest
import zmq

from broker.chat.core import Core
from broker.chat.peer import Peer
from broker.child import Orders
from broker.host.zap import Guests
from broker.live import (
    DRAIN_ANSWERS_BYTES_MAX,
    DRAIN_COMMITS_MAX,
    DRAIN_MESSAGES_MAX,
    DRAIN_TEXTS_MAX,
    Worker,
)
from broker.peers import Peers
from common.limits import SEND_TEXTS_MAX
from common.order import Order
from tests.unit.bench import Bench

Socket = zmq.Socket[bytes]
ENDPOINT = "inproc://commands"


class Counts:
    """A core that only counts what it is given."""

    def __init__(self) -> None:
        self.texts_count = self.answered_bytes = self.commits_count = 0
        self.each = (0, 0, 0)
        self.routes: list[bytes] = []

    def receive(self, route: bytes, _frames: list[bytes], _peer: Peer) -> None:
        """Count a message."""
        self.routes.append(route)
        self.texts_count += self.each[0]
        self.answered_bytes += self.each[1]
        self.commits_count += self.each[2]


@pytest.fixture
def peer_and_worker() -> Iterator[tuple[Socket, Worker]]:
    """Return a peer, and a worker that has nothing yet but its ROUTER and a core that counts."""
    context: zmq.Context[Socket] = zmq.Context()
    worker = Worker(create_autospec(Orders, instance=True, allowed=None), context)
    worker._router = context.socket(zmq.ROUTER)
    worker._core = cast("Core", Counts())
    worker._peers = Peers(Guests(None), lambda _: None, is_secure=False)
    peer = context.socket(zmq.DEALER)
    for socket in (worker._router, peer):
        socket.setsockopt(zmq.SNDHWM, 0)
        socket.setsockopt(zmq.RCVHWM, 0)
    worker._router.bind(ENDPOINT)
    peer.connect(ENDPOINT)
    yield peer, worker
    context.destroy(0)


@pytest.mark.parametrize(
    ("each", "taken"),
    [
        ((0, 0, 0), DRAIN_MESSAGES_MAX),
        ((SEND_TEXTS_MAX, 0, 0), DRAIN_TEXTS_MAX // SEND_TEXTS_MAX),
        ((0, DRAIN_ANSWERS_BYTES_MAX // 4, 0), 5),
        ((0, 0, 1), DRAIN_COMMITS_MAX),
    ],
)
def test_a_drain_ends_when_it_is_large(
    peer_and_worker: tuple[Socket, Worker], each: tuple[int, int, int], taken: int
) -> None:
    """Whatever each message brings, what comes after the bound waits for the next drain."""
    peer, worker = peer_and_worker
    core = cast("Counts", worker._core)
    routes = core.routes
    core.each = each
    for _ in range(taken + 1):
        peer.send_multipart([b"head", b"payload"])
    worker._drain_commands()
    assert taken == len(routes)
    core.texts_count = core.answered_bytes = core.commits_count = 0
    worker._drain_commands()
    assert taken + 1 == len(routes)


def test_refusals_end_a_drain_soon() -> None:
    """Who sends rubbish by the thousand does not make everybody wait for all of it."""
    bench = Bench()
    for _ in range(DRAIN_MESSAGES_MAX // 10):
        bench.core.receive(b"mallory", [b"rubbish"])
    assert bench.core.answered_bytes > DRAIN_ANSWERS_BYTES_MAX
    bench.core.take_effects()
    assert 0 == bench.core.answered_bytes


def test_what_waits_for_the_disk_is_counted() -> None:
    """An order, and the first text in a talk: each commit of theirs."""
    bench = Bench()
    anna, _ = bench.peer("anna", "lobby"), bench.peer("bob", "lobby")
    talk = anna.talk("bob").room
    for command, count in (
        (anna.next_send("lobby", "hello"), 0),
        (Order(3, "lobby", "report", "bob"), 1),
        (Order(3, "lobby", "ban", "bob"), 3),  # Whose the room is, other keys, the ban.
        (anna.next_send(talk, "hi"), 2),
    ):
        anna.say(command)
        assert count == bench.core.commits_count
        bench.drain()
        assert 0 == bench.core.commits_count
