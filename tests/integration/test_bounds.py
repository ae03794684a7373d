"""Bounds that only real sockets show: sizes of frames, handshakes, lines on the console."""

from __future__ import annotations

import contextlib
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from bench import zmtp
from broker.chat.sessions import SESSIONS_PER_ROUTE_MAX
from broker.connections import FRAMES_BURST_MAX, STRANGE_BYTES_MAX, WRONG_FRAMES_MAX
from broker.history import REQUEST_BYTES_MAX
from broker.host.sockets import HANDSHAKE_S
from broker.live import SUBSCRIPTION_BYTES_MAX
from broker.supervisor import CONSOLE_LINE_MAX
from client.api import connect
from common import limits, wire
from common.errors import Code
from tests import saying
from tests.broker_process import BrokerProcess
from tests.hostile.attacker import Link
from tests.raw_peer import RawPeer
from tests.waiting import DEADLINE_S, eventually


@pytest.fixture(scope="module")
def broker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[BrokerProcess]:
    with BrokerProcess(tmp_path_factory.mktemp("bounds") / "data") as started:
        yield started


def shout(link: Link, frame: bytes) -> None:
    """Say something and wait for an answer."""
    link.say(zmtp.message(frame))
    link.heard(DEADLINE_S)


@pytest.mark.parametrize(
    ("offset", "kind", "bytes_max"),
    [
        (0, b"DEALER", limits.COMMAND_BYTES_MAX),
        (1, b"SUB", SUBSCRIPTION_BYTES_MAX),
        (2, b"REQ", REQUEST_BYTES_MAX),
    ],
)
def test_a_frame_as_large_as_allowed_and_one_that_is_larger(
    broker: BrokerProcess, offset: int, kind: bytes, bytes_max: int
) -> None:
    """The first leaves the connection open, so that it is answered; the other closes it."""
    with RawPeer(broker.port) as peer, contextlib.closing(Link(broker.port + offset, kind)) as link:
        refused = peer.ask(wire.Greet(1), wire.Greeting).refused
        link.say(zmtp.message(b"", bytes(bytes_max)) if offset else zmtp.message(bytes(bytes_max)))
        if offset == 1:
            eventually(
                lambda: peer.ask(wire.Greet(1), wire.Greeting).refused > refused, "the refusal"
            )
        else:
            answer = link.heard(DEADLINE_S)[0]
            error = wire.parse_reply(answer[1:] if offset else answer)
            assert isinstance(error, wire.Error)
            assert Code.BAD_FRAMES == error.code
        with pytest.raises(ConnectionError):
            shout(link, bytes(bytes_max + 1))


def test_a_connection_that_never_speaks_is_closed(broker: BrokerProcess) -> None:
    """Also one that stops in the middle of the handshake; both within seconds, not for ever."""
    assert HANDSHAKE_S < DEADLINE_S
    with contextlib.ExitStack() as stack:
        silent = []
        for offset in range(3):
            for beginning in (b"", zmtp.opening(b"DEALER")[:40]):
                raw = socket.create_connection(("127.0.0.1", broker.port + offset), DEADLINE_S)
                silent.append(stack.enter_context(raw))
                raw.sendall(beginning)
        for raw in silent:
            with contextlib.suppress(ConnectionResetError):
                while raw.recv(4_096):
                    pass


def test_a_flood_of_hellos_keeps_no_honest_client_out(tmp_path: Path) -> None:
    """Places that no inbox stands behind are free for newcomers, those with one are taken."""
    flags = ("--max-clients", "20", "--grace", "3600")
    with BrokerProcess(tmp_path / "data", *flags) as small, contextlib.ExitStack() as stack:
        first = stack.enter_context(connect(small.address, nick="anna"))
        codes = []
        for index in range(40):
            route = stack.enter_context(contextlib.closing(Link(small.port, b"DEALER")))
            hello = wire.Hello(1, f"horde{index}", b"o" * 16, index, 1)
            token = bytes([index + 1]) * limits.TOKEN_BYTES
            route.say(zmtp.message(*wire.command_frames(token, hello)))
            codes.append(type(wire.parse_reply(route.heard(DEADLINE_S)[0])).__name__)
        assert ["Welcome"] * 40 == codes
        for index in range(19):
            guest = connect(small.address, nick=f"bob{index}", timeout_s=DEADLINE_S)
            stack.enter_context(guest)
        first.join("lobby")
        assert 1 == first.send("lobby", "still here").seq
        with RawPeer(small.port) as late:
            refusal = late.ask(wire.Hello(1, "late", late.owner, 1, 1), wire.Error)
            assert Code.FULL == refusal.code


