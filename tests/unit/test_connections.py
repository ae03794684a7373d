"""What a connection may ask of XPUB: beyond it the connection is ended, and no other."""

from __future__ import annotations

import select
import socket
from collections.abc import Iterator
from unittest.mock import Mock

import pytest

from broker.connections import (
    FRAMES_BURST_MAX,
    FRAMES_PER_S,
    LEFTOVERS_MAX,
    NOBODY,
    STRANGE_BYTES_MAX,
    WRONG_FRAMES_MAX,
    Connections,
    cutter,
)

FD, OTHER_FD = 7, 8
TOPIC = bytes(64)
TOPICS_MAX = STRANGE_BYTES_MAX // len(TOPIC)


@pytest.fixture
def cut() -> list[int]:
    """Return the descriptors that were cut off."""
    return []


@pytest.fixture
def clock() -> Mock:
    """Return a clock that stands still."""
    return Mock(return_value=100.0)


@pytest.fixture
def connections(cut: list[int], clock: Mock) -> Connections:
    """Return an endpoint's connections."""
    return Connections(cut.append, clock)


def topics(count: int) -> list[bytes]:
    return [b"%064d" % index for index in range(count)]


def ask(connections: Connections, count: int, descriptor: int = FD) -> None:
    """Ask for so many topics that are nobody's rooms."""
    for topic in topics(count):
        connections.may_ask(descriptor)
        connections.is_strange(descriptor, topic)


def test_so_many_bytes_of_strange_topics_and_not_one_more(
    connections: Connections, cut: list[int]
) -> None:
    """Asking for the same again counts once; what it left does not count."""
    ask(connections, TOPICS_MAX)
    ask(connections, TOPICS_MAX)
    connections.unsubscribed(FD, topics(1)[0])
    connections.unsubscribed(FD, b"never asked for")
    connections.is_strange(FD, TOPIC)
    assert [] == cut
    connections.is_strange(FD, b"one more")
    assert [FD] == cut
    assert not connections.may_ask(FD)
    assert connections.may_ask(OTHER_FD)
    connections.is_strange(FD, b"yet another")
    assert [FD] == cut


def test_so_many_frames_at_once_and_then_so_many_a_second(
    connections: Connections, cut: list[int], clock: Mock
) -> None:
    """Whatever they are: it is their number that takes time."""
    assert all(connections.may_ask(FD) for _ in range(FRAMES_BURST_MAX))
    clock.return_value += 0.5
    assert all(connections.may_ask(FD) for _ in range(FRAMES_PER_S // 2))
    assert all(connections.may_ask(NOBODY) for _ in range(2 * FRAMES_BURST_MAX))
    clock.return_value += 3_600
    assert all(connections.may_ask(FD) for _ in range(FRAMES_BURST_MAX))
    assert [] == cut
    assert not connections.may_ask(FD)
    assert [FD] == cut


def test_so_many_wrong_frames_and_not_one_more(connections: Connections, cut: list[int]) -> None:
    """It is cut off once, whatever it says until that has happened."""
    for _ in range(WRONG_FRAMES_MAX):
        connections.was_wrong(FD)
        connections.was_wrong(NOBODY)
    assert [] == cut
    for _ in range(3):
        connections.was_wrong(FD)
    connections.was_wrong(OTHER_FD)
    assert [FD] == cut


def test_who_comes_next_with_that_descriptor_begins_anew(
    connections: Connections, cut: list[int]
) -> None:
    """A descriptor is a number that is given away again."""
    ask(connections, TOPICS_MAX + 1)
    assert not connections.may_ask(FD)
    # That it is another's now is known only when one asks.
    connections.listen = lambda: connections.changed(FD)
    assert connections.may_ask(FD)
    connections.listen = lambda: None
    connections.all_heard()
    ask(connections, TOPICS_MAX)
    assert [FD] == cut
    connections.is_strange(FD, b"one more")
    assert [FD, FD] == cut


def test_nobody_is_cut_off_for_what_was_said_before(
    connections: Connections, cut: list[int]
) -> None:
    """Just as the last straw is heard it becomes known that the descriptor is another's."""
    ask(connections, TOPICS_MAX)
    connections.listen = lambda: connections.changed(FD)
    connections.is_strange(FD, b"one more")
    assert [] == cut
    assert connections.may_ask(FD)


def test_what_is_said_at_first_counts_when_all_before_it_is_heard(
    connections: Connections, cut: list[int]
) -> None:
    """In a flood there is always something left to be heard: it is no hole for others."""
    connections.changed(FD)
    ask(connections, TOPICS_MAX + 1)
    assert [] == cut
    connections.all_heard()
    assert [FD] == cut


def test_what_was_said_before_has_an_end(connections: Connections, cut: list[int]) -> None:
    """After so many frames they are its own, though something always waits."""
    connections.changed(FD)
    ask(connections, TOPICS_MAX + 1)
    for descriptor in range(OTHER_FD, OTHER_FD + LEFTOVERS_MAX - TOPICS_MAX - 2):
        connections.may_ask(descriptor)
    assert [] == cut
    connections.may_ask(FD)
    assert [FD] == cut


def test_nothing_is_remembered_of_who_has_left(connections: Connections, cut: list[int]) -> None:
    """What libzmq tells of its topics then tells no descriptor, and counts for nobody."""
    ask(connections, TOPICS_MAX)
    connections.changed(FD)
    connections.unsubscribed(NOBODY, topics(1)[0])
    connections.is_strange(NOBODY, TOPIC)
    connections.was_wrong(NOBODY)
    assert not connections._asked[FD].strange
    assert [FD] == list(connections._asked)
    assert [] == cut


@pytest.fixture
def pair() -> Iterator[tuple[socket.socket, socket.socket]]:
    """Return both ends of a connection, the accepted one first."""
    with (
        socket.create_server(("127.0.0.1", 0)) as server,
        socket.create_connection(server.getsockname()) as far,
        server.accept()[0] as near,
    ):
        far.settimeout(10)
        yield near, far


def test_only_a_connection_to_that_port_is_ended(
    pair: tuple[socket.socket, socket.socket],
) -> None:
    """The descriptor may be another client's by now, or a file's, or nobody's."""
    near, far = pair
    port = near.getsockname()[1]
    cutter(port + 1)(near.fileno())
    near.send(b"still here")
    assert b"still here" == far.recv(100)
    with open("/dev/null", "rb") as file:  # noqa: PTH123 - any file
        cutter(port)(file.fileno())
        assert b"" == file.read()
    for other in socket.socketpair():
        with other:
            cutter(port)(other.fileno())
    with socket.create_server(("127.0.0.1", 0)) as server:
        cutter(server.getsockname()[1])(server.fileno())
        with socket.create_connection(server.getsockname()):
            server.accept()[0].close()
    cutter(port)(1 << 20)
    far.send(b"nobody shall hear this")
    assert select.select([near], [], [], 10)[0]
    cutter(port)(near.fileno())
    assert b"" == far.recv(100)
    assert b"" == near.recv(100)
    assert -1 != near.fileno()  # Its owner closes it.
