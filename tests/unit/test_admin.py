"""What operators do to people, and that nobody else can, without a socket."""

from __future__ import annotations

import pytest

from broker import keys
from broker.chat.admin import identity_of
from broker.chat.floor import CUT, DRAIN
from broker.chat.peer import PLAIN
from broker.chat.peer import Peer as Transport
from broker.chat.rights import SANCTIONS_PER_ROOM_MAX
from broker.chat.sanctions import SANCTION_S_MAX
from broker.log.retention_clock import DOUBT_S
from broker.log.rights_records import EVERYWHERE, Put, Sanction
from common import topics, wire
from common.errors import Code
from common.limits import ACTION_CHARS_MAX, NICK_CHARS_MAX, REASON_CHARS_MAX
from common.order import Action, Admin
from tests.unit.bench import RULES, Bench
from tests.unit.operator_orders import (
    AFAR,
    HERE,
    KEY,
    ROUTE,
    audited,
    code,
    new_bench,
    notices,
    order_frames,
    table,
    told,
)

OTHER_KEY = b"o" * 32
LOOKS = ("sessions", "rooms", "sanctions", "audit")
DEEDS = {
    "announce": Admin(1, "announce", text="lunch"),
    "retention": Admin(1, "retention", "r", text="5 6"),
    "drop": Admin(1, "drop", "r", value=1),
    "reload": Admin(1, "reload"),
    "drain": Admin(1, "drain", value=1),
    "kick": Admin(1, "kick", nick="bob"),
    "ban": Admin(1, "ban", nick="bob", value=60),
    "unban": Admin(1, "unban", nick="cid"),
    "mute": Admin(1, "mute", "r", "bob"),
    "unmute": Admin(1, "unmute", "r", "dan"),
    "op": Admin(1, "op", "r", "bob"),
    "deop": Admin(1, "deop", "r", "eve"),
    "slow": Admin(1, "slow", "r", value=5),
}

AT_ANY_TIME = {"announce", "drain", "kick", "reload"}  # test_late_audits.py


@pytest.fixture
def bench() -> Bench:
    return new_bench()


# --- who may ----------------------------------------------------------------
@pytest.mark.parametrize(
    "peer",
    [
        PLAIN,
        Transport(key=OTHER_KEY),
        Transport(key=KEY[:-1]),
        Transport(key=KEY + b"k"),
        Transport(address="127.0.0.1"),
        Transport(key=KEY.hex().encode()),
    ],
)
@pytest.mark.parametrize("verb", [*LOOKS, *DEEDS, "no such verb"])
def test_nobody_else_may(bench: Bench, peer: Transport, verb: str) -> None:
    """What they hear is the same for every verb, and nothing happens or is written down."""
    bob = bench.peer("bob", "r")
    bench.published.clear()
    answer = told(bench, DEEDS.get(verb, Admin(1, verb)), peer)
    assert wire.Error(1, Code.FORBIDDEN, answer.detail, True) == answer  # type: ignore[attr-defined]
    assert [] == bench.published
    assert set() == bench.core.take_wishes()
    assert not bench.core.reloads.take_question()
    assert bench.core.stayers is None
    assert [] == audited(bench)
    bob.send("r", "still here")


def test_a_broker_without_operators_takes_no_empty_key() -> None:
    """On a plain endpoint everybody's key is empty."""
    bench = Bench(rules=RULES._replace(operators=frozenset({b""})))
    assert Code.FORBIDDEN == code(bench, Admin(1, "sessions"), PLAIN)


def test_a_session_of_the_operators_nick_is_no_operator(bench: Bench) -> None:
    """Neither a name nor a token makes one."""
    thief = bench.peer("boss")  # "operator" nobody may be called.
    assert Code.FORBIDDEN == thief.refused(Admin(1, "drain", value=1)).code


@pytest.mark.parametrize("peer", [HERE, AFAR])
def test_operators_may_from_the_host_and_with_their_key(bench: Bench, peer: Transport) -> None:
    bench.peer("bob", "r")
    (row,) = table(bench, Admin(3, "sessions"), peer)
    assert ("bob", "1") == (row["nick"], row["rooms"])


@pytest.mark.parametrize(
    "command",
    [wire.Hello(5, "bob", b"o" * 16, 1, 1), wire.Join(5, "r"), wire.Bye(5), wire.Who(5, "r")],
)
def test_the_socket_of_the_host_has_no_sessions(bench: Bench, command: wire.Payload) -> None:
    answer = told(bench, command)
    assert isinstance(answer, wire.Error)
    assert (5, Code.BAD_COMMAND) == (answer.id, answer.code)
    assert 0 == len(bench.core.sessions)


