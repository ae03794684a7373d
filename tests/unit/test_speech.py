"""Who may say what: mutes, slow rooms, and what a SEND hears of them."""

from __future__ import annotations

import pytest

from broker import keys
from broker.chat import rights, speech
from broker.chat.speech import SPOKE_MAX
from common import wire
from common.order import Action
from common.wire import Draft, Kind
from tests.unit.bench import RULES, Bench, Peer


def two() -> tuple[Bench, Peer, Peer]:
    """Return a room "r" of ann's, with eve in it."""
    bench = Bench()
    ann, eve = bench.peer("ann", "r", "s"), bench.peer("eve", "r", "s")
    ann.send("r", "hello")
    return bench, ann, eve


def refusal(peer: Peer, room: str = "r", *texts: str) -> tuple[str, int]:
    """Say something that is not kept; return why, and how long to wait."""
    error = peer.refused(peer.next_send(room, *(texts or ("a",))))
    return error.code, error.value


def test_who_is_muted_hears_so_and_how_long() -> None:
    """Actions and topics are no way around; other rooms are not touched."""
    _, ann, eve = two()
    ann.order("r", Action.MUTE, "eve", 60, "calm down")
    (told,) = eve.notices("muted")
    assert ("ann", "calm down", 60) == (told.nick, told.text, told.value)
    assert ("muted", 60_000) == refusal(eve)
    for kind in (Kind.ACTION, Kind.TOPIC):
        assert "muted" == eve.refused(eve.next_send("r", "a", kind=kind)).code
    eve.send("s", "here I may")
    ann.send("r", "so may I")


def test_a_mute_ends_by_itself() -> None:
    """Without joining again, nor a word from anybody."""
    bench, ann, eve = two()
    ann.order("r", Action.MUTE, "eve", 60)
    bench.drain(59.9)
    assert ("muted", 100) == refusal(eve)
    bench.drain(0.1)
    eve.send("r", "again")
    session = bench.core.sessions.get(eve.token)
    assert session is not None
    assert "r" in session.speaks  # And texts are not looked at any more.


def test_a_mute_outlives_what_eve_can_do() -> None:
    """Parting, another nick, another session, a restart; but not who lifts it."""
    bench, ann, eve = two()
    ann.order("r", Action.MUTE, "eve")
    assert ("muted", 0) == refusal(eve)
    eve.ask(wire.Part(1, "r"), wire.Parted)
    eve.join("r")
    assert "muted" == refusal(eve)[0]
    eve.ask(wire.SetNick(1, "evelyn"), wire.Renamed)
    assert "muted" == refusal(eve)[0]
    assert "muted" == refusal(bench.peer("other", "r", owner="eve"))[0]
    bench.start()
    eve, ann = bench.peer("evelyn", "r", owner="eve"), bench.peer("ann", "r")
    assert "muted" == refusal(eve)[0]
    ann.order("r", Action.UNMUTE, "evelyn")
    assert ["unmuted"] == [each.code for each in eve.notices()]
    eve.send("r", "thanks")


def test_two_mutes_hold_as_long_as_the_longer() -> None:
    """By two nicks of one person: the longer wait is told; one order lifts both."""
    bench, ann, eve = two()
    ann.order("r", Action.MUTE, "eve", 10)
    eve.ask(wire.SetNick(1, "evelyn"), wire.Renamed)
    ann.order("r", Action.MUTE, "evelyn", 60)
    assert ("muted", 60_000) == refusal(eve)
    ann.order("r", Action.UNMUTE, "evelyn")
    eve.send("r", "free")
    assert [] == bench.log.load_rights().sanctions


def test_a_send_to_several_rooms_is_kept_where_it_may_be() -> None:
    """The ACK says of each other post why, and how many milliseconds to wait."""
    _, ann, eve = two()
    ann.order("r", Action.MUTE, "eve", 60)
    eve.number += 1
    drafts = [Draft(room, Kind.TEXT, ["a"]) for room in ("r", "s", "nowhere")]
    kept = eve.ask(wire.Send(eve.number - 1, drafts), wire.Ack).kept
    assert [("muted", 0, 60_000), ("not_member", 0, 0)] == [
        (each.code, each.first, each.ts) for each in (kept[0], kept[2])
    ]
    assert ("", True) == (kept[1].code, kept[1].first > 0)


