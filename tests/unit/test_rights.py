"""Rooms with a door: who gets in, what outsiders can find out, and what a failing log leaves."""

from __future__ import annotations

import pytest

from broker.chat import rights
from broker.chat.peer import Peer as Client
from broker.chat.rights import CLOSED_PER_IDENTITY_MAX, MEMBERS_PER_ROOM_MAX
from broker.chat.sessions import MOVED_MAX
from broker.log.rights_records import Member, Put, RoomFacts
from common import order, topics, wire
from common.order import Action, Role
from tests.unit.bench import Bench, Peer

FOREIGN = ["+" + "0" * 24, "@" + "0" * 24, "+", "@", "+plans", "@ann", "+\0", "+" * 64, "@ /../x"]


def closed() -> tuple[Bench, Peer, Peer, Peer, str]:
    """Return a private room: ann owns it, bob is a member, eve is outside; and its name."""
    bench = Bench()
    ann, bob = bench.peer("ann", "plans"), bench.peer("bob", "plans")
    ann.send("plans", "in the open")
    name = ann.order("plans", Action.PRIVATE).room
    eve = bench.peer("eve")
    for peer in (ann, bob):
        peer.join(name)
        peer.notices()
    bench.published.clear()
    return bench, ann, bob, eve, name


def outcome(peer: Peer, room: str) -> list[object]:
    """Return all that somebody can find out about a room by its name."""
    commands = [
        wire.Join(1, room),
        wire.Join(1, room, resume=True),
        wire.Part(1, room),
        wire.Who(1, room),
        peer.next_send(room, "a"),
        peer.next_send(room, "a", kind=wire.Kind.TOPIC),
    ]
    answers = [peer.refused(command) for command in commands]
    answers += [wire.Error(0, peer.forbidden(room, action), "", False) for action in Action]
    return [(each.code, each.detail, each.value) for each in answers]


# --- doors ------------------------------------------------------------------
def test_a_private_room_has_a_name_that_nobody_chose() -> None:
    """Its members know it by its title; they are told to join it again, under its name."""
    bench = Bench()
    ann, bob = bench.peer("ann", "plans"), bench.peer("bob", "plans")
    done = ann.order("plans", Action.PRIVATE)
    assert "+plans" == done.title
    assert (25, "+") == (len(done.room), done.room[0])
    (told,) = bob.notices("rejoin")
    assert ("plans", done.room, "+plans") == (told.room, told.text, told.title)
    joined = bob.join(told.text)
    assert (done.room, "+plans", Role.MEMBER) == (joined.room, joined.title, joined.role)
    assert [("+plans", Role.OWNER)] == [(each.title, each.role) for each in ann.mine()]


def test_outsiders_find_out_nothing() -> None:
    """The room's true name is answered like any other; lists and counts don't have it."""
    bench, ann, _, eve, name = closed()
    ann.send(name, "secret")
    expected = outcome(bench.peer("mallory"), FOREIGN[0])
    assert expected == outcome(eve, name)
    assert "not_invited" == expected[0][0]  # type: ignore[index]
    assert [] == eve.ask(wire.Rooms(1), wire.RoomList).rooms
    assert 0 == eve.ask(wire.Greet(1), wire.Greeting).rooms
    assert [] == eve.mine()


@pytest.mark.parametrize("room", FOREIGN)
def test_rooms_of_any_such_name_are_not_open(room: str) -> None:
    """And nobody makes one by joining it."""
    bench = Bench()
    assert "not_invited" == bench.peer("eve").shut_out(room).code
    assert [] == list(bench.core.rooms)


def test_its_former_name_is_free() -> None:
    """Whoever joins it makes another room; who is in both speaks where they mean to."""
    bench, ann, bob, eve, name = closed()
    assert Role.OWNER == eve.role("plans")
    assert (0, "", "plans") == (eve.join("plans").head, eve.join("plans").title, "plans")
    topic = bob.join("plans").subscription
    bob.send("plans", "to all")
    assert ["to all"] == bench.said(topic)
    assert "forbidden" == ann.forbidden(name, Action.PUBLIC)  # There is a room #plans.


