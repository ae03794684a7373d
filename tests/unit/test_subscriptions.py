"""Subscriptions are admitted for the peer that asked, whatever others send between. inproc only."""

from __future__ import annotations

from collections.abc import Iterator
from unittest.mock import Mock, create_autospec

import pytest
import zmq

from broker.chat.core import Core
from broker.connections import Connections
from broker.subscriptions import Subscriptions

ENDPOINT = "inproc://rooms"
ROOM, OTHER = b"secret\0key", b"other\0key"

Socket = zmq.Socket[bytes]


@pytest.fixture
def sockets() -> Iterator[list[Socket]]:
    """XPUB and three peers of it."""
    context: zmq.Context[Socket] = zmq.Context()
    xpub = context.socket(zmq.XPUB)
    xpub.setsockopt(zmq.XPUB_MANUAL, 1)
    xpub.bind(ENDPOINT)
    peers = [context.socket(zmq.XSUB) for _ in range(3)]
    for peer in peers:
        peer.connect(ENDPOINT)
    yield [xpub, *peers]
    context.destroy(0)


def admitting_core() -> Core:
    core: Core = create_autospec(Core, instance=True)
    core.refusals = {"bad_subscription": 0}  # type: ignore[assignment]
    core.subscribed.side_effect = (  # type: ignore[attr-defined]
        lambda topic, _key: [ROOM + b"head"] if topic == ROOM else None
    )
    return core


def heard(peer: Socket) -> list[bytes]:
    """Return what has come: inproc delivers at once."""
    frames = []
    while peer.poll(0):
        frames.append(peer.recv(zmq.NOBLOCK))
    return frames


@pytest.mark.parametrize("data", [[b""], [b"x"], [b"x", b"\1y"]])
def test_data_from_a_peer_opens_no_room_to_another(
    sockets: list[Socket], data: list[bytes]
) -> None:
    """A spy whose own subscription is refused does not get the one that came before it."""
    xpub, mallory, anna, spy = sockets
    subscriptions = Subscriptions(xpub, admitting_core(), Connections(Mock()))
    mallory.send_multipart(data)
    anna.send(b"\1" + ROOM)
    spy.send(b"\1" + OTHER)
    subscriptions.drain()
    xpub.send(ROOM + b"read by members")
    assert not spy.poll(0)
    anna.send(b"\1" + ROOM)  # As a client does when no beacon comes.
    subscriptions.drain()
    xpub.send(ROOM + b"read by members")
    assert heard(anna) == [ROOM + b"head", ROOM + b"read by members"]
    assert not spy.poll(0)


def test_data_from_a_peer_ends_nobodys_subscription(sockets: list[Socket]) -> None:
    """The end of one peer's subscription is not taken for another's."""
    xpub, mallory, bob, anna = sockets
    subscriptions = Subscriptions(xpub, admitting_core(), Connections(Mock()))
    for member in (anna, bob):
        member.send(b"\1" + ROOM)
    subscriptions.drain()
    mallory.send(b"x")
    bob.send(b"\0" + ROOM)
    anna.send(b"\1" + OTHER)
    subscriptions.drain()
    xpub.send(ROOM + b"still here")
    assert heard(anna) == [ROOM + b"head", ROOM + b"still here"]


def test_a_newcomer_is_greeted_alone_and_all_hear_what_follows(sockets: list[Socket]) -> None:
    """The head goes to the one who has just subscribed; publishing is as before right after."""
    xpub, bob, anna, stranger = sockets
    subscriptions = Subscriptions(xpub, admitting_core(), Connections(Mock()))
    for member in (bob, anna):
        member.send(b"\1" + ROOM)
        subscriptions.drain()
    bob.send(b"\1" + OTHER)  # Heard last, and refused.
    subscriptions.drain()
    xpub.send(ROOM + b"for all")
    assert [heard(peer) for peer in (bob, anna, stranger)] == [
        [ROOM + b"head", ROOM + b"for all"],
        [ROOM + b"head", ROOM + b"for all"],
        [],
    ]