def test_a_session_cannot_be_taken_through_it(bench: Bench) -> None:
    """Not even by who knows its token."""
    bob = bench.peer("bob", "r")
    bench.core.receive(ROUTE, wire.command_frames(bob.token, wire.Bye(5)), HERE)
    bench.drain()
    (answer,) = bench.replies.pop(ROUTE)
    assert isinstance(answer, wire.Error)
    assert Code.BAD_COMMAND == answer.code
    bob.send("r", "still here")


def test_greetings_are_answered_there(bench: Bench) -> None:
    assert isinstance(told(bench, wire.Greet(1)), wire.Greeting)


# --- everybody --------------------------------------------------------------
def test_an_announcement_reaches_all_in_any_room(bench: Bench) -> None:
    ann, bob = bench.peer("ann", "r"), bench.peer("bob")
    assert [{"told": "2"}] == table(bench, Admin(1, "announce", text="lunch\x1b[2J"))
    for peer in (ann, bob):
        published = [each for each in bench.published if each.topic == peer.inbox]
        assert (
            wire.Notice("announcement", nick="operator", text="lunch\x1b[2J") == published[-1].body
        )
    assert ("announce", "", "", "lunch\x1b[2J") == audited(bench)[0]


@pytest.mark.parametrize("text", ["", " \n "])
def test_an_announcement_has_words(bench: Bench, text: str) -> None:
    assert Code.TEXT_INVALID == code(bench, Admin(1, "announce", text=text))


def test_a_drained_broker_takes_nobody_new(bench: Bench) -> None:
    """Who is there stays, and may come back; operators may come; and it ends."""
    ann = bench.peer("ann", "r")
    assert [{"sessions": "1"}] == table(bench, Admin(1, "drain", value=1, text="back at nine"))
    assert ["back at nine"] == [each.text for each in notices(bench, ann)]
    newcomer = bench.peer("bob", hello=False)
    assert Code.DRAINING == newcomer.refused(newcomer.hello()).code
    assert ann.ask(ann.hello(), wire.Welcome).resumed
    ann.send("r", "still here")
    ann.ask(wire.Bye(7), wire.Goodbye)
    table(bench, Admin(1, "drain", value=1))  # Once more changes nothing for who is away.
    assert not ann.ask(ann.hello(), wire.Welcome).resumed
    assert {DRAIN} == bench.core.take_wishes()
    assert bench.core.stayers is not None
    operator = bench.peer("opal", hello=False)
    bench.core.receive(operator.route, wire.command_frames(operator.token, operator.hello()), AFAR)
    (welcome,) = operator.heard()
    assert isinstance(welcome, wire.Welcome)
    assert [{"sessions": "2"}] == table(bench, Admin(1, "drain", value=0))
    assert bench.core.stayers is None
    assert isinstance(newcomer.ask(newcomer.hello(), wire.Welcome), wire.Welcome)
    assert [("drain ends", ""), ("drain", ""), ("drain", "back at nine")] == [
        (action, detail) for action, _, _, detail in audited(bench)
    ]


# --- somebody ---------------------------------------------------------------
def test_a_kick_ends_all_sessions_of_a_person(bench: Bench) -> None:
    """Under whatever nick, and says who did it and why; they may come back."""
    one, two = bench.peer("bob", "r"), bench.peer("robert", owner="bob")
    ann = bench.peer("ann", "r")
    bench.published.clear()
    assert [{"ended": "2"}] == table(bench, Admin(1, "kick", nick="BOB", text="enough"), AFAR)
    notice = wire.Notice("kicked", nick="operator", text="enough")
    for peer in (one, two):
        assert notice in [each.body for each in bench.published if each.topic == peer.inbox]
    assert [] == notices(bench, ann)
    assert Code.NO_SESSION == one.refused(wire.Who(1, "r")).code
    one.ask(one.hello(), wire.Welcome)
    assert ("kick", "bob", "", "enough") == audited(bench)[0]


