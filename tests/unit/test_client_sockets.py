"""The sockets of a client, as far as their options are a promise to the broker."""

from __future__ import annotations

import zmq

from client.connection import open_socket
from client.limits import RECONNECT_MS, RECONNECT_MS_MAX


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