def test_what_is_under_way_with_the_old_name_gets_there() -> None:
    """SENDs, a JOIN of a resume, WHO and PART of who has not heard of it yet; but only theirs."""
    bench = Bench()
    ann, bob = bench.peer("ann", "plans"), bench.peer("bob", "plans")
    bob.say(bob.next_send("plans", "before"))
    name = ann.order("plans", Action.PRIVATE).room
    assert ["before"] == [a.kept[0].code or "before" for a in bench.replies.pop(bob.route)]  # type: ignore[attr-defined]
    assert not bob.send("plans", "after").kept[0].code
    assert name == bob.ask(wire.Who(1, "plans"), wire.Members).room
    assert name == bob.join("plans").room  # It cannot mean another one: it was not told.
    assert name == bob.join("plans", resume=True).room
    assert "plans" == bob.join("plans").room  # Now it means the one that has the name.
    assert {name} == {room.name for room in bench.core.rooms if room.head}


def test_a_room_that_is_opened_again_has_its_name_again() -> None:
    """With its owner, its moderators and its bans; all who were in it still are."""
    bench, ann, bob, eve, name = closed()
    ann.order(name, Action.INVITE, "eve")
    eve.join(name)
    ann.order(name, Action.OP, "bob")
    ann.order(name, Action.BAN, "eve")
    assert "plans" == ann.order(name, Action.PUBLIC).room
    bob.send(name, "a")
    bench.start()
    roles = [bench.peer(nick).role("plans") for nick in ("ann", "bob", "carl")]
    assert [Role.OWNER, Role.MODERATOR, Role.GUEST] == roles
    assert "banned" == bench.peer("eve").shut_out("plans").code
    assert [] == bench.peer("ann").mine()


def test_an_invitation_is_pending_until_one_comes() -> None:
    """So that a program can tell it from the rooms that somebody has been in."""
    bench = Bench()
    ann, bob = bench.peer("ann", "plans"), bench.peer("bob")
    name = ann.order("plans", Action.PRIVATE).room
    ann.order(name, Action.INVITE, "bob")
    assert [[False], [True]] == [[each.pending for each in who.mine()] for who in (ann, bob)]
    bob.join(name)
    assert [False] == [each.pending for each in bob.mine()]


def test_a_room_to_and_fro_is_found_under_all_its_names() -> None:
    """Also by who never heard of any: but so many are remembered, and not one more."""
    bench = Bench()
    ann, bob = bench.peer("ann", "plans"), bench.peer("bob", "plans")
    names = ["plans"]
    for _ in range(MOVED_MAX + 1):
        names.append(ann.order(names[-1], Action.PRIVATE).room)
        names.append(ann.order(names[-1], Action.PUBLIC).room)
        bench.now_s += 1
    session = bench.core.sessions.get(bob.token)
    assert session is not None
    assert MOVED_MAX == len(session.moved)
    for name in names[-4:]:
        assert "plans" == bob.join(name, resume=True).room
    bob.ask(wire.Part(1, names[-2]), wire.Parted)
    assert {} == session.moved


def test_rooms_of_one_name_are_closed_in_the_same_instant() -> None:
    """They stay two rooms, and neither owner gets into the other's."""
    bench = Bench()
    ann, eve = bench.peer("ann", "plans"), bench.peer("eve")
    mine = ann.order("plans", Action.PRIVATE).room
    eve.join("plans")
    other = eve.order("plans", Action.PRIVATE).room
    assert mine != other
    assert "not_invited" == eve.shut_out(mine).code
    assert [mine] == [each.room for each in ann.mine()]


def test_invited_and_uninvited() -> None:
    """Who is taken out hears so, is out, and what they hold is worth nothing."""
    bench, ann, bob, eve, name = closed()
    ann.order(name, Action.INVITE, "Eve")
    (told,) = eve.notices("invited")
    assert (name, "+plans", "ann") == (told.room, told.title, told.nick)
    before = eve.join(name)
    assert "forbidden" == eve.forbidden(name, Action.INVITE, "bob")
    ann.order(name, Action.UNINVITE, "eve")
    assert ["uninvited"] == [each.code for each in eve.notices()]
    assert [1, 1, 0] == [len(peer.notices("rejoin")) for peer in (ann, bob, eve)]
    assert "not_invited" == eve.shut_out(name).code
    assert bench.core.subscribed(before.subscription) is None
    bob.join(name)
    bob.send(name, "without her")
    assert [] == bench.said(before.subscription)
    assert "forbidden" == ann.forbidden(name, Action.UNINVITE, "ann")


