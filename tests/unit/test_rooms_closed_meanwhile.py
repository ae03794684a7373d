"""Who was away, or met another broker process, when a room got another name: session and core."""

from __future__ import annotations

import pytest

from client.events import Joined, Left, Moved, Reset
from common import topics, wire
from common.order import Done
from tests.unit.bench import Bench
from tests.unit.party import Guest, Party
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


def closed_by_a_stranger(party: Party, invited: str) -> str:
    """Have somebody else make and close a room `plans`, and invite; return its name."""
    mallory = party.bench.peer("mallory", "plans")
    name = mallory.order("plans", "private").room
    mallory.order(name, "invite", invited)
    return name


def texts_in(party: Party, room: str) -> list[str]:
    """Return what was said in a room, but for orders."""
    rows = party.store.rooms[room].rows if room in party.store.rooms else []
    posts = [post for row in rows for post in wire.decode_batch(row.body).posts]
    return [text for post in posts if post.kind == wire.Kind.TEXT for text in post.texts]


def test_an_invitation_never_takes_anybody_out_of_an_open_room() -> None:
    """A stranger closed a room of the same name before, and invites who is in the open one."""
    party = Party("carol", "bob")
    carol, bob = party.guests
    trap = closed_by_a_stranger(party, "bob")
    for guest in (carol, bob):
        guest.join("plans")
    carol.say("plans", "hello all")
    party.settle()
    party.bench.start()
    bob.say("plans", "secret")
    come_again(bob, carol)
    for guest in (carol, bob):
        assert not guest.heard(Moved)
        assert not guest.heard(Left)
    assert texts_in(party, trap) == []
    assert texts_in(party, "plans") == ["hello all", "secret"]


def test_not_even_an_invitation_to_that_very_room_takes_anybody_there() -> None:
    """Who had left when it was closed has no place before they JOIN."""
    party = Party("bob")
    (bob,) = party.guests
    ann = party.bench.peer("ann", "plans")
    bob.join("plans")
    ann.send("plans", "before")
    party.bench.core.unsubscribed(topics.inbox(bob.token))
    party.drain(6)  # Longer than the grace.
    name = ann.order("plans", "private").room
    other = party.bench.peer("bob", hello=False)  # Another program of theirs.
    other.owner = bob.session._owner()
    other.ask(other.hello(), wire.Welcome)
    ann.order(name, "invite", "bob")
    bob.say("plans", "in the open")
    come_again(bob)
    assert [(left.room, left.code) for left in bob.heard(Left)] == [("plans", "not_invited")]
    assert [str(ticket) for ticket, _ in bob.failed] == ["in the open"]
    assert texts_in(party, name) == ["before"]


@pytest.mark.parametrize("is_spoken_in", [False, True])
def test_who_is_in_an_older_private_room_of_the_name_stays_in_the_open_one(
    is_spoken_in: bool,  # noqa: FBT001 - a parameter
) -> None:
    """Though the private one is not joined now, and the open one may have to be made again."""
    anna, bob = in_plans("anna", "bob")
    party = anna.party
    old = private(anna)
    bob.do(bob.session.part(old, "part", party.now))
    party.settle()
    bob.heard(Left)
    bob.join("plans")
    if is_spoken_in:
        bob.say("plans", "welcome")
        party.settle()
    party.bench.start()
    bob.say("plans", "to all")
    bob.heard(Moved)
    come_again(bob)
    assert not bob.heard(Moved)
    assert not bob.heard(Left)
    assert texts_in(party, "plans")[-1:] == ["to all"]
    assert texts_in(party, old) == []


def test_several_closings_and_openings_while_away_lead_to_the_same_room() -> None:
    """Beside an open room, and an invitation, of the name that it had."""
    party = Party("bob")
    (bob,) = party.guests
    ann = party.bench.peer("ann", "plans")
    bob.join("plans")
    ann.send("plans", "before")
    bob.say("plans", "for those who are here")  # It does not get out any more.
    ann.order(ann.order("plans", "private").room, "public")
    name = ann.order("plans", "private").room
    trap = closed_by_a_stranger(party, "bob")
    party.bench.peer("eve", "plans").send("plans", "something else")
    party.bench.start()
    come_again(bob)
    assert [moved.to for moved in bob.heard(Moved)] == [name]
    assert texts_in(party, name) == ["before", "for those who are here"]
    assert texts_in(party, trap) == []
    assert texts_in(party, "plans") == ["something else"]


