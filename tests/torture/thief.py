"""Somebody who was put out, and goes on listening and reading by all that they ever had.

Each connection of theirs comes back by itself after a kill, and asks again for every topic.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Final

import zmq
from zmq.utils import z85

from client.connection import CurveKeys
from common import wire
from common.errors import Code
from tests.waiting import eventually

STOLEN_MAX: Final = 8  # The newest; who asks for too much that is refused is cut off.
PATIENCE_MS: Final = 1_000
PAGE_ENTRIES: Final = 20


class Thief:
    """A SUB and now and then a REQ, with the keys of who was put out. Owned by one thread."""

    def __init__(self, port: int, keys: CurveKeys | None) -> None:
        """Connect; listen to nothing yet."""
        self._port, self._keys = port, keys
        self._stolen: deque[tuple[str, bytes, bytes]] = deque(maxlen=STOLEN_MAX)
        self._context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
        self._sub = self._socket(zmq.SUB, port + 1)
        self._sub.setsockopt(zmq.RCVHWM, 0)

    def _socket(self, kind: int, port: int) -> zmq.Socket[bytes]:
        socket = self._context.socket(kind)
        socket.linger = 0
        if self._keys:
            socket.setsockopt(zmq.CURVE_SERVERKEY, z85.encode(self._keys.broker))
            socket.setsockopt(zmq.CURVE_PUBLICKEY, z85.encode(self._keys.public))
            socket.setsockopt(zmq.CURVE_SECRETKEY, z85.encode(self._keys.secret))
        socket.connect(f"tcp://127.0.0.1:{port}")
        return socket

    def steal(self, room: str, topic: bytes, ticket: bytes) -> None:
        """Keep what opens a room now, and listen by it from here on."""
        if topic in [each for _, each, _ in self._stolen]:
            self._sub.unsubscribe(topic)  # It may have been refused after a kill.
            self._stolen = deque((e for e in self._stolen if e[1] != topic), STOLEN_MAX)
        if len(self._stolen) == STOLEN_MAX:
            self._sub.unsubscribe(self._stolen[0][1])
        self._stolen.append((room, topic, ticket))
        self._sub.subscribe(topic)

    def heard_until(self, gate: bytes, say_fence: Callable[[], str]) -> bytes:
        """Return all that was heard, up to a text that is said in a room where they may be.

        gate: that room's topic. What comes through one connection keeps its order.
        """
        heard = bytearray()
        fences: list[bytes] = []

        def is_fenced() -> bool:
            # What a broker refused once stays refused, and it refuses who is not back yet. What
            # was stolen is never let go: libzmq asks for it again after each kill.
            self._sub.unsubscribe(gate)
            self._sub.subscribe(gate)
            fences.append(say_fence().encode())
            while self._sub.poll(PATIENCE_MS):
                heard.extend(self._sub.recv())
                if any(fence in heard for fence in fences):
                    return True
            return False

        eventually(is_fenced, "the thief's fence")
        self._sub.unsubscribe(gate)
        return bytes(heard)

    def read(self) -> list[str]:
        """Ask history with the newest ticket; return the texts of the page, if there is one."""
        room, _, ticket = self._stolen[-1]
        question = wire.History(1, room, ticket, wire.Mode.BEFORE, 1 << 50, PAGE_ENTRIES)
        replies: list[list[bytes]] = []

        def is_answered() -> bool:
            with self._socket(zmq.REQ, self._port + 2) as req:
                req.send_multipart(wire.command_frames(wire.NO_TOKEN, question))
                if not req.poll(PATIENCE_MS):
                    return False
                replies.append(req.recv_multipart())
            return True

        eventually(is_answered, "history to answer the thief")
        frames = replies[-1]
        answer = wire.parse_reply(frames)
        if isinstance(answer, wire.Error):
            assert answer.code == Code.BAD_TICKET, answer
            return []
        batches = [wire.decode_batch(frame) for frame in frames[2:]]
        return [text for batch in batches for post in batch.posts for text in post.texts]

    def close(self) -> None:
        """Hang up."""
        self._context.destroy(0)
