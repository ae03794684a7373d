"""The introduction endpoint: tells everybody the broker's public key, in the clear.

A thread of the history process, so that it takes nothing from live.

Whoever asks has no key of ours yet, so it cannot be encrypted; PROTOCOL.md, "INTRODUCTION", says
what that does not protect from. It says the same to everybody, whatever they say, and not often.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable

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
# Nobody who connects here has a key, and libzmq lets them stay for as long as they like; with ever
# more of them no descriptor would be left for history, which the same process serves.
VISIT_S = 10.0


class Visits:
    """How long connections have been here, by descriptor, those that came first at the front."""

    def __init__(
        self, cut: Callable[[int], None], clock: Callable[[], float] = time.monotonic
    ) -> None:
        """`cut` ends the connection of a descriptor; the clock is in seconds."""
        self._cut = cut
        self._clock = clock
        self._ends_s: dict[int, float] = {}

    def changed(self, descriptor: int) -> None:
        """Note that this descriptor is another connection's now, or nobody's."""
        self._ends_s.pop(descriptor, None)
        self._ends_s[descriptor] = self._clock() + VISIT_S

    def end(self) -> float:
        """End those that have lasted long enough; return the seconds until the next one."""
        now_s = self._clock()
        while self._ends_s:
            descriptor, end_s = next(iter(self._ends_s.items()))
            if end_s > now_s:
                return end_s - now_s
            del self._ends_s[descriptor]
            self._cut(descriptor)
        return VISIT_S


def new_socket(context: zmq.Context[zmq.Socket[bytes]], address: str) -> zmq.Socket[bytes]:
    """Return the socket, to be bound."""
    socket = bound_socket(context, zmq.REP, address, QUESTION_BYTES_MAX)
    socket.setsockopt(zmq.RCVHWM, QUESTIONS_WAITING_MAX)
    socket.setsockopt(zmq.SNDHWM, QUESTIONS_WAITING_MAX)
    return socket


def introduction(key: bytes) -> list[bytes]:
    """Return the frames that tell a public key, 32 raw bytes."""
    return wire.reply_frames(Introduction(0, PROTOCOL_VERSION, key, VERSION))


def serve(socket: zmq.Socket[bytes], door: Door, visits: Visits, key: bytes) -> None:
    """Answer until the context ends. Owns the socket, a REP, its door and who is there."""
    reply = introduction(key)
    poller = zmq.Poller()
    poller.register(socket, zmq.POLLIN)
    poller.register(door.events, zmq.POLLIN)
    try:
        while True:
            wait_s = min(door.deadline_s - time.monotonic(), visits.end())
            ready = dict(poller.poll(max(0, int(wait_s * 1_000) + 1)))
            if door.events in ready:
                door.listen()
            door.look(time.monotonic())
            if socket in ready:
                with contextlib.suppress(zmq.Again):  # What is no question REP throws away.
                    socket.recv_multipart(zmq.NOBLOCK)
                    socket.send_multipart(reply)
                    time.sleep(1 / PER_S_MAX)
    except zmq.ContextTerminated:
        pass
    finally:
        door.close()
        socket.close()
