"""What can be used up: by connections, handshakes, introductions, and then by orders."""

from __future__ import annotations

import contextlib
import logging
import os
import resource
import socket
import sqlite3
from collections.abc import Iterator
from pathlib import Path

import pytest
import zmq
from zmq.utils import z85

from bench import zmtp
from broker.chat.floods import KEY_RIGHTS
from broker.log.rights_store import read_audit
from broker.log.writer import FILE_NAME
from common import order, wire
from common.order import Action, Introduction
from tests.attacks.curve import BASE, GREETING, CurveLink, multiplied
from tests.attacks.scene import Honest, Peer
from tests.broker_process import BrokerProcess
from tests.waiting import DEADLINE_S, eventually

CONNECTIONS = 2_000
DESCRIPTORS_SPARE = 200
# For each connection that has not shaken hands; libzmq takes some 20 KiB, its reading buffer.
CONNECTION_BYTES_MAX = 64 * 1024
ASKERS = 500
MOB = 10  # Keys.


@pytest.fixture(autouse=True)
def descriptors() -> Iterator[None]:
    """Let this process open as many connections as the attack needs."""
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = CONNECTIONS + DESCRIPTORS_SPARE
    if before[0] < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, max(wanted, before[1])))
    yield
    resource.setrlimit(resource.RLIMIT_NOFILE, before)


def resident_bytes(broker: BrokerProcess) -> int:
    """Return the memory of live and history."""
    pids = broker.children().values()
    texts = [Path(f"/proc/{pid}/status").read_text() for pid in pids]
    lines = [line for text in texts for line in text.splitlines() if line.startswith("VmRSS")]
    return sum(1_024 * int(line.split()[1]) for line in lines)


def hellos(broker: BrokerProcess, kind: str) -> bytes:
    """Return what each connection of a flood says."""
    with Peer(broker, "-") as peer:
        server = peer.server
    wrong = multiplied(os.urandom(32), BASE)
    if kind == "greeting":
        return GREETING
    if kind == "garbage":
        return os.urandom(4_096)
    if kind == "slow":
        return GREETING[:11]
    with CurveLink(broker.port, wrong if kind == "wrong key" else server) as link:
        link.command(link.hello())
        return link.sent


@pytest.mark.parametrize(
    "kind", ["nothing", "slow", "greeting", "garbage", "wrong key", "half a handshake"]
)
def test_two_thousand_connections_that_never_show_a_key(
    broker: BrokerProcess, honest: Honest, kind: str
) -> None:
    """They take a bounded amount of memory and are hung up on; the others talk and come in."""
    said = b"" if kind == "nothing" else hellos(broker, kind)
    before_bytes = resident_bytes(broker)
    with contextlib.ExitStack() as stack:
        links = []
        for number in range(CONNECTIONS):
            port = broker.port + number % 4  # The introduction endpoint, too.
            link = stack.enter_context(socket.create_connection(("127.0.0.1", port), DEADLINE_S))
            with contextlib.suppress(ConnectionError):  # It was hung up on already.
                link.sendall(said)
            links.append(link)
        honest.are_undisturbed()
        with Peer(broker, f"new-{os.urandom(4).hex()}") as newcomer:
            newcomer.enter_room(f"fresh-{os.urandom(4).hex()}")
        grown_bytes = resident_bytes(broker) - before_bytes
        logging.getLogger("attacks").info("%s: %d KiB", kind, grown_bytes >> 10)
        assert grown_bytes < CONNECTIONS * CONNECTION_BYTES_MAX
        for link in links:
            assert is_hung_up(link)
        honest.are_undisturbed()


def is_hung_up(link: socket.socket) -> bool:
    """Read what the broker says until it hangs up: its half of a handshake at most."""
    told = 0
    with contextlib.suppress(ConnectionError):
        while data := link.recv(4_096):
            told += len(data)
    return told <= 1_024


