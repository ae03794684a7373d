"""Listening where one does not belong: the broker publishes by topic, and anybody may subscribe."""

from __future__ import annotations

import os
from pathlib import Path

from common import topics, wire
from common.limits import KEY_BYTES
from common.order import Action
from tests.attacks.scene import Honest, Peer, closed_room
from tests.broker_process import BrokerProcess
from tests.waiting import eventually

SECRET = "the combination is 4711"


def subscribe_in_vain(eve: Peer, wanted: list[bytes]) -> None:
    """Ask for topics, and see that the broker refuses each."""
    before = eve.refused_count()
    for topic in wanted:
        eve.sub.subscribe(topic)
    eventually(lambda: eve.refused_count() >= before + len(wanted), "the refusals")


def test_empty_shortened_and_guessed_topics(broker: BrokerProcess, honest: Honest) -> None:
    """What begins like a topic, or like all of them, opens none of them."""
    room, topic = honest.room.encode(), honest.joined.subscription
    shortened = [topic[:size] for size in (1, 4, len(room), len(room) + 1, len(topic) - 1)]
    guessed = [room + b"\0" + key for key in (bytes(KEY_BYTES), os.urandom(KEY_BYTES))]
    longer = [topic + b"\0"]
    with Peer(broker, "eve-empty") as eve:
        eve.enter()
        eve.make_fence()
        subscribe_in_vain(eve, [b"", b"\0", b"+", b"@", *shortened, *guessed, *longer])
        honest.one.say(honest.room, SECRET)
        honest.one.await_texts(SECRET)
        honest.two.await_texts(SECRET)
        assert [] == eve.heard()


def test_a_stolen_topic_of_a_closed_room(broker: BrokerProcess) -> None:
    """The topic alone opens a closed room to its members' keys, and to nobody else's."""
    with closed_room(broker, "vault") as (owner, member, joined), Peer(broker, "eve-topic") as eve:
        eve.enter()
        eve.make_fence()
        subscribe_in_vain(eve, [joined.subscription])
        owner.say(joined.room, SECRET)
        member.await_texts(SECRET)
        assert [] == eve.heard()


def test_a_stolen_inbox(broker: BrokerProcess) -> None:
    """The topic that brings somebody's notices brings them to no other key."""
    with closed_room(broker, "post") as (owner, member, joined), Peer(broker, "eve-inbox") as eve:
        eve.enter()
        eve.make_fence()
        subscribe_in_vain(eve, [topics.inbox(member.token)])
        owner.give_order(joined.room, Action.OP, member.nick)
        assert joined.room == member.await_notice("role").room
        assert [] == eve.heard()


def test_a_stolen_inbox_that_is_let_go(tmp_path: Path) -> None:
    """The end of a thief's subscription is not taken for the end of the session.

    Somebody who came later, and never opened an inbox, shows when the grace is over.
    """
    with (
        BrokerProcess(tmp_path / "data", "--secure", "--grace", "0.2") as broker,
        Peer(broker, "ann") as ann,
        Peer(broker, "eve") as eve,
        Peer(broker, "ghost") as ghost,
    ):
        ann.enter_room("home")
        eve.enter()
        for _ in range(5):
            subscribe_in_vain(eve, [topics.inbox(ann.token)])
            eve.sub.unsubscribe(topics.inbox(ann.token))
        eve.close()
        ghost.ask(wire.Hello(1, "ghost", ghost.owner, ghost.instance, 1), wire.Welcome)
        eventually(
            lambda: isinstance(ghost.ask(wire.Rooms(2), wire.Payload), wire.Error),
            "the end of who has no inbox",
        )
        ann.say("home", "still here")
        ann.await_texts("still here")


def test_a_stale_topic_of_a_room_that_was_closed(broker: BrokerProcess) -> None:
    """Who left an open room and kept listening hears nothing of what it became."""
    with Peer(broker, "ann") as ann, Peer(broker, "eve-stale") as eve:
        ann.enter_room("lounge")
        eve.enter("lounge")
        eve.make_fence()
        eve.ask(wire.Part(eve.next_id(), "lounge"), wire.Parted)
        ann.say("lounge", "anybody may hear this")
        assert any(b"anybody may hear this" in frame for frame in eve.heard())
        room = ann.give_order("lounge", Action.PRIVATE).room
        ann.join(room)
        eve.heard()
        ann.say(room, SECRET)
        ann.hear(SECRET)
        assert [] == eve.heard()


def test_a_thousand_guesses(broker: BrokerProcess, honest: Honest) -> None:
    """Who guesses is cut off now and then, and hears nothing of what is said meanwhile."""
    room = honest.room.encode()
    with Peer(broker, "eve-many") as eve:
        eve.enter()
        eve.make_fence()
        before = eve.refused_count()
        for _ in range(1_000):
            eve.sub.subscribe(room + b"\0" + os.urandom(KEY_BYTES))
        eventually(lambda: eve.refused_count() > before + 20, "the refusals")
        honest.are_undisturbed()
        heard = []
        while eve.sub.poll(0):
            heard.append(eve.sub.recv())
        assert not [frame for frame in heard if frame.startswith(room)]
