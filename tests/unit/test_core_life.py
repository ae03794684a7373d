"""The broker's own doings: presence, vanished clients, beacons, strangers, closing."""

from __future__ import annotations

import pytest

from broker.chat.floods import RETURN_S
from broker.chat.presence import PRESENCE_TICK_S
from broker.chat.rooms import BEACON_JOIN_S, BEACON_QUIETS_S
from broker.chat.sessions import POKE_S
from common import wire
from common.errors import Code
from common.limits import PRESENCE_NAMES_MAX
from common.wire import Changes, Presence
from tests import saying
from tests.unit.bench import RULES, Bench, Peer
from tests.unit.logs import proposal, said

GRACE_S = RULES.grace_s


@pytest.fixture
def bench() -> Bench:
    """Return a running broker."""
    return Bench()


def told(bench: Bench) -> list[Presence]:
    """Return and forget the presence events that told a change."""
    presences = [each for each in bench.take(Presence) if isinstance(each, Presence)]
    return [each for each in presences if each.prev != each.version]


def changes(bench: Bench) -> list[Changes | None]:
    """Return and forget what the presence events said."""
    return [presence.changes for presence in told(bench)]


def test_who_comes_within_a_tick_is_told_in_one_frame(bench: Bench) -> None:
    """The tick begins with the first change, and ends after its time, not before."""
    bench.peer("ann", "r")
    bench.published.clear()
    base = bench.core.rooms.open("r").roster.version
    began_s = bench.now_s
    for nick in ("bob", "cid"):
        peer = bench.peer(nick, hello=False)
        peer.open_inbox()
        peer.ask(peer.hello(), wire.Welcome)
        peer.join("r")
        bench.drain(PRESENCE_TICK_S * 0.4)
    assert [] == told(bench)
    assert began_s + PRESENCE_TICK_S == bench.core.next_deadline_s()
    bench.drain(PRESENCE_TICK_S * 0.3)
    assert [Presence("r", base, base + 1, 3, Changes(["bob", "cid"], [], [], []))] == told(bench)
    bench.drain(PRESENCE_TICK_S)
    assert [] == told(bench)


def test_a_flap_shorter_than_the_tick_tells_nothing(bench: Bench) -> None:
    """A script that joins, says a line and leaves at once is no news; its line is."""
    bench.peer("ann", "r")
    bench.published.clear()
    script = bench.peer("script", hello=False)
    script.open_inbox()
    script.ask(script.hello(), wire.Welcome)
    script.join("r")
    script.send("r", "done")
    script.ask(wire.Bye(1), wire.Goodbye)
    texts = [
        p.texts for b in bench.published if isinstance(b.body, wire.Batch) for p in b.body.posts
    ]
    assert [["done"]] == texts
    bench.drain(1)
    assert [] == told(bench)


def test_what_a_newcomer_was_shown_stays_true(bench: Bench) -> None:
    """Who joined and left around another's JOINED is told to have left."""
    bench.peer("ann", "r")
    bob, cid = bench.peer("bob"), bench.peer("cid")
    bob.join("r")
    joined = cid.join("r")
    assert ["ann", "bob", "cid"] == joined.nicks
    bob.ask(wire.Part(1, "r"), wire.Parted)
    bench.published.clear()
    bench.drain(1)
    (presence,) = told(bench)
    assert joined.version == presence.prev
    assert Changes(["cid"], ["bob"], [], []) == presence.changes


def test_a_vanished_client_has_left_after_the_grace(bench: Bench) -> None:
    """Not before; and a leave is told when the last session of the person goes."""
    bench.peer("bob", "r")
    one, two = bench.peer("ann", "r"), bench.peer("ann", "r")
    bench.published.clear()
    one.close_inbox()
    bench.drain(GRACE_S + 0.1)
    bench.drain(1)
    assert [] == told(bench)
    two.close_inbox()
    bench.drain(GRACE_S - 0.1)
    bench.drain(0.05)
    assert [] == told(bench)
    bench.drain(0.1)
    bench.drain(PRESENCE_TICK_S * 1.1)
    assert [Changes([], ["ann"], [], [])] == changes(bench)
    assert Code.NO_SESSION == two.refused(wire.Who(1, "r")).code
    assert 2 == len(bench.forgotten)


def test_a_short_break_is_no_news(bench: Bench) -> None:
    """Gone and back within the grace: the session, its rooms and its numbers are as before."""
    bench.peer("bob", "r")
    ann = bench.peer("ann", "r")
    bench.published.clear()
    ann.close_inbox()
    bench.drain(GRACE_S * 0.9)
    ann.open_inbox()
    assert ann.ask(ann.hello(), wire.Welcome).resumed
    ann.send("r", "back")
    bench.drain(GRACE_S * 3)
    assert [] == told(bench)


