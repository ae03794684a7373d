"""Strangers are asked how they talk and for their key; they may answer anything, or nothing."""

from __future__ import annotations

import socket as sockets
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest
import zmq
from hypothesis import given
from hypothesis import strategies as st

from client import greeting, introduction
from client.introduction import GREETING_BYTES, OPENING, ask_key, mechanism_at, read_mechanism
from common import wire
from common.certificates import new_pair
from common.endpoints import PORT_MAX, Address
from common.errors import Barred, Unreachable
from common.order import Introduction
from tests.stand_in import StandIn
from tests.waiting import DEADLINE_S

SOON_S = 0.2
NULL = OPENING + b"NULL".ljust(20, b"\0") + bytes(32)
CURVE = OPENING + b"CURVE".ljust(20, b"\0") + bytes(32)


@contextmanager
def listener(talk: Callable[[sockets.socket], None]) -> Iterator[Address]:
    """Answer one connection on a port in a thread."""
    with sockets.create_server(("127.0.0.1", 0)) as server:
        server.settimeout(DEADLINE_S)

        def run() -> None:
            peer, _ = server.accept()
            with peer:
                peer.settimeout(DEADLINE_S)
                talk(peer)

        thread = threading.Thread(target=run)
        thread.start()
        try:
            yield Address(*server.getsockname())
        finally:
            thread.join()


def until_hung_up(peer: sockets.socket) -> None:
    """Read until the other side leaves."""
    try:
        while peer.recv(4_096):
            pass
    except ConnectionError:
        return


def test_brokers_tell_their_mechanism_and_their_key() -> None:
    pair = new_pair()
    with StandIn(pair) as broker:
        address = Address("127.0.0.1", broker.port)
        assert "CURVE" == mechanism_at(address, DEADLINE_S)
        assert pair.public == ask_key(address, DEADLINE_S)
    with StandIn(None) as broker:
        assert "NULL" == mechanism_at(Address("127.0.0.1", broker.port), DEADLINE_S)


@pytest.mark.parametrize(
    ("said", "mechanism"),
    [
        (NULL, "NULL"),
        (CURVE + b"and a command", "CURVE"),
        (OPENING + b"GSSAPI".ljust(20, b"\0") + bytes(32), "GSSAPI"),
        (b"HTTP/1.1 400 Bad Request\r\n".ljust(100, b" "), None),
        (bytes(GREETING_BYTES), None),
        (b"\xff".ljust(GREETING_BYTES, b"\0"), None),
        (NULL.replace(b"\x03\x01", b"\x01\x00"), None),  # ZMTP 1.0 has no mechanisms.
        (OPENING + bytes(20) + bytes(32), None),
        (OPENING + b"\x1b[2JNULL".ljust(20, b"\0") + bytes(32), None),
        (OPENING + "é".encode().ljust(20, b"\0") + bytes(32), None),
        (NULL[:-1], None),
        (b"", None),
    ],
)
def test_a_greeting_is_read(said: bytes, mechanism: str | None) -> None:
    def talk(peer: sockets.socket) -> None:
        peer.sendall(said)
        peer.shutdown(sockets.SHUT_WR)
        until_hung_up(peer)

    assert mechanism == read_mechanism(said)
    with listener(talk) as address:
        assert mechanism == mechanism_at(address, DEADLINE_S)


def test_a_greeting_in_pieces_is_put_together() -> None:
    def talk(peer: sockets.socket) -> None:
        assert OPENING == peer.recv(len(OPENING), sockets.MSG_WAITALL)
        peer.setsockopt(sockets.IPPROTO_TCP, sockets.TCP_NODELAY, 1)
        for position in range(GREETING_BYTES):
            peer.sendall(CURVE[position : position + 1])
        until_hung_up(peer)

    with listener(talk) as address:
        assert "CURVE" == mechanism_at(address, DEADLINE_S)


def test_who_says_nothing_is_given_up_in_time() -> None:
    with listener(until_hung_up) as address:
        assert mechanism_at(address, SOON_S) is None
    with sockets.create_server(("127.0.0.1", 0)) as closed:
        address = Address(*closed.getsockname())
    assert mechanism_at(address, SOON_S) is None
    assert mechanism_at(Address("127.0.0.1", 1), 0.0) is None


