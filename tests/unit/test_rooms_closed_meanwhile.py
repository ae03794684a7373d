"""Who was away, or met another broker process, when a room got another name: session and core."""

from __future__ import annotations

import pytest

from client.events import Joined, Left, Moved, Reset
from common import topics, wire
from common.order import Done
from tests.unit.bench import Bench
from tests.unit.party import Guest
from tests.unit.test_closed_rooms import in_plans, private


def come_again(*guests: Guest) -> None:
    """Connect anew, as after a restart of the broker or a long absence; all resume."""
    party = guests[0].party
    for guest in guests:
        for wire_in in (guest.commands, guest.wanted, guest.replies, guest.frames):
            wire_in.clear()
        party.bench.set_clock()
        for topic in sorted(guest.topics):  # libzmq subscribes everything again by itself.
            if party.bench.core.subscribed(topic) is None:
                guest.topics.discard(topic)
        guest.do(guest.session.connected(party.now))
    party.settle()


@pytest.mark.parametrize("is_taken", [False, True])
def test_a_room_that_became_private_is_found_after_a_restart(
    is_taken: bool,  # noqa: FBT001 - a parameter
) -> None:
    """Nobody heard of it before the broker ended; and perhaps a stranger took the name."""
    anna, bob = in_plans("anna", "bob")
    party = anna.party
    anna.say("plans", "before")
    party.settle()
    anna.give("plans", "private")
    anna.carry()
    party.drain()
    party.bench.start()
    if is_taken:
        stranger = party.bench.peer("eve", "plans")
        stranger.send("plans", *"abcdef")
    bob.say("plans", "for members only")
    come_again(bob, anna)
    (moved,) = bob.heard(Moved)
    assert moved == Moved("plans", moved.to, "+plans")
    assert anna.heard(Moved) == [moved]
    done = anna.answers["private"]
    assert isinstance(done, Done)
    assert done.room == moved.to, "the order that was given again is done"
    for guest in (anna, bob):
        told = [text for _, text in guest.texts() if len(text) > 1]
        # What came by the old topic before the stranger's room is known not to be theirs: open.
        assert is_taken or told == ["before", "made the room private", "for members only"]
        assert is_taken or not guest.heard(Reset)
        assert not guest.heard(Left)
    closed = party.bench.core.rooms.get(moved.to)
    assert closed is not None
    assert closed.head == len(["before", "made the room private", "for members only"])
    room = party.bench.core.rooms.get("plans")
    assert is_taken == (room is not None)
    assert room is None or room.head == len("abcdef")


def test_a_room_that_was_opened_is_found_after_a_restart() -> None:
    """Nobody heard of it before the broker ended, and nobody is put out of a room that is open."""
    anna, bob = in_plans("anna", "bob")
    party = anna.party
    anna.say("plans", "before")
    name = private(anna)
    party.settle()
    for guest in (anna, bob):
        guest.events.clear()
    anna.give(name, "public")
    anna.carry()
    party.drain()
    party.bench.start()
    bob.say(name, "for everybody")
    come_again(bob, anna)
    for guest in (anna, bob):
        assert guest.heard(Moved) == [Moved(name, "plans", "")]
        assert not guest.heard(Left)
        assert [text for _, text in guest.texts()][-1] == "for everybody"
    done = anna.answers["public"]
    assert isinstance(done, Done)
    assert done.room == "plans", "the order that was given again is done"


@pytest.mark.parametrize("action", ["private", "public"])
def test_an_order_whose_answer_was_lost_is_given_again_by_the_name_of_now(action: str) -> None:
    """The word that the room has another name had come, and the broker ended before DONE had."""
    (anna,) = in_plans("anna")
    party = anna.party
    anna.say("plans", "before")
    party.settle()
    name = private(anna) if action == "public" else "plans"
    party.settle()
    anna.events.clear()
    anna.give(name, action)
    anna.carry()
    party.drain()
    while anna.frames:
        anna.hear()
    (moved,) = anna.heard(Moved)
    party.bench.start()
    come_again(anna)
    done = anna.answers[action]
    assert isinstance(done, Done), done
    assert done.room == moved.to


def test_who_joins_by_a_name_before_hearing_that_the_room_has_it_is_in() -> None:
    """A program may know it sooner than its session: from the owner, say."""
    anna, bob = in_plans("anna", "bob")
    party = anna.party
    anna.say("plans", "before")
    party.settle()
    bob.events.clear()
    anna.give("plans", "private")
    anna.carry()
    party.drain()
    anna.answer()
    done = anna.answers["private"]
    assert isinstance(done, Done)
    bob.do(bob.session.join(done.room, 100, None, "join", party.now))
    while bob.frames:  # The word that it has another name is there before JOINED.
        bob.hear()
    party.settle()
    joined = bob.answers["join"]
    assert isinstance(joined, Joined), joined
    assert joined.room == done.room
    assert not bob.heard(Left)
    assert bob.heard(Moved) == [Moved("plans", done.room, "+plans")]


def test_the_former_name_of_an_opened_room_is_for_who_was_in_it() -> None:
    """Only who resumes is taken there; whoever just asks learns nothing."""
    anna, bob = in_plans("anna", "bob")
    name = private(anna)
    anna.order(name, "public")
    eve = anna.party.bench.peer("eve")
    assert eve.ask(wire.Join(1, name), wire.Error).code == "not_invited"
    bob.party.settle()
    again = private(anna)
    assert eve.ask(wire.Join(2, name, resume=True), wire.Error).code == "not_invited"
    assert eve.ask(wire.Join(3, again, resume=True), wire.Error).code == "not_invited"


def test_who_was_away_when_a_room_was_closed_says_nothing_in_a_new_one() -> None:
    anna, bob = in_plans("anna", "bob")
    party = anna.party
    anna.say("plans", "before")
    party.settle()
    party.bench.core.unsubscribed(topics.inbox(bob.token))
    party.drain(6)  # Longer than the grace: no session, no place.
    anna.order("plans", "private")
    bob.say("plans", "for those who were there")
    come_again(bob)
    assert [(left.room, left.code) for left in bob.heard(Left)] == [("plans", "not_invited")]
    assert [str(ticket) for ticket, _ in bob.failed] == ["for those who were there"]
    assert party.bench.core.rooms.get("plans") is None


def test_a_room_without_entries_is_resumed_though_the_broker_forgot_it() -> None:
    """And one that had some, where the whole log is another one now."""
    anna, bob = in_plans("anna", "bob")
    anna.party.bench.start()
    come_again(anna, bob)
    assert not anna.heard(Left)
    anna.say("plans", "here")
    anna.party.settle()
    assert [text for _, text in bob.texts()] == ["here"]
    eve = Bench().peer("eve")
    resume = wire.Join(1, "plans", True, eve.bench.log.epoch + 1, 7)
    assert eve.ask(resume, wire.Joined).head == 0
    refused = eve.refused(wire.Join(1, "other", True, eve.bench.log.epoch, 7))
    assert refused.code == "not_invited"


def test_who_is_in_two_rooms_of_a_name_resumes_both() -> None:
    """In the private one, and in the open one that took its name."""
    anna, bob = in_plans("anna", "bob")
    name = private(anna)
    bob.join("plans")
    bob.say("plans", "in the open")
    anna.party.settle()
    anna.party.bench.start()
    come_again(anna, bob)
    assert not bob.heard(Left)
    bob.say(name, "closed")
    bob.say("plans", "open")
    anna.party.settle()
    assert [text for _, text in anna.texts()][-1] == "closed"
    room = anna.party.bench.core.rooms.get("plans")
    assert room is not None
    assert room.head == 2
