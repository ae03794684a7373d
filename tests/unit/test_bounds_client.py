"""Bounds of the client library: what happens at each."""

from __future__ import annotations

import sys
from collections import deque
from collections.abc import Iterator
from unittest.mock import Mock

import pytest
import zmq

from client import limits
from client.api import Client
from client.connection import Connection, CurveKeys
from client.events import Event, Left
from client.questions import Call
from client.session import Session
from common import wire
from common.endpoints import Address
from common.errors import Code
from tests.unit.session_driver import in_room, online

Socket = zmq.Socket[bytes]


class FakeSocket:
    """Gives frames until there are none."""

    def __init__(self, frames: list[bytes]) -> None:
        self.frames = deque(frames)

    def recv(self, _flags: int) -> bytes:
        """Return the next frame."""
        if not self.frames:
            raise zmq.Again
        return self.frames.popleft()

    def recv_multipart(self, flags: int) -> list[bytes]:
        """Return the next message: an answer whose payload is this frame."""
        return wire.reply_frames(wire.Goodbye(int(self.recv(flags))))


def connection_of(session: Session) -> Connection:
    """Return a connection whose thread is never started."""
    address = Address("127.0.0.1", 1)
    waker = Mock(fileno=lambda: 0)
    return Connection(address, b"t" * 16, session, calls=Mock(), events=Mock(), waker=waker)


