"""What each connection asks of XPUB, so that none asks too much. Run by live's worker.

libzmq keeps every topic that a peer subscribes to, admitted or not, and takes frames as fast as
they come; nothing bounds either. All topics lie in one tree with a node for each byte, and the end
of any connection walks through all of it, in the thread that serves the chat (4.3.5,
generic_mtrie_impl.hpp, rm). There is no option against it, nor one to end a connection; but a
message tells by which descriptor it came (zmq_msg_get(3), ZMQ_SRCFD). ADR 0023.
"""

from __future__ import annotations

import contextlib
import socket as sockets
import time
from collections.abc import Callable

import zmq

from common.limits import ROOMS_PER_SESSION_MAX

# Topics that a connection holds and that are no room's: its inbox, keys that are no longer valid.
# In bytes, for so much the tree grows; honest ones have ten to fifty.
STRANGE_BYTES_MAX = 1024
# Frames: all of a client's rooms several times over, and then as many a second as no client asks.
FRAMES_BURST_MAX = 4 * ROOMS_PER_SESSION_MAX
FRAMES_PER_S = 5_000
WRONG_FRAMES_MAX = 64  # That are no subscriptions; a SUB sends none at all.
# Frames of an ended connection that may still wait to be heard: what is in a pipe, and what the
# kernel held.
LEFTOVERS_MAX = 10_000
READ_BYTES = 64 * 1024
NOBODY = -1  # No descriptor: within the process, or a connection that is gone.


def _nothing() -> None:
    pass


class Asked:
    """By one connection, since it was accepted."""

    __slots__ = (
        "frames_allowed",
        "heard_at_s",
        "is_cut",
        "judged_from",
        "key",
        "strange",
        "strange_bytes",
        "wrong_count",
    )

    def __init__(self, now_s: float, judged_from: int) -> None:
        self.frames_allowed: float = FRAMES_BURST_MAX
        self.heard_at_s = now_s
        self.strange: set[bytes] = set()
        self.strange_bytes = 0
        self.wrong_count = 0
        self.is_cut = False
        self.judged_from = judged_from  # Counted in frames of all.
        self.key = b""  # Of whoever is there, where that is encrypted.

    def count_frame(self, now_s: float) -> None:
        """Take one from what is allowed, which grows with time."""
        allowed = self.frames_allowed + (now_s - self.heard_at_s) * FRAMES_PER_S
        self.frames_allowed = min(FRAMES_BURST_MAX, allowed) - 1
        self.heard_at_s = now_s

    def is_too_much(self) -> bool:
        """Tell whether no honest client asks so much."""
        return (
            self.frames_allowed < 0
            or self.strange_bytes > STRANGE_BYTES_MAX
            or self.wrong_count > WRONG_FRAMES_MAX
        )


