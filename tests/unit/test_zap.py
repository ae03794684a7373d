"""The ZAP handler: yes to exactly one kind of question, no to all others; and without it nobody."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import ExitStack

import pytest
import zmq
from zmq.utils import z85

from broker.host.sockets import HANDSHAKE_BYTES_MAX, bound_socket
from broker.host.zap import ID_BYTES_MAX, Guests, Handler, answer
from common.certificates import KeyPair
from tests.waiting import DEADLINE_S

KEY, OTHER = bytes(range(32)), bytes(32)
QUESTION = [b"1.0", b"7", b"hubbub", b"10.0.0.1", b"", b"CURVE", KEY]
Socket = zmq.Socket[bytes]


def test_an_allowed_key_is_let_in_by_its_name() -> None:
    expected = [b"1.0", b"7", b"200", b"OK", KEY.hex().encode(), b""]
    assert expected == answer(QUESTION, Guests(None)) == answer(QUESTION, Guests([KEY.hex()]))


def but(index: int, frame: bytes) -> list[bytes]:
    return [*QUESTION[:index], frame, *QUESTION[index + 1 :]]


@pytest.mark.parametrize(
    "question",
    [
        [],
        QUESTION[:-1],
        [*QUESTION, b""],
        but(0, b"2.0"),
        but(2, b""),
        but(2, b"other"),
        but(5, b"NULL"),
        but(5, b"PLAIN"),
        but(5, b"curve"),
        but(6, KEY[:-1]),
        but(6, KEY + b"\0"),
        but(6, b""),
    ],
)
def test_everything_else_is_refused(question: list[bytes]) -> None:
    """Whoever is let in otherwise."""
    reply = answer(question, Guests(None))
    assert (b"400", b"") == (reply[2], reply[4])
    assert 6 == len(reply)


def test_a_key_that_is_not_listed_is_refused_and_lists_can_change() -> None:
    guests = Guests([OTHER.hex()])
    assert b"400" == answer(QUESTION, guests)[2]
    guests.replace([KEY.hex()])
    assert b"200" == answer(QUESTION, guests)[2]
    guests.replace([])
    assert b"400" == answer(QUESTION, guests)[2]
    assert not guests.admits(b"")


def test_an_id_of_any_length_is_answered_and_a_huge_one_is_not_repeated() -> None:
    longest = b"i" * ID_BYTES_MAX
    assert longest == answer(but(1, longest), Guests(None))[1]
    assert b"" == answer(but(1, longest + b"i"), Guests([]))[1]


@pytest.fixture(name="context")
def a_context() -> Iterator[zmq.Context[Socket]]:
    context: zmq.Context[Socket] = zmq.Context()
    yield context
    context.term()  # The handler's socket is its thread's to close.


def knock(context: zmq.Context[Socket], handled: Guests | None) -> int:
    """Connect with CURVE to a socket of the broker's and return libzmq's event of the end."""
    public, secret = zmq.curve_keypair()
    pair = KeyPair(z85.decode(public), z85.decode(secret))
    if handled is not None:
        Handler(context, handled)
    with ExitStack() as sockets:
        return _knock(context, pair, sockets)


def _knock(context: zmq.Context[Socket], pair: KeyPair, sockets: ExitStack) -> int:
    served = sockets.enter_context(bound_socket(context, zmq.ROUTER, "127.0.0.1", 10, pair))
    port = served.bind_to_random_port("tcp://127.0.0.1")
    peer = sockets.enter_context(context.socket(zmq.DEALER))
    for socket in (served, peer):
        socket.setsockopt(zmq.LINGER, 0)
    own = zmq.curve_keypair()
    peer.setsockopt(zmq.CURVE_SERVERKEY, pair.public)
    peer.setsockopt(zmq.CURVE_PUBLICKEY, own[0])
    peer.setsockopt(zmq.CURVE_SECRETKEY, own[1])
    failures = zmq.EVENT_HANDSHAKE_FAILED_AUTH | zmq.EVENT_HANDSHAKE_FAILED_NO_DETAIL
    ends = failures | zmq.EVENT_HANDSHAKE_SUCCEEDED | zmq.EVENT_DISCONNECTED
    monitor = sockets.enter_context(peer.get_monitor_socket(ends))
    peer.connect(f"tcp://127.0.0.1:{port}")
    assert monitor.poll(int(DEADLINE_S * 1_000))
    event = int.from_bytes(monitor.recv_multipart()[0][:2], sys.byteorder)
    peer.disable_monitor()
    return event


def test_a_handler_lets_in_and_keeps_out(context: zmq.Context[Socket]) -> None:
    """With frames no longer than HANDSHAKE_BYTES_MAX, though the socket takes 10 bytes only."""
    assert 10 < HANDSHAKE_BYTES_MAX
    assert zmq.EVENT_HANDSHAKE_SUCCEEDED == knock(context, Guests(None))


def test_who_is_not_listed_is_told_so(context: zmq.Context[Socket]) -> None:
    assert zmq.EVENT_HANDSHAKE_FAILED_AUTH == knock(context, Guests([]))


def test_without_a_handler_nobody_gets_in(context: zmq.Context[Socket]) -> None:
    """Libzmq's own default would be everybody."""
    assert zmq.EVENT_HANDSHAKE_SUCCEEDED != knock(context, None)
