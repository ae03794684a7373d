"""Whose nicks are while people come, stay and are refused: the register as the core uses it."""

from __future__ import annotations

import pytest

from broker.chat import floor
from broker.chat import nicks as nicks_module
from broker.chat.floods import KEY_NAMES
from broker.chat.nicks import DAY_MS, NICK_DAYS
from broker.chat.peer import Peer as Transport
from broker.log.interface import LogFailed
from broker.log.rights_records import NickRecord
from common import wire
from common.errors import Code
from tests.unit.bench import RULES, Bench, Peer

ANN, BOB = b"a" * 32, b"b" * 32
HOUR_S = 3_600.0


def say(peer: Peer, command: wire.Payload, key: bytes) -> wire.Payload:
    """Send a command through CURVE, and return the answer."""
    bench = peer.bench
    bench.set_clock()
    bench.core.receive(peer.route, wire.command_frames(peer.token, command), Transport(key=key))
    (answer,) = peer.heard()
    return answer


def come(bench: Bench, nick: str, key: bytes) -> Peer:
    """Return somebody who has said HELLO with a key, and whose inbox is open."""
    peer = Peer(bench, nick)
    bench.set_clock()
    assert bench.core.subscribed(peer.inbox, key) is not None
    assert isinstance(say(peer, peer.hello(), key), wire.Welcome)
    return peer


def code(peer: Peer, command: wire.Payload, key: bytes) -> str:
    """Return how a command is refused."""
    answer = say(peer, command, key)
    assert isinstance(answer, wire.Error), answer
    return answer.code


def fail(_sender: bytes) -> dict[int, bytes]:
    """Recall nothing, for the log cannot be read."""
    raise LogFailed("for a test")


def nicks(bench: Bench) -> list[NickRecord]:
    """Return what is written down of nicks."""
    return sorted(each for each in bench.records.values() if isinstance(each, NickRecord))


def owned(bench: Bench) -> list[tuple[str, bytes]]:
    """Return whose nicks are."""
    return [(each.nick, each.identity) for each in nicks(bench)]


def test_who_stays_online_keeps_the_nick() -> None:
    """A bot says HELLO once a year."""
    bench = Bench()
    come(bench, "bot", ANN)
    for _ in range(int(NICK_DAYS) + 10):
        for _ in range(4):
            bench.drain(6 * HOUR_S)
    bench.core._floor.register.expire(bench.now_ms)
    assert ("bot", ANN) in owned(bench)
    assert Code.NICK_TAKEN == code(Peer(bench, "B0t"), Peer(bench, "B0t").hello(), BOB)
    (record,) = nicks(bench)
    assert bench.now_ms - record.used_ms < DAY_MS


def test_a_freed_nick_is_its_users_again() -> None:
    """Who is there by it has it within a minute; whoever else comes has not."""
    bench = Bench()
    come(bench, "ann", ANN)
    bench.core._floor.register.free("ann")
    bench.drain()
    assert [] == owned(bench)
    bench.drain(61)
    assert [("ann", ANN)] == owned(bench)


def test_new_names_wait_and_names_that_one_owns_do_not() -> None:
    """By HELLO, though that is free in the first minute, and by NICK."""
    bench = Bench(rules=RULES._replace(clients_max=2_000))
    peer = come(bench, "ann", ANN)
    codes = []
    for index in range(int(KEY_NAMES.burst)):
        other = Peer(bench, f"ann-{index}-")
        codes.append(say(other, other.hello(), ANN))
        if isinstance(codes[-1], wire.Welcome):
            say(other, wire.Bye(2), ANN)
    assert all(isinstance(each, wire.Welcome) for each in codes[:-1])
    refused = codes[-1]
    assert isinstance(refused, wire.Error)
    assert Code.SLOW_DOWN == refused.code
    assert Code.SLOW_DOWN == code(peer, wire.SetNick(2, "another"), ANN)
    again = Peer(bench, "ann-14-")
    assert isinstance(say(again, again.hello(), ANN), wire.Welcome)
    assert Code.NICK_TAKEN == code(Peer(bench, "x"), Peer(bench, "ann-14-").hello(), BOB)
    bench.now_s += refused.value / 1_000
    assert isinstance(say(peer, wire.SetNick(2, "another"), ANN), wire.Renamed)


