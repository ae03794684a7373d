"""What somebody still has whom an operator has banned from the whole broker: nothing to read by."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack

import pytest
import zmq
from zmq.utils import z85

from common import order, topics, wire
from common.errors import Code
from tests.attacks.scene import WAIT_MS, Peer, closed_room
from tests.broker_process import BrokerProcess
from tests.waiting import eventually

BOSS = zmq.curve_keypair()
BEFORE, AFTER = "said before the ban", "said when they were banned"


@pytest.fixture(name="broker", scope="module")
def broker_with_an_operator(tmp_path_factory: pytest.TempPathFactory) -> Iterator[BrokerProcess]:
    data = tmp_path_factory.mktemp("banning") / "data"
    with BrokerProcess(data, *settings()) as made:
        yield made


def settings() -> list[str]:
    return ["--secure", "--operators", z85.decode(BOSS[0]).hex()]


def administer(boss: Peer, verb: str, whom: Peer) -> None:
    """Give an operator's order about somebody, by their key."""
    boss.ask(order.Admin(boss.next_id(), verb, nick=whom.identity.hex()), order.Table)


def heard_until_told(peer: Peer) -> list[bytes]:
    """Return what a peer without a session hears until the broker asks its inbox who it is."""
    inbox, frames = topics.inbox(peer.token), list[bytes]()
    peer.sub.subscribe(inbox)
    while True:
        assert peer.sub.poll(WAIT_MS), "nobody asked who it is"
        frame = peer.sub.recv()
        frames.append(frame)
        if frame.startswith(inbox):
            return frames


def is_shut_out(
    broker: BrokerProcess, boss: Peer, owner: Peer, was: Peer, room: wire.Joined
) -> None:
    """See that a new connection with the banned key comes to nothing by what it had before."""
    with Peer(broker, was.nick, was.keys) as late:
        before = boss.refused_count()
        late.sub.subscribe(room.subscription)
        eventually(lambda: boss.refused_count() > before, "the refusal of the topic")
        owner.say(room.room, AFTER)
        assert not [frame for frame in heard_until_told(late) if AFTER.encode() in frame]
        assert Code.BANNED == late.read(room.room, room.ticket)
        hello = wire.Hello(late.next_id(), late.nick, late.owner, late.instance, 1)
        assert Code.BANNED == late.refused(hello)


@pytest.mark.parametrize("is_open", [True, False])
def test_what_a_banned_key_still_has(broker: BrokerProcess, *, is_open: bool) -> None:
    """Its connections end; topic, ticket and session are worth nothing until the ban ends."""
    name = f"vault-{int(is_open)}"
    with ExitStack() as stack:
        owner, member, joined = stack.enter_context(closed_room(broker, name))
        boss = stack.enter_context(Peer(broker, f"boss-{name}", BOSS))
        boss.enter()
        if is_open:
            owner.join("hall")
            joined = member.join("hall")
        owner.say(joined.room, BEFORE)
        member.hear(BEFORE)
        assert BEFORE in member.read(joined.room, joined.ticket)
        cuts = [
            each.get_monitor_socket(zmq.EVENT_DISCONNECTED) for each in (member.dealer, member.sub)
        ]
        administer(boss, "ban", member)
        assert "" == member.await_notice("banned").room
        for cut in cuts:
            assert cut.poll(WAIT_MS), "a connection of the banned key goes on"
        assert Code.BANNED == member.read(joined.room, joined.ticket)
        is_shut_out(broker, boss, owner, member, joined)
        assert not [frame for frame in heard_until_told(member) if AFTER.encode() in frame]
        for socket in (member.dealer, member.sub):
            socket.disable_monitor()
        administer(boss, "unban", member)
        with Peer(broker, member.nick, member.keys) as back:
            assert AFTER in back.read(joined.room, joined.ticket)
            back.hello(back.nick)
            back.join(joined.room)
            owner.say(joined.room, "welcome back")
            back.hear("welcome back")


def test_a_ban_holds_from_the_start_of_the_next_broker(
    broker: BrokerProcess, tmp_path_factory: pytest.TempPathFactory
) -> None:
    data = tmp_path_factory.mktemp("again") / "data"
    with (
        BrokerProcess(data, *settings()) as first,
        Peer(first, "owner") as owner,
        Peer(first, "eve") as eve,
        Peer(first, "boss", BOSS) as boss,
    ):
        owner.enter_room("hall")
        joined = eve.enter_room("hall")
        owner.say("hall", BEFORE)
        boss.enter()
        administer(boss, "ban", eve)
        keys = owner.keys
    with (
        BrokerProcess(data, *settings()) as second,
        Peer(second, "owner", keys) as owner,
        Peer(second, "boss", BOSS) as boss,
    ):
        owner.enter_room("hall")
        boss.enter()
        is_shut_out(second, boss, owner, eve, joined)
    assert broker.process.poll() is None
