"""Reading what two others say to each other."""

from __future__ import annotations

from pathlib import Path

import zmq
from zmq.utils import z85

from broker.chat.talks import UNANSWERED_MAX
from common import order, wire
from common.errors import Code
from common.order import Action
from tests.attacks.scene import Honest, Peer
from tests.attacks.test_eavesdropping import subscribe_in_vain
from tests.broker_process import BrokerProcess

WORDS = "nobody else may know"


def talk(peer: Peer, nick: str) -> wire.Joined:
    """Open the talk with somebody, and listen to it."""
    joined = peer.ask(order.Talk(peer.next_id(), nick), wire.Joined)
    peer.sub.subscribe(joined.subscription)
    peer.await_publication(wire.Batch, lambda batch: batch.room == joined.room)
    return joined


def test_a_talk_of_two_others(broker: BrokerProcess) -> None:
    """By its name, its topic, its ticket, or by talking to either of them."""
    with (
        Peer(broker, "ann-talk") as ann,
        Peer(broker, "bob-talk") as bob,
        Peer(broker, "eve-talk") as eve,
    ):
        for peer in (ann, bob, eve):
            peer.enter()
        eve.make_fence()
        joined = talk(ann, "bob-talk")
        assert joined.room == talk(bob, "ann-talk").room
        ann.say(joined.room, WORDS)
        bob.hear(WORDS)
        for room in (joined.room, "@ann-talk", "@bob-talk", "@", "@" + "0" * 24):
            assert Code.NOT_INVITED == eve.refused(wire.Join(5, room))
            assert Code.BAD_TICKET == eve.read(room, joined.ticket)
            assert Code.NOT_MEMBER == eve.refused(wire.Who(6, room))
        subscribe_in_vain(eve, [joined.subscription, b"@", joined.subscription[:26]])
        for nick in ("ann-talk", "bob-talk"):
            own = talk(eve, nick)
            assert own.room != joined.room
            assert WORDS not in eve.read(own.room, own.ticket)
        assert joined.room not in [
            each.room for each in eve.ask(order.Mine(7), order.MyRooms).rooms
        ]
        ann.say(joined.room, f"{WORDS} again")
        bob.hear(f"{WORDS} again")
        assert not [frame for frame in eve.heard() if WORDS.encode() in frame]
        bobs = bob.ask(order.Talk(8, "ann-talk"), wire.Joined)
        assert [WORDS, f"{WORDS} again"] == bob.read(joined.room, bobs.ticket)


def test_orders_in_a_talk(broker: BrokerProcess) -> None:
    """Neither of the two can let a third one in, or put the other one out."""
    with (
        Peer(broker, "ann-two") as ann,
        Peer(broker, "bob-two") as bob,
        Peer(broker, "eve-two") as eve,
    ):
        for peer in (ann, bob, eve):
            peer.enter()
        room = talk(ann, "bob-two").room
        for action in set(Action) - {Action.REPORT}:
            for nick in ("bob-two", "eve-two"):
                command = order.Order(9, room, action, nick)
                assert Code.FORBIDDEN == ann.refused(command)
        assert Code.NOT_INVITED == eve.refused(wire.Join(5, room))


def test_talks_of_a_mass_of_keys(broker: BrokerProcess, honest: Honest) -> None:
    """They push out one another: who is flooded talks on, and leaves what they like."""
    with (
        Peer(broker, "victim-mass") as victim,
        Peer(broker, "friend-mass") as friend,
        Peer(broker, "owner-mass") as owner,
    ):
        for peer in (owner, victim, friend):
            peer.enter("team-mass")
        begun = victim.ask(order.Talk(2, "owner-mass"), wire.Joined).room
        victim.say(begun, WORDS)
        answered = talk(friend, "victim-mass").room
        friend.say(answered, WORDS)
        talk(victim, "friend-mass")
        victim.say(answered, WORDS)
        for number in range(UNANSWERED_MAX + 4):
            with Peer(broker, f"mass-{number}") as stranger:
                stranger.enter()
                stranger.say(stranger.ask(order.Talk(2, "victim-mass"), wire.Joined).room, "hi")
        mine = [each.room for each in victim.ask(order.Mine(3), order.MyRooms).rooms]
        assert UNANSWERED_MAX + 2 == len(mine)
        assert {answered, begun} < {*mine}
        for peer in (friend, victim):
            peer.say(answered, WORDS)
        private = owner.give_order("team-mass", Action.PRIVATE).room
        left = next(each for each in mine if each not in (answered, begun))
        victim.join(left)
        victim.give_order(left, Action.UNINVITE, "victim-mass")
        mine = [each.room for each in victim.ask(order.Mine(4), order.MyRooms).rooms]
        assert {answered, begun, private} < {*mine}
        assert left not in mine
        honest.are_undisturbed()


def test_both_nicks_taken_over(tmp_path: Path) -> None:
    """A talk is its two keys': who gets a nick that was freed gets none of its talks."""
    keys = zmq.curve_keypair()
    words = ["--secure", "--operators", z85.decode(keys[0]).hex()]
    with (
        BrokerProcess(tmp_path / "data", *words) as broker,
        Peer(broker, "chief", keys) as chief,
        Peer(broker, "ann") as ann,
        Peer(broker, "bob") as bob,
        Peer(broker, "ann") as eve,
        Peer(broker, "bob") as mal,
    ):
        for peer in (chief, ann, bob):
            peer.enter()
        joined = talk(ann, "bob")
        ann.say(joined.room, WORDS)
        for peer, nick in ((ann, "anna-maria"), (bob, "bobby")):
            peer.ask(wire.SetNick(2, nick), wire.Renamed)
        for nick in ("ann", "bob"):
            chief.ask(order.Admin(3, "free", "", nick), order.Table)
        for peer in (eve, mal):
            peer.enter()
        for peer, other in ((eve, "bob"), (mal, "ann")):
            own = talk(peer, other)
            assert own.room != joined.room
            assert [] == peer.read(own.room, own.ticket)
            assert Code.NOT_INVITED == peer.refused(wire.Join(5, joined.room))
            assert Code.BAD_TICKET == peer.read(joined.room, joined.ticket)
        mine = bob.ask(order.Mine(7), order.MyRooms).rooms
        assert [joined.room] == [each.room for each in mine]
        again = talk(bob, "anna-maria")
        assert [WORDS] == bob.read(again.room, again.ticket)
