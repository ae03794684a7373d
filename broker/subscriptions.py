"""XPUB's ear: who may hear which topic. Run by live's worker; decisions are `broker.chat.core`."""

from __future__ import annotations

import contextlib

import zmq

from broker.chat.core import Core
from broker.connections import Connections, descriptor_of
from broker.host.sockets import discard_rest
from broker.host.zap import Guests, key_of
from broker.metrics.figures import BAD_SUBSCRIPTION as BAD

SUBSCRIPTIONS_MAX = 200  # Then it is time to commit: what is said waits meanwhile.


class Subscriptions:
    """Judges the subscriptions that peers ask of XPUB. Belongs to the thread that owns XPUB.

    In manual mode libzmq keeps beside its queue of frames a queue of the pipes that asked, but
    puts no pipe there for a frame that is data. From such a frame on, until its queue is empty,
    each subscription would be admitted for another peer than the one that asked (4.3.5,
    xpub.cpp, xrecv). Until then nobody is admitted; a client asks again when no beacon comes.
    """

    def __init__(
        self,
        xpub: zmq.Socket[bytes],
        core: Core,
        connections: Connections,
        guests: Guests | None = None,
    ) -> None:
        """guests: who is let in, where that is encrypted."""
        self._xpub = xpub
        self._core = core
        self._connections = connections
        self._guests = guests
        self._is_paired = True  # The frame heard last belongs to the pipe that libzmq takes.

    def drain(self) -> None:
        """Take what has arrived, a bounded number of frames."""
        try:
            for _ in range(SUBSCRIPTIONS_MAX):
                self._hear()
        except zmq.Again:
            self._is_paired = True
            self._connections.all_heard()
        else:
            self._connections.listen()

    def _hear(self) -> None:
        """Take one frame. Raises `zmq.Again`."""
        heard = self._xpub.recv(zmq.NOBLOCK, copy=False)
        frame, descriptor = heard.bytes, descriptor_of(heard)
        may_ask = self._connections.may_ask(descriptor)
        if heard.more or frame[:1] not in (b"\0", b"\1"):
            discard_rest(self._xpub, heard)
            self._core.refusals[BAD] += 1
            self._connections.was_wrong(descriptor)
            self._is_paired = False
        elif not frame[0]:
            self._connections.unsubscribed(descriptor, frame[1:])
            if self._is_paired:
                self._xpub.setsockopt(zmq.UNSUBSCRIBE, frame[1:])
            self._core.unsubscribed(frame[1:])
        elif may_ask:
            self._subscribe(descriptor, frame[1:], self._key_of(heard, descriptor))
        else:  # It was cut off, and had said this before.
            self._core.refusals[BAD] += 1

    def _key_of(self, heard: zmq.Frame, descriptor: int) -> bytes:
        """Return whose frame it is; empty on a plain endpoint."""
        if self._guests is None:
            return b""
        key = key_of(heard)
        self._connections.is_of(descriptor, key)
        return key

    def _subscribe(self, descriptor: int, topic: bytes, key: bytes) -> None:
        if self._guests is not None and not self._guests.admits(key):
            # Struck off the list since its handshake.
            self._connections.cut_off(lambda other: other == key)
            self._core.refusals[BAD] += 1
            return
        greetings = self._core.subscribed(topic, key)
        if not greetings:  # An inbox, or refused.
            self._connections.is_strange(descriptor, topic)
        if greetings is not None and self._is_paired:
            self._xpub.setsockopt(zmq.SUBSCRIBE, topic)  # For the pipe just heard.
            for greeting in greetings:
                self._tell_last(greeting)

    def _tell_last(self, publication: bytes) -> None:
        """Publish to the pipe just heard alone, so that a newcomer costs nobody else anything.

        Before anything else is published the mode is as it was: it lasts until a message goes,
        and would hide the next one from everybody else. xpub.cpp, xsend.
        """
        xpub = self._xpub
        xpub.setsockopt(zmq.XPUB_MANUAL_LAST_VALUE, 1)
        with contextlib.suppress(zmq.Again):  # Its queue is full: it asks again when it has read.
            xpub.send(publication, zmq.NOBLOCK)
        xpub.setsockopt(zmq.XPUB_MANUAL_LAST_VALUE, 0)  # Ends the manual mode too.
        xpub.setsockopt(zmq.XPUB_MANUAL, 1)
