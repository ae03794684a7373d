"""Bounds of the broker, met without a network: what happens at each, and that it is told."""

from __future__ import annotations

import os
import subprocess
import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any
from unittest.mock import Mock, create_autospec

import pytest
import zmq

from broker import live, supervisor
from broker.chat.core import Core, Effects
from broker.chat.rooms import TOLD_MEMBER_S, TOLD_S_MAX, telling_s
from broker.child import Orders
from broker.child_process import Child
from broker.config import load
from broker.connections import Connections
from broker.host import ports
from broker.host.sockets import FRAMES_KEPT_MAX, HANDSHAKE_S, receive_message
from broker.live import (
    HEARTBEAT_ANSWER_S_MAX,
    REPLIES_WAITING_MAX,
    SUBSCRIPTION_BYTES_MAX,
    SUBSCRIPTIONS_WAITING,
    SUBSCRIPTIONS_WAITING_BYTES,
    Worker,
)
from broker.log import compaction as log_compaction
from broker.log import reader as log_reader
from broker.log import segments
from broker.log.interface import LogFailed
from broker.log.writer import FILE_NAME
from broker.subscriptions import SUBSCRIPTIONS_MAX, Subscriptions
from broker.supervisor import PORT_TRIES_MAX, PortTaken, StartFailed, Supervisor
from common import limits, wire
from common.errors import Code
from tests import saying
from tests.unit.bench import Bench
from tests.unit.logs import SqliteStore, proposal, said

Socket = zmq.Socket[bytes]
BROKER_FLAGS = ["--port", "0", "--data", "unused"]


class Sockets:
    """A context, and the sockets that end with it and not before."""

    def __init__(self) -> None:
        self.context: zmq.Context[Socket] = zmq.Context()
        self._made: list[Socket] = []

    def make(self, kind: int, queue_max: int | None = None) -> Socket:
        """Return a socket, with a bound of its own for what waits in it."""
        self._made.append(self.context.socket(kind))
        if queue_max is not None:
            self._made[-1].setsockopt(zmq.SNDHWM, queue_max)
            self._made[-1].setsockopt(zmq.RCVHWM, queue_max)
        return self._made[-1]

    def worker(self, *flags: str) -> Worker:
        """Return a worker that has bound its sockets, with these settings."""
        orders = Orders(load([*BROKER_FLAGS, *flags], {}), "127.0.0.1", 0, 0, 0)
        worker = Worker(orders, self.context)
        worker._bind()
        self._made += [worker._router, worker._xpub, *(door.events for door in worker._doors)]
        return worker


@pytest.fixture
def sockets() -> Iterator[Sockets]:
    made = Sockets()
    yield made
    made.context.destroy(0)


def test_a_message_of_many_frames_is_read_to_its_end_and_mostly_dropped(
    sockets: Sockets,
) -> None:
    """Its first frames are enough to refuse it, and the next message begins where it should."""
    router, peer = sockets.make(zmq.ROUTER), sockets.make(zmq.DEALER)
    router.bind("inproc://commands")
    peer.connect("inproc://commands")
    peer.send_multipart([b"%d" % index for index in range(5_000)])
    peer.send_multipart([b"head", b"payload"])
    _, frames, _ = receive_message(router)
    assert [b"%d" % index for index in range(FRAMES_KEPT_MAX)] == frames
    assert [b"head", b"payload"] == receive_message(router)[1]


def test_a_turn_takes_so_many_subscriptions(sockets: Sockets) -> None:
    """What is above waits for the next turn, and commands come in between."""
    xpub, peer = sockets.make(zmq.XPUB, 0), sockets.make(zmq.XSUB, 0)
    xpub.setsockopt(zmq.XPUB_MANUAL, 1)
    xpub.bind("inproc://rooms")
    peer.connect("inproc://rooms")
    core: Any = create_autospec(Core, instance=True)
    core.subscribed.return_value = []
    core.refusals = Counter()
    subscriptions = Subscriptions(xpub, core, Connections(Mock()))
    for index in range(SUBSCRIPTIONS_MAX + 1):
        peer.send(b"\1topic%d" % index)
    listen = subscriptions._connections.listen = Mock()
    subscriptions.drain()
    listen.assert_called_once()  # Though more waits: who was cut off may be gone.
    assert SUBSCRIPTIONS_MAX == core.subscribed.call_count
    subscriptions.drain()
    assert SUBSCRIPTIONS_MAX + 1 == core.subscribed.call_count
    peer.send_multipart([b"data", b"\1topic"])  # No subscription, though it ends like one.
    subscriptions.drain()
    assert SUBSCRIPTIONS_MAX + 1 == core.subscribed.call_count


