"""What somebody still has who was put out of a room: topics, tickets, a session. All worthless."""

from __future__ import annotations

from contextlib import ExitStack

import pytest

from common import wire
from common.errors import Code
from common.order import Action
from tests.attacks.scene import Peer, closed_room
from tests.broker_process import BrokerProcess
from tests.waiting import eventually

AFTER = "said when they were out"


@pytest.mark.parametrize("action", [Action.UNINVITE, Action.BAN])
def test_what_a_removed_member_still_has(broker: BrokerProcess, action: Action) -> None:
    """Topic, ticket and session of before, and asking again: nothing brings what is said after."""
    name = f"flat-{action.value}"
    with closed_room(broker, name) as (owner, member, joined):
        member.make_fence()
        room = joined.room
        owner.say(room, "before")
        member.hear("before")
        assert "before" in member.read(room, joined.ticket)
        owner.give_order(room, action, member.nick)
        owner.await_notice("rejoin")
        owner.sub.unsubscribe(joined.subscription)
        fresh = owner.join(room)
        assert fresh.subscription != joined.subscription
        owner.say(room, AFTER)
        owner.hear(AFTER)
        assert not [frame for frame in member.heard() if AFTER.encode() in frame]
        assert Code.BAD_TICKET == member.read(room, joined.ticket)
        assert Code.BAD_TICKET == member.read(room, fresh.ticket)
        before = member.refused_count()
        member.sub.subscribe(fresh.subscription)
        member.sub.unsubscribe(joined.subscription)
        member.sub.subscribe(joined.subscription)
        joins = [wire.Join(11, room), wire.Join(12, room, resume=True)]
        for join in joins:
            assert Code.NOT_INVITED == member.refused(join)
        drafts = [wire.Draft(room, wire.Kind.TEXT, ["let me in"])]
        for command in (wire.Who(14, room), wire.Send(member.next_number(), drafts)):
            assert Code.NOT_MEMBER == member.refused(command)
        refused_count = before + 6  # Both subscriptions, and the four commands.
        eventually(lambda: member.refused_count() >= refused_count)
        owner.say(room, f"{AFTER} again")
        owner.hear(f"{AFTER} again")
        assert not [frame for frame in member.heard() if AFTER.encode() in frame]


def test_what_a_kicked_member_still_has(broker: BrokerProcess) -> None:
    """Topic and ticket are worthless: who is not seen in the room does not hear it either."""
    with closed_room(broker, "kicked") as (owner, member, joined):
        member.make_fence()
        room = joined.room
        owner.give_order(room, Action.KICK, member.nick)
        assert Code.BAD_TICKET == member.read(room, joined.ticket)
        owner.await_notice("rejoin")
        owner.sub.unsubscribe(joined.subscription)
        fresh = owner.join(room)
        assert fresh.users == 1
        owner.say(room, AFTER)
        owner.hear(AFTER)
        assert not [frame for frame in member.heard() if AFTER.encode() in frame]
        # They are invited as before: who comes back is seen, and hears what is said.
        again = member.join(room)
        assert again.users == 2
        assert again.subscription == fresh.subscription


def test_a_second_session_of_a_removed_member(broker: BrokerProcess) -> None:
    """All sessions of the key are out, not only the one that spoke last."""
    with ExitStack() as stack:
        owner, member, joined = stack.enter_context(closed_room(broker, "two-screens"))
        other = stack.enter_context(Peer(broker, member.nick, member.keys))
        other.enter()
        other.make_fence()
        other.join(joined.room)
        owner.give_order(joined.room, Action.UNINVITE, member.nick)
        owner.await_notice("rejoin")
        owner.join(joined.room)
        owner.say(joined.room, AFTER)
        owner.hear(AFTER)
        assert not [frame for frame in other.heard() if AFTER.encode() in frame]
        assert Code.NOT_INVITED == other.refused(wire.Join(5, joined.room))


def test_old_keys_of_another_room_of_that_name(broker: BrokerProcess) -> None:
    """A name can be taken anew when its room was closed; no key comes twice under a name."""
    with (
        Peer(broker, "ann-old") as ann,
        Peer(broker, "eve-old") as eve,
        Peer(broker, "mal-old") as mal,
    ):
        ann.enter_room("agora")
        eve.enter("agora")
        eve.make_fence()
        mal.enter_room("agora")
        ann.give_order("agora", Action.BAN, "mal-old")
        eve.await_notice("rejoin")
        stale = eve.join("agora")  # And never unsubscribed.
        ann.join("agora")
        room = ann.give_order("agora", Action.PRIVATE).room
        ann.ask(wire.Part(ann.next_id(), room), wire.Parted)
        ann.join("agora")
        eve.ask(wire.Part(eve.next_id(), room), wire.Parted)
        eve.join("agora")
        ann.give_order("agora", Action.BAN, "eve-old")
        fresh = ann.join("agora")
        eve.heard()
        ann.say("agora", AFTER)
        ann.hear(AFTER)
        assert not [frame for frame in eve.heard() if AFTER.encode() in frame]
        assert fresh.subscription != stale.subscription
        assert Code.BAD_TICKET == eve.read("agora", stale.ticket)
        assert Code.BANNED == eve.refused(wire.Join(5, "agora"))