def test_after_a_restart_who_comes_back_is_no_news(bench: Bench) -> None:
    """Resumed members return; newcomers join; versions are above all that were told before."""
    ann = bench.peer("ann", "r")
    bench.peer("bob", "r")
    before = max(presence.version for presence in told(bench))
    bench.now_s += 1
    bench.start()
    for peer, resume in ((ann, True), (Peer(bench, "cid"), False)):
        peer.open_inbox()
        peer.ask(peer.hello(), wire.Welcome)
        assert peer.join("r", resume=resume).version > before
    bench.drain(1)
    assert [Changes(["cid"], [], [], ["ann"])] == changes(bench)
    bench.drain(RETURN_S)
    late = bench.peer("late")
    late.join("r", resume=True)
    bench.drain(1)
    assert [Changes(["late"], [], [], [])] == changes(bench)


def test_who_was_told_to_have_left_and_comes_back_is_news_even_after_a_restart(
    bench: Bench,
) -> None:
    """In the first minute, too: or people would think that ann is still away."""
    bench.peer("bob", "r")
    ann = bench.peer("ann", "r")
    ann.close_inbox()
    bench.drain(GRACE_S * 1.1)
    bench.drain(PRESENCE_TICK_S * 1.1)
    assert [Changes([], ["ann"], [], [])] == changes(bench)[-1:]
    ann.open_inbox()
    ann.ask(ann.hello(), wire.Welcome)
    ann.join("r", resume=True)
    bench.drain(1)
    assert [Changes(["ann"], [], [], [])] == changes(bench)[-1:]


def test_a_crowd_is_told_as_a_count(bench: Bench) -> None:
    """More users than names are told: versions and counts go on, without names."""
    bench.rules = RULES._replace(clients_max=1_000)
    bench.start()
    for index in range(PRESENCE_NAMES_MAX + 1):
        bench.peer(f"n{index}").join("r")
    bench.drain(1)
    last = told(bench)[-1]
    assert (PRESENCE_NAMES_MAX + 1, None) == (last.users, last.changes)


def test_an_empty_room_is_forgotten_and_a_told_one_is_not(bench: Bench) -> None:
    """What nobody is in and nobody said anything in goes with the tick, unheard."""
    ann = bench.peer("ann", "quiet", "said")
    ann.send("said", "a")
    bench.published.clear()
    ann.ask(wire.Bye(1), wire.Goodbye)
    bench.drain(1)
    assert ["said"] == [room.name for room in bench.core.rooms]
    assert [] == told(bench)  # Nobody is left to hear it.


def test_a_subscription_is_proved_by_a_beacon(bench: Bench) -> None:
    """The head is shown at once to the newcomer, and soon to all, with that of presence."""
    ann = bench.peer("ann", "r")
    ann.send("r", "a", "b")
    bench.drain(100)
    bench.published.clear()
    topic = ann.join("r").subscription
    head = wire.encode(wire.Batch("r", bench.log.epoch, 2, 3, []))
    assert [topic + head] == bench.core.subscribed(topic)
    bench.drain(BEACON_JOIN_S)
    version = ann.ask(wire.Who(1, "r"), wire.Members).version
    assert [
        (topic, wire.Batch("r", bench.log.epoch, 2, 3, [])),
        (topic, Presence("r", version, version, 1, Changes([], [], [], []))),
    ] == bench.published


def test_after_activity_the_head_is_shown(bench: Bench) -> None:
    """A lost last message is noticed after a short quiet."""
    ann = bench.peer("ann", "r")
    ann.send("r", "a")
    bench.published.clear()
    bench.drain(BEACON_QUIETS_S[0])
    assert [wire.Batch("r", bench.log.epoch, 1, 2, [])] == bench.beacons()
    bench.drain(BEACON_QUIETS_S[0])
    assert 1 == len(bench.beacons())


@pytest.mark.parametrize(
    "topic", [b"", b"\0", b"r", b"r\0", b"\0short", b"\0" + b"x" * 17, b"\xff"]
)
def test_a_topic_that_is_nobodys_is_refused_and_counted(bench: Bench, topic: bytes) -> None:
    """Empty, cut and foreign topics are not let in, and their end is nothing."""
    bench.peer("ann", "r")
    assert bench.core.subscribed(topic) is None
    bench.core.unsubscribed(topic)
    assert {"bad_subscription": 1} == bench.core.refusals


