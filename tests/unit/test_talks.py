"""Talks between two: who is in them, what is told to whom, and up to where they were read."""

from __future__ import annotations

import pytest

from broker.chat import rights, talks
from broker.chat.floods import KEY_TALKS
from common import order, wire
from common.limits import ROOMS_PER_SESSION_MAX
from tests.unit.bench import RULES, Bench, Peer


def talk() -> tuple[Bench, Peer, Peer, Peer, str]:
    """Return the talk of ann and bob, which ann has opened, and bob knows nothing of."""
    bench = Bench()
    ann, bob, eve = (bench.peer(nick) for nick in ("ann", "bob", "eve"))
    joined = ann.talk("Bob")
    assert ("@", 25, "@bob") == (joined.room[0], len(joined.room), joined.title)
    return bench, ann, bob, eve, joined.room


def test_either_opens_the_same_talk() -> None:
    """It has two members and a history, whoever begins; each sees the other's name."""
    _, ann, bob, _, name = talk()
    joined = bob.talk("ANN")
    assert (name, "@ann", 1) == (joined.room, joined.title, joined.role)
    ann.send(name, "hello")
    assert 1 == ann.talk("bob").head
    for peer in (ann, bob):
        assert [(name, 1)] == [(each.room, each.head) for each in peer.mine()]


def test_a_talk_is_nobody_elses() -> None:
    """Not the third's, by no name; nor is it listed or counted."""
    bench, ann, _, eve, name = talk()
    ann.send(name, "secret")
    assert "not_invited" == eve.shut_out(name).code
    assert "not_member" == eve.refused(eve.next_send(name, "a")).code
    assert "not_member" == eve.refused(wire.Who(1, name)).code
    assert [] == eve.ask(wire.Rooms(1), wire.RoomList).rooms
    assert 0 == eve.ask(wire.Greet(1), wire.Greeting).rooms
    assert [] == eve.mine()
    other = eve.talk("bob")
    assert (name, 0) != (other.room, other.head)
    assert 0 == other.head
    assert "secret" not in bench.said(other.subscription)


@pytest.mark.parametrize("action", [each for each in order.Action if each != "report"])
def test_nobody_gives_orders_in_a_talk(action: order.Action) -> None:
    """Not even who began it."""
    _, ann, bob, _, name = talk()
    bob.join(name)
    assert "forbidden" == ann.forbidden(name, action, "bob")
    assert 2 == len(ann.join(name).nicks or [])


def test_somebody_in_a_talk_can_be_reported() -> None:
    bench, ann, _, _, name = talk()
    ann.order(name, order.Action.REPORT, "bob", reason="rude")
    assert ["report"] == [each.action for each in bench.audits]


def test_a_talk_takes_another_who_is_known() -> None:
    """Nobody talks with themselves, by whatever nick, or with a name that nobody has."""
    bench, ann, _, _, _ = talk()
    bench.peer("annie", owner="ann")
    for nick in ("ann", "annie", "stranger"):
        assert "no_such_nick" == ann.refused(order.Talk(1, nick)).code
    for nick in ("a b", "\0"):
        assert "nick_invalid" == ann.refused(order.Talk(1, nick)).code


def test_another_of_the_same_nick_gets_another_talk() -> None:
    """A talk is between two keys: who takes the nick of one of them gets nothing of it."""
    bench, ann, bob, _, name = talk()
    ann.send(name, "for bob alone")
    bob.ask(wire.Bye(1), wire.Goodbye)
    namesake = bench.peer("bob", owner="another")
    joined = namesake.talk("ann")
    assert (0, True) == (joined.head, joined.room != name)
    assert "not_invited" == namesake.shut_out(name).code
    assert joined.room == ann.talk("bob").room  # Whoever is bob now.