def test_the_first_word_under_a_name_makes_it_ones_own(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of a full register: who only came gives way to who comes, unless they are here."""
    monkeypatch.setattr(nicks_module, "NICKS_MAX", 3)
    bench = Bench()
    talker, lurker = come(bench, "talker", ANN), come(bench, "lurker", BOB)
    come(bench, "here", b"h" * 32)
    say(talker, wire.Join(2, "r"), ANN)
    say(talker, talker.next_send("r", "hi"), ANN)
    for peer, key in ((talker, ANN), (lurker, BOB)):
        say(peer, wire.Bye(3), key)
    for letter in b"xyz":
        newcomer = come(bench, chr(letter), bytes([letter]) * 32)
        say(newcomer, wire.Bye(3), bytes([letter]) * 32)
    assert [("here", b"h" * 32), ("talker", ANN), ("z", b"z" * 32)] == owned(bench)


def test_each_name_is_tried_until_something_is_said_under_it() -> None:
    """Also the second one of a session that has spoken before."""
    bench = Bench()
    ann = come(bench, "ann", ANN)
    say(ann, wire.Join(2, "r"), ANN)
    say(ann, ann.next_send("r", "hi"), ANN)
    say(ann, wire.SetNick(3, "late"), ANN)
    now_ms = bench.now_ms
    assert {"ann": now_ms, "late": -now_ms} == {each.nick: each.used_ms for each in nicks(bench)}
    say(ann, ann.next_send("r", "it is still me"), ANN)
    assert {"ann": now_ms, "late": now_ms} == {each.nick: each.used_ms for each in nicks(bench)}


def test_a_register_that_is_nearly_full_is_told_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """And again when it was not meanwhile."""
    monkeypatch.setattr(floor, "NICKS_MANY", 2)
    bench = Bench()

    def told() -> bool:
        bench.drain(61)
        return floor.NICKS in bench.core.take_wishes()

    come(bench, "ann", ANN)
    assert not told()
    peer = come(bench, "bob", BOB)
    assert [True, False] == [told(), told()]
    say(peer, wire.Bye(3), BOB)
    bench.core._floor.register.free("bob")
    assert not told()
    come(bench, "bob", BOB)
    assert told()


@pytest.mark.parametrize("reason", ["here", "full", "memory", "route", "log"])
def test_a_refused_hello_takes_no_nick(reason: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever it is refused for: nothing of the register changes."""
    bench = Bench(rules=RULES._replace(clients_max=1) if reason == "full" else RULES)
    peer = Peer(bench, "eve")
    if reason == "here":
        bench.peer("eve")  # By a plain connection: owns nothing, and is there.
    elif reason == "full":
        come(bench, "bob", BOB)
    elif reason == "memory":
        bench.core.sessions.is_short_of_memory = True
    elif reason == "log":
        monkeypatch.setattr(bench.core._entrance, "_recall", fail)
    else:
        for letter in "abcd":
            other = Peer(bench, f"x-{letter}")
            other.route = peer.route
            assert isinstance(say(other, other.hello(), BOB), wire.Welcome)
    before = nicks(bench)
    codes = {"here": Code.NICK_TAKEN, "log": Code.LOG_FAILED}
    assert codes.get(reason, Code.FULL) == code(peer, peer.hello(), ANN)
    assert before == nicks(bench)
    assert () == bench.core._floor.register.nicks_of(ANN)


def test_a_hello_that_the_log_fails_is_no_use_of_the_nick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of an owner who was away for an hour."""
    bench = Bench()
    peer = come(bench, "ann", ANN)
    say(peer, wire.Bye(3), ANN)
    before = nicks(bench)
    bench.drain(2 * HOUR_S)
    monkeypatch.setattr(bench.core._entrance, "_recall", fail)
    again = Peer(bench, "ann")
    assert Code.LOG_FAILED == code(again, again.hello(), ANN)
    assert before == nicks(bench)


def test_a_refused_change_of_nick_takes_none() -> None:
    """Somebody without a key is there by it."""
    bench = Bench()
    bench.peer("eve")
    peer = come(bench, "ann", ANN)
    assert Code.NICK_TAKEN == code(peer, wire.SetNick(3, "eve"), ANN)
    assert [("ann", ANN)] == owned(bench)
    assert isinstance(say(peer, wire.SetNick(4, "anna"), ANN), wire.Renamed)
    assert [("ann", ANN), ("anna", ANN)] == owned(bench)