@pytest.mark.parametrize(
    ("heartbeat_s", "answer_s"), [(30.0, HEARTBEAT_ANSWER_S_MAX), (1.0, 2.0), (5.0, 10.0)]
)
def test_a_heartbeat_is_awaited_two_intervals_or_so_long(
    sockets: Sockets, heartbeat_s: float, answer_s: float
) -> None:
    worker = sockets.worker("--heartbeat", str(heartbeat_s))
    assert int(answer_s * 1_000) == worker._xpub.getsockopt(zmq.HEARTBEAT_TIMEOUT)
    assert SUBSCRIPTION_BYTES_MAX == worker._xpub.getsockopt(zmq.MAXMSGSIZE)
    assert SUBSCRIPTIONS_WAITING_BYTES == worker._xpub.getsockopt(zmq.RCVBUF)
    assert SUBSCRIPTIONS_WAITING == worker._xpub.getsockopt(zmq.RCVHWM)
    assert REPLIES_WAITING_MAX == worker._router.getsockopt(zmq.SNDHWM)
    for endpoint in (worker._xpub, worker._router):
        assert HANDSHAKE_S * 1_000 == endpoint.getsockopt(zmq.HANDSHAKE_IVL)


def test_answers_that_nobody_reads_are_dropped_and_counted(sockets: Sockets) -> None:
    """So many wait for one client; what is beyond costs nothing, and is told to the operator."""
    worker = Worker(create_autospec(Orders, instance=True), sockets.context)
    worker._router = sockets.make(zmq.ROUTER, REPLIES_WAITING_MAX)
    worker._router.setsockopt(zmq.ROUTER_MANDATORY, 1)
    worker._router.bind("inproc://commands")
    worker._log, worker._xpub = Mock(), Mock()
    deaf = sockets.make(zmq.DEALER, 1)
    deaf.connect("inproc://commands")
    deaf.send_multipart([b"head", b"payload"])
    route, *_ = receive_message(worker._router)
    worker._core = create_autospec(Core, instance=True)
    # inproc lends the receiver's high-water mark to the sender's.
    waiting = REPLIES_WAITING_MAX + 1
    replies = [(route, [b"head", b"payload"])] * (waiting + 7) + [(b"gone!", [b"", b""])]
    worker._core.take_effects.return_value = Effects([], replies, [])  # type: ignore[attr-defined]
    worker._carry_out()
    assert 8 == worker._tally.replies_lost_count
    for _ in range(waiting):
        assert [b"head", b"payload"] == deaf.recv_multipart(zmq.NOBLOCK)
    assert not deaf.poll(0)


def test_a_send_of_too_many_posts_is_a_bad_payload() -> None:
    """As many as allowed are decoded, one more is refused, and the session goes on."""
    bench = Bench()
    ann = bench.peer("ann", "r")
    posts = [wire.Draft("r", wire.Kind.TEXT, ["x"])] * limits.SEND_POSTS_MAX
    assert limits.SEND_POSTS_MAX == len(ann.ask(wire.Send(1, posts), wire.Ack).kept)
    assert Code.BAD_PAYLOAD == ann.refused(wire.Send(2, [*posts, posts[0]])).code
    ann.ask(saying.send(2, "r", ["y"]), wire.Ack)


def test_the_larger_a_room_the_rarer_it_is_told_up_to_a_bound() -> None:
    most = round(TOLD_S_MAX / TOLD_MEMBER_S)
    assert telling_s(most - 1) < telling_s(most) == TOLD_S_MAX == telling_s(100 * most)


