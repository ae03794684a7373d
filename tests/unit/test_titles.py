"""What closed rooms are called by people: more than one may have the same title."""

from __future__ import annotations

import pytest

from client.directory import titled
from common import order
from common.errors import Refused
from tests.unit.party import Party


def test_two_rooms_of_one_title_are_listed() -> None:
    (anna,) = Party("anna").guests
    directory = anna.session.directory
    one, other = "+" + "1" * 24, "+" + "2" * 24
    directory.call(one, "+plans")
    assert directory.find("+plans") == one
    directory.call(other, "+Plans")
    with pytest.raises(Refused, match=r"several rooms") as caught:
        directory.find("+plans")
    assert one in caught.value.detail
    assert other in caught.value.detail
    assert directory.find(other) == other
    directory.drop(other)
    assert directory.find("+plans") == one


def test_an_invitation_that_was_not_followed_does_not_stand_in_the_way() -> None:
    """Of a room that somebody else called as one's own; two of those alone are listed."""
    party = Party("bob")
    (bob,) = party.guests
    rooms = []
    for nick in ("carol", "mallory", "mal"):
        owner = party.bench.peer(nick, "plans")
        rooms.append(owner.order("plans", "private").room)
        owner.order(rooms[-1], "invite", "bob")
    hers, trap, other = rooms

    def mine() -> list[order.MyRoom]:
        bob.do(bob.session.ask(order.Mine, "mine", party.now))
        party.settle()
        found = bob.answers.pop("mine")
        assert isinstance(found, list)
        return found

    nobody = Refused("not_invited")
    assert all(room.invited for room in mine())
    with pytest.raises(Refused, match=r"several rooms"):
        titled(mine(), "+plans", nobody)
    bob.join(hers)
    assert {room.room: room.invited for room in mine()} == {hers: False, trap: True, other: True}
    assert titled(mine(), "+Plans", nobody) == hers
    bob.join(trap)
    with pytest.raises(Refused, match=r"several rooms") as caught:
        titled(mine(), "+plans", nobody)
    assert other not in caught.value.detail
    with pytest.raises(Refused, match="no such room"):
        titled(mine(), "+other", nobody)