def test_a_talk_goes_on_when_the_other_is_away_or_has_another_nick() -> None:
    """Found by the nick that they had last; what was said waits for them."""
    bench, ann, bob, _, name = talk()
    bob.join(name)
    ann.send(name, "zero")
    bob.ask(wire.SetNick(1, "Rob"), wire.Renamed)
    assert "@Rob" == ann.talk("rob").title
    bob.ask(wire.Bye(1), wire.Goodbye)
    bench.start()
    ann = bench.peer("ann")
    assert (name, "@Rob") == (ann.talk("rob").room, ann.mine()[0].title)
    assert "no_such_nick" == ann.refused(order.Talk(1, "bob")).code
    ann.send(name, "one", "two")
    bob = bench.peer("bob")
    (mine,) = bob.mine()
    assert (name, "@ann", 3, 0) == (mine.room, mine.title, mine.head, mine.read)


def test_who_is_elsewhere_is_told_once_that_something_was_said() -> None:
    """All their sessions, until they come; and again after they left."""
    bench, ann, bob, eve, name = talk()
    other = bench.peer("robert", owner="bob")
    ann.send(name, "one")
    ann.send(name, "two")
    for peer in (bob, other):
        (told,) = peer.notices()
        assert ("said", name, "@ann") == (told.code, told.room, told.title)
    assert [] == eve.notices()
    assert [] == ann.notices()
    bob.join(name)
    ann.send(name, "three")
    assert [] == bob.notices() + other.notices()
    bob.ask(wire.Part(1, name), wire.Parted)
    ann.send(name, "four")
    assert ["said"] == [each.code for each in bob.notices()]


# --- read -------------------------------------------------------------------
def test_up_to_where_somebody_read_is_remembered() -> None:
    """For each of the two alone, never backwards, never beyond the head; over a restart."""
    bench, ann, bob, _, name = talk()
    bob.join(name)
    ann.send(name, "one", "two", "three")
    for seq, read in ((2, 2), (1, 2), (0, 2), (2**53 - 1, 3)):
        bob.read(name, seq)
        assert [read] == [each.read for each in bob.mine()]
    assert [0] == [each.read for each in ann.mine()]
    bench.start()
    assert [3] == [each.read for each in bench.peer("bob").mine()]
    bob = bench.peer("bob", owner="bob")
    assert "not_member" == bob.refused(order.Read(1, name, 1)).code


def test_open_rooms_are_not_remembered() -> None:
    """READ does nothing there; and outside it is refused, whatever room there is."""
    bench, ann, _, eve, name = talk()
    ann.join("r")
    ann.send("r", "a")
    ann.read("r", 1)
    assert [name] == [each.room for each in ann.mine()]
    for room in (name, "+" + "0" * 24, "r", "nowhere"):
        assert "not_member" == eve.refused(order.Read(1, room, 1)).code
    assert "bad_payload" == ann.refused(order.Read(1, name, 2**53)).code
    assert "bad_payload" == ann.refused(order.Read(1, name, -1)).code
    del bench


def test_what_waits_to_be_written_down_is_one_change_for_each_place() -> None:
    """However often somebody reads."""
    bench, ann, _, _, name = talk()
    ann.send(name, *["a"] * 50)
    for seq in range(51):
        ann.say(order.Read(1, name, seq))
    assert 1 == len([each for each in bench.core.take_changes() if "Member" in repr(each)])


# --- what fails, and bounds -------------------------------------------------
@pytest.mark.parametrize("failing", ["keep", "found_room"])
def test_a_talk_that_cannot_be_written_down_takes_no_text(failing: str) -> None:
    """And takes them when the log works."""
    bench = Bench()
    ann, _ = bench.peer("ann"), bench.peer("bob")
    bench.failing |= {failing}
    name = ann.talk("bob").room
    assert "log_failed" == ann.refused(ann.next_send(name, "lost")).code
    bench.failing.clear()
    ann.send(name, "kept")
    bench.start()
    assert [name] == [each.room for each in bench.peer("bob").mine()]


def test_a_talk_that_is_there_needs_no_log() -> None:
    bench, _, bob, _, name = talk()
    bench.failing |= {"keep", "found_room"}
    assert name == bob.talk("ann").room


