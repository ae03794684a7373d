"""The session where rooms are closed, moved and given other keys: with the broker's real core."""

from __future__ import annotations

from collections.abc import Callable

from hypothesis import given, settings
from hypothesis import strategies as st

from broker.chat.sessions import MOVED_MAX
from client import effects
from client.events import Entry, Joined, Left, Missing, Moved, Removed, Reset, Told
from client.outbox import Line, Outbox
from client.questions import Questions
from client.replica import Replica
from client.requests import REQUEST_ID_FIRST
from client.room import Room
from common import order, wire
from common.errors import Refused
from common.limits import ROOMS_PER_SESSION_MAX, SENDS_IN_FLIGHT_MAX
from common.order import Done, Role
from common.wire import Kind
from tests.unit.party import Guest, Party


def in_plans(*nicks: str) -> tuple[Guest, ...]:
    """Return guests in the room `plans`, which the first of them owns."""
    party = Party(*nicks)
    for guest in party.guests:
        joined = guest.join("plans")
        assert isinstance(joined, Joined)
    for guest in party.guests:
        guest.events.clear()
    return tuple(party.guests)


def private(owner: Guest) -> str:
    """Make the room private and return its name."""
    done = owner.order("plans", "private")
    assert isinstance(done, Done)
    return done.room


# --- names ------------------------------------------------------------------
def test_a_room_that_becomes_private_is_the_same_room() -> None:
    anna, bob = in_plans("anna", "bob")
    anna.say("plans", "before")
    name = private(anna)
    bob.say("plans", "to the old name")  # His program has not read that it moved.
    anna.party.settle()
    for guest in (anna, bob):
        assert guest.heard(Moved) == [Moved("plans", name, "+plans")]
        assert [text for _, text in guest.texts()] == [
            "before",
            "made the room private",
            "to the old name",
        ]
        assert not guest.heard(Left)
    assert bob.kept == ["to the old name"]
    assert anna.session.directory.find("+Plans") == name


def test_and_opened_again_it_has_its_name_back() -> None:
    anna, bob = in_plans("anna", "bob")
    name = private(anna)
    anna.order(name, "public")
    assert [event.to for event in bob.heard(Moved)] == [name, "plans"]
    bob.say("plans", "hi")
    anna.party.settle()
    assert [text for _, text in anna.texts()][-1] == "hi"
    assert anna.session.directory.moved == {name: "plans"}


def test_whoever_resumes_by_a_former_name_gets_the_room_each_time() -> None:
    """After a reconnect JOIN may come twice, and the second one must not open another room."""
    anna, bob = in_plans("anna", "bob")
    anna.give("plans", "private")
    for guest in (anna, bob):
        guest.hear = lambda: None  # type: ignore[method-assign]  # No word gets through.
    anna.party.settle()
    for _ in range(2):
        bob.party.bench.core.receive(
            bob.route, wire.command_frames(bob.token, wire.Join(9, "plans", resume=True))
        )
        bob.party.bench.drain()
        (joined,) = bob.party.bench.replies.pop(bob.route)
        assert isinstance(joined, wire.Joined)
        assert joined.title == "+plans"


def test_a_session_knows_so_many_former_names() -> None:
    (anna,) = in_plans("anna")
    session = anna.party.bench.core.sessions.get(anna.token)
    assert session is not None
    for number in range(MOVED_MAX + 1):
        session.note_move(f"r{number}", f"+{number}")
    assert len(session.moved) == MOVED_MAX
    assert "r0" not in session.moved
    session.note_move(f"+{MOVED_MAX}", "r1")
    assert session.moved[f"r{MOVED_MAX}"] == "r1", "a name leads to where the room is now"
    assert "r1" not in session.moved


