"""Stand-ins for libzmq's sockets: one connection each, made again in libzmq's own rhythm.

What a client library does with DEALER, SUB and REQ when a broker dies, for thousands of clients
in one thread: `bench.zmtp` over `links`.
"""

from __future__ import annotations

import heapq
import itertools
import secrets
import time
from collections.abc import Callable, Iterator
from typing import Final

from bench import zmtp
from bench.curve import Keys
from bench.generator.links import Link, Lost, Net
from client.limits import RECONNECT_MS, RECONNECT_MS_MAX

Messages = list[list[bytes]]  # Each as its frames.
SERVED_MAX: Final = 64  # Timers that are served in a row.


def _nothing() -> None:
    """Take no notice."""


class Timetable:
    """What is to be done later. One thread."""

    def __init__(self) -> None:
        self._calls: list[tuple[float, int, Callable[[], None]]] = []
        self._count = itertools.count()  # Of two of the same time the older goes first.

    def after(self, pause_s: float, call: Callable[[], None]) -> None:
        """Have something done after a pause."""
        at_s = time.monotonic() + pause_s
        heapq.heappush(self._calls, (at_s, next(self._count), call))

    def run_due(self) -> None:
        """Do what is due, a bounded part of it."""
        for _ in range(SERVED_MAX):
            if self.wait_s() > 0:
                return
            heapq.heappop(self._calls)[2]()

    def wait_s(self) -> float:
        """Return how long nothing is due; infinite when there is nothing."""
        return self._calls[0][0] - time.monotonic() if self._calls else float("inf")


def pauses_s() -> Iterator[float]:
    """Yield how long libzmq waits before each attempt to connect again, with our client's options.

    RECONNECT_IVL, which each client draws for itself, then twice as long each time, up to
    RECONNECT_IVL_MAX (stream_connecter_base.cpp, get_new_reconnect_ivl).
    """
    pause_ms = RECONNECT_MS + secrets.randbelow(RECONNECT_MS)
    while True:
        yield pause_ms / 1_000
        pause_ms = min(2 * pause_ms, RECONNECT_MS_MAX)


class LightSocket:
    """One DEALER, SUB or REQ and its connection. Belongs to the thread of its `Net`.

    `up` is called when the peer's READY has come, `down` when the connection is lost after that,
    and `heard` with each read's messages.
    """

    __slots__ = (
        "_down",
        "_frames",
        "_heard",
        "_is_closed",
        "_keys",
        "_kind",
        "_link",
        "_net",
        "_pauses_s",
        "_timetable",
        "_up",
        "is_up",
        "port",
    )

    def __init__(
        self,
        kind: bytes,
        net: Net,
        timetable: Timetable,
        port: int,
        *,
        heard: Callable[[Messages], None],
        up: Callable[[], None] = _nothing,
        down: Callable[[], None] = _nothing,
        keys: Keys | None = None,
    ) -> None:
        """Begin to connect; `kind` is the socket's type, such as `b"SUB"`.

        With `keys` its connections are encrypted.
        """
        self.port = port
        self.is_up = False
        self._keys = keys
        self._kind = kind
        self._net = net
        self._timetable = timetable
        self._heard = heard
        self._up = up
        self._down = down
        self._is_closed = False
        self._frames = zmtp.Frames()
        self._link: Link | None = None
        self._pauses_s = pauses_s()
        self._connect()

    def send(self, message: bytes) -> None:
        """Send a message, or what stands for several; it is dropped while nobody is there."""
        if self.is_up and self._link is not None:
            self._link.write(message)

    def close(self) -> None:
        """Close the connection, and make no other."""
        self._is_closed = True
        self.is_up = False
        if self._link is not None:
            self._net.close_link(self._link)
            self._link = None

    def _connect(self) -> None:
        if self._is_closed:
            return
        self._frames = zmtp.Frames()
        try:
            self._link = self._net.open(self.port, self._take, self._lost, self._keys)
        except Lost:
            self._timetable.after(next(self._pauses_s), self._connect)
        else:
            self._link.write(zmtp.opening(self._kind))

    def _lost(self) -> None:
        self._link = None
        was_up, self.is_up = self.is_up, False
        if was_up:
            self._pauses_s = pauses_s()
        self._timetable.after(next(self._pauses_s), self._connect)
        if was_up:
            self._down()

    def _take(self, data: bytes) -> None:
        frames = self._frames
        messages = frames.feed(data)
        if not self.is_up and frames.is_ready:
            self.is_up = True
            self._up()
        answers = frames.take_answers()
        if answers:
            self.send(answers)
        if messages and not self._is_closed:
            self._heard(messages)