def test_a_talk_in_which_nothing_is_said_leaves_no_trace() -> None:
    """Nobody's places are filled, nor the broker's rooms, by who only begins talks."""
    bench = Bench()
    ann, bob = bench.peer("ann"), bench.peer("bob")
    name = ann.talk("bob").room
    assert [name] == [each.room for each in bob.mine()]
    ann.ask(wire.Part(1, name), wire.Parted)
    bench.drain(1.0)
    assert [[], []] == [ann.mine(), bob.mine()]
    assert [] == list(bench.core.rooms)
    assert [] == bench.log.load_rights().members
    assert "not_invited" == bob.refused(wire.Join(1, name)).code


def test_talks_count_as_rooms_of_the_broker_and_of_the_session() -> None:
    """Who is in as many as can be begins none."""
    bench = Bench(rules=RULES._replace(rooms_max=ROOMS_PER_SESSION_MAX + 1))
    ann, bob = bench.peer("ann"), bench.peer("bob")
    bench.peer("carl")
    for index in range(ROOMS_PER_SESSION_MAX):
        ann.join(f"r{index}")
    assert "too_many_rooms" == ann.refused(order.Talk(1, "bob")).code
    assert [] == ann.mine()
    bob.talk("carl")
    assert "too_many_rooms" == bob.refused(order.Talk(1, "ann")).code


# --- leaving a closed room --------------------------------------------------
def test_who_was_invited_may_leave_for_good() -> None:
    """With an order about oneself; but the owner, whose room it would be no more, may not."""
    bench = Bench()
    ann, bob = bench.peer("ann", "r"), bench.peer("bob", "r")
    name = ann.order("r", "private").room
    assert [name] == [each.room for each in bob.mine()]
    bob.order(name, "uninvite", "bob")
    assert [] == bob.mine()
    assert "not_invited" == bob.refused(wire.Join(1, name)).code
    assert "forbidden" == ann.refused(order.Order(1, name, "uninvite", "ann")).code


