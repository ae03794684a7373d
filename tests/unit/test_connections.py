"""What a connection may ask of XPUB: beyond it the connection is ended, and no other."""

from __future__ import annotations

import socket
from collections.abc import Iterator

import pytest

from broker.connections import (
    LEFTOVERS_MAX,
    NOBODY,
    TOPICS_PER_CONNECTION_MAX,
    WRONG_FRAMES_MAX,
    Connections,
    cutter,
)

FD, OTHER_FD = 7, 8


@pytest.fixture
def cut() -> list[int]:
    """Return the descriptors that were cut off."""
    return []


@pytest.fixture
def connections(cut: list[int]) -> Connections:
    """Return an endpoint's connections."""
    return Connections(cut.append)


def ask(connections: Connections, count: int, descriptor: int = FD) -> list[bool]:
    return [connections.may_subscribe(descriptor, b"%d" % index) for index in range(count)]


def test_so_many_topics_and_not_one_more(connections: Connections, cut: list[int]) -> None:
    """Asking for the same again counts once; what it left does not count."""
    assert all(ask(connections, TOPICS_PER_CONNECTION_MAX))
    assert all(ask(connections, TOPICS_PER_CONNECTION_MAX))
    connections.unsubscribed(FD, b"0")
    connections.unsubscribed(FD, b"never asked for")
    assert connections.may_subscribe(FD, b"another")
    assert [] == cut
    assert not connections.may_subscribe(FD, b"one more")
    assert not connections.may_subscribe(FD, b"1")
    assert connections.may_subscribe(OTHER_FD, b"1")
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
    ask(connections, TOPICS_PER_CONNECTION_MAX + 1)
    connections.accepted(FD)
    connections.all_heard()
    assert all(ask(connections, TOPICS_PER_CONNECTION_MAX))
    assert [FD] == cut
    assert not connections.may_subscribe(FD, b"one more")


def test_nobody_is_blamed_for_what_was_said_before(
    connections: Connections, cut: list[int]
) -> None:
    """Frames of the connection that had this descriptor before still wait to be heard."""
    ask(connections, TOPICS_PER_CONNECTION_MAX)
    # Just as the last straw is heard it becomes known that the descriptor is another's.
    connections.listen = lambda: connections.accepted(FD)
    connections.may_subscribe(FD, b"one more")
    assert [] == cut
    for _ in range(2 * WRONG_FRAMES_MAX):
        connections.was_wrong(FD)
    assert all(ask(connections, 2 * TOPICS_PER_CONNECTION_MAX))
    assert [] == cut
    connections.listen = lambda: None
    connections.all_heard()
    assert all(ask(connections, TOPICS_PER_CONNECTION_MAX))
    assert [] == cut
    assert not connections.may_subscribe(FD, b"one more")
    assert [FD] == cut


def test_what_was_said_before_has_an_end(connections: Connections, cut: list[int]) -> None:
    """In a flood there is always something left to be heard."""
    connections.accepted(FD)
    assert all(ask(connections, LEFTOVERS_MAX))
    assert not all(ask(connections, TOPICS_PER_CONNECTION_MAX + 1))
    assert [FD] == cut


def test_without_a_descriptor_nothing_is_counted(connections: Connections, cut: list[int]) -> None:
    """When a connection ends libzmq tells what it left, and not by whom."""
    assert all(ask(connections, TOPICS_PER_CONNECTION_MAX + 1, NOBODY))
    connections.unsubscribed(NOBODY, b"1")
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
    cutter(port)(1 << 20)
    cutter(port)(near.fileno())
    assert b"" == far.recv(100)
    assert -1 != near.fileno()  # Its owner closes it.