@pytest.mark.parametrize("failing", ["", "raise_generation"])
def test_a_kick_gives_other_keys_to_private_rooms(bench: Bench, failing: str) -> None:
    """Whose session has ended is not seen there, and shall not hear. A talk is theirs as before.

    The session ends also when the log does not take the keys.
    """
    bench.failing.add(failing)
    ann, bob = bench.peer("ann", "plans"), bench.peer("bob", "plans", "open")
    plans = ann.order("plans", Action.PRIVATE).room
    ann.join(plans)
    names = [plans, "open", ann.talk("bob").room]
    bob.talk("ann")
    rooms = [room for name in names if (room := bench.core.rooms.get(name)) is not None]
    before = [room.subscription for room in rooms]
    bench.published.clear()
    assert [{"ended": "1"}] == table(bench, Admin(1, "kick", nick="bob"))
    changed = [
        room.name for room, key in zip(rooms, before, strict=True) if room.subscription != key
    ]
    assert changed == ([] if failing else [plans])
    asked = [(each.code, each.room, each.title, each.text) for each in notices(bench, ann)]
    assert [("rejoin", each, "+plans", each) for each in changed] == asked
    bob.ask(bob.hello(), wire.Welcome)
    assert bob.join(plans).subscription == rooms[0].subscription


def test_a_ban_lasts_its_time_through_a_restart(bench: Bench) -> None:
    bob = bench.peer("bob", "r")
    assert [{"ended": "1"}] == table(bench, Admin(1, "ban", nick="bob", value=60, text="spam"))
    bench.start()
    refused = bob.refused(bob.hello())
    assert (Code.BANNED, 60_000) == (refused.code, refused.value)
    assert "spam" in refused.detail
    assert Code.BANNED == bob.refused(bob.hello(nick="rob")).code
    bench.drain(61)
    bob.ask(bob.hello(), wire.Welcome)
    assert ("ban", "bob", "", "for 1 min spam") == audited(bench)[0]


def test_a_ban_is_lifted_by_nick_and_by_key(bench: Bench) -> None:
    for name in ("bob", "BoB", None):
        bob = bench.peer("bob")
        key = keys.owner(bob.owner).hex()
        table(bench, Admin(1, "ban", nick="bob"))
        assert Code.BANNED == bob.refused(bob.hello()).code
        table(bench, Admin(1, "unban", nick=name or key))
        bob.ask(bob.hello(), wire.Welcome)
        bob.ask(wire.Bye(1), wire.Goodbye)
    assert Code.NO_SUCH_NICK == code(bench, Admin(1, "unban", nick="bob"))


def test_a_key_is_banned_though_nobody_is_here(bench: Bench) -> None:
    """It then holds for the key alone: nobody's nick is the empty one."""
    bob = bench.peer("bob", hello=False)
    key = keys.owner(bob.owner).hex()
    assert [{"ended": "0"}] == table(bench, Admin(1, "ban", nick=key))
    assert Code.BANNED == bob.refused(bob.hello()).code
    ann = bench.peer("ann")
    assert Code.NO_SUCH_NICK == code(bench, Admin(1, "unban", nick=""))
    assert Code.BANNED == bob.refused(bob.hello()).code
    table(bench, Admin(1, "unban", nick=key.upper()))
    bob.ask(bob.hello(), wire.Welcome)
    ann.ask(wire.SetNick(1, "anna"), wire.Renamed)
    assert key == audited(bench)[-1][1]


def test_a_nick_that_looks_like_a_key_is_a_nick(bench: Bench) -> None:
    name = "0123456789abcdef" * 2
    assert NICK_CHARS_MAX == len(name)
    bench.peer(name)
    assert [{"ended": "1"}] == table(bench, Admin(1, "kick", nick=name))
    assert bytes.fromhex(name) == identity_of(name)
    assert b"" == identity_of(name[:-1]) == identity_of("g" * 32) == identity_of("\u0660" * 32)


def test_operators_are_not_banned(bench: Bench) -> None:
    assert Code.FORBIDDEN == code(bench, Admin(1, "ban", nick=KEY.hex()))


def test_bans_of_all_rooms_have_a_bound(bench: Bench) -> None:
    """Those that are over do not count."""
    bench.drain()
    bench.drain(DOUBT_S)  # From then on the clock is trusted.
    now_ms = bench.now_ms
    held = [
        Sanction(EVERYWHERE, "ban", b"%016d" % number, "", now_ms + 50_000)
        for number in range(SANCTIONS_PER_ROOM_MAX)
    ]
    bench.core._floor.keep([Put(each) for each in held])
    bench.peer("bob")
    assert Code.TOO_MANY == code(bench, Admin(1, "ban", nick="bob"))
    bench.drain(51)
    assert [{"ended": "1"}] == table(bench, Admin(1, "ban", nick="bob"))
    assert ["bob"] == [row["nick"] for row in table(bench, Admin(1, "sanctions"))]
    assert [] == bench.core._floor.rights.over(EVERYWHERE, bench.now_ms)  # They are struck out.