def test_invitations_that_nobody_follows_fill_nobodys_places(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """They give way to the next invitation; rooms that one came to, and talks, do not."""
    monkeypatch.setattr(rights, "CLOSED_PER_IDENTITY_MAX", 2)
    bench = Bench()
    bob = bench.peer("bob")
    names = []
    for index in range(3):
        host = bench.peer(f"host{index}", f"r{index}")
        names.append(host.order(f"r{index}", "private").room)
        host.order(names[-1], "invite", "bob")
        if not index:
            bob.join(names[0])
    assert {names[0], names[2]} == {each.room for each in bob.mine()}
    talk_name = bob.talk("host0").room
    assert {names[0], names[2], talk_name} == {each.room for each in bob.mine()}


# --- strangers --------------------------------------------------------------
def flooded(bench: Bench, count: int) -> list[str]:
    """Have so many strangers each say something to bob; return their talks."""
    names = []
    for index in range(count):
        stranger = bench.peer(f"stranger{index}")
        names.append(stranger.talk("bob").room)
        stranger.send(names[-1], "hi")
        bench.drain(0.01)
    return names


def test_talks_of_strangers_fill_nobodys_places(monkeypatch: pytest.MonkeyPatch) -> None:
    """The longest silent gives way; not what one spoke in, or began, whoever joined it."""
    monkeypatch.setattr(talks, "UNANSWERED_MAX", 3)
    bench = Bench()
    bob, friend, other = (bench.peer(nick) for nick in ("bob", "friend", "other"))
    answered, begun = friend.talk("bob").room, bob.talk("other").room
    friend.send(answered, "hello bob")
    bob.join(answered)
    bob.send(answered, "hello")
    bob.send(begun, "hello other")
    opened = bench.peer("opened").talk("bob").room
    assert opened == bob.talk("opened").room
    names = flooded(bench, 2)
    bob.join(names[0])  # As a chat does, by itself.
    bob.notices()
    names += flooded(bench, 6)[2:]
    assert {answered, begun, opened, *names[-3:]} == {each.room for each in bob.mine()}
    away = [each for each in bob.notices() if each.code == "uninvited"]
    assert [(names[0], "it gave way to newer talks")] == [(each.room, each.text) for each in away]
    bench.start()
    bob = bench.peer("bob")
    assert {answered, begun, *names[-3:]} == {each.room for each in bob.mine()}
    assert bench.peer("friend").talk("bob").head
    del other


def test_a_talk_that_gave_way_can_be_begun_anew(monkeypatch: pytest.MonkeyPatch) -> None:
    """Who goes on in it is told that nobody hears them; its history is as it was."""
    monkeypatch.setattr(talks, "UNANSWERED_MAX", 1)
    bench = Bench()
    ann, bob, eve = (bench.peer(nick) for nick in ("ann", "bob", "eve"))
    name = ann.talk("bob").room
    ann.send(name, "one")
    eve.send(eve.talk("bob").room, "me first")
    assert name not in [each.room for each in bob.mine()]
    assert "not_member" == ann.refused(ann.next_send(name, "lost")).code
    assert [("uninvited", name)] == [(each.code, each.room) for each in ann.notices()]
    assert (name, 1) == (ann.talk("bob").room, ann.talk("bob").head)
    ann.send(name, "two")
    bench.start()
    assert [(name, 2)] == [(each.room, each.head) for each in bench.peer("bob").mine()]


def test_talks_and_private_rooms_have_bounds_of_their_own(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Who has as many talks as can be, all answered, is let into rooms; and may leave a talk."""
    monkeypatch.setattr(rights, "TALKS_PER_IDENTITY_MAX", 2)
    bench = Bench()
    bob, own, late = (bench.peer(nick) for nick in ("bob", "own", "late"))
    names = flooded(bench, 2)
    for name in names:
        bob.join(name)
        bob.send(name, "what?")
    assert "too_many" == late.refused(order.Talk(1, "bob")).code
    assert "too_many" == bob.refused(order.Talk(1, "late")).code
    for peer in (own, bob):
        peer.join("team")
    private = own.order("team", "private").room
    assert {private, *names} == {each.room for each in bob.mine()}
    bob.order(names[0], "uninvite", "bob")
    assert late.talk("bob").room


def test_who_leaves_a_talk_is_out_of_it_until_it_is_begun_anew() -> None:
    """The other one keeps it, and is told as soon as they say something."""
    bench, ann, bob, _, name = talk()
    ann.send(name, "one")
    bob.join(name)
    assert "forbidden" == bob.forbidden(name, "uninvite", "ann")
    bob.order(name, "uninvite", "bob")
    assert [] == bob.mine()
    assert "uninvited" == bob.notices()[-1].code
    assert "not_invited" == bob.refused(wire.Join(1, name)).code
    bench.start()
    ann, bob = bench.peer("ann"), bench.peer("bob")
    assert [] == bob.mine()
    assert [name] == [each.room for each in ann.mine()]
    assert 1 == ann.join(name).head
    assert "not_member" == ann.refused(ann.next_send(name, "two")).code
    ann.talk("bob")
    ann.send(name, "three")
    assert ["@ann"] == [each.title for each in bob.mine()]


def test_a_few_talks_are_begun_at_once_and_then_one_in_some_seconds() -> None:
    """Of talks that there are already as many are opened as one likes."""
    bench = Bench(rules=RULES._replace(rooms_max=1_000))
    ann = bench.peer("ann")
    others = [f"other{index}" for index in range(int(KEY_TALKS.burst) + 1)]
    for nick in others:
        bench.peer(nick)
    bench.drain(10.0)
    for nick in others[:-1]:
        ann.talk(nick)
    refused = ann.refused(order.Talk(1, others[-1]))
    assert "slow_down" == refused.code
    ann.talk(others[0])
    bench.now_s += refused.value / 1_000
    ann.talk(others[-1])