# --- slow rooms -------------------------------------------------------------
def test_in_a_slow_room_each_person_says_one_thing_at_a_time() -> None:
    """With all their sessions together; and the rest of the time is told."""
    bench, ann, eve = two()
    carl = bench.peer("carl", "r")
    other = bench.peer("evelyn", "r", owner="eve")
    ann.order("r", Action.SLOW, value=10)
    assert 10 == eve.join("r").slow_s
    eve.send("r", "one")
    bench.drain(4)
    for session in (eve, other):
        assert ("slow_mode", 6_001) == refusal(session)
    carl.send("r", "mine")
    bench.drain(6)
    other.send("r", "two")
    assert "slow_mode" == refusal(eve)[0]


def test_several_texts_at_once_are_no_way_around() -> None:
    """Neither in one post, nor in several of one SEND."""
    bench, ann, eve = two()
    ann.order("r", Action.SLOW, value=10)
    assert ("slow_mode", 10_000) == refusal(eve, "r", "one", "two")
    eve.number += 1
    posts = [Draft("r", Kind.TEXT, [text]) for text in ("one", "two")]
    kept = eve.ask(wire.Send(eve.number - 1, posts), wire.Ack).kept
    assert ["", "slow_mode"] == [each.code for each in kept]
    assert "two" not in bench.said(eve.join("r").subscription)


def test_moderators_are_as_fast_as_ever() -> None:
    """And who is one no more is not."""
    _, ann, eve = two()
    ann.order("r", Action.SLOW, value=10)
    ann.send("r", "one", "two")
    ann.order("r", Action.OP, "eve")
    eve.send("r", "one", "two")
    ann.order("r", Action.DEOP, "eve")
    eve.send("r", "one")
    assert "slow_mode" == refusal(eve)[0]


def test_a_room_is_made_fast_again() -> None:
    """At once, for everybody; and slowness outlives a restart."""
    bench, ann, eve = two()
    ann.order("r", Action.SLOW, value=10)
    eve.send("r", "one")
    bench.start()
    ann, eve = bench.peer("ann", "r"), bench.peer("eve", "r")
    eve.send("r", "one")
    assert "slow_mode" == refusal(eve)[0]
    ann.order("r", Action.SLOW, value=0)
    eve.send("r", "two", "three")
    assert 0 == eve.join("r").slow_s


def test_who_spoke_in_a_slow_room_is_forgotten_in_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """And beyond a bound the first: so people made by the thousand fill no memory."""
    assert SPOKE_MAX >= 4_096  # More than a broker takes clients, unless told.
    monkeypatch.setattr(speech, "SPOKE_MAX", 3)
    bench, ann, eve = two()
    ann.order("r", Action.SLOW, value=10)
    room = bench.core.rooms.get("r")
    assert room is not None
    eve.send("r", "a")
    for index in range(5):
        bench.peer(f"x{index}", "r").send("r", "a")
        assert len(room.spoke_s) <= 3
    eve.send("r", "too early, but never mind")
    bench.drain(30)
    eve.send("r", "a")
    assert 1 == len(room.spoke_s)


def test_a_text_is_not_compared_with_every_sanction(monkeypatch: pytest.MonkeyPatch) -> None:
    """A muted person's SENDs cost no more in a room with a thousand others who are muted."""
    bench, ann, eve = two()
    for index in range(20):
        bench.peer(f"x{index}", "r")
        ann.order("r", Action.MUTE, f"x{index}", 60)
    ann.order("r", Action.MUTE, "eve", 60)
    compared: list[str] = []
    monkeypatch.setattr(rights, "is_over", lambda each, _: compared.append(each.nick))
    assert "muted" == refusal(eve)[0]
    assert {"eve"} == set(compared)
    assert 2 >= len(compared)  # By key and by nick.


def test_a_reload_changes_at_once_who_may_speak_in_slow_rooms() -> None:
    """Who is an operator no more waits as others do, in rooms they are in; who becomes one not."""
    bench, ann, eve = two()
    dan = bench.peer("dan", "r")
    for operators, waits, does_not in (({eve}, dan, eve), ({dan}, eve, dan), ({eve}, dan, eve)):
        identities = frozenset(keys.owner(each.owner) for each in operators)
        bench.core.reload(RULES._replace(operators=identities), admits=lambda _: True)
        ann.order("r", Action.SLOW, value=3_600)
        bench.drain(3_600)
        for peer in (waits, does_not):
            peer.send("r", "once")
        assert "slow_mode" == refusal(waits)[0]
        does_not.send("r", "twice")
