"""The sockets of a client, as far as their options are a promise to the broker."""

from __future__ import annotations

import socket as sockets
import sys
from contextlib import ExitStack

import pytest
import zmq
from zmq.utils.monitor import parse_monitor_message

from client import limits
from client.connection import barrier_of, open_socket
from client.keys import new_keys
from client.limits import CONNECT_MS_MAX, RECONNECT_MS, RECONNECT_MS_MAX, UNACKED_MS_MAX
from common.certificates import new_pair
from common.errors import Barrier
from tests.waiting import DEADLINE_S


@pytest.mark.parametrize("kind", [zmq.DEALER, zmq.SUB, zmq.REQ])
def test_no_connection_outlives_a_cut_cable(kind: int) -> None:
    """TCP alone would hold on for minutes, and send again two minutes apart."""
    with zmq.Context() as context, open_socket(context, kind, "127.0.0.1") as socket:
        assert UNACKED_MS_MAX == socket.getsockopt(zmq.TCP_MAXRT)
        assert CONNECT_MS_MAX == socket.getsockopt(zmq.CONNECT_TIMEOUT)


def test_a_connection_that_does_not_come_about_is_given_up(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """To a host that does not answer TCP alone would try for two minutes; shortened here."""
    monkeypatch.setattr(limits, "CONNECT_MS_MAX", 200)
    with ExitStack() as stack:
        listener = stack.enter_context(sockets.create_server(("127.0.0.1", 0), backlog=0))
        address = listener.getsockname()
        # Its queue has one place; Linux does not answer whoever comes when it is taken.
        stack.enter_context(sockets.create_connection(address, DEADLINE_S))
        context = stack.enter_context(zmq.Context())
        socket = stack.enter_context(open_socket(context, zmq.DEALER, "127.0.0.1"))
        monitor = stack.enter_context(
            socket.get_monitor_socket(zmq.EVENT_CONNECTED | zmq.EVENT_CONNECT_RETRIED)
        )
        socket.connect(f"tcp://{address[0]}:{address[1]}")
        assert monitor.poll(int(DEADLINE_S * 1_000))
        event = parse_monitor_message(monitor.recv_multipart())["event"]
        assert zmq.EVENT_CONNECT_RETRIED == event
        socket.disable_monitor()


def test_clients_do_not_come_back_all_at_once() -> None:
    """Each waits a time of its own before it connects again."""
    with zmq.Context() as context:
        waits_ms: set[int] = set()
        for _ in range(64):
            with open_socket(context, zmq.DEALER, "127.0.0.1") as socket:
                assert RECONNECT_MS_MAX == socket.getsockopt(zmq.RECONNECT_IVL_MAX)
                waits_ms.add(int(socket.getsockopt(zmq.RECONNECT_IVL)))
    assert len(waits_ms) > 8
    assert RECONNECT_MS <= min(waits_ms) <= max(waits_ms) < 2 * RECONNECT_MS


@pytest.mark.parametrize(
    ("event", "value", "barrier"),
    [
        (zmq.EVENT_HANDSHAKE_FAILED_AUTH, 400, Barrier.NOT_ALLOWED),
        (zmq.EVENT_HANDSHAKE_FAILED_AUTH, 500, Barrier.BROKEN_OFF),
        (
            zmq.EVENT_HANDSHAKE_FAILED_PROTOCOL,
            zmq.PROTOCOL_ERROR_ZMTP_MECHANISM_MISMATCH,
            Barrier.OTHER_MECHANISM,
        ),
        (
            zmq.EVENT_HANDSHAKE_FAILED_PROTOCOL,
            zmq.PROTOCOL_ERROR_ZMTP_UNSPECIFIED,
            Barrier.FOREIGN,
        ),
        (zmq.EVENT_HANDSHAKE_FAILED_NO_DETAIL, 32, Barrier.BROKEN_OFF),
    ],
)
def test_each_failed_handshake_is_told(event: int, value: int, barrier: Barrier) -> None:
    message = event.to_bytes(2, sys.byteorder) + value.to_bytes(4, sys.byteorder)
    assert barrier == barrier_of([message, b"tcp://127.0.0.1:1"])


@pytest.mark.parametrize("kind", [zmq.DEALER, zmq.SUB, zmq.REQ])
def test_every_socket_encrypts_where_one_does(kind: int) -> None:
    keys = new_keys(new_pair().public)
    with zmq.Context() as context, open_socket(context, kind, "127.0.0.1", keys) as socket:
        assert zmq.CURVE == socket.getsockopt(zmq.MECHANISM)