class Connections:
    """Of one endpoint, by descriptor.

    A descriptor is given away again as soon as its connection has ended, while frames that came
    through it still wait. So nobody is judged before all is heard that waited when it was accepted.
    """

    def __init__(
        self, cut: Callable[[int], None], clock: Callable[[], float] = time.monotonic
    ) -> None:
        """`cut` ends the connection of a descriptor; the clock is in seconds."""
        self._cut = cut
        self._clock = clock
        self._asked: dict[int, Asked] = {}
        self._fresh: list[int] = []
        self._frames_count = 0
        self.listen: Callable[[], None] = _nothing  # Has `changed` called for what happened.

    def changed(self, descriptor: int) -> None:
        """Forget what was asked through this descriptor: it is nobody's now, or another's."""
        self._asked[descriptor] = Asked(self._clock(), self._frames_count + LEFTOVERS_MAX)
        self._fresh.append(descriptor)

    def all_heard(self) -> None:
        """Note that no frame waits, of whatever ended so far."""
        self.listen()
        for descriptor in self._fresh:
            asked = self._asked[descriptor]
            asked.judged_from = self._frames_count
            self._judge(descriptor, asked)
        self._fresh.clear()

    def may_ask(self, descriptor: int) -> bool:
        """Count a frame; tell whether whoever sent it is still listened to."""
        if descriptor == NOBODY:
            return True
        self._frames_count += 1
        asked = self._of(descriptor)
        if asked.is_cut:
            self.listen()  # Is it still the same connection?
            asked = self._of(descriptor)
        if asked.judged_from <= self._frames_count:
            asked.count_frame(self._clock())
        return not self._judge(descriptor, asked)

    def is_strange(self, descriptor: int, topic: bytes) -> None:
        """Note that it wants to hear what is no room of its own."""
        if descriptor == NOBODY:
            return
        asked = self._of(descriptor)
        if topic not in asked.strange and not asked.is_cut:
            asked.strange.add(topic)
            asked.strange_bytes += len(topic)
            self._judge(descriptor, asked)

    def unsubscribed(self, descriptor: int, topic: bytes) -> None:
        """Note that it wants to hear this no more."""
        asked = self._asked.get(descriptor)
        if asked is not None and topic in asked.strange:
            asked.strange.remove(topic)
            asked.strange_bytes -= len(topic)

    def is_of(self, descriptor: int, key: bytes) -> None:
        """Note whose connection it is."""
        if descriptor != NOBODY:
            self._of(descriptor).key = key

    def cut_off(self, is_out: Callable[[bytes], bool]) -> None:
        """End the connections of those keys for which the claim holds."""
        self.listen()
        for descriptor, asked in self._asked.items():
            if asked.key and not asked.is_cut and is_out(asked.key):
                asked.is_cut = True
                asked.strange.clear()
                self._cut(descriptor)

    def was_wrong(self, descriptor: int) -> None:
        """Note that it said what nobody says here."""
        if descriptor != NOBODY:
            asked = self._of(descriptor)
            asked.wrong_count += 1
            self._judge(descriptor, asked)

    def _of(self, descriptor: int) -> Asked:
        asked = self._asked.get(descriptor)
        if asked is None:
            asked = self._asked[descriptor] = Asked(self._clock(), self._frames_count)
        return asked

    def _judge(self, descriptor: int, asked: Asked) -> bool:
        """Cut it off if it asked too much; tell whether it is cut off."""
        is_due = asked.judged_from <= self._frames_count
        if is_due and not asked.is_cut and asked.is_too_much():
            self.listen()
            if self._asked[descriptor] is asked:
                asked.is_cut = True
                asked.strange.clear()
                self._cut(descriptor)
        return asked.is_cut


def descriptor_of(frame: zmq.Frame) -> int:
    """Return the descriptor by which a frame came, or NOBODY."""
    try:
        descriptor = frame.get(zmq.SRCFD)
    except zmq.ZMQError:
        return NOBODY
    assert isinstance(descriptor, int)
    return descriptor


def cutter(port: int) -> Callable[[int], None]:
    """Return what ends connections to a port, and touches no others.

    The descriptor may belong to something else by now: a file, or a client of another port. When
    it belongs to another client of this port, that one connects again and resumes.
    """

    def cut(descriptor: int) -> None:
        with contextlib.suppress(OSError):  # It is gone already.
            found = sockets.socket(fileno=descriptor)
            try:
                if _is_accepted_at(found, port):
                    found.shutdown(sockets.SHUT_RDWR)
                    # What the kernel still holds is nobody's to hear; after that no more comes in.
                    while found.recv(READ_BYTES, sockets.MSG_DONTWAIT):
                        pass
            finally:
                found.detach()

    return cut


def _is_accepted_at(found: sockets.socket, port: int) -> bool:
    return (
        found.family in (sockets.AF_INET, sockets.AF_INET6)
        and not found.getsockopt(sockets.SOL_SOCKET, sockets.SO_ACCEPTCONN)
        and found.getsockname()[1] == port
    )
