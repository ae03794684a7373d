"""The introduction endpoint: tells everybody the broker's public key, in the clear.

A thread of the history process, so that it takes nothing from live.

Whoever asks has no key of ours yet, so it cannot be encrypted; PROTOCOL.md, "INTRODUCTION", says
what that does not protect from. It says the same to everybody, whatever they say, and not often.
"""

from __future__ import annotations

import time

import zmq

from broker.host.door import Door
from broker.host.sockets import bound_socket
from common import wire
from common.limits import PROTOCOL_VERSION
from common.order import Introduction
from common.version import VERSION

QUESTION_BYTES_MAX = 256
QUESTIONS_WAITING_MAX = 4  # Of one peer.
# Answers a second, to all together: each person asks once, ever.
PER_S_MAX = 200


def new_socket(context: zmq.Context[zmq.Socket[bytes]], address: str) -> zmq.Socket[bytes]:
    """Return the socket, to be bound."""
    socket = bound_socket(context, zmq.REP, address, QUESTION_BYTES_MAX)
    socket.setsockopt(zmq.RCVHWM, QUESTIONS_WAITING_MAX)
    socket.setsockopt(zmq.SNDHWM, QUESTIONS_WAITING_MAX)
    return socket


def introduction(key: bytes) -> list[bytes]:
    """Return the frames that tell a public key, 32 raw bytes."""
    return wire.reply_frames(Introduction(0, PROTOCOL_VERSION, key, VERSION))


def serve(socket: zmq.Socket[bytes], door: Door, key: bytes) -> None:
    """Answer until the context ends. Owns the socket, a REP, and its door."""
    reply = introduction(key)
    poller = zmq.Poller()
    poller.register(socket, zmq.POLLIN)
    poller.register(door.events, zmq.POLLIN)
    try:
        while True:
            wait_s = min(door.deadline_s - time.monotonic(), 60.0)
            ready = dict(poller.poll(max(0, int(wait_s * 1_000) + 1)))
            if door.events in ready or door.deadline_s <= time.monotonic():
                door.look(time.monotonic())
            if socket in ready:
                socket.recv_multipart()
                socket.send_multipart(reply)
                time.sleep(1 / PER_S_MAX)
    except zmq.ContextTerminated:
        pass
    finally:
        door.close()
        socket.close()
