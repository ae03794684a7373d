"""Giving orders that one may not give: in rooms, and to the broker."""

from __future__ import annotations

from pathlib import Path

import zmq
from zmq.utils import z85

from common import order, wire
from common.errors import Code
from common.order import Action, Role
from tests.attacks.scene import Peer, closed_room
from tests.broker_process import BrokerProcess

VERBS = (
    *("sessions", "rooms", "sanctions", "audit", "announce", "nicks", "free", "retention", "drop"),
    *(
        "reload",
        "drain",
        "kick",
        "ban",
        "unban",
        "mute",
        "unmute",
        "op",
        "deop",
        "slow",
        "nonsense",
    ),
)
FOR_OWNERS = (Action.PRIVATE, Action.PUBLIC, Action.OP, Action.DEOP, Action.TOPIC_BY)


def refused_order(peer: Peer, room: str, action: str, nick: str = "") -> str:
    """Return the code with which an order is refused."""
    return peer.refused(order.Order(peer.next_id(), room, action, nick))


def test_orders_in_a_room_one_is_not_in(broker: BrokerProcess) -> None:
    with closed_room(broker, "court") as (owner, member, joined), Peer(broker, "eve-court") as eve:
        eve.enter()
        for action in Action:
            for room in (joined.room, "court", "+0"):
                assert Code.NOT_MEMBER == refused_order(eve, room, action, member.nick)
        owner.say(joined.room, "order")
        member.hear("order")


def test_orders_of_guests(broker: BrokerProcess) -> None:
    """In an open room somebody who is just there can report, and nothing else."""
    with Peer(broker, "ann-guest") as ann, Peer(broker, "eve-guest") as eve:
        ann.enter_room("square")
        assert Role.GUEST == eve.enter_room("square").role
        for action in set(Action) - {Action.REPORT}:
            for nick in ("ann-guest", "eve-guest", "nobody"):
                assert Code.FORBIDDEN == refused_order(eve, "square", action, nick)
        assert Code.BAD_PAYLOAD == refused_order(eve, "square", "reboot")
        assert Role.OWNER == ann.join("square").role


def test_orders_of_members(broker: BrokerProcess) -> None:
    with closed_room(broker, "club") as (owner, member, joined):
        for action in set(Action) - {Action.REPORT}:
            assert Code.FORBIDDEN == refused_order(member, joined.room, action, owner.nick)
        assert Role.OWNER == owner.join(joined.room).role
        assert Role.MEMBER == member.join(joined.room).role


def test_a_room_whose_former_name_was_taken(broker: BrokerProcess) -> None:
    """Its owner is not kept in it: it is opened by another name, and given to somebody else."""
    with closed_room(broker, "team") as (owner, member, joined), Peer(broker, "eve-team") as eve:
        eve.enter_room("team")
        eve.say("team", "mine now")
        assert Code.FORBIDDEN == refused_order(owner, joined.room, Action.PUBLIC)
        give = order.Order(owner.next_id(), joined.room, Action.OP, member.nick, Role.OWNER)
        owner.ask(give, order.Done)
        assert Code.FORBIDDEN == refused_order(owner, joined.room, Action.PUBLIC)
        owner.give_order(joined.room, Action.UNINVITE, owner.nick)
        done = member.give_order(joined.room, Action.PUBLIC, reason="team-too")
        assert "team-too" == done.room == eve.join("team-too").room
        assert Role.OWNER == member.join("team-too").role


def test_moderators_against_owners_and_one_another(broker: BrokerProcess) -> None:
    with (
        closed_room(broker, "senate") as (owner, member, joined),
        Peer(broker, "mod-two") as other,
    ):
        other.enter()
        room = joined.room
        owner.give_order(room, Action.INVITE, "mod-two")
        other.join(room)
        for nick in (member.nick, "mod-two"):
            owner.give_order(room, Action.OP, nick)
        for victim in (owner, other):
            for action in (Action.KICK, Action.BAN, Action.MUTE, Action.UNINVITE):
                assert Code.FORBIDDEN == refused_order(member, room, action, victim.nick)
        for action in FOR_OWNERS:
            for nick in (owner.nick, "mod-two", member.nick):
                assert Code.FORBIDDEN == refused_order(member, room, action, nick)
        assert Role.OWNER == owner.join(room).role
        assert Role.MODERATOR == other.join(room).role
        other.say(room, "still here")
        owner.hear("still here")