# --- the log ----------------------------------------------------------------
def test_a_log_that_loses_segments_again_and_again_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A reader looks anew where a file went, so many times, and then says so."""
    store = SqliteStore(tmp_path)
    store.open().append([proposal("r", said("a"))])
    tries: list[str] = []

    def lost(_reader: log_reader.SqliteReader, room: str, *_: object) -> None:
        tries.append(room)
        raise FileNotFoundError

    monkeypatch.setattr(log_reader.SqliteReader, "_read", lost)
    with (
        closing(log_reader.SqliteReader(tmp_path / FILE_NAME)) as reader,
        pytest.raises(LogFailed, match="has lost a segment"),
    ):
        reader.read("r", wire.Mode.AFTER, 0, 1)
    assert log_reader.READS_MAX == len(tries)
    store.close()


def test_a_step_of_the_compaction_moves_so_much(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is in use of an old segment moves in several steps when it is more than that."""
    moved: list[int] = []
    move = log_compaction.Compaction._move

    def counted(compaction: log_compaction.Compaction, record: Any) -> int:  # noqa: ANN401
        moved[-1] += 1
        return move(compaction, record)

    empty = log_compaction.Compaction._empty

    def begun(compaction: log_compaction.Compaction, segment: int) -> None:
        moved.append(0)
        empty(compaction, segment)

    for module in (segments, log_compaction):
        monkeypatch.setattr(module, "SEGMENT_BYTES_MAX", 1_000)
    monkeypatch.setattr(log_compaction, "MOVED_BYTES_MAX", 1)
    monkeypatch.setattr(log_compaction.Compaction, "_move", counted)
    monkeypatch.setattr(log_compaction.Compaction, "_empty", begun)
    store = SqliteStore(tmp_path)
    log = store.open(retain_messages=2)
    for number in range(40):
        if number % 10 == 0:
            log.append([proposal("quiet", said(f"{number}"))])
        log.append([proposal("busy", said("x" * 100))])
    for _ in range(60):
        log.trim(0)
    store.close()
    assert moved
    # A step ends with the first record of which something moved.
    assert max(moved) <= 11


# --- the supervisor ---------------------------------------------------------
def test_the_search_for_free_ports_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    tried: list[int] = []

    def is_free(_address: str, port: int) -> bool:
        tried.append(port)
        return False

    monkeypatch.setattr(ports, "_is_free", is_free)
    with pytest.raises(ports.AddressUnusable, match="--port"):
        ports.free_base_port("127.0.0.1")
    assert ports.TRIES_MAX == len(tried)


def test_ports_that_others_take_meanwhile_are_tried_so_often(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Free ports can be gone when they are bound; after some tries that is told."""
    tries: list[int] = []

    def taken(_supervisor: Supervisor, _child: Child) -> None:
        raise PortTaken("taken")

    def some_port(_address: str) -> int:
        tries.append(1)
        return 20_000

    monkeypatch.setattr(supervisor, "free_base_port", some_port)
    monkeypatch.setattr(Child, "start", Mock())
    monkeypatch.setattr(Supervisor, "_await_report", taken)
    keeper = Supervisor(load(BROKER_FLAGS, {}), Mock())
    keeper._lock = 0
    with pytest.raises(PortTaken):
        keeper._start("127.0.0.1")
    assert PORT_TRIES_MAX == len(tries)


def test_a_child_that_says_nothing_has_not_started(monkeypatch: pytest.MonkeyPatch) -> None:
    """It is not awaited for ever; the patience is shortened here."""
    monkeypatch.setattr(supervisor, "START_S_MAX", 0.01)
    keeper = Supervisor(load(BROKER_FLAGS, {}), Mock())
    keeper._signals, writer = os.pipe()
    child = Child("live")
    child.process = subprocess.Popen(["cat"], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    try:
        with pytest.raises(StartFailed, match="live did not start"):
            keeper._await_report(child)
    finally:
        child.kill()
        child.reap()
        os.close(writer)
        os.close(keeper._signals)


def test_a_farewell_that_takes_too_long_is_cut_short(monkeypatch: pytest.MonkeyPatch) -> None:
    """The log is closed: who stops a broker does not wait for slow readers."""
    forever = threading.Event()
    ends: list[int] = []
    monkeypatch.setattr(live, "FAREWELL_S_MAX", 0.01)
    monkeypatch.setattr(os, "_exit", ends.append)
    live.take_leave(Mock(term=forever.wait))
    assert [0] == ends
    forever.set()
    live.take_leave(Mock(term=forever.wait))
    assert [0] == ends
