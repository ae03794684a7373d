"""CURVE by bytes, against libzmq itself, and against what was changed on its way."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager
from typing import NamedTuple

import pytest
import zmq
from zmq.utils import z85

from bench import curve, zmtp
from bench.dialect import Unexpected
from bench.generator.links import Lost, Net
from bench.generator.sockets import LightSocket, Messages, Timetable
from tests.waiting import DEADLINE_S, eventually

# Of each length of a frame's size, plain and encrypted: 255 - 33 is where they differ.
PARTS = [b"", b"a", b"b" * 222, b"c" * 223, b"d" * 255, b"e" * 256, b"f" * 70_000, b"g" * 1_000_000]
TEXTS = [b"text %d " % number + b"x" * number for number in range(300)]


class Peer(NamedTuple):
    """A libzmq socket that wants CURVE."""

    socket: zmq.Socket[bytes]
    port: int
    key: bytes


class Client:
    """Our end: a link to the peer and what came through it."""

    def __init__(self, peer: Peer, kind: bytes, keys: curve.Keys | None = None) -> None:
        self.net = Net("127.0.0.1")
        self.frames = zmtp.Frames()
        self.messages: list[list[bytes]] = []
        self.link = self.net.open(
            peer.port, self._take, keys=keys or curve.new_keys(server=peer.key)
        )
        self.link.write(zmtp.opening(kind))

    def _take(self, data: bytes) -> None:
        self.messages += self.frames.feed(data)
        if answers := self.frames.take_answers():
            self.link.write(answers)

    def come_in(self) -> None:
        while not self.frames.is_ready:
            assert self.net.poll(DEADLINE_S), "the peer is silent"

    def hear(self, count: int) -> list[list[bytes]]:
        """Return so many messages."""
        while len(self.messages) < count:
            assert self.net.poll(DEADLINE_S), "the peer is silent"
        found, self.messages = self.messages, []
        return found


@contextmanager
def bound(
    kind: int, *, is_secure: bool = True, zap_domain: str = "", heartbeat_ms: int = 20
) -> Iterator[Peer]:
    public, secret = zmq.curve_keypair()
    context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
    with context, context.socket(kind) as peer:
        peer.setsockopt(zmq.LINGER, 0)
        peer.setsockopt(zmq.HEARTBEAT_IVL, heartbeat_ms)
        peer.setsockopt(zmq.HEARTBEAT_TIMEOUT, 600_000)
        peer.setsockopt(zmq.RCVTIMEO, int(DEADLINE_S * 1_000))
        if is_secure:
            peer.setsockopt(zmq.CURVE_SERVER, 1)
            peer.setsockopt(zmq.CURVE_SECRETKEY, secret)
        if zap_domain:
            peer.setsockopt_string(zmq.ZAP_DOMAIN, zap_domain)
        yield Peer(peer, peer.bind_to_random_port("tcp://127.0.0.1"), z85.decode(public))


@contextmanager
def client_of(peer: Peer, kind: bytes, keys: curve.Keys | None = None) -> Iterator[Client]:
    client = Client(peer, kind, keys)
    try:
        yield client
    finally:
        client.net.close()


def test_a_router_and_we_understand_frames_of_every_size() -> None:
    with bound(zmq.ROUTER) as peer, client_of(peer, b"DEALER") as client:
        client.come_in()
        client.link.write(zmtp.message(*PARTS))
        identity, *heard = peer.socket.recv_multipart()
        assert PARTS == heard
        peer.socket.send_multipart([identity, *PARTS])
        assert [PARTS] == client.hear(1)


def test_many_messages_go_and_come_at_once() -> None:
    with bound(zmq.ROUTER) as peer, client_of(peer, b"DEALER") as client:
        client.come_in()
        client.link.write(b"".join(zmtp.message(text, b"end") for text in TEXTS))
        heard = [peer.socket.recv_multipart() for _ in TEXTS]
        assert [[text, b"end"] for text in TEXTS] == [message[1:] for message in heard]
        for message in heard:
            peer.socket.send_multipart(message)
        assert [[text, b"end"] for text in TEXTS] == client.hear(len(TEXTS))


def test_a_subscriber_hears_its_topic() -> None:
    with bound(zmq.XPUB) as peer, client_of(peer, b"SUB") as client:
        client.come_in()
        client.link.write(zmtp.subscribe(b"room\0") + zmtp.ping(b"here"))
        while not client.frames.pongs:
            assert client.net.poll(DEADLINE_S)
        assert b"\1room\0" == peer.socket.recv()
        peer.socket.send(b"another\0no")
        for text in TEXTS:
            peer.socket.send(b"room\0" + text)
        assert [[b"room\0" + text] for text in TEXTS] == client.hear(len(TEXTS))


def test_a_ping_of_libzmq_is_heard_and_answered() -> None:
    with bound(zmq.DEALER) as peer, client_of(peer, b"DEALER") as client:
        pings: list[bytes] = []

        def take(data: bytes) -> None:
            pings.append(data)
            client.frames.feed(data)

        client.come_in()
        client.link.take = take
        while not pings:
            assert client.net.poll(DEADLINE_S)
        assert zmtp.ping() == pings[0]
        client.link.write(client.frames.take_answers() + zmtp.message(b"still here"))
        assert b"still here" == peer.socket.recv()


def test_the_house_is_told_which_key_came_and_its_no_is_heard() -> None:
    with bound(zmq.ROUTER, zap_domain="house") as peer, peer.socket.context.socket(zmq.REP) as door:
        door.bind("inproc://zeromq.zap.01")
        keys = curve.new_keys(server=peer.key)
        with client_of(peer, b"DEALER", keys) as client:
            while not door.poll(0):
                client.net.poll(0.01)
            version, request, domain, _, _, mechanism, key = door.recv_multipart()
            assert (b"house", b"CURVE", keys.public) == (domain, mechanism, key)
            door.send_multipart([version, request, b"400", b"not you", b"", b""])
            with pytest.raises(Unexpected, match="does not let our key in: '400'"):
                client.come_in()


def test_a_peer_with_another_key_is_told_from_one_that_ends() -> None:
    other = curve.new_keys(server=curve.new_keys(server=b"").public)
    with (
        bound(zmq.ROUTER) as peer,
        client_of(peer, b"DEALER", other) as client,
        pytest.raises(Lost, match="another key"),
    ):
        client.come_in()
    with bound(zmq.ROUTER) as peer, client_of(peer, b"DEALER") as client:
        client.come_in()
        peer.socket.close()
        with pytest.raises(Lost, match=r"connection$"):
            client.hear(1)


def test_a_peer_without_encryption_is_refused() -> None:
    with (
        bound(zmq.ROUTER, is_secure=False) as peer,
        client_of(peer, b"DEALER") as client,
        pytest.raises(Lost, match="without CURVE"),
    ):
        client.come_in()
    tunnel = curve.Tunnel(curve.new_keys(server=bytes(32)))
    tunnel.say(zmtp.opening(b"SUB"))
    tunnel.feed(zmtp.opening(b"PUB"))
    with pytest.raises(Unexpected, match="security is b'NULL', not b'CURVE'"):
        tunnel.next_frame()
    assert not tunnel.take_answer()


# --- what a man in the middle does ------------------------------------------
class Wire:
    """A tunnel and the bytes of a libzmq peer, so that a test may change them on their way."""

    def __init__(self, peer: Peer) -> None:
        self.tcp = socket.create_connection(("127.0.0.1", peer.port), timeout=DEADLINE_S)
        self.tunnel = curve.Tunnel(curve.new_keys(server=peer.key))
        self.more_bytes = 0  # That came than were handed on.
        self.tcp.sendall(self.tunnel.say(zmtp.opening(b"DEALER")))

    def come_in(self) -> None:
        while not self.tunnel.is_ready:
            self.hear(self.tcp.recv(7))  # Cut anywhere.
            self.tcp.sendall(self.tunnel.take_answer())

    def hear(self, data: bytes) -> list[bytes]:
        self.tunnel.feed(data)
        frames = list(iter(self.tunnel.next_frame, None))
        self.more_bytes += len(data) - sum(map(len, frames))
        return frames

    def next_bytes(self, size: int) -> bytes:
        data = b""
        while len(data) < size:
            data += self.tcp.recv(size - len(data))
        return data


@pytest.fixture
def wire() -> Iterator[tuple[Peer, Wire]]:
    with bound(zmq.ROUTER, heartbeat_ms=0) as peer:
        wire = Wire(peer)
        try:
            yield peer, wire
        finally:
            wire.tcp.close()


def next_message(peer: Peer, wire: Wire, text: bytes) -> bytes:
    """Return the bytes of a message as libzmq encrypted it."""
    wire.tcp.sendall(wire.tunnel.say(zmtp.message(b"?")))
    route, _ = peer.socket.recv_multipart()
    peer.socket.send_multipart([route, text])
    return wire.next_bytes(curve.wire_bytes(zmtp.message(text)))


def test_what_travels_is_not_what_is_said(wire: tuple[Peer, Wire]) -> None:
    wire[1].come_in()
    data = next_message(*wire, b"a secret")
    assert b"secret" not in data
    assert wire[1].more_bytes == wire[1].tunnel.overhead_bytes > 0
    before = wire[1].tunnel.overhead_bytes
    plain = zmtp.message(b"a secret")
    assert [plain] == wire[1].hear(data)
    assert len(data) - len(plain) == wire[1].tunnel.overhead_bytes - before == curve.MESSAGE_BYTES
    assert b"secret" not in wire[1].tunnel.say(plain)


@pytest.mark.parametrize(
    "at", [10, 17, 18, 30, -1], ids=["nonce", "its end", "box", "box 2", "end"]
)
def test_a_changed_message_is_noticed(wire: tuple[Peer, Wire], at: int) -> None:
    wire[1].come_in()
    data = bytearray(next_message(*wire, b"pay 10 to ann"))
    data[at] ^= 1
    with pytest.raises(Unexpected, match=r"changed: CurveZMQMESSAGES|comes after"):
        wire[1].hear(bytes(data))


def test_a_message_that_comes_again_is_noticed(wire: tuple[Peer, Wire]) -> None:
    wire[1].come_in()
    first = next_message(*wire, b"first")
    second = next_message(*wire, b"second")
    assert [zmtp.message(b"first"), zmtp.message(b"second")] == wire[1].hear(first + second)
    for again in (first, second):
        with pytest.raises(Unexpected, match="comes after"):
            wire[1].hear(again)


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (zmtp.message(b"plain text"), "says without encryption b'plain text'"),
        (zmtp.command(b"\4PING\0\0"), "says without encryption"),
        (zmtp.message(b"\7MESSAGE"), "comes after"),
        (zmtp.message(b"\7MESSAGE" + bytes(7) + b"\xff" + bytes(15)), "not encrypted for us"),
        (b"\x80\0", "reserved flags"),
        (b"\x02\xff" + bytes(7), "at most"),
    ],
    ids=["plain", "command", "no nonce", "short box", "reserved flag", "endless frame"],
)
def test_what_was_not_encrypted_is_refused(
    wire: tuple[Peer, Wire], data: bytes, words: str
) -> None:
    wire[1].come_in()
    with pytest.raises(Unexpected, match=words):
        wire[1].hear(data)


def test_what_was_heard_is_not_kept(wire: tuple[Peer, Wire]) -> None:
    wire[1].come_in()
    for _ in range(3):
        wire[1].hear(next_message(*wire, bytes(10_000)))
        assert 0 == wire[1].tunnel.unread_bytes
        assert len(wire[1].tunnel._pending) < 11_000


@pytest.mark.parametrize(
    "data",
    [
        zmtp.command(b"\7WELCOME" + bytes(160)),
        zmtp.command(b"\7WELCOME" + bytes(100)),
        zmtp.command(b"\5READY" + bytes(7) + b"\1" + bytes(16)),
        zmtp.command(b"\5READY"),
        zmtp.message(b"hello"),
        zmtp.command(b"\5ERROR\x03400"),
    ],
    ids=["forged WELCOME", "short WELCOME", "READY too early", "empty READY", "message", "ERROR"],
)
def test_a_handshake_of_somebody_else_is_refused(data: bytes) -> None:
    tunnel = curve.Tunnel(curve.new_keys(server=curve.new_keys(server=b"").public))
    tunnel.say(zmtp.opening(b"SUB"))
    tunnel.feed(zmtp.greeting(zmtp.CURVE))
    assert tunnel.next_frame() is None
    assert tunnel.take_answer()
    tunnel.feed(data)
    with pytest.raises(Unexpected):
        tunnel.next_frame()
    assert not tunnel.is_ready


# --- links ------------------------------------------------------------------
def test_who_drains_counts_what_travels() -> None:
    """Two listeners, one of which reads on: both have as many bytes of the wire."""
    expected = [curve.wire_bytes(zmtp.message(text)) for text in TEXTS]
    plain_bytes = sum(len(zmtp.message(text)) for text in TEXTS)
    with ExitStack() as stack:
        peer = stack.enter_context(bound(zmq.XPUB, heartbeat_ms=0))
        peer.socket.setsockopt(zmq.XPUB_VERBOSE, 1)
        reader = stack.enter_context(client_of(peer, b"SUB"))
        drainer = stack.enter_context(client_of(peer, b"SUB"))
        for each in (reader, drainer):
            each.come_in()
            each.link.write(zmtp.subscribe(b""))
            assert b"\1" == peer.socket.recv()
        before = reader.link.overhead_bytes
        drainer.link.take = lambda _: drainer.link.drain()
        for text in TEXTS:
            peer.socket.send(text)
        reader.hear(len(TEXTS))
        assert sum(expected) - plain_bytes == reader.link.overhead_bytes - before
        assert eventually(lambda: drained_bytes(drainer) >= sum(expected[1:]))
        assert sum(expected[1:]) == drained_bytes(drainer)


def drained_bytes(client: Client) -> int:
    client.net.poll(0.01)
    client.link.read_rest()
    return client.link.drained_bytes


def test_a_light_socket_comes_back_encrypted() -> None:
    heard: Messages = []
    ups: list[int] = []
    net, timetable = Net("127.0.0.1"), Timetable()
    with closing(net), bound(zmq.ROUTER) as peer:
        dealer = LightSocket(
            b"DEALER",
            net,
            timetable,
            peer.port,
            heard=heard.extend,
            up=lambda: ups.append(1),
            keys=curve.new_keys(server=peer.key),
        )
        for times in (1, 2):
            while len(ups) < times:
                timetable.run_due()
                net.poll(min(0.01, max(0, timetable.wait_s())))
            dealer.send(zmtp.message(b"hello"))
            route, text = peer.socket.recv_multipart()
            peer.socket.send_multipart([route, text, b"you"])
            while len(heard) < times:
                assert net.poll(DEADLINE_S), "the peer is silent"
            assert dealer._link is not None
            dealer._link.tcp.shutdown(socket.SHUT_RDWR)  # The connection breaks.
            while dealer.is_up:
                net.poll(DEADLINE_S)
    assert [[b"hello", b"you"]] * 2 == heard