def test_moderators_against_what_was_imposed_from_above(broker: BrokerProcess) -> None:
    """A mute of their own stays, and so does what the owner did, also by imposing less instead."""
    with (
        Peer(broker, "duke") as owner,
        Peer(broker, "mute-mod") as muted,
        Peer(broker, "free-mod") as other,
        Peer(broker, "pest") as pest,
    ):
        for peer in (owner, muted, other, pest):
            peer.enter_room("court")
        for moderator in (muted, other):
            owner.give_order("court", Action.OP, moderator.nick)
        for victim in (muted, pest):
            owner.give_order("court", Action.MUTE, victim.nick)
        assert Code.FORBIDDEN == refused_order(muted, "court", Action.UNMUTE, "mute-mod")
        muted.ask(wire.SetNick(muted.next_id(), "loud-mod"), wire.Renamed)
        for nick in ("loud-mod", "mute-mod"):
            assert Code.FORBIDDEN == refused_order(muted, "court", Action.UNMUTE, nick)
        for action in (Action.UNMUTE, Action.MUTE):
            assert Code.FORBIDDEN == refused_order(other, "court", action, "pest")
        owner.give_order("court", Action.BAN, "pest")
        for action in (Action.UNBAN, Action.BAN):
            assert Code.FORBIDDEN == refused_order(other, "court", action, "pest")
        assert Code.BANNED == pest.refused(wire.Join(5, "court"))
        drafts = [wire.Draft("court", wire.Kind.TEXT, ["let me speak"])]
        assert Code.MUTED == muted.refused(wire.Send(muted.next_number(), drafts))
        owner.give_order("court", Action.UNMUTE, "loud-mod")
        assert [""] == [place.code for place in muted.say("court", "free").kept]


def test_administration_by_strangers(broker: BrokerProcess) -> None:
    """By whoever has a session, or none, an owner's token, or a made-up one."""
    with Peer(broker, "ann-lord") as ann, Peer(broker, "eve-lord") as eve:
        ann.enter_room("realm")
        eve.enter()
        for verb in VERBS:
            command = order.Admin(1, verb, "realm", "ann-lord", 1, "text")
            for token in (eve.token, wire.NO_TOKEN, ann.token, b"\xff" * 16):
                assert Code.FORBIDDEN == eve.refused(command, token)
            assert Code.FORBIDDEN == ann.refused(command)
        ann.say("realm", "all is well")
        ann.hear("all is well")


def test_administration_by_the_nick_of_an_operator(tmp_path: Path) -> None:
    """The key decides: the operator's nick, freed and taken by somebody else, is worth nothing."""
    keys = zmq.curve_keypair()
    words = ["--secure", "--operators", z85.decode(keys[0]).hex()]
    with (
        BrokerProcess(tmp_path / "data", *words) as broker,
        Peer(broker, "chief", keys) as chief,
        Peer(broker, "chief") as eve,
    ):
        chief.enter()
        assert Code.NICK_TAKEN == eve.refused(wire.Hello(1, "chief", eve.owner, 1, 1))
        chief.ask(wire.SetNick(2, "boss"), wire.Renamed)
        chief.ask(order.Admin(3, "free", "", "chief"), order.Table)
        eve.enter_room("lobby")
        for verb in VERBS:
            command = order.Admin(4, verb, "lobby", "boss", 1, "text")
            assert Code.FORBIDDEN == eve.refused(command)
            assert Code.FORBIDDEN == eve.refused(command, chief.token)
        chief.ask(order.Admin(5, "sessions"), order.Table)
