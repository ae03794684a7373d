"""Drawing people into a room of one's own that had the name of theirs. They stay where they are."""

from __future__ import annotations

import msgspec
import pytest

from common import wire
from common.errors import Code
from common.order import Action
from tests.attacks.scene import Peer
from tests.broker_process import BrokerProcess


def resume(peer: Peer, joined: wire.Joined) -> wire.Join:
    """Return what a client says to be in a room again after its session was lost."""
    known = (joined.epoch, joined.head, joined.birth)
    return wire.Join(peer.next_id(), joined.room, True, *known)


@pytest.mark.parametrize("is_resume_of_before", [False, True])
def test_an_invitation_to_a_room_that_had_the_name(
    broker: BrokerProcess,
    is_resume_of_before: bool,  # noqa: FBT001 - a parameter
) -> None:
    """Who is in the open room resumes there; a client of before, which tells no birth, too."""
    turn = int(is_resume_of_before)
    name, victim = f"standup-{turn}", f"bob-{turn}"
    with Peer(broker, f"mallory-{turn}") as mallory, Peer(broker, f"carol-{turn}") as carol:
        mallory.enter_room(name)
        trap = mallory.give_order(name, Action.PRIVATE).room
        carol.enter_room(name)
        carol.say(name, "hello all")
        with Peer(broker, victim) as bob:
            keys, before = bob.keys, bob.enter_room(name)
            mallory.give_order(trap, Action.INVITE, victim)
            bob.ask(wire.Bye(bob.next_id()), wire.Goodbye)
        with Peer(broker, victim, keys) as bob:
            bob.hello(victim)
            join = resume(bob, before)
            if is_resume_of_before:
                join = msgspec.structs.replace(join, birth=0)
            assert name == bob.ask(join, wire.Joined).room
            bob.say(name, "the password")
            assert "the password" in carol.read(name, carol.join(name).ticket)
            assert "the password" not in mallory.read(trap, mallory.join(trap).ticket)


def test_the_birth_of_a_room_opens_no_door(broker: BrokerProcess) -> None:
    """Who was in a room before it was closed knows its birth, and has no place in it."""
    with Peer(broker, "owner") as owner, Peer(broker, "eve") as eve:
        owner.enter_room("nest")
        owner.say("nest", "before")
        known = eve.enter_room("nest")
        eve.ask(wire.Part(eve.next_id(), "nest"), wire.Parted)
        room = owner.give_order("nest", Action.PRIVATE).room
        for name in ("nest", room):
            join = resume(eve, msgspec.structs.replace(known, room=name))
            assert Code.NOT_INVITED == eve.refused(join)