def test_texts_for_a_former_name_never_reach_a_room_that_took_it() -> None:
    """Not even those in flight, which the broker refuses once it has forgotten the old name."""
    anna, bob, cy = in_plans("anna", "bob", "cy")
    party = anna.party
    cy.do(cy.session.part("plans", "part", party.now))
    party.settle()
    name = private(anna)
    cy.join("plans")
    cy.events.clear()
    # As if its ACK had been lost and the SEND came again: by its old name.
    bob.do(bob.session.publications([], party.now))
    bob.say("plans", "secret")
    party.settle()
    assert bob.kept == ["secret"]
    assert "secret" not in [text for _, text in cy.texts()]
    assert anna.heard(Entry)[-1].room == name


def test_a_joined_room_of_a_former_name_is_another_room() -> None:
    anna, bob = in_plans("anna", "bob")
    private(anna)
    assert anna.session.directory.moved
    anna.join("plans")
    anna.say("plans", "in the open")
    anna.party.settle()
    assert "in the open" not in [text for _, text in bob.texts()]
    assert anna.heard(Entry)[-1].room == "plans"


def test_former_names_are_forgotten_in_the_end() -> None:
    (anna,) = Party("anna").guests
    directory = anna.session.directory
    for number in range(ROOMS_PER_SESSION_MAX + 3):
        directory.move(f"r{number}", f"+{number:024x}")
    assert len(directory.moved) == ROOMS_PER_SESSION_MAX
    assert "r0" not in directory.moved
    assert f"r{ROOMS_PER_SESSION_MAX}" in directory.moved


# --- keys -------------------------------------------------------------------
def test_when_somebody_is_removed_nobody_else_notices() -> None:
    anna, bob, zed = in_plans("anna", "bob", "zed")
    before = set(anna.topics)
    anna.order("plans", "ban", "zed")
    assert not before <= anna.topics, "the keys are others"
    anna.say("plans", "is he gone?")
    anna.party.settle()
    assert [seq for seq, _ in bob.texts()] == [1, 2]
    assert not [e for e in bob.events if isinstance(e, Left | Joined | Missing | Reset | Told)]
    assert zed.heard(Left) == [Left("plans", "banned", "why not")]
    (told,) = zed.heard(Told)
    assert (told.code, told.room, told.nick, told.text) == ("banned", "plans", "anna", "why not")
    assert "is he gone?" not in [text for _, text in zed.texts()]
    zed.do(zed.session.join("plans", 0, None, "join plans", zed.party.now))
    zed.party.settle()
    assert zed.refusal("join plans") == "banned"


def test_a_join_under_way_when_the_keys_change_is_made_again_once() -> None:
    """Its answer may be from before the change; however many changes come, one JOIN is out."""
    (anna,) = in_plans("anna")
    session, now = anna.session, anna.party.now
    (topic,) = [topic for topic in anna.topics if topic.startswith(b"plans")]
    inbox = next(iter(anna.topics - {topic}))
    notice = inbox + wire.encode(wire.Notice("rejoin", "plans", text="plans"))
    for _ in range(3):
        anna.do(session.publications([notice], now))
    (join,) = anna.commands
    assert isinstance(join, wire.Join)
    assert join.resume
    anna.carry()
    anna.party.drain()
    anna.answer()
    assert len(anna.commands) == 1
    anna.party.settle()
    assert not anna.commands


ACTS: list[Callable[[Party, int], object]] = [
    *[lambda party, who: party.guests[who].carry()] * 4,
    *[lambda party, who: party.guests[who].answer()] * 4,
    *[lambda party, who: party.guests[who].hear()] * 4,
    *[lambda party, who: party.guests[who].listen()] * 2,
    *[lambda party, who: party.guests[who].page()] * 2,
    *[lambda party, _: party.drain()] * 4,
    lambda party, _: party.drain(0.3),
    lambda party, who: party.guests[who].wait(),
    lambda party, _: party.guests[0].give("plans", "ban", "zed"),
    lambda party, _: party.guests[0].give("plans", "unban", "zed"),
    lambda party, _: party.guests[0].give("plans", "private"),
    lambda party, _: party.guests[0].give(
        next(iter(party.guests[0].session.directory.moved.values()), "plans"), "public"
    ),
]
STEPS = st.tuples(st.integers(0, len(ACTS) + 4), st.integers(0, 2))


