"""Who is behind a route: asked once, forgotten in time, and let in no more."""

from __future__ import annotations

from unittest.mock import create_autospec

import pytest
import zmq

from broker import peers
from broker.chat.peer import Peer
from broker.host.zap import Guests
from broker.peers import Peers

KEYS = [bytes([index]) * 32 for index in range(4)]


def frame_of(key: bytes, descriptor: int) -> zmq.Frame:
    known = {"User-Id": key.hex(), "Peer-Address": "10.0.0.1", zmq.SRCFD: descriptor}
    frame: zmq.Frame = create_autospec(zmq.Frame, instance=True, get=known.get)
    return frame


def test_a_peer_is_known_from_its_first_frame_on() -> None:
    made = Peers(Guests(None), lambda _: None, is_secure=True)
    expected = Peer(KEYS[1], "10.0.0.1")
    assert expected == made.met(b"r", frame_of(KEYS[1], 9)) == made.known[b"r"]


def test_on_a_plain_endpoint_nobody_has_a_key_whatever_they_say() -> None:
    """A peer can put a User-Id into its own metadata there."""
    made = Peers(Guests(None), lambda _: None, is_secure=False)
    assert Peer(b"", "10.0.0.1") == made.met(b"r", frame_of(KEYS[1], 9))


def test_routes_remembered_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    """The oldest give way, and are asked again."""
    monkeypatch.setattr(peers, "ROUTES_MAX", 2)
    made = Peers(Guests(None), lambda _: None, is_secure=True)
    for index in range(3):
        made.met(b"r%d" % index, frame_of(KEYS[index], index))
    assert [b"r1", b"r2"] == list(made.known) == list(made._descriptors)
    assert {1: b"r1", 2: b"r2"} == made._routes


def test_who_is_struck_off_is_cut_and_no_other(monkeypatch: pytest.MonkeyPatch) -> None:
    """Not who has its descriptor by now either; and its next frame finds no ear."""
    cut: list[int] = []
    guests = Guests(None)
    made = Peers(guests, cut.append, is_secure=True)
    for index in range(4):
        made.met(b"r%d" % index, frame_of(KEYS[index], index))
    monkeypatch.setattr(made, "listen", lambda: made.changed(2))
    guests.replace([KEYS[1].hex()])
    made.cut_off(lambda key: not guests.admits(key))
    assert [0, 3] == cut
    assert [b"r1"] == list(made.known)
    assert made.met(b"r2", frame_of(KEYS[2], 7)) is None
    assert [0, 3, 7] == cut