def test_a_stranger_is_told_to_say_hello(bench: Bench) -> None:
    """An inbox without a session hears no_session once, as after a restart of the broker."""
    stranger = bench.peer("ann", hello=False)
    stranger.open_inbox()
    bench.drain(POKE_S * 0.9)
    assert [] == bench.published
    bench.drain(POKE_S * 0.2)
    assert [(stranger.inbox, wire.Notice("no_session"))] == bench.published
    bench.published.clear()
    bench.drain(100)
    assert [] == bench.published


def full_of_unproven(bench: Bench) -> list[Peer]:
    """Fill a broker with sessions of one connection each that only said HELLO, but for ann's."""
    bench.rules = RULES._replace(clients_max=6)
    bench.start()
    bench.peer("ann")
    peers = [Peer(bench, f"n{index}") for index in range(5)]
    for peer in peers:
        if peer is not peers[0]:
            peer.route = peers[1].route  # As many as a connection may have.
        peer.ask(peer.hello(), wire.Welcome)
    return peers


@pytest.mark.parametrize(
    ("nick", "is_crowded", "is_short", "code"),
    [
        ("a b", False, False, Code.NICK_INVALID),
        ("Ann", False, False, Code.NICK_TAKEN),
        ("new", True, False, Code.FULL),
        ("new", False, True, Code.FULL),
    ],
)
def test_nobody_gives_way_to_who_is_refused_anyway(
    bench: Bench,
    nick: str,
    is_crowded: bool,  # noqa: FBT001 - a parameter of the test
    is_short: bool,  # noqa: FBT001 - a parameter of the test
    code: Code,
) -> None:
    """A bad or taken nick, a connection with its sessions, no memory: all stay who are there."""
    peers = full_of_unproven(bench)
    before = list(bench.core.sessions)
    bench.core.sessions.is_short_of_memory = is_short
    new = Peer(bench, nick)
    if is_crowded:
        new.route = peers[1].route
    assert code == new.refused(new.hello(nick=nick)).code
    assert before == list(bench.core.sessions)
    assert [] == bench.forgotten
    bench.core.sessions.is_short_of_memory = False
    other = Peer(bench, "other")
    other.ask(other.hello(), wire.Welcome)
    assert [peers[0].token] == [each.token for each in before if each not in bench.core.sessions]


def test_a_closing_broker_tells_everybody_and_takes_nothing(bench: Bench) -> None:
    """Each inbox hears it; commands are refused, what was sent before is kept, GREET answers."""
    ann, bob = bench.peer("ann", "r"), bench.peer("bob")
    bench.published.clear()
    ann.say(ann.next_send("r", "last words"))
    bench.core.close()
    (ack,) = ann.heard()
    assert isinstance(ack, wire.Ack)
    notices = [each for each in bench.published if isinstance(each.body, wire.Notice)]
    assert {ann.inbox, bob.inbox} == {topic for topic, _ in notices}
    assert [wire.Notice("closing")] * 2 == [body for _, body in notices]
    refused = ann.refused(ann.next_send("r", "too late"))
    assert (2, Code.CLOSING, False) == (refused.id, refused.code, refused.survives)
    for command in (ann.hello(), wire.Join(1, "r"), wire.Bye(1)):
        assert Code.CLOSING == ann.refused(command).code
    assert 2 == bob.ask(wire.Greet(1), wire.Greeting).clients
    bench.start()
    ann.ask(ann.hello(number=2), wire.Welcome)
    ann.join("r")
    assert 2 == ann.ask(saying.send(2, "r", ["too late"]), wire.Ack).kept[0].first


def test_the_oldest_entry_kept_is_told(bench: Bench) -> None:
    """After a trim JOINED's first is the log's, also when the broker starts with it."""
    bench.log = bench.store.open(retain_messages=1)
    ann = bench.peer("ann")
    assert (1, 0) == (ann.join("r").first, ann.join("r").head)
    for text in "abc":
        bench.log.append([proposal("r", said(text))])
    bench.core.rooms.open("r").head = 3
    bench.log.follow()
    bench.core.trimmed(bench.log.trim(0))
    assert (3, 3) == (ann.join("r").first, ann.join("r").head)
    bench.start()
    assert 3 == bench.peer("bob").join("r").first


def test_an_idle_broker_has_nothing_to_do(bench: Bench) -> None:
    """With everybody present and silent, the only deadlines are beacons; at last none."""
    assert float("inf") == bench.core.next_deadline_s()
    ann = bench.peer("ann", "r")
    bench.drain(1)
    assert float("inf") == bench.core.next_deadline_s()
    ann.send("r", "a")
    assert bench.now_s + BEACON_QUIETS_S[0] == bench.core.next_deadline_s()
    ann.ask(wire.Bye(1), wire.Goodbye)
    ann.close_inbox()
    for _ in range(3):
        bench.drain(100)
    assert float("inf") == bench.core.next_deadline_s()