@settings(max_examples=150, deadline=None)
@given(st.lists(STEPS, max_size=120))
def test_changes_of_keys_and_names_under_traffic_lose_and_double_nothing(
    steps: list[tuple[int, int]],
) -> None:
    anna, bob, _ = in_plans("anna", "bob", "zed")
    party, said = anna.party, 0
    for act, who in steps:
        if act >= len(ACTS):
            said += 1
            party.guests[who % 2].say("plans", f"{said}")
        else:
            ACTS[act](party, who)
    party.settle()
    log = [
        (batch.first + index, text)
        for room in party.store.rooms.values()
        for row in room.rows
        for batch in [wire.decode_batch(row.body)]
        for index, text in enumerate(text for post in batch.posts for text in post.texts)
    ]
    for guest in (anna, bob):
        assert guest.texts() == log
        assert not guest.failed
        assert not [e for e in guest.events if isinstance(e, Missing | Reset | Left)]
    numbers = [text for _, text in log if text.isdigit()]
    assert sorted(numbers, key=int) == [str(number + 1) for number in range(said)]
    assert sorted(anna.kept + bob.kept, key=int) == sorted(numbers, key=int)


# --- talks ------------------------------------------------------------------
def test_a_talk_is_joined_by_a_nick_and_known_by_its_title() -> None:
    anna, bob = Party("anna", "bob").guests
    joined = anna.talk("bob")
    assert isinstance(joined, Joined)
    assert (joined.title, joined.role) == ("@bob", Role.MEMBER)
    assert anna.talk("bob") == joined, "asked again, it only tells"
    anna.say(joined.room, "psst")
    anna.party.settle()
    (told,) = bob.heard(Told)
    assert (told.code, told.room, told.title) == ("said", joined.room, "@anna")
    bob.do(bob.session.ask(order.Mine, "mine", bob.party.now))
    bob.party.settle()
    assert bob.answers["mine"] == [order.MyRoom(joined.room, "@anna", Role.MEMBER, 1, 0)]
    bob.join(joined.room)
    assert bob.texts() == [(1, "psst")]


def test_a_talk_that_was_given_up_is_left_again() -> None:
    anna, _ = Party("anna", "bob").guests
    anna.do(anna.session.talk("bob", 100, None, "talk", anna.party.now))
    anna.carry()
    anna.party.drain()
    anna.do(anna.session.abandon("talk", anna.party.now))
    anna.party.settle()
    assert "talk" not in anna.answers
    session = anna.party.bench.core.sessions.get(anna.token)
    assert session is not None
    assert not session.rooms, "or the broker would never say again that there is news"


def test_a_talk_follows_the_other_ones_name() -> None:
    anna, bob = Party("anna", "bob").guests
    joined = anna.talk("bob")
    assert isinstance(joined, Joined)
    bob.join(joined.room)
    bob.do(bob.session.rename("robert", "rename", bob.party.now))
    bob.party.settle()
    assert anna.session.directory.find("@robert") == joined.room


# --- what is told -----------------------------------------------------------
def test_who_is_kicked_has_left_and_knows_why() -> None:
    anna, bob = in_plans("anna", "bob")
    anna.order("plans", "kick", "bob")
    assert bob.heard(Left) == [Left("plans", "kicked", "why not")]
    entry = anna.heard(Entry)[-1]
    assert (entry.kind, entry.nick, entry.text) == ("order", "anna", "kicked bob (why not)")
    bob.say("plans", "hey")
    bob.party.settle()
    (_, error) = bob.failed[0]
    assert isinstance(error, Refused)
    assert error.code == "not_member"


def test_who_is_kicked_while_joining_is_out_on_both_sides() -> None:
    anna, bob = in_plans("anna", "bob")
    inbox = next(topic for topic in bob.topics if topic.startswith(b"\0"))
    anna.order("plans", "ban", "anna")
    bob.do(bob.session.join("plans", 0, None, "again", bob.party.now))
    kicked = inbox + wire.encode(wire.Notice("kicked", "plans", nick="anna"))
    bob.do(bob.session.publications([kicked], bob.party.now))
    bob.party.settle()
    session = bob.party.bench.core.sessions.get(bob.token)
    assert session is not None
    assert not session.rooms
    assert isinstance(bob.answers["again"], Refused)