def test_a_flood_of_questions_who_the_broker_is(broker: BrokerProcess, honest: Honest) -> None:
    """Each is answered in its turn, others talk meanwhile, and a newcomer is told, too."""
    with contextlib.ExitStack() as stack:
        context = stack.enter_context(zmq.Context())
        askers = []
        for _ in range(ASKERS):
            asker = stack.enter_context(context.socket(zmq.DEALER))
            asker.setsockopt(zmq.LINGER, 0)
            asker.connect(f"tcp://127.0.0.1:{broker.port + 3}")
            for _ in range(10):
                asker.send_multipart([b"", os.urandom(200)])
            askers.append(asker)
        honest.are_undisturbed()
        newcomer = stack.enter_context(context.socket(zmq.REQ))
        newcomer.setsockopt(zmq.LINGER, 0)
        newcomer.connect(f"tcp://127.0.0.1:{broker.port + 3}")
        newcomer.send(b"")
        assert newcomer.poll(int(DEADLINE_S * 1_000))
        told = wire.parse_reply(newcomer.recv_multipart())
        assert isinstance(told, Introduction)
        assert honest.one.server == told.key
        honest.are_undisturbed()


def test_connections_that_stay_at_the_introduction(broker: BrokerProcess) -> None:
    """Whoever has asked, and whoever speaks as the first version of ZMTP, is hung up on, too."""
    with contextlib.ExitStack() as stack:
        links = []
        for said in (zmtp.opening(b"REQ"), zmtp.opening(b"REQ") + zmtp.message(b"", b"?"), b"\x7f"):
            where = ("127.0.0.1", broker.port + 3)
            link = stack.enter_context(socket.create_connection(where, DEADLINE_S))
            link.sendall(said)
            links.append(link)
        for link in links:
            assert is_hung_up(link)


def test_nothing_else_is_told_at_the_introduction(broker: BrokerProcess) -> None:
    """Whatever is asked there, the answer is the same, and it is no command endpoint."""
    with Peer(broker, "ann-intro") as ann, zmq.Context() as context:
        ann.enter_room("parlour")
        answers = []
        for question in (b"", wire.encode(wire.Greet(1)), ann.token, b"\0" * 256):
            with context.socket(zmq.REQ) as asker:
                asker.setsockopt(zmq.LINGER, 0)
                asker.connect(f"tcp://127.0.0.1:{broker.port + 3}")
                asker.send(question)
                answers.append(asker.recv_multipart())
        assert all(each == answers[0] for each in answers)
        assert z85.decode(z85.encode(ann.server)) in answers[0][1]


def test_many_who_give_orders_at_once(broker: BrokerProcess) -> None:
    """Each order waits for the disk; what others say is kept between them, all the while."""
    room, burst = f"square-{os.urandom(4).hex()}", int(KEY_RIGHTS.burst)
    spoken_ms = []
    with contextlib.ExitStack() as stack:
        ann = stack.enter_context(Peer(broker, f"ann-{room}"))
        ann.enter("garden")
        mob = [stack.enter_context(Peer(broker, f"m{n}-{room}")) for n in range(MOB)]
        for peer in mob:
            peer.enter(room)
        for _ in range(2 * burst):
            for peer in mob:
                peer.send(order.Order(peer.next_id(), room, Action.REPORT, ann.nick))
        answers = 0
        while answers < 2 * burst * MOB:
            spoken_ms.append(ann.say("garden", "calm").kept[0].ts)
            for peer in mob:
                while peer.dealer.poll(0):
                    peer.receive()
                    answers += 1
    with contextlib.closing(sqlite3.connect(broker.data / FILE_NAME)) as db:
        done = [each for each in read_audit(db, 10_000, None) if each.room == room]
    assert burst * MOB <= len(done) < 2 * burst * MOB
    done_ms = [each.ts_ms for each in done]
    between = {ts_ms for ts_ms in spoken_ms if min(done_ms) < ts_ms < max(done_ms)}
    assert 5 < len(between)


def test_connections_end_when_they_are_let_go(broker: BrokerProcess, honest: Honest) -> None:
    """What a flood took is given back: the broker holds no more descriptors than before it."""
    before = _descriptors_count(broker)
    for _ in range(3):
        with contextlib.ExitStack() as stack:
            for _ in range(300):
                where = ("127.0.0.1", broker.port)
                stack.enter_context(socket.create_connection(where, DEADLINE_S))
            honest.are_undisturbed()
    eventually(lambda: _descriptors_count(broker) <= before + 10, "the descriptors")


def _descriptors_count(broker: BrokerProcess) -> int:
    return sum(len(list(Path(f"/proc/{pid}/fd").iterdir())) for pid in broker.children().values())
