"""A peer that speaks the wire by hand, so that it can also speak it wrongly."""

from __future__ import annotations

import os
from collections.abc import Callable
from types import TracebackType
from typing import Self, TypeVar

import zmq

from common import topics, wire
from common.wire import Payload
from tests.waiting import DEADLINE_S, eventually

P = TypeVar("P", bound=Payload)
WAIT_MS = int(DEADLINE_S * 1_000)


class RawPeer:
    """DEALER, SUB and REQ to one broker, used from one thread."""

    def __init__(
        self,
        port: int,
        host: str = "127.0.0.1",
        *,
        server: bytes = b"",
        own: tuple[bytes, bytes] | None = None,
    ) -> None:
        """Connect; say nothing yet.

        server: the broker's public key, 32 raw bytes, where it encrypts. own: one's own keys,
        public and secret, as `zmq.curve_keypair` returns them; drawn unless given.
        """
        self._server = server
        self.public, self._secret = own or (zmq.curve_keypair() if server else (b"", b""))
        self.token = os.urandom(16)
        self.instance = int.from_bytes(os.urandom(6), "big")
        self.owner = os.urandom(32)
        self._id = 0
        self._context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
        self.dealer = self._socket(zmq.DEALER, host, port)
        self.sub = self._socket(zmq.SUB, host, port + 1)
        self.req = self._socket(zmq.REQ, host, port + 2)

    def _socket(self, kind: int, host: str, port: int) -> zmq.Socket[bytes]:
        socket = self._context.socket(kind)
        socket.setsockopt(zmq.LINGER, 0)
        socket.setsockopt(zmq.IPV6, int(":" in host))
        if self._server:
            socket.setsockopt(zmq.CURVE_SERVERKEY, self._server)
            socket.setsockopt(zmq.CURVE_PUBLICKEY, self.public)
            socket.setsockopt(zmq.CURVE_SECRETKEY, self._secret)
        socket.connect(f"tcp://[{host}]:{port}" if ":" in host else f"tcp://{host}:{port}")
        return socket

    def next_id(self) -> int:
        """Return an id for a command."""
        self._id += 1
        return self._id

    def send(self, command: Payload, token: bytes | None = None) -> None:
        """Send a command and wait for nothing."""
        self.dealer.send_multipart(wire.command_frames(token or self.token, command))

    def receive(self) -> Payload:
        """Return the next answer."""
        assert self.dealer.poll(WAIT_MS), "the broker did not answer"
        return wire.parse_reply(self.dealer.recv_multipart())

    def ask(self, command: Payload, kind: type[P], token: bytes | None = None) -> P:
        """Send a command and return its answer, which must be of this kind."""
        self.send(command, token)
        answer = self.receive()
        assert isinstance(answer, kind), answer
        return answer

    def ask_frames(self, *frames: bytes) -> wire.Error:
        """Send raw frames and return the refusal."""
        self.dealer.send_multipart(list(frames))
        answer = self.receive()
        assert isinstance(answer, wire.Error), answer
        return answer

    def hello(self, nick: str) -> wire.Welcome:
        """Open the inbox and say hello."""
        self.sub.subscribe(topics.inbox(self.token))
        hello = wire.Hello(self.next_id(), nick, self.owner, self.instance, 1)
        return self.ask(hello, wire.Welcome)

    def await_inbox(self) -> None:
        """Wait until the broker has seen the inbox: it refuses what is subscribed after it."""
        refused = self.ask(wire.Greet(self.next_id()), wire.Greeting).refused
        self.sub.subscribe(b"no such topic")
        eventually(
            lambda: self.ask(wire.Greet(self.next_id()), wire.Greeting).refused > refused,
            "the inbox",
        )

    def join(self, room: str) -> wire.Joined:
        """Join, subscribe, and wait for the head that proves the subscription."""
        joined = self.ask(wire.Join(self.next_id(), room), wire.Joined)
        self.sub.subscribe(joined.subscription)
        self.await_publication(wire.Batch, lambda _: True)
        return joined

    def publication(self) -> wire.Publication:
        """Return the next publication."""
        assert self.sub.poll(WAIT_MS), "nothing was published"
        return wire.parse_publication(topics.split_publication(self.sub.recv())[1])

    def await_publication(self, kind: type[P], claim: Callable[[P], bool]) -> P:
        """Return the first publication of this kind for which the claim holds."""
        while True:
            found = self.publication()
            if isinstance(found, kind) and claim(found):
                return found

    def await_texts(self, *texts: str) -> None:
        """Read publications until these texts have come, in this order, and no others."""
        missing = list(texts)
        while missing:
            batch = self.await_publication(wire.Batch, lambda batch: bool(batch.posts))
            for post in batch.posts:
                for text in post.texts:
                    assert text == missing.pop(0)

    def history(self, request: wire.History) -> tuple[Payload, list[wire.Batch]]:
        """Ask for history and return the answer and its batches."""
        self.req.send_multipart(wire.command_frames(wire.NO_TOKEN, request))
        assert self.req.poll(WAIT_MS), "history did not answer"
        frames = self.req.recv_multipart()
        return wire.parse_reply(frames), [wire.decode_batch(frame) for frame in frames[2:]]

    def close(self) -> None:
        """Leave without a word, as a killed process does."""
        self._context.destroy(0)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()