def test_a_connection_takes_a_few_places(broker: BrokerProcess) -> None:
    """One more session than a connection may have is refused, and room is made by BYE."""
    tokens = [bytes([index + 1]) * limits.TOKEN_BYTES for index in range(SESSIONS_PER_ROUTE_MAX)]
    with RawPeer(broker.port) as peer:
        for index in range(SESSIONS_PER_ROUTE_MAX):
            hello = wire.Hello(1, f"many{index}", peer.owner, index, 1)
            peer.ask(hello, wire.Welcome, token=tokens[index])
        hello = wire.Hello(1, "more", peer.owner, 9, 1)
        assert Code.FULL == peer.ask(hello, wire.Error).code
        peer.ask(wire.Bye(2), wire.Goodbye, token=tokens[0])
        peer.ask(hello, wire.Welcome)


def test_a_full_list_of_rooms_keeps_nobody_from_the_others(tmp_path: Path) -> None:
    """Whoever makes every room there may be shuts nobody out of those that there are."""
    with (
        BrokerProcess(tmp_path / "data", "--max-rooms", "5") as small,
        RawPeer(small.port) as mallory,
        RawPeer(small.port) as anna,
    ):
        anna.hello("anna")
        anna.join("lobby")
        mallory.hello("mallory")
        for index in range(4):
            mallory.join(f"mine{index}")
            mallory.ask(saying.send(index + 1, f"mine{index}", ["x"]), wire.Ack)
        for peer in (anna, mallory):
            refusal = peer.ask(wire.Join(9, "another"), wire.Error)
            assert (Code.TOO_MANY_ROOMS, True) == (refusal.code, refusal.survives)
        with RawPeer(small.port) as bob:
            bob.hello("bob")
            bob.join("lobby")
            bob.ask(saying.send(1, "lobby", ["hello"]), wire.Ack)
            anna.await_texts("hello")


def is_closed_after(link: Link, frames: list[bytes]) -> bool:
    """Say something; tell whether the broker has closed the connection."""
    try:
        link.say(b"".join(map(zmtp.message, frames)))
    except ConnectionError:
        return True
    return False


@pytest.mark.parametrize(
    ("kind", "frame", "bound"),
    [
        (b"SUB", b"\1topic%064d", STRANGE_BYTES_MAX // 64),
        (b"SUB", b"\1the same", FRAMES_BURST_MAX),
        (b"XSUB", b"data", WRONG_FRAMES_MAX),
    ],
    ids=["topics", "frames", "no-subscriptions"],
)
def test_who_asks_too_much_of_the_rooms_is_cut_off_and_nobody_else(
    broker: BrokerProcess, kind: bytes, frame: bytes, bound: int
) -> None:
    """Whoever comes next, probably with the same descriptor, is served, and so are the others."""
    with RawPeer(broker.port) as ann:
        ann.hello(f"ann-{bound}")
        ann.join("lobby")
        for number in range(1, 4):
            asked = [frame % index if b"%" in frame else frame for index in range(bound + 1)]
            with contextlib.closing(Link(broker.port + 1, kind)) as link:
                # The first may be taken for what another said who had this descriptor before.
                eventually(lambda: is_closed_after(link, asked), "the end of the connection")  # noqa: B023
            with RawPeer(broker.port) as bob:
                bob.hello(f"bob-{bound}-{number}")
                bob.join("lobby")
                ann.ask(saying.send(number, "lobby", [f"{number}"]), wire.Ack)
                bob.await_texts(f"{number}")
                ann.await_texts(f"{number}")


def test_a_console_takes_lines_of_any_length(tmp_path: Path) -> None:
    """A line is read in pieces; a `q` of its own still stops the broker."""
    with BrokerProcess(tmp_path / "data") as started:
        for length in (CONSOLE_LINE_MAX - 1, CONSOLE_LINE_MAX, 20 * CONSOLE_LINE_MAX):
            started.say("x" * length)
        assert started.process.poll() is None
        started.say("q")
        assert 0 == started.wait()


def test_who_is_too_fast_is_told_how_long_to_wait_and_waits(tmp_path: Path) -> None:
    """The bare wire is told `slow_down` with the time; the library waits by itself, in order."""
    flags = ("--rate", "500", "--burst", "256", "--unlimited", "importer")
    with BrokerProcess(tmp_path / "data", *flags) as slow:
        with RawPeer(slow.port) as raw:
            raw.hello("raw")
            raw.join("lobby")
            raw.ask(saying.send(1, "lobby", ["x"] * 200), wire.Ack)
            refusal = raw.ask(saying.send(2, "lobby", ["x"] * 200), wire.Error)
            assert Code.SLOW_DOWN == refusal.code
            assert 0 < refusal.value <= 1_000 * 200 / 500 + 1  # Rounded up.
            assert refusal.survives
        for nick, is_slowed in (("hasty", True), ("importer", False)):
            with RawPeer(slow.port) as watch, connect(slow.address, nick=nick) as client:
                before = watch.ask(wire.Greet(1), wire.Greeting).refused
                client.join("lobby", history=0)
                pendings = [client.post("lobby", f"{nick} {index}") for index in range(1_000)]
                seqs = [pending.result(DEADLINE_S).seq for pending in pendings]
                assert sorted(set(seqs)) == seqs
                refused = watch.ask(wire.Greet(1), wire.Greeting).refused - before
                assert is_slowed == (refused > 0)