def test_a_role_a_mute_and_an_invitation_are_told() -> None:
    anna, bob, cy = in_plans("anna", "bob", "cy")
    cy.do(cy.session.part("plans", "part", cy.party.now))
    anna.order("plans", "op", "bob")
    anna.order("plans", "mute", "bob", 60)
    name = private(anna)
    anna.order(name, "invite", "cy")
    codes = [(told.code, told.value) for told in bob.heard(Told)]
    assert codes == [("role", Role.MODERATOR), ("muted", 60)]
    (invited,) = cy.heard(Told)
    assert (invited.code, invited.room, invited.title) == ("invited", name, "+plans")
    joined = bob.join(name)
    assert isinstance(joined, Joined)
    assert joined.role == Role.MODERATOR
    bob.say(name, "mmm")
    bob.party.settle()
    (_, error) = bob.failed[-1]
    assert isinstance(error, Refused)
    assert (error.code, 0 < error.value <= 60_000) == ("muted", True)
    assert "s left" in error.detail


def test_a_slow_room_tells_how_long_to_wait() -> None:
    anna, bob = in_plans("anna", "bob")
    anna.order("plans", "slow", value=30)
    bob.say("plans", "one")
    bob.say("plans", "two")
    bob.party.settle()
    assert bob.kept == ["one"]
    (_, error) = bob.failed[0]
    assert isinstance(error, Refused)
    assert error.code == "slow_mode"
    assert 0 < error.value <= 30_001
    assert error.detail.endswith(" s left)")


def test_an_unknown_notice_says_nothing() -> None:
    (anna,) = in_plans("anna")
    inbox = next(topic for topic in anna.topics if topic.startswith(b"\0"))
    anna.do(
        anna.session.publications(
            [inbox + wire.encode(wire.Notice("from_the_future", "plans"))], anna.party.now
        )
    )
    assert not anna.heard(Told)
    assert not anna.heard(Left)


def test_who_may_not_join_again_has_left_with_the_reason() -> None:
    anna, bob = in_plans("anna", "bob")
    party = anna.party
    bob.do(bob.session.disconnected(party.now))
    for topic in list(bob.topics):
        bob.topics.discard(topic)
        party.bench.core.unsubscribed(topic)
    anna.order("plans", "ban", "bob")
    party.drain(10)
    bob.frames.clear()
    bob.events.clear()
    bob.wanted.extend((True, topic) for topic in [bob.session._inbox])
    bob.do(bob.session.connected(party.now))
    party.settle()
    (left,) = bob.heard(Left)
    assert (left.code, "why not" in left.reason) == ("banned", True)


# --- removed texts ----------------------------------------------------------
def test_a_removed_text_is_told_and_read_as_removed() -> None:
    (anna,) = in_plans("anna")
    (topic,) = [topic for topic in anna.topics if topic.startswith(b"plans")]
    epoch = anna.party.store.epoch
    removed = order.Removed("plans", epoch, 3)
    anna.do(anna.session.publications([topic + wire.encode(removed)], anna.party.now))
    assert anna.heard(Removed) == [Removed("plans", 3)]
    batch = wire.Batch("plans", epoch, 0, 1, [wire.Post(5, "bob", 0, ["\0\0\0", "a\0", ""])])
    anna.do(anna.session.publications([topic + wire.encode(batch)], anna.party.now))
    kinds = [(entry.kind, entry.text) for entry in anna.heard(Entry)]
    assert kinds == [("removed", ""), ("text", "a\0"), ("text", "")]


def test_a_removal_in_another_log_is_none() -> None:
    (anna,) = in_plans("anna")
    (topic,) = [topic for topic in anna.topics if topic.startswith(b"plans")]
    removed = order.Removed("plans", anna.party.store.epoch + 1, 3)
    anna.do(anna.session.publications([topic + wire.encode(removed)], anna.party.now))
    assert not anna.heard(Removed)