def test_the_rooms_people_stay_members_though_they_are_away() -> None:
    """Moderators and the owner who are not in the room when an operator closes it."""
    bench = Bench()
    ann, bob, olga = (bench.peer(nick, "plans") for nick in ("ann", "bob", "olga"))
    ann.order("plans", Action.OP, "bob")
    for peer in (ann, bob):
        peer.ask(wire.Part(1, "plans"), wire.Parted)
    owner = bench.core.sessions.user("olga").owner  # type: ignore[union-attr]
    bench.core._floor.rights.operators = frozenset({owner})
    name = olga.order("plans", Action.PRIVATE).room
    assert [Role.OWNER, Role.MODERATOR] == [ann.role(name), bob.role(name)]


def test_several_sessions_and_nicks_have_one_place() -> None:
    """A person is their key, whatever they are called; their places follow their nick."""
    bench = Bench()
    ann, other = bench.peer("ann", "plans"), bench.peer("annie", "plans", owner="ann")
    name = ann.order("plans", Action.PRIVATE).room
    assert [Role.OWNER, Role.OWNER] == [ann.role(name), other.role(name)]
    bob = bench.peer("bob")
    ann.order(name, Action.INVITE, "bob")
    bob.join(name)
    bob.ask(wire.SetNick(1, "Rob"), wire.Renamed)
    bob.ask(wire.Bye(1), wire.Goodbye)
    ann.order(name, Action.UNINVITE, "rob")
    assert "not_invited" == bench.peer("bob").shut_out(name).code


def test_a_closed_room_is_not_forgotten_with_its_last_member() -> None:
    """Also one in which nothing was said."""
    bench = Bench()
    ann = bench.peer("ann", "plans")
    bench.failing |= {"append"}
    name = ann.order("plans", Action.PRIVATE).room
    bench.failing.clear()
    ann.ask(wire.Part(1, name), wire.Parted)
    bench.drain(1)
    assert 0 == ann.join(name).head


def test_with_keys_a_topic_opens_for_members_only() -> None:
    """On an encrypted endpoint the subscription itself is refused to others, also if they know it.

    Who belongs to the room may come before HELLO, as after a restart.
    """
    bench = Bench()
    core, room = bench.core, "+" + "a" * 24
    core._floor.keep([Put(RoomFacts(room)), Put(Member(room, b"k" * 32, "ann", 1))])
    topic = core.rooms.found(room).subscription
    assert core.subscribed(topic, b"k" * 32) is not None
    assert core.subscribed(topic, b"x" * 32) is None


def test_a_session_is_its_keys() -> None:
    """With another key nobody speaks for it, hears its inbox, or takes it up again."""
    bench = Bench()
    ann = Peer(bench, "ann")
    key, other = Client(b"k" * 32), Client(b"x" * 32)
    bench.core.receive(ann.route, wire.command_frames(ann.token, ann.hello()), key)
    assert [wire.Welcome] == [type(each) for each in ann.heard()]
    for command, code in ((order.Mine(1), "no_session"), (ann.hello(), "session_taken")):
        for peer in (other, Client()):
            bench.core.receive(b"eve", wire.command_frames(ann.token, command), peer)
            bench.drain()
            (error,) = bench.replies.pop(b"eve")
            assert isinstance(error, wire.Error)
            assert code == error.code
    assert bench.core.subscribed(topics.inbox(ann.token), b"x" * 32) is None
    assert bench.core.subscribed(topics.inbox(ann.token), b"k" * 32) == []


