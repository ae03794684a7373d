"""One question without a session, such as how a broker is. Owns its socket for a call."""

from __future__ import annotations

import contextlib
import time

import zmq

from client.connection import FAILED, CurveKeys, barrier_of, open_socket
from client.limits import REPLY_BYTES_MAX
from common import wire
from common.endpoints import Address
from common.errors import Barred, Malformed, Refused, Unreachable


def ask(address: Address, keys: CurveKeys | None, left_s: float) -> wire.Greeting:
    """Say GREET and return the answer; raise `Unreachable`, its kind `Barred`, or `Refused`."""
    reply = exchange(address, keys, left_s, wire.Greet(1))
    if type(reply) is not wire.Greeting:
        raise Unreachable(nobody(address))
    return reply


def exchange(
    address: Address, keys: CurveKeys | None, left_s: float, command: wire.Payload
) -> wire.Payload:
    """Say something and return the answer; raise as `ask` does."""
    end_s = time.monotonic() + left_s
    with zmq.Context() as context, open_socket(context, zmq.DEALER, address.host, keys) as dealer:
        dealer.setsockopt(zmq.MAXMSGSIZE, REPLY_BYTES_MAX)
        with dealer.get_monitor_socket(FAILED) as monitor:
            dealer.connect(address.url())
            # A broker that has hung up on the handshake already leaves nothing to send to, and
            # waiting for it would have no end: the monitor knows why.
            with contextlib.suppress(zmq.Again):
                dealer.send_multipart(wire.command_frames(wire.NO_TOKEN, command), zmq.NOBLOCK)
            try:
                reply = _answer(address, dealer, monitor, end_s)
            finally:
                dealer.disable_monitor()
    if type(reply) is wire.Error:
        raise Refused(reply.code, reply.detail, reply.value)
    return reply


def _answer(
    address: Address,
    dealer: zmq.Socket[bytes],
    monitor: zmq.Socket[bytes],
    end_s: float,
) -> wire.Payload:
    """Wait for the answer, or for a handshake that fails; raise `Unreachable`."""
    poller = zmq.Poller()
    poller.register(dealer, zmq.POLLIN)
    poller.register(monitor, zmq.POLLIN)
    if ready := dict(poller.poll(max(int((end_s - time.monotonic()) * 1000), 0))):
        if dealer in ready:
            try:
                return wire.parse_reply(dealer.recv_multipart())
            except Malformed as error:
                raise Unreachable(f"{nobody(address)}: {error}") from error
        raise Barred(barrier_of(monitor.recv_multipart()))
    raise Unreachable(nobody(address))


def nobody(address: Address) -> str:
    """Return the sentence for silence."""
    return f"no broker answers at {address.text}"
