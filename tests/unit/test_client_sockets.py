"""The sockets of a client, as far as their options are a promise to the broker."""

from __future__ import annotations

import pytest
import zmq

from client.connection import open_socket
from client.limits import CONNECT_MS_MAX, RECONNECT_MS, RECONNECT_MS_MAX, UNACKED_MS_MAX


@pytest.mark.parametrize("kind", [zmq.DEALER, zmq.SUB, zmq.REQ])
def test_no_connection_outlives_a_cut_cable(kind: int) -> None:
    """TCP alone would hold on for minutes, and send again two minutes apart."""
    with zmq.Context() as context, open_socket(context, kind, "127.0.0.1") as socket:
        assert UNACKED_MS_MAX == socket.getsockopt(zmq.TCP_MAXRT)
        assert CONNECT_MS_MAX == socket.getsockopt(zmq.CONNECT_TIMEOUT)


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
