"""Bans and mutes against people who change their nicks, and by clocks that jump."""

from __future__ import annotations

import pytest

from broker import keys
from broker.chat.floor import CUT
from broker.chat.rights import SANCTIONS_PER_ROOM_MAX
from broker.log.retention_clock import DOUBT_S
from common import wire
from common.order import Action, Admin
from tests.unit.bench import RULES, Bench
from tests.unit.operator_orders import table

DAY_S = 86_400


def test_a_person_has_one_mute_whatever_they_are_called() -> None:
    """What is ordered last holds, also when it is less; a renaming key fills no table."""
    bench = Bench()
    ann, eve = bench.peer("ann", "r"), bench.peer("eve", "r")
    ann.order("r", Action.MUTE, "eve")
    eve.ask(wire.SetNick(3, "eva"), wire.Renamed)
    ann.order("r", Action.MUTE, "eva", 5)
    assert 1 == len(bench.log.load_rights().sanctions)
    assert "muted" == eve.refused(eve.next_send("r", "x")).code
    bench.drain(6)
    eve.send("r", "heard again")


def test_renaming_makes_no_more_of_them_than_can_be() -> None:
    bench = Bench()
    ann, eve = bench.peer("ann", "r"), bench.peer("e0", "r")
    for number in range(1, SANCTIONS_PER_ROOM_MAX // 100):
        bench.drain(5)
        eve.ask(wire.SetNick(3, f"e{number}"), wire.Renamed)
        ann.order("r", Action.MUTE, f"e{number}")
        assert 1 == len(bench.log.load_rights().sanctions)


def test_a_clock_that_is_ahead_for_a_moment_pardons_nobody() -> None:
    """While it is, bans seem over; what they are is not forgotten before the clock is trusted."""
    bench = Bench()
    ann, eve = bench.peer("ann", "r"), bench.peer("eve", "r")
    bench.peer("fay", "r")
    bench.drain(DOUBT_S)
    ann.order("r", Action.BAN, "eve", DAY_S)
    bench.wall_shift_s = 2 * DAY_S
    ann.order("r", Action.MUTE, "fay")
    bench.wall_shift_s = 0
    bench.drain(1)
    assert "banned" == eve.shut_out("r").code
    bench.drain(2 * DAY_S)
    ann.order("r", Action.MUTE, "fay")
    assert ["fay"] == [each.nick for each in bench.log.load_rights().sanctions]


# --- nicks ------------------------------------------------------------------
@pytest.mark.parametrize("room", ["r", ""])
def test_nobody_takes_a_banned_nick(room: str) -> None:
    """Neither in the room where it is banned nor, where it is everywhere, in any; elsewhere yes."""
    bench = Bench()
    bench.peer("ann", "r")
    eve, fred = bench.peer("eve"), bench.peer("fred", "r", "s")
    table(bench, Admin(1, "ban", room, "eve", 60))
    if room:
        eve.ask(wire.Bye(1), wire.Goodbye)
    refusal = fred.refused(wire.SetNick(5, "EVE"))
    assert ("banned", 60_000) == (refusal.code, refusal.value)
    assert ["ann", "fred"] == sorted(user.nick for user in bench.core._floor.room("r").roster)
    fred.ask(wire.SetNick(5, "freddy"), wire.Renamed)
    if room:
        fred.ask(wire.Part(6, "r"), wire.Parted)
        fred.ask(wire.SetNick(5, "eve"), wire.Renamed)
        assert "banned" == fred.shut_out("r").code


@pytest.mark.parametrize("sessions_count", [1, 2])
def test_whoever_takes_a_muted_nick_is_muted(sessions_count: int) -> None:
    bench = Bench()
    ann, eve = bench.peer("ann", "r"), bench.peer("eve", "r")
    ann.order("r", Action.MUTE, "eve")
    eve.ask(wire.Bye(1), wire.Goodbye)
    freds = [bench.peer("fred", "r") for _ in range(sessions_count)]
    freds[0].send("r", "before")
    freds[0].ask(wire.SetNick(5, "eve"), wire.Renamed)
    assert "muted" == freds[0].refused(freds[0].next_send("r", "x")).code
    freds[0].ask(wire.SetNick(5, "fred"), wire.Renamed)
    for fred in freds:
        fred.send("r", "after")


# --- who is told ------------------------------------------------------------
def test_an_outsider_hears_of_no_private_room_through_orders() -> None:
    """The ban holds all the same: who invites them later learns of it, and they do not."""
    bench = Bench()
    ann, eve = bench.peer("ann", "r"), bench.peer("eve")
    name = ann.order("r", Action.PRIVATE).room
    ann.join(name)
    for action in (Action.KICK, Action.MUTE, Action.UNMUTE, Action.BAN):
        ann.order(name, action, "eve")
    assert "forbidden" == ann.forbidden(name, Action.INVITE, "eve")
    assert [] == eve.notices()
    assert "not_invited" == eve.shut_out(name).code


@pytest.mark.parametrize("action", [Action.UNINVITE, Action.BAN])
def test_a_member_who_is_not_in_the_room_is_told(action: Action) -> None:
    bench = Bench()
    ann, eve = bench.peer("ann", "r"), bench.peer("eve")
    name = ann.order("r", Action.PRIVATE).room
    ann.join(name)
    ann.order(name, Action.INVITE, "eve")
    eve.notices()
    ann.order(name, action, "eve")
    assert [name] == [each.room for each in eve.notices()]


def test_who_has_a_place_is_not_invited_again() -> None:
    bench = Bench()
    ann, eve = bench.peer("ann", "r"), bench.peer("eve")
    name = ann.order("r", Action.PRIVATE).room
    for _ in range(3):
        ann.order(name, Action.INVITE, "eve")
    assert 1 == len(eve.notices("invited"))


# --- bans from the whole broker ---------------------------------------------
EVE_KEY = b"e" * 32


def test_without_keys_a_ban_changes_those_of_all_rooms_that_they_were_in() -> None:
    """Topic and ticket of before are worth nothing; the others are asked to join again."""
    bench = Bench()
    ann, eve = bench.peer("ann", "r", "s", "t"), bench.peer("eve", "r", "s")
    ann.send("r", "in the open")
    name = ann.order("s", Action.PRIVATE).room
    ann.join(name)
    eve.join(name)
    rooms = ["r", name]
    before = {room: eve.join(room) for room in rooms}
    eve.ask(wire.Part(6, name), wire.Parted)  # A place is enough.
    untouched = ann.join("t").subscription
    ann.notices()
    table(bench, Admin(1, "ban", nick="eve"))
    assert {"r", name} == {each.text for each in ann.notices("rejoin")}
    for room in rooms:
        assert bench.core.subscribed(before[room].subscription) is None
        generation = bench.core._floor.room(room).generation
        ticket = before[room].ticket
        assert not keys.is_ticket(
            ticket, bench.log.secret, room, generation, key=b"", now_ms=bench.now_ms
        )
        assert bench.core.subscribed(ann.join(room).subscription) is not None
    assert untouched == ann.join("t").subscription
    assert "banned" == eve.refused(eve.hello()).code


@pytest.mark.parametrize("failing", ["found_room", "raise_generation", "keep"])
def test_a_ban_from_everywhere_that_is_not_written_down_does_not_hold(failing: str) -> None:
    bench = Bench()
    eve = bench.peer("eve", "r")
    bench.failing |= {failing}
    with pytest.raises(AssertionError, match="log_failed"):
        table(bench, Admin(1, "ban", nick="eve"))
    assert [] == eve.notices("banned")
    assert CUT not in bench.core.take_wishes()
    bench.failing.clear()
    eve.join("r")
    eve.send("r", "still here")


def test_a_banned_key_may_hear_no_room_from_the_start_until_its_end() -> None:
    bench = Bench()
    ann = bench.peer("ann", "r")
    ann.send("r", "hello")
    topic = ann.join("r").subscription
    assert bench.core.subscribed(topic, EVE_KEY) is not None
    table(bench, Admin(1, "ban", nick=EVE_KEY.hex(), value=60))
    assert {CUT} == bench.core.take_wishes()
    assert bench.core.subscribed(topic, EVE_KEY) is None
    assert bench.core.subscribed(topic, b"f" * 32) is not None
    bench.start()
    bench.set_clock()
    assert bench.core.subscribed(topic, EVE_KEY) is None
    assert bench.core.is_banned(EVE_KEY)
    bench.drain(61)
    assert bench.core.subscribed(topic, EVE_KEY) is not None
    table(bench, Admin(1, "ban", nick=EVE_KEY.hex()))
    assert bench.core.subscribed(topic, EVE_KEY) is None
    table(bench, Admin(1, "unban", nick=EVE_KEY.hex()))
    assert bench.core.subscribed(topic, EVE_KEY) is not None


def test_no_ban_holds_against_operators() -> None:
    """Also one of before they were operators."""
    bench = Bench()
    table(bench, Admin(1, "ban", nick=EVE_KEY.hex()))
    assert bench.core.is_banned(EVE_KEY)
    bench.rules = RULES._replace(operators=frozenset({EVE_KEY}))
    bench.start()
    assert not bench.core.is_banned(EVE_KEY)
