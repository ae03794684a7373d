"""A stand-in for a broker, as far as GREET, HELLO and BYE: one that can lie about its key.

Real brokers are honest; these tests need some that are not. It has a thread of its own, which
owns every socket of it.
"""

from __future__ import annotations

import threading
from types import TracebackType
from typing import Self

import msgspec
import zmq

from broker.host.ports import free_base_port
from common import topics, wire
from common.certificates import KeyPair
from common.order import Introduction
from common.wire import Payload
from tests.waiting import DEADLINE_S

POLL_MS = 10
ZAP_ADDRESS = "inproc://zeromq.zap.01"


class StandIn:
    """Serves on base port, rooms port and introduction port from the `with` on.

    pair: its keys; None does not encrypt. told: the key that it introduces itself with, its own
    if None; b"" is no introduction at all. denies: the ZAP status for every key, "" for no ZAP.
    """

    def __init__(
        self,
        pair: KeyPair | None,
        *,
        told: bytes | None = None,
        denies: str = "",
        port: int = 0,
    ) -> None:
        self.port = port or free_base_port("127.0.0.1")
        self.hellos: list[wire.Hello] = []
        self.greets_count = 0
        self.token = b""
        self.introductions_count = 0
        self._pair = pair
        self._told = told if told is not None else (pair.public if pair else b"")
        self._denies = denies
        self._publish: list[tuple[bytes, Payload]] = []
        self._is_stopping = threading.Event()
        self._is_ready = threading.Event()
        self._thread = threading.Thread(target=self._run, name="stand-in", daemon=True)

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self.port}"

    def notify(self, notice: wire.Notice) -> None:
        """Say a word on the inbox of whoever said HELLO."""
        self._publish.append((topics.inbox(self.token), notice))

    def __enter__(self) -> Self:
        self._thread.start()
        assert self._is_ready.wait(DEADLINE_S)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._is_stopping.set()
        self._thread.join(DEADLINE_S)

    # --- the thread ---------------------------------------------------------
    def _run(self) -> None:
        context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
        try:
            zap = context.socket(zmq.REP)
            if self._denies:  # libzmq asks whoever is there, also without a domain.
                zap.bind(ZAP_ADDRESS)
            router = self._socket(context, zmq.ROUTER, self.port)
            xpub = self._socket(context, zmq.XPUB, self.port + 1)
            introduction = context.socket(zmq.ROUTER)
            if self._told:
                introduction.bind(f"tcp://127.0.0.1:{self.port + 3}")
            self._is_ready.set()
            self._serve(router, xpub, introduction, zap)
        finally:
            self._is_ready.set()
            context.destroy(linger=0)

    def _socket(
        self, context: zmq.Context[zmq.Socket[bytes]], kind: int, port: int
    ) -> zmq.Socket[bytes]:
        socket = context.socket(kind)
        if self._pair is not None:
            socket.setsockopt(zmq.CURVE_SERVER, 1)
            socket.setsockopt(zmq.CURVE_SECRETKEY, self._pair.secret)
            if self._denies:
                socket.setsockopt(zmq.ZAP_DOMAIN, b"hubbub")
        socket.bind(f"tcp://127.0.0.1:{port}")
        return socket

    def _serve(
        self,
        router: zmq.Socket[bytes],
        xpub: zmq.Socket[bytes],
        introduction: zmq.Socket[bytes],
        zap: zmq.Socket[bytes],
    ) -> None:
        poller = zmq.Poller()
        for socket in (router, xpub, introduction, zap):
            poller.register(socket, zmq.POLLIN)
        while not self._is_stopping.is_set():
            ready = dict(poller.poll(POLL_MS))
            if router in ready:
                route, *frames = router.recv_multipart()
                router.send_multipart([route, *wire.reply_frames(self._answer(frames))])
            if xpub in ready:
                xpub.recv()
            if introduction in ready:
                route = introduction.recv_multipart()[0]
                self.introductions_count += 1
                told = Introduction(1, 1, self._told, "stand-in")
                introduction.send_multipart([route, b"", *wire.reply_frames(told)])
            if zap in ready:
                request = zap.recv_multipart()[1]
                zap.send_multipart([b"1.0", request, self._denies.encode(), b"", b"", b""])
            while self._publish:
                topic, notice = self._publish.pop()
                xpub.send(topic + wire.encode(notice))

    def _answer(self, frames: list[bytes]) -> Payload:
        code, self.token, payload = wire.open_command(frames)
        command = msgspec.msgpack.decode(payload, type=wire.COMMANDS[code])
        if type(command) is wire.Greet:
            self.greets_count += 1
            ports = (self.port + 1, self.port + 2)
            return wire.Greeting(command.id, "stand-in", 1, *ports, 1, 0, 0, 9, 0, "", "")
        if type(command) is wire.Hello:
            self.hellos.append(command)
            return wire.Welcome(command.id, command.nick, resumed=False, motd="")
        assert type(command) is wire.Bye
        return wire.Goodbye(command.id)
