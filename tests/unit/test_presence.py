"""Whose coming is no news after a start, and until when that is known."""

from __future__ import annotations

import pytest

from broker.chat import presence
from broker.chat.floods import RETURN_S
from broker.chat.presence import Presence
from broker.chat.rooms import Room
from broker.chat.sessions import User
from tests.unit.bench import Bench


@pytest.fixture
def room() -> Room:
    """Return a room."""
    return Bench().core.rooms.open("lobby")


def test_who_was_there_before_the_start_is_old_until_it_leaves(room: Room) -> None:
    """And everybody is new once the start is long ago."""
    told = Presence(0.0)
    ann, bob = User("ann", b""), User("bob", b"")
    assert told.is_old(room, ann, 1.0)
    told.left(room, ann, 1.0)
    assert not told.is_old(room, ann, 2.0)
    assert told.is_old(room, bob, 2.0)
    assert not told.is_old(room, bob, RETURN_S)


def test_after_so_many_farewells_nobody_is_old(room: Room, monkeypatch: pytest.MonkeyPatch) -> None:
    """Then what comes is told, even if it was there: news twice is better than none."""
    monkeypatch.setattr(presence, "GONE_MAX", 3)
    told = Presence(0.0)
    for name in ("ann", "bob"):
        told.left(room, User(name, b""), 1.0)
    assert told.is_old(room, User("dan", b""), 1.0)
    told.left(room, User("cid", b""), 1.0)
    assert not told.is_old(room, User("dan", b""), 1.0)
