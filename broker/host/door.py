"""A listening endpoint, and what happens when no descriptor is left for whoever knocks.

A listener of libzmq that cannot accept tries again at once, and for ever: a core is gone until
some connection ends (4.3.5, tcp_listener.cpp). It must not be closed either, for with it libzmq
closes every connection that came through it (4.3.5, own.cpp). So somebody else takes those who
knock from its queue: `broker.host.bouncer`, a process for a second, and again as long as need be.
"""

from __future__ import annotations

import contextlib
import errno
import logging
import math
import os
import socket as sockets
import sys
from collections.abc import Callable
from pathlib import Path

import zmq

from broker.host.trouble import Trouble

# Of accept(2): nothing is wrong with the one who knocks; this process or machine has no place.
NO_PLACE = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM})
EVENTS_MAX = 1_000  # Read at once.
LOOK_EVERY_S = 0.25  # Whether the bouncer has ended.
BOUNCER_AGAIN_S = 1.0  # After the machine had no process for a bouncer.
CALM_S = 5.0  # So long without a failure: whatever took the descriptors is over.
OWN_DESCRIPTORS = Path("/proc/self/fd")
BOUNCER = Path(__file__).with_name("bouncer.py")


class Door:
    """Of one socket, and owned by the thread that owns the socket."""

    def __init__(
        self,
        context: zmq.Context[zmq.Socket[bytes]],
        socket: zmq.Socket[bytes],
        endpoint: str,
        logger: logging.Logger,
        changed: Callable[[int], None] | None = None,
    ) -> None:
        """Bind the socket. Raises `zmq.ZMQError`.

        changed: hears of each descriptor that is another connection's now, or nobody's, whenever
        its owner calls `listen`.
        """
        self._endpoint = endpoint
        self._changed = changed
        self._logger = logger
        self._trouble = Trouble()
        self._is_short = False  # Has one been refused for want of place since the last look?
        self._bouncer = 0  # Its process, while there is one.
        self._bounce_at_s = -math.inf  # Not before: the last one could not be started.
        self.deadline_s = math.inf  # When `look` has something to do though no event came.
        monitor = f"inproc://door-{id(self)}"
        events = zmq.EVENT_ACCEPT_FAILED
        if changed is not None:
            events |= zmq.EVENT_ACCEPTED | zmq.EVENT_DISCONNECTED
        socket.monitor(monitor, events)
        self.events = context.socket(zmq.PAIR)
        self.events.setsockopt(zmq.LINGER, 0)
        # Without a bound: libzmq's own thread must never wait until we have read an event. There
        # are as many as connections come and go in a turn of ours, or are tried in the moment until
        # a bouncer is at work.
        self.events.setsockopt(zmq.RCVHWM, 0)
        self.events.connect(monitor)
        socket.bind(endpoint)
        self._listener = _listener(int(endpoint.rpartition(":")[2]))

    def look(self, now_s: float) -> None:
        """Have those turned away who cannot be let in, and see whether that is over."""
        if self._changed is None:
            self.listen()
        is_short, self._is_short = self._is_short, False
        if self._bouncer:
            self._reap(now_s)
        elif is_short and self._listener is not None:
            if now_s >= self._bounce_at_s:
                self._bounce(self._listener, now_s)
        elif now_s >= self.deadline_s:
            self.deadline_s = math.inf
            self._trouble.succeeded()
            self._logger.warning("%s: new connections are let in again", self._endpoint)

    def listen(self) -> None:
        """Read what happened to those who knocked."""
        with contextlib.suppress(zmq.Again):
            # A bound, because a listener that fails makes them faster than they are read.
            for _ in range(EVENTS_MAX):
                head, _ = self.events.recv_multipart(zmq.NOBLOCK)
                # zmq_socket_monitor(3): event (16 bits) and value (32), in the host's order.
                event = int.from_bytes(head[:2], sys.byteorder)
                value = int.from_bytes(head[2:], sys.byteorder)
                if event == zmq.EVENT_ACCEPT_FAILED:
                    self._is_short |= value in NO_PLACE
                elif self._changed is not None:
                    self._changed(value)

    def _bounce(self, listener: int, now_s: float) -> None:
        reason = f"{self._endpoint}: no open file is left (ulimit -n), so new connections are"
        try:
            self._bouncer = _start_bouncer(listener)
        except OSError as error:
            # What leaves no descriptor leaves no process either, at times; the chat goes on.
            reason += f" left waiting: nobody can refuse them ({error.strerror})"
            self._bounce_at_s = now_s + BOUNCER_AGAIN_S
            self.deadline_s = now_s + CALM_S
        else:
            reason += " refused"
            self.deadline_s = now_s + LOOK_EVERY_S
        self._trouble.failed(reason, now_s, self._logger)

    def _reap(self, now_s: float) -> None:
        process, _ = os.waitpid(self._bouncer, os.WNOHANG)
        if not process:
            self.deadline_s = now_s + LOOK_EVERY_S
            return
        self._bouncer = 0
        self.deadline_s = now_s + CALM_S

    def close(self) -> None:
        """Look no more; the socket is its owner's to close."""
        self.events.close()


def _start_bouncer(listener: int) -> int:
    """Return its process. Raises `OSError`. Not subprocess: it takes descriptors for itself."""
    return os.posix_spawn(
        sys.executable,
        [sys.executable, "-I", "-S", str(BOUNCER)],
        {},
        file_actions=[
            (os.POSIX_SPAWN_OPEN, 0, os.devnull, os.O_RDONLY, 0),
            (os.POSIX_SPAWN_OPEN, 1, os.devnull, os.O_WRONLY, 0),
            (os.POSIX_SPAWN_DUP2, listener, 3),
        ],
    )


def _listener(port: int) -> int | None:
    """Return the descriptor on which libzmq listens at a port; None where none can be found."""
    with contextlib.suppress(OSError):
        for path in OWN_DESCRIPTORS.iterdir():
            with contextlib.suppress(OSError):
                found = sockets.socket(fileno=int(path.name))
                try:
                    is_listening = found.getsockopt(sockets.SOL_SOCKET, sockets.SO_ACCEPTCONN)
                    if is_listening and found.getsockname()[1] == port:
                        return int(path.name)
                finally:
                    found.detach()
    return None