def test_who_never_stops_is_read_no_further_than_the_greeting() -> None:
    """64 bytes say it all; what follows is never taken in."""
    sent_bytes = 0

    def talk(peer: sockets.socket) -> None:
        nonlocal sent_bytes
        try:
            while True:
                sent_bytes += peer.send(b"x" * 65_536)
        except ConnectionError:
            return

    with listener(talk) as address:
        assert mechanism_at(address, DEADLINE_S) is None
    assert sent_bytes >= GREETING_BYTES


@given(st.binary(max_size=200))
def test_any_bytes_are_a_mechanism_or_none(greeting: bytes) -> None:
    name = read_mechanism(greeting)
    assert name is None or name.isalnum()


# --- the introduction endpoint ----------------------------------------------
@contextmanager
def answering(frames: list[bytes] | None) -> Iterator[Address]:
    """Answer each question on the introduction port of an address; with None, never."""
    with zmq.Context() as context, context.socket(zmq.ROUTER) as router:
        router.linger = 0
        port = router.bind_to_random_port("tcp://127.0.0.1")
        is_over = threading.Event()

        def run() -> None:
            while not is_over.is_set():
                if router.poll(10):
                    route, *_ = router.recv_multipart()
                    if frames is not None:
                        router.send_multipart([route, b"", *frames])

        thread = threading.Thread(target=run)
        thread.start()
        try:
            yield Address("127.0.0.1", port - introduction.PORT_OFFSET)
        finally:
            is_over.set()
            thread.join()


HEAD, BODY = wire.reply_frames(Introduction(1, 1, b"k" * 32, "x"))


@pytest.mark.parametrize(
    "frames",
    [
        None,
        [b""],
        [HEAD],
        [HEAD, b""],
        [HEAD, b"\xc1"],
        [b"HUB", BODY],
        [b"HUB\x02" + HEAD[4:], BODY],
        [HEAD[:4] + b"\x81", BODY],
        wire.reply_frames(wire.Goodbye(1)),
        wire.reply_frames(Introduction(1, 1, b"k" * 31, "x")),
        wire.reply_frames(Introduction(1, 1, b"", "x")),
        wire.reply_frames(Introduction(1, 1, b"k" * 33, "x")),
        wire.reply_frames(
            Introduction(1, 1, b"k" * 32, "x" * introduction.ANSWER_BYTES_MAX)  # Too large.
        ),
    ],
)
def test_an_answer_that_is_no_key_is_no_answer(frames: list[bytes] | None) -> None:
    with answering(frames) as address, pytest.raises(Unreachable, match="use the join line"):
        ask_key(address, SOON_S)


@pytest.fixture
def slow_questions(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let a handshake fail before the question that waits for it is sent."""
    frames = wire.command_frames
    slow = threading.Event()

    def slow_frames(token: bytes, command: wire.Payload) -> list[bytes]:
        slow.wait(SOON_S)
        return frames(token, command)

    monkeypatch.setattr(wire, "command_frames", slow_frames)


def other_mechanism(peer: sockets.socket) -> None:
    """Make libzmq drop the connection for good: by itself it would wait for ever to send then."""
    peer.sendall(CURVE)
    until_hung_up(peer)


@pytest.mark.usefixtures("slow_questions")
def test_whose_handshake_failed_before_the_question_is_not_waited_for() -> None:
    with listener(other_mechanism) as address, pytest.raises(Barred, match="only one"):
        greeting.ask(address, None, DEADLINE_S)
    with listener(other_mechanism) as address, pytest.raises(Unreachable, match="the join line"):
        ask_key(Address(address.host, address.port - introduction.PORT_OFFSET), DEADLINE_S)


def test_a_good_answer_is_a_key_whatever_follows_it() -> None:
    with answering([HEAD, BODY]) as address:
        assert b"k" * 32 == ask_key(address, DEADLINE_S)
    with answering([HEAD, BODY, *[b"x"] * 1_000]) as address:
        assert b"k" * 32 == ask_key(address, DEADLINE_S)


def test_a_port_that_cannot_be_is_told() -> None:
    with pytest.raises(Unreachable, match=f"on port {PORT_MAX + 1}"):
        ask_key(Address("127.0.0.1", PORT_MAX - 2), DEADLINE_S)
