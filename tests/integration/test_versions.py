"""Client and broker of different protocol versions: one line that says which one is older."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from collections.abc import Iterator

import pytest
import zmq

from client.api import ask_status, connect
from common import wire
from common.errors import Code, Refused
from common.limits import PROTOCOL_VERSION, TOKEN_BYTES
from common.wire import Command
from tests.broker_process import ROOT, BrokerProcess
from tests.raw_peer import RawPeer
from tests.waiting import DEADLINE_S

OLDER, NEWER = PROTOCOL_VERSION - 1, PROTOCOL_VERSION + 1
UNKNOWN_REPLY = 77
CLIENT_IS_OLDER = (
    f"the client speaks version {PROTOCOL_VERSION} of the protocol, the broker version {NEWER}: "
    "update the client, which is older"
)
BROKER_IS_OLDER = (
    f"the client speaks version {PROTOCOL_VERSION} of the protocol, the broker version {OLDER}: "
    "update the broker, which is older"
)


class OtherBroker(threading.Thread):
    """A broker of another version, as far as one can tell: a head, and what nobody can read."""

    def __init__(self, version: int) -> None:
        super().__init__(daemon=True)
        self._version = version
        self._context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
        self._router = self._context.socket(zmq.ROUTER)
        self._router.setsockopt(zmq.LINGER, 0)
        self.port = self._router.bind_to_random_port("tcp://127.0.0.1")

    def run(self) -> None:
        """Answer everything alike."""
        head = wire.MAGIC[:3] + bytes([self._version, UNKNOWN_REPLY])
        try:
            while True:
                route = self._router.recv_multipart()[0]
                self._router.send_multipart([route, head, b"\xc1 is never MessagePack"])
        except zmq.ContextTerminated:
            self._router.close()

    def close(self) -> None:
        """End the thread."""
        self._context.term()
        self.join(DEADLINE_S)


@pytest.fixture(params=[(NEWER, CLIENT_IS_OLDER), (OLDER, BROKER_IS_OLDER)])
def other(request: pytest.FixtureRequest) -> Iterator[tuple[str, str]]:
    """Return the address of a broker of another version, and what a person shall read."""
    version, words = request.param
    broker = OtherBroker(version)
    broker.start()
    yield f"127.0.0.1:{broker.port}", words
    broker.close()


@pytest.fixture(scope="module")
def broker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[BrokerProcess]:
    """Return a running broker."""
    with BrokerProcess(tmp_path_factory.mktemp("versions") / "data") as running:
        yield running


@pytest.mark.parametrize("command", [("status",), ("send", "-r", "lobby", "hi"), ("rooms",)])
def test_the_command_line_says_which_side_is_older(
    other: tuple[str, str], command: tuple[str, ...]
) -> None:
    """One line and status 1, whatever was asked."""
    address, words = other
    ended = subprocess.run(
        [sys.executable, "-m", "client", command[0], "--broker", address, *command[1:]],
        cwd=ROOT,
        env=os.environ | {"HUBBUB_NICK": "anna"},
        capture_output=True,
        text=True,
        check=False,
        timeout=DEADLINE_S,
    )
    assert (ended.returncode, ended.stderr) == (1, f"hubbub: {words}\n")


def test_a_program_learns_the_brokers_version(other: tuple[str, str]) -> None:
    """The code, both versions in words, and the broker's as a number."""
    address, words = other
    for attempt in (
        lambda: connect(address, nick="anna", timeout_s=DEADLINE_S),
        lambda: ask_status(address, DEADLINE_S),
    ):
        with pytest.raises(Refused, match=words) as refused:
            attempt()
        assert refused.value.code == Code.BAD_VERSION
        assert refused.value.value in (OLDER, NEWER)


@pytest.mark.parametrize(("version", "older"), [(OLDER, "client"), (NEWER, "broker")])
@pytest.mark.parametrize("command", [Command.GREET, Command.HELLO, UNKNOWN_REPLY])
def test_a_client_of_another_version_is_told_which_side_is_older(
    broker: BrokerProcess, version: int, older: str, command: int
) -> None:
    """Whatever it says in its own version, the head is enough."""
    head = wire.MAGIC[:3] + bytes([version, command]) + bytes(TOKEN_BYTES)
    with RawPeer(broker.port) as peer:
        refusal = peer.ask_frames(head, b"\xc1 is never MessagePack")
    assert (refusal.code, refusal.value, refusal.id) == (Code.BAD_VERSION, PROTOCOL_VERSION, 0)
    assert refusal.detail == (
        f"the client speaks version {version} of the protocol, the broker version "
        f"{PROTOCOL_VERSION}: update the {older}, which is older"
    )


def test_fields_that_came_later_are_ignored(broker: BrokerProcess) -> None:
    """A client of the same version that is newer appends fields."""
    with RawPeer(broker.port) as peer:
        head = wire.command_frames(wire.NO_TOKEN, wire.Greet(1))[0]
        peer.dealer.send_multipart([head, wire.encode([7, "later", {"more": 1}])])
        greeting = peer.receive()
        assert isinstance(greeting, wire.Greeting)
        assert greeting.id == 7
        hello = wire.Hello(8, "anna", peer.owner, peer.instance, 1)
        fields = [getattr(hello, name) for name in hello.__struct_fields__]
        head = wire.command_frames(peer.token, hello)[0]
        peer.dealer.send_multipart([head, wire.encode([*fields, "later", [1, 2]])])
        welcome = peer.receive()
        assert isinstance(welcome, wire.Welcome)


@pytest.mark.parametrize(
    "payload",
    [[], [1], [1, 2, 3, 4, 5], {"id": 1}, "hello", [1, "anna", b"short", 1, 1], None, [[[[]]]]],
    ids=repr,
)
def test_a_hello_of_an_unknown_shape_is_refused(broker: BrokerProcess, payload: object) -> None:
    """The reason is told, and no session begins."""
    with RawPeer(broker.port) as peer:
        head = wire.command_frames(peer.token, wire.Bye(1))[0]
        hello = head[:4] + bytes([Command.HELLO]) + head[5:]
        assert peer.ask_frames(hello, wire.encode(payload)).code == Code.BAD_PAYLOAD
        assert peer.ask(wire.Bye(1), wire.Error).code == Code.NO_SESSION
