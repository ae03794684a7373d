"""ZMTP by bytes, against libzmq itself and against what no libzmq would send."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
import zmq

from bench import zmtp
from bench.dialect import Heard, Unexpected
from tests.waiting import DEADLINE_S

PARTS = [b"", b"a", b"b" * 255, b"c" * 256, b"d" * 70_000]


Connection = tuple[socket.socket, zmtp.Frames]


@contextmanager
def connected(kind: int, our_kind: bytes) -> Iterator[tuple[zmq.Socket[bytes], Connection]]:
    """Yield a bound libzmq socket and a TCP connection to it, past the handshake."""
    context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
    with context, context.socket(kind) as peer:
        peer.setsockopt(zmq.LINGER, 0)
        peer.setsockopt(zmq.HEARTBEAT_IVL, 20)
        peer.setsockopt(zmq.HEARTBEAT_TIMEOUT, 600_000)
        peer.setsockopt(zmq.RCVTIMEO, int(DEADLINE_S * 1_000))
        port = peer.bind_to_random_port("tcp://127.0.0.1")
        with socket.create_connection(("127.0.0.1", port), timeout=DEADLINE_S) as tcp:
            yield peer, (tcp, shaken(tcp, our_kind))


def shaken(tcp: socket.socket, kind: bytes) -> zmtp.Frames:
    conversation = zmtp.shake_hands({0: kind})
    says = next(conversation)
    while True:
        for say in says:
            tcp.sendall(say.data)
        try:
            says = conversation.send(Heard(0, tcp.recv(7)))
        except StopIteration as end:
            frames: zmtp.Frames = end.value[0]
            return frames


def next_message(tcp: socket.socket, frames: zmtp.Frames) -> list[bytes]:
    while not (messages := frames.feed(tcp.recv(1_000))):
        tcp.sendall(frames.take_answers())
    assert len(messages) == 1
    return messages[0]


def test_libzmq_and_we_understand_frames_of_every_size() -> None:
    with connected(zmq.ROUTER, b"DEALER") as (router, connection):
        connection[0].sendall(zmtp.message(*PARTS))
        identity, *heard = router.recv_multipart()
        assert heard == PARTS
        router.send_multipart([identity, *PARTS])
        assert next_message(*connection) == PARTS


def test_a_subscription_is_in_place_when_the_ping_after_it_is_answered() -> None:
    with connected(zmq.XPUB, b"SUB") as (publisher, (tcp, frames)):
        tcp.sendall(zmtp.subscribe(b"room\0") + zmtp.ping(b"here"))
        while not frames.pongs:
            assert frames.feed(tcp.recv(1_000)) == []
        assert publisher.recv() == b"\1room\0"
        publisher.send(b"another\0no")
        publisher.send(b"room\0yes")
        assert next_message(tcp, frames) == [b"room\0yes"]


def test_a_ping_of_libzmq_is_answered() -> None:
    with connected(zmq.DEALER, b"DEALER") as (dealer, (tcp, frames)):
        while not (answer := frames.take_answers()):
            assert frames.feed(tcp.recv(1_000)) == []
        assert answer[2:7] == b"\4PONG"
        tcp.sendall(answer + zmtp.message(b"still here"))
        assert dealer.recv() == b"still here"


def test_bytes_may_be_cut_anywhere() -> None:
    stream = zmtp.opening(b"PUB") + zmtp.message(b"a", b"b" * 300) + zmtp.ping(b"x")
    frames = zmtp.Frames()
    messages = [m for at in range(len(stream)) for m in frames.feed(stream[at : at + 1])]
    assert messages == [[b"a", b"b" * 300]]
    assert frames.is_ready
    assert frames.take_answers() == b"\x04\x06\4PONGx"
    assert frames.take_answers() == b""


@pytest.mark.parametrize(
    "data",
    [
        b"HTTP/1.1 400 Bad Request\r\n".ljust(64),
        zmtp.opening(b"PUB").replace(b"NULL\0", b"CURVE"),
        zmtp.opening(b"PUB") + b"\x80\0",
        zmtp.opening(b"PUB") + b"\x02\xff" + bytes(7),
        zmtp.opening(b"PUB") + b"\x04\x09\5ERROR\2no",
        zmtp.opening(b"PUB") + b"\x01\x00" * (zmtp.PARTS_MAX + 1),
    ],
    ids=["HTTP", "security", "reserved flag", "endless frame", "ERROR", "endless message"],
)
def test_what_no_peer_of_ours_says_is_refused(data: bytes) -> None:
    with pytest.raises(Unexpected):
        zmtp.Frames().feed(data)