# --- a log that fails -------------------------------------------------------
@pytest.mark.parametrize("failing", ["keep", "found_room", "rename_room"])
@pytest.mark.parametrize("is_restarted", [False, True])
def test_a_door_that_cannot_be_written_down_is_not_moved(
    failing: str,
    is_restarted: bool,  # noqa: FBT001 - a parameter
) -> None:
    """Neither to nor fro; nothing is left of it, and it works when the log does."""
    bench, ann, bob, eve, name = closed()
    bench.drain()
    before = sorted(map(repr, bench.records.values()))
    bench.failing |= {failing}
    assert "log_failed" == ann.forbidden(name, Action.PUBLIC)
    assert [name] == [each.room for each in bob.mine()]
    assert [] == bob.notices()
    bench.failing.clear()
    if is_restarted:
        bench.start()
        ann, bob, eve = bench.peer("ann", name), bench.peer("bob", name), bench.peer("eve")
    else:
        bench.drain()
    assert before == sorted(map(repr, bench.records.values()))
    ann.order(name, Action.PUBLIC)
    eve.join("plans")
    bench.failing |= {failing}
    bench.drain()
    before = sorted(map(repr, bench.records.values()))
    assert "log_failed" == ann.forbidden("plans", Action.PRIVATE)
    assert before == sorted(map(repr, bench.records.values()))
    assert [[], []] == [ann.mine(), bob.mine()]
    eve.join("plans")


def test_what_a_kill_in_the_middle_left_is_cleared_away() -> None:
    """The rights were written down, and the room's name was not: then the room is as it was."""
    bench = Bench()
    ann = bench.peer("ann", "plans")
    bench.peer("bob", "plans")
    ann.send("plans", "a")
    bench.drain()
    before = dict(bench.records)
    bench.failing |= {"rename_room"}
    ann.say(order.Order(1, "plans", Action.PRIVATE))  # What takes it back is lost: a kill.
    assert before != bench.records
    bench.start()
    bench.failing.clear()
    assert [] == bench.peer("bob").mine()
    assert Role.OWNER == bench.peer("ann").role("plans")
    bench.drain()
    assert [Role.OWNER] == [each.role for each in bench.log.load_rights().members]


@pytest.mark.parametrize("failing", ["found_room", "raise_generation", "keep"])
def test_who_cannot_be_taken_out_is_in(failing: str) -> None:
    """Until the log works: then they are out, with their keys, by the same order."""
    bench, ann, bob, _, name = closed()
    bench.failing |= {failing}
    assert "log_failed" == ann.forbidden(name, Action.UNINVITE, "bob")
    held = bob.join(name)
    assert bench.core.subscribed(held.subscription) is not None
    bench.failing.clear()
    ann.order(name, Action.UNINVITE, "bob")
    assert bench.core.subscribed(held.subscription) is None
    assert "not_invited" == bob.shut_out(name).code


def test_a_place_that_was_read_in_does_not_come_back() -> None:
    """What was to be written down soon is written before the place is struck out."""
    bench, ann, bob, _, name = closed()
    bob.read(name, 1)
    ann.order(name, Action.UNINVITE, "bob")
    bench.start()
    assert "not_invited" == bench.peer("bob").shut_out(name).code


# --- bounds -----------------------------------------------------------------
def test_a_closed_room_has_so_many_members(monkeypatch: pytest.MonkeyPatch) -> None:
    """So it takes no more of them, and an open room of more is not closed."""
    assert MEMBERS_PER_ROOM_MAX <= CLOSED_PER_IDENTITY_MAX * 4
    monkeypatch.setattr(rights, "MEMBERS_PER_ROOM_MAX", 2)
    monkeypatch.setattr("broker.chat.orders.MEMBERS_PER_ROOM_MAX", 2)
    _, ann, bob, eve, name = closed()
    assert "too_many" == ann.forbidden(name, Action.INVITE, "eve")
    ann.order(name, Action.INVITE, "bob")  # Who has a place already.
    for peer in (ann, bob, eve):
        peer.join("other")
    assert "too_many" == ann.forbidden("other", Action.PRIVATE)
    assert "other" == eve.join("other").room


def test_a_person_has_so_many_places_in_closed_rooms(monkeypatch: pytest.MonkeyPatch) -> None:
    """A role in an open room is none of them; and no MY_ROOMS is longer."""
    monkeypatch.setattr(rights, "CLOSED_PER_IDENTITY_MAX", 1)
    bench, ann, bob, eve, _ = closed()
    ann.join("other")
    eve.join("other")
    assert "too_many" == ann.forbidden("other", Action.PRIVATE)
    bob.join("other")
    ann.order("other", Action.OP, "bob")
    assert 1 == len(bob.mine())
    assert eve.talk("bob").room, "talks are counted apart"
    assert 0 == bench.core._floor.rights.role("plans", b"")