@pytest.mark.parametrize(
    ("size_bytes", "taken"),
    [
        (10, limits.DRAIN_FRAMES_MAX),
        (limits.DRAIN_BYTES_MAX // 4, 4),
        (limits.DRAIN_BYTES_MAX + 1, 1),
    ],
)
def test_a_turn_reads_so_many_frames_and_bytes(size_bytes: int, taken: int) -> None:
    """Then acknowledgements have their turn; the rest is read afterwards."""
    session = Mock()
    session.publications.return_value = []
    connection = connection_of(session)
    frames = [bytes(size_bytes)] * (limits.DRAIN_FRAMES_MAX + 3)
    source = FakeSocket(frames)
    connection._sub = source  # type: ignore[assignment]
    connection._take_publications(0.0)
    assert taken == len(session.publications.call_args.args[0])
    assert len(frames) - taken == len(source.frames)


def test_a_turn_reads_so_many_replies() -> None:
    session = Mock()
    session.reply.return_value = []
    connection = connection_of(session)
    connection._dealer = FakeSocket([b"1"] * (limits.DRAIN_FRAMES_MAX + 3))  # type: ignore[assignment]
    connection._take_replies(0.0)
    assert limits.DRAIN_FRAMES_MAX == session.reply.call_count


@pytest.fixture
def opened() -> Iterator[tuple[Connection, Socket, Socket]]:
    """Return a connection with its sockets open, and a broker's ROUTER and XPUB beside it."""
    context: zmq.Context[Socket] = zmq.Context()
    router, xpub = context.socket(zmq.ROUTER), context.socket(zmq.XPUB)
    port = router.bind_to_random_port("tcp://127.0.0.1")
    connection = connection_of(Mock())
    connection._address = Address("127.0.0.1", port)
    connection._context = context
    connection._open()
    yield connection, router, xpub
    context.destroy(0)


def test_an_answer_beyond_the_bound_ends_the_connection(
    opened: tuple[Connection, Socket, Socket],
) -> None:
    """What is as large as allowed arrives; what is larger never does, and the client resumes."""
    connection, router, _ = opened
    dealer = connection._dealer
    assert connection._monitor.poll(60_000)
    dealer.send(b"")
    route = router.recv_multipart()[0]
    router.send_multipart([route, bytes(limits.REPLY_BYTES_MAX)])
    assert limits.REPLY_BYTES_MAX == len(dealer.recv())
    connection._session.connected.return_value = []  # type: ignore[attr-defined]
    connection._session.disconnected.return_value = []  # type: ignore[attr-defined]
    connection._take_monitor(0.0)
    router.send_multipart([route, bytes(limits.REPLY_BYTES_MAX + 1)])
    assert connection._monitor.poll(60_000)
    connection._take_monitor(0.0)
    connection._session.disconnected.assert_called_once()  # type: ignore[attr-defined]
    assert not dealer.poll(0)


def test_a_publication_beyond_the_bound_is_never_read(
    opened: tuple[Connection, Socket, Socket],
) -> None:
    """The largest arrives; at one that is larger libzmq leaves: no broker of ours sends such."""
    connection, _, xpub = opened
    sub = connection._sub
    sub.setsockopt(zmq.SUBSCRIBE, b"")
    port = xpub.bind_to_random_port("tcp://127.0.0.1")
    sub.connect(f"tcp://127.0.0.1:{port}")
    assert b"\1" == xpub.recv()
    xpub.send(bytes(limits.PUBLICATION_BYTES_MAX))
    assert limits.PUBLICATION_BYTES_MAX == len(sub.recv())
    xpub.send(bytes(limits.PUBLICATION_BYTES_MAX + 1))
    assert b"\0" == xpub.recv()
    assert not sub.poll(0)


def test_the_queues_of_the_sockets_have_their_bounds(
    opened: tuple[Connection, Socket, Socket],
) -> None:
    """At most so many frames wait while the program does not read; commands are fewer anyway."""
    connection, _, _ = opened
    assert limits.ROOMS_QUEUE_MAX == connection._sub.getsockopt(zmq.RCVHWM)
    for option in (zmq.SNDHWM, zmq.RCVHWM):
        assert limits.COMMANDS_QUEUE_MAX == connection._dealer.getsockopt(option)


def test_a_burst_has_so_many_events() -> None:
    """The rest comes with the next ones, in order."""
    client = object.__new__(Client)
    events: list[Event] = [Left(str(index)) for index in range(limits.BURST_EVENTS_MAX + 5)]
    client._taken = deque(events)
    assert events[: limits.BURST_EVENTS_MAX] == client.next_burst()
    assert events[limits.BURST_EVENTS_MAX :] == client.next_burst()


def test_a_pause_between_proofs_doubles_up_to_a_bound() -> None:
    """Where no beacon ever comes the room is joined again for ever, but not ever more rarely."""
    driver = online()
    driver.take(driver.session.join("lobby", 100, None, "join", driver.now))
    pauses_s = []
    for _ in range(8):
        driver.reply(driver.log.joined(driver.last(wire.Join).id))
        deadline_s = driver.session.deadline()
        assert deadline_s is not None
        pauses_s.append(deadline_s - driver.now)
        driver.wait(pauses_s[-1])
    assert pytest.approx([2, 4, 8, 16, *[limits.PROOF_S_MAX] * 4]) == pauses_s


def test_a_ticket_that_is_refused_again_and_again_fails_the_call() -> None:
    """A renewed ticket is tried so many times; then the program is told."""
    driver = in_room()
    driver.log.append(1)
    driver.take(driver.session.history(Call("lobby", None, 9, 9, "history"), driver.now))
    for _ in range(limits.HISTORY_REFUSALS_MAX):
        error = wire.Error(driver.asked.pop().id, Code.BAD_TICKET, "", survives=True)
        driver.take(driver.session.history_refused(error, driver.now))
        if driver.sent:
            driver.reply(driver.log.joined(driver.last(wire.Join).id))
    assert driver.rejected("history") == Code.BAD_TICKET


def test_a_hello_that_came_too_fast_is_said_again_after_the_time_to_wait() -> None:
    """The client waits by itself as long as it is told."""
    driver = online()
    driver.take(driver.session.disconnected(driver.now))
    driver.take(driver.session.connected(driver.now))
    driver.greet()
    hello = driver.last(wire.Hello)
    driver.reply(wire.Error(hello.id, Code.SLOW_DOWN, "", survives=True, value=2_500))
    driver.wait(2.4)
    assert [] == driver.sent
    driver.wait(0.1)
    assert isinstance(driver.sent[-1], wire.Greet)


def test_after_so_many_broken_handshakes_the_key_is_asked_for(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Fewer are what a broker does that is ending; a success in between begins the count anew."""
    connection = connection_of(Mock(connected=Mock(return_value=[]), barred=Mock(return_value=[])))
    connection._curve = CurveKeys(b"b" * 32, b"p" * 32, b"s" * 32)
    asked: list[bool] = []

    def ask() -> bool:
        asked.append(True)
        return False

    monkeypatch.setattr(connection, "_is_other_key", ask)

    def monitored(*events: int) -> None:
        frames = [[event.to_bytes(2, sys.byteorder) + bytes(4), b""] for event in events]
        connection._monitor = Mock(recv_multipart=Mock(side_effect=[*frames, zmq.Again]))
        connection._take_monitor(0.0)

    broken = zmq.EVENT_HANDSHAKE_FAILED_NO_DETAIL
    fewer = [broken] * (limits.HANDSHAKES_BROKEN_MAX - 1)
    monitored(zmq.EVENT_HANDSHAKE_SUCCEEDED, *fewer)
    monitored(zmq.EVENT_HANDSHAKE_SUCCEEDED, *fewer)
    assert [] == asked
    monitored(broken)
    assert [True] == asked
    connection._session.barred.assert_not_called()  # type: ignore[attr-defined]


def test_the_end_of_a_handshake_that_failed_is_no_news() -> None:
    """Why it failed was told; "connection lost" after it would say less."""
    session = Mock(barred=Mock(return_value=[]), disconnected=Mock(return_value=[]))
    connection = connection_of(session)
    failed = zmq.EVENT_HANDSHAKE_FAILED_AUTH.to_bytes(2, sys.byteorder) + bytes(4)
    ended = zmq.EVENT_DISCONNECTED.to_bytes(2, sys.byteorder) + bytes(4)
    connection._monitor = Mock(recv_multipart=Mock(side_effect=[[failed], [ended], zmq.Again]))
    connection._take_monitor(0.0)
    session.barred.assert_called_once()
    session.disconnected.assert_not_called()
