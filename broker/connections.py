"""What each connection has asked of XPUB, so that none asks too much. Run by live's worker.

libzmq keeps whatever a peer subscribes to, admitted or not, and nothing bounds it. What is worse:
when the connection ends it forgets all of it in one go, in the thread that serves the chat
(4.3.5, xpub.cpp, xpipe_terminated): 50 ms for 40,000 topics. There is no option against it, nor one
to end a connection; but a message tells by which descriptor it came (zmq_msg_get(3), ZMQ_SRCFD).
"""

from __future__ import annotations

import contextlib
import socket as sockets
from collections.abc import Callable

import zmq

from common.limits import ROOMS_PER_SESSION_MAX

# Of a client: all its rooms and its inbox, and some that it was refused.
TOPICS_PER_CONNECTION_MAX = ROOMS_PER_SESSION_MAX + 64
WRONG_FRAMES_MAX = 64  # A SUB sends none at all.
# Frames of an ended connection that may still wait to be heard: what is in a pipe, and what the
# kernel held.
LEFTOVERS_MAX = 10_000
READ_BYTES = 64 * 1024
NOBODY = -1  # No descriptor: within the process, or a connection that is gone.


def _nothing() -> None:
    pass


class Asked:
    """By one connection, since it was accepted."""

    __slots__ = ("is_cut", "leftovers_until", "topics", "turn", "wrong_count")

    def __init__(self, turn: int, leftovers_until: int) -> None:
        self.topics: set[bytes] = set()
        self.wrong_count = 0
        self.is_cut = False
        self.turn = turn
        self.leftovers_until = leftovers_until


class Connections:
    """Of one endpoint, by descriptor.

    A descriptor is given away again as soon as its connection has ended, while frames that came
    through it still wait. So what a descriptor says does not count from when it was accepted until
    all that waited then has been heard.
    """

    def __init__(self, cut: Callable[[int], None]) -> None:
        """`cut` ends the connection of a descriptor."""
        self._cut = cut
        self._asked: dict[int, Asked] = {}
        self._frames_count = 0
        self._turn = 0  # How often nothing was left to be heard.
        self.listen: Callable[[], None] = _nothing  # Has `accepted` called for who was accepted.

    def accepted(self, descriptor: int) -> None:
        """Forget what was asked through this descriptor: another connection has it now."""
        self._asked[descriptor] = Asked(self._turn, self._frames_count + LEFTOVERS_MAX)

    def all_heard(self) -> None:
        """Note that no frame waits, for whomever was accepted so far."""
        self.listen()
        self._turn += 1

    def may_subscribe(self, descriptor: int, topic: bytes) -> bool:
        """Note that it wants to hear this; tell whether it is still listened to."""
        asked = self._counted(descriptor)
        if asked is None:
            return True
        if not asked.is_cut:
            asked.topics.add(topic)
            self._judge(descriptor, asked)
        return not asked.is_cut

    def unsubscribed(self, descriptor: int, topic: bytes) -> None:
        """Note that it wants to hear this no more."""
        asked = self._asked.get(descriptor)
        if asked is not None:
            asked.topics.discard(topic)

    def was_wrong(self, descriptor: int) -> None:
        """Note that it said what nobody says here."""
        asked = self._counted(descriptor)
        if asked is not None:
            asked.wrong_count += 1
            self._judge(descriptor, asked)

    def _counted(self, descriptor: int) -> Asked | None:
        """Return the books of whose frame this is; None if that cannot be known."""
        if descriptor == NOBODY:
            return None
        self._frames_count += 1
        asked = self._asked.get(descriptor)
        if asked is None:
            asked = self._asked[descriptor] = Asked(self._turn, self._frames_count)
        elif asked.turn == self._turn and self._frames_count <= asked.leftovers_until:
            return None
        return asked

    def _judge(self, descriptor: int, asked: Asked) -> None:
        is_too_much = (
            len(asked.topics) > TOPICS_PER_CONNECTION_MAX or asked.wrong_count > WRONG_FRAMES_MAX
        )
        if is_too_much and not asked.is_cut:
            asked.is_cut = True
            asked.topics.clear()
            self.listen()
            if self._asked[descriptor] is asked:
                self._cut(descriptor)


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
                if found.getsockname()[1] == port:
                    found.shutdown(sockets.SHUT_RDWR)
                    # What the kernel still holds is nobody's to hear; after that no more comes in.
                    while found.recv(READ_BYTES, sockets.MSG_DONTWAIT):
                        pass
            finally:
                found.detach()

    return cut