@pytest.mark.parametrize("is_spoken_in", [False, True])
def test_who_had_no_place_when_a_room_was_closed_is_not_in_the_next_one_of_the_name(
    is_spoken_in: bool,  # noqa: FBT001 - a parameter
) -> None:
    """Though that has entries: what waits was meant for others, and its sender is told."""
    party = Party("bob")
    (bob,) = party.guests
    ann = party.bench.peer("ann", "plans")
    bob.join("plans")
    if is_spoken_in:
        ann.send("plans", "before")
    party.bench.core.unsubscribed(topics.inbox(bob.token))
    party.drain(6)
    ann.order("plans", "private")
    party.bench.peer("eve", "plans").send("plans", *"abcdef")
    bob.say("plans", "meant for ann")
    come_again(bob)
    assert [(left.room, left.code) for left in bob.heard(Left)] == [("plans", "not_invited")]
    assert [str(ticket) for ticket, _ in bob.failed] == ["meant for ann"]
    assert texts_in(party, "plans") == [*"abcdef"]


def test_a_late_word_of_a_closing_does_not_take_the_next_room_of_the_name_along() -> None:
    anna, bob = in_plans("anna", "bob")
    party = anna.party
    (inbox,) = [topic for topic in bob.topics if topic.startswith(b"\0")]
    births = {session.birth for session in bob.session._memberships._rooms.values()}
    name = private(anna)
    bob.heard(Moved)
    bob.join("plans")
    notice = wire.Notice("rejoin", "plans", "+plans", text=name, value=births.pop())
    bob.do(bob.session.publications([inbox + wire.encode(notice)], party.now))
    party.settle()
    assert not bob.heard(Moved)
    bob.say("plans", "to all")
    party.settle()
    assert texts_in(party, name) == []


def test_a_client_that_tells_no_birth_is_taken_nowhere_by_a_name() -> None:
    """One of an earlier version: it is out, and says so; and made-up births lead nowhere."""
    bench = Bench()
    ann, bob = bench.peer("ann", "plans"), bench.peer("bob", "plans")
    ann.send("plans", "before")
    birth = bob.join("plans").birth
    name = ann.order("plans", "private").room
    bench.start()
    bob = bench.peer("bob")
    for told in (0, birth + 1):
        refused = bob.refused(wire.Join(1, "plans", True, bench.log.epoch, 1, told))
        assert refused.code == "not_invited"
    eve = bench.peer("eve")
    assert eve.ask(wire.Join(1, "plans", True, 0, 0, birth), wire.Joined).room == "plans"
    joined = bob.ask(wire.Join(1, "plans", True, bench.log.epoch, 1, birth), wire.Joined)
    assert (joined.room, joined.birth) == (name, birth)


def test_each_room_of_a_name_has_a_birth_of_its_own() -> None:
    """Also those that are made and closed in one instant, and after a restart."""
    bench = Bench()
    births = []
    for number in range(3):
        ann = bench.peer(f"ann{number}", "plans")
        births.append(ann.join("plans").birth)
        name = ann.order("plans", "private").room
        assert ann.join(name).birth == births[-1]
        bench.start()
        assert bench.peer(f"ann{number}").join(name).birth == births[-1]
    assert len({*births}) == len(births)
    assert all(0 < birth < 2**48 for birth in births)


def test_what_is_said_in_a_room_that_was_made_again_puts_nobody_out() -> None:
    """It comes by the topic of before, so one may know of more than was said in one's own room."""
    bench = Bench()
    birth = bench.peer("ann", "plans").join("plans").birth
    bench.start()
    bench.peer("bob", "plans").send("plans", "first")
    resume = wire.Join(1, "plans", True, bench.log.epoch, 1, birth)
    assert bench.peer("ann").ask(resume, wire.Joined).birth not in (0, birth)