@pytest.mark.parametrize("verb", ["kick", "ban", "unban"])
def test_nobody_is_somebody(bench: Bench, verb: str) -> None:
    assert Code.NO_SUCH_NICK == code(bench, Admin(1, verb, nick="nobody"))


# --- what goes wrong --------------------------------------------------------
@pytest.mark.parametrize("verb", sorted(set(DEEDS) - {"drop"} - AT_ANY_TIME))
def test_what_cannot_be_written_down_is_not_done(bench: Bench, verb: str) -> None:
    """Neither told to anybody, nor in force."""
    for nick in ("dan", "eve"):
        bench.peer(nick, "r").send("r", "hello")
    bob = bench.peer("bob", "r")
    cid = bench.peer("cid")
    table(bench, Admin(1, "mute", "r", "dan"))
    table(bench, Admin(1, "op", "r", "eve"))
    table(bench, Admin(1, "ban", nick="cid"))
    assert {CUT} == bench.core.take_wishes()
    bench.drain(1)
    bench.published.clear()
    written = bench.log.load_rights()
    shown = [table(bench, Admin(1, verb)) for verb in ("sanctions", "rooms", "sessions")]
    bench.store.fill_all()
    assert Code.LOG_FAILED == code(bench, DEEDS[verb])
    assert [] == [each.body for each in bench.published if isinstance(each.body, wire.Notice)]
    assert set() == bench.core.take_wishes()
    assert bench.core.stayers is None
    bench.store.free()
    bob.ask(wire.Who(1, "r"), wire.Members)
    assert Code.BANNED == cid.refused(cid.hello()).code
    assert written == bench.log.load_rights()
    assert shown == [table(bench, Admin(1, verb)) for verb in ("sanctions", "rooms", "sessions")]


@pytest.mark.parametrize(
    ("command", "expected"),
    [
        (Admin(1, ""), Code.BAD_PAYLOAD),
        (Admin(1, "x" * ACTION_CHARS_MAX), Code.BAD_PAYLOAD),
        (Admin(1, "x" * (ACTION_CHARS_MAX + 1)), Code.BAD_PAYLOAD),
        (Admin(1, "__init__"), Code.BAD_PAYLOAD),
        (Admin(1, "private", "r"), Code.BAD_PAYLOAD),
        (Admin(1, "kick", nick=""), Code.NICK_INVALID),
        (Admin(1, "kick", nick="\x1b[2J"), Code.NICK_INVALID),
        (Admin(1, "kick", nick="n" * 128), Code.NO_SUCH_NICK),
        (Admin(1, "kick", nick="n" * 129), Code.BAD_PAYLOAD),
        (Admin(1, "kick", "r", ""), Code.NICK_INVALID),
        (Admin(1, "kick", "r", "nobody"), Code.NO_SUCH_NICK),
        (Admin(1, "kick", "../etc", "bob"), Code.ROOM_INVALID),
        (Admin(1, "ban", nick="bob", value=SANCTION_S_MAX + 1), Code.BAD_PAYLOAD),
        (Admin(1, "ban", nick="bob", value=2**53 - 1), Code.BAD_PAYLOAD),
        (Admin(1, "mute", "r", "bob", 2**53 - 1), Code.BAD_PAYLOAD),
        (Admin(1, "slow", "r", value=2**53 - 1), Code.BAD_PAYLOAD),
        (Admin(1, "drain", value=2), Code.BAD_PAYLOAD),
        (Admin(1, "kick", nick="bob", text="x" * (REASON_CHARS_MAX + 1)), Code.TEXT_INVALID),
        (Admin(1, "mute", "r", "bob", text="x" * (REASON_CHARS_MAX + 1)), Code.TEXT_INVALID),
        (Admin(1, "announce", text="x" * 4_001), Code.BAD_PAYLOAD),
    ],
)
def test_hostile_payloads_are_refused(bench: Bench, command: Admin, expected: Code) -> None:
    bob = bench.peer("bob", "r")
    assert expected == code(bench, command)
    assert [] == audited(bench)
    bob.send("r", "still here")


def test_bytes_that_are_no_payload_are_refused(bench: Bench) -> None:
    head, payload = order_frames(Admin(1, "sessions"))
    for bad in (b"", b"\xc1", payload[:-1], payload + b"x", b"\x91\x01", b"\x92\x01\x05"):
        bench.core.receive(ROUTE, [head, bad], HERE)
        bench.drain()
        (answer,) = bench.replies.pop(ROUTE)
        assert isinstance(answer, wire.Error), bad
        assert Code.BAD_PAYLOAD == answer.code
    assert topics.inbox(b"t" * 16)