def test_ids_of_requests_stay_apart_from_numbers_of_sends() -> None:
    (anna,) = in_plans("anna")
    anna.give("plans", "private")
    (command,) = anna.commands
    assert isinstance(command, order.Order)
    assert command.id >= REQUEST_ID_FIRST


# --- each part by itself, where the broker's patience would hide its failing ------------------
def test_the_outbox_says_in_the_new_name_what_waits_and_what_comes_later() -> None:
    moved: dict[str, str] = {}
    outbox = Outbox(moved)
    (first,) = _put(outbox, "one")
    for number in range(2, SENDS_IN_FLIGHT_MAX + 1):
        _put(outbox, str(number))
    assert _put(outbox, "waits") == []
    moved["plans"] = "+new"
    outbox.move("plans", "+new")
    outbox.put([Line("plans", Kind.TEXT, "later", 5, "later")])
    outbox.acked(wire.Ack(first.number, [wire.Place(7, 1)]))
    (send,) = outbox.pump(1.0)
    assert send.posts == [wire.Draft("+new", Kind.TEXT, ["waits", "later"])]


def test_a_refused_post_is_said_again_where_its_room_is_now() -> None:
    moved: dict[str, str] = {}
    outbox = Outbox(moved)
    (one,), (two,) = _put(outbox, "one"), _put(outbox, "two")
    (other,) = _put(outbox, "three", "lobby")
    moved["plans"] = "+new"
    assert outbox.acked(wire.Ack(one.number, [wire.Place(0, 0, "not_member")])) == []
    error = wire.Error(two.number, "not_member", "", survives=True)
    assert outbox.refused(error, 1.0) == ([], [])
    lost = outbox.acked(wire.Ack(other.number, [wire.Place(0, 0, "not_member")]))
    assert [type(each) for each in lost] == [effects.Failed]
    texts = [(d.room, d.texts) for send in outbox.pump(1.0) for d in send.posts]
    assert [room for room, _ in texts] == ["+new"]
    assert sorted(text for _, found in texts for text in found) == ["one", "two"]


def _put(outbox: Outbox, text: str, room: str = "plans") -> list[wire.Send]:
    outbox.put([Line(room, Kind.TEXT, text, len(text), text)])
    return outbox.pump(0.0)


def test_a_page_of_a_name_that_is_no_more_is_no_answer() -> None:
    """History finds nothing under the old name; a newcomer would have seen no history."""
    replica = Replica("plans", 100)
    replica.joined(wire.Joined(1, "plans", b"", b"", 7, 1, 3, "", 1, 1, None), 0)
    ask = replica.wants()
    assert ask is not None
    assert replica.page(ask, wire.Page(1, "plans", 7, 1, 0, more=False), []) == []
    assert replica.wants() == ask


def test_the_question_under_way_is_asked_again_by_the_new_name() -> None:
    room = Room("plans", 100, None)
    rooms = {"plans": room}
    questions = Questions(rooms)
    room.replica.joined(wire.Joined(1, "plans", b"", b"", 7, 1, 3, "", 1, 1, None), 0)
    room.is_joined = True
    questions.hunger(room)
    (asked,) = questions.next(1, 0.0, is_paused=False)
    assert isinstance(asked, effects.AskHistory)
    room.rename("+new")
    rooms["+new"] = rooms.pop("plans")
    assert questions.move(room, "plans") == [effects.DropHistory()]
    (again,) = questions.next(2, 0.0, is_paused=False)
    assert isinstance(again, effects.AskHistory)
    assert again.question.room == "+new"


def test_a_name_that_was_had_before_is_not_a_former_one() -> None:
    (anna,) = in_plans("anna")
    session = anna.party.bench.core.sessions.get(anna.token)
    assert session is not None
    session.note_move("plans", "+a")
    session.note_move("+a", "plans")
    assert session.moved == {"+a": "plans"}
