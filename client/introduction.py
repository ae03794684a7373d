"""What a stranger can be asked before anything is encrypted: how it talks, and its key.

Everything here is said by whoever happens to be at the address: it may be slow, too long, wrong
or a lie. Each question has a time-out and a bound, and what does not fit counts as no answer.
"""

from __future__ import annotations

import time
from typing import Final

import zmq

from client.connection import open_socket
from common import wire
from common.endpoints import PORT_MAX, Address
from common.errors import Malformed, Unreachable
from common.keys import CURVE_KEY_BYTES
from common.limits import COMMAND_FRAMES
from common.order import Introduction

PORT_OFFSET: Final = 3  # PROTOCOL.md, "Sockets".
ANSWER_BYTES_MAX: Final = 1_024
# ZMTP 3.1 (ZeroMQ RFC 37), "Greeting": signature, version, mechanism, as-server, filler.
GREETING_BYTES: Final = 64
SIGNATURE: Final = b"\xff" + bytes(8) + b"\x7f"
VERSION: Final = b"\x03\x01"
MECHANISM: Final = slice(12, 32)
# So many bytes of its greeting libzmq wants before it sends the rest of its own, whatever
# mechanism it has. With all of ours it would hang up at a mechanism that is not its own.
OPENING: Final = SIGNATURE + VERSION


def mechanism_at(address: Address, timeout_s: float) -> str | None:
    """Return "NULL", "CURVE" or what else is spoken there; None for no answer in ZMTP 3.

    Half a millisecond with a broker on this host. No session, and nothing in the broker's log but
    a connection that ended.
    """
    greeting = b""
    is_up = False
    deadline_s = time.monotonic() + timeout_s
    with zmq.Context() as context, open_socket(context, zmq.STREAM, address.host) as stream:
        stream.setsockopt(zmq.MAXMSGSIZE, ANSWER_BYTES_MAX)
        stream.connect(address.url())
        while len(greeting) < GREETING_BYTES:
            if not stream.poll(max(int((deadline_s - time.monotonic()) * 1000), 0)):
                return None
            peer, piece = stream.recv_multipart()
            if piece:
                greeting += piece
            elif is_up:
                return None  # It has hung up.
            else:
                is_up = True  # libzmq says so with an empty message.
                try:
                    stream.send_multipart([peer, OPENING], zmq.NOBLOCK)
                except zmq.ZMQError:
                    return None  # It has hung up already.
    return read_mechanism(greeting)


def read_mechanism(greeting: bytes) -> str | None:
    """Return the mechanism of a ZMTP 3 greeting of 64 bytes or more; None for anything else."""
    is_zmtp = len(greeting) >= GREETING_BYTES and greeting[:1] == b"\xff"
    if not is_zmtp or not greeting[9] & 1 or greeting[10] < VERSION[0]:
        return None
    name = greeting[MECHANISM].rstrip(b"\0")
    return name.decode() if name.isalnum() and name.isascii() else None


def ask_key(address: Address, timeout_s: float) -> bytes:
    """Ask for a broker's public key (32 bytes); raise `Unreachable` where there is no answer.

    Whoever answers may be somebody else: only a handshake proves that the key is theirs.
    """
    port = address.port + PORT_OFFSET
    nobody = Unreachable(
        f"the broker at {address.text} encrypts, but does not tell its key on port {port}: "
        "use the join line that `hubbub-broker key` prints there"
    )
    if port > PORT_MAX:
        raise nobody
    with zmq.Context() as context, open_socket(context, zmq.REQ, address.host) as req:
        req.setsockopt(zmq.MAXMSGSIZE, ANSWER_BYTES_MAX)
        req.connect(address.url(port))
        try:
            req.send_multipart(wire.command_frames(wire.NO_TOKEN, wire.Greet(1)), zmq.NOBLOCK)
        except zmq.Again as error:  # Whoever is there has hung up on the handshake.
            raise nobody from error
        if not req.poll(max(int(timeout_s * 1000), 0)):
            raise nobody
        try:
            answer = wire.parse_reply(req.recv_multipart()[: COMMAND_FRAMES + 1])
        except Malformed as error:
            raise nobody from error
    if type(answer) is not Introduction or len(answer.key) != CURVE_KEY_BYTES:
        raise nobody
    return answer.key
