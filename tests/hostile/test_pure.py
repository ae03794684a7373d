"""Generated frames straight into what decides: nothing raises, and bystanders stay as they are."""

from __future__ import annotations

import contextlib
import random
from collections.abc import Callable, Iterator
from unittest.mock import Mock

import pytest
import zmq
from hypothesis import given, settings
from hypothesis import strategies as st

from broker import keys
from broker.chat.floods import Rate
from broker.chat.sessions import SESSIONS_PER_ROUTE_MAX
from broker.connections import Connections
from broker.history import answer
from broker.subscriptions import Subscriptions
from common import topics, wire
from common.errors import Code, Malformed
from tests.hostile.frames import Frames
from tests.unit.bench import RULES, Bench
from tests.unit.logs import MemoryStore, proposal, said

Socket = zmq.Socket[bytes]
MESSAGES = 4_000


@pytest.mark.parametrize("seed", range(4))
def test_generated_commands_are_decided(seed: int) -> None:
    """In the name of sessions that there are; whoever is beside them talks on."""
    chance = random.Random(seed)
    bench = Bench(rules=RULES._replace(clients_max=8, rooms_max=30, grace_s=1.0))
    ann = bench.peer("Ann-beside", "calm")
    tokens = [bytes([index]) * 16 for index in range(1, SESSIONS_PER_ROUTE_MAX + 1)]
    frames = Frames(seed, tokens, {})
    for token in tokens:
        bench.core.subscribed(topics.inbox(token))
    for _ in range(MESSAGES):
        bench.set_clock()
        bench.core.receive(b"mallory", frames.command())
        if chance.random() < 0.05:
            bench.drain(chance.choice((0.0, 0.2)))
            assert len(bench.core.sessions) <= bench.rules.clients_max, seed
            assert len(bench.core.rooms) <= bench.rules.rooms_max, seed
    bench.drain()
    assert set(bench.core.refusals) <= set(map(str, Code))
    answers = bench.replies.pop(b"mallory")
    assert {wire.Ack, wire.Error, wire.Joined, wire.Welcome} <= set(map(type, answers))
    assert {b"mallory"} >= set(bench.replies), seed
    assert 1 == ann.send("calm", "as ever").kept[0].first


@pytest.mark.parametrize("seed", range(4))
def test_generated_questions_are_answered(seed: int) -> None:
    """Each with one page or one error, and pages only for a ticket of the room."""
    store = MemoryStore()
    store.open().append([proposal("den1", said("a", "b")), proposal("calm", said("secret"))])
    reader = store.reader()
    frames = Frames(seed, [b"t" * 16], {"den1": keys.ticket(reader.secret, "den1", 0, b"", 1)})
    pages = 0
    for _ in range(MESSAGES):
        reply = wire.parse_reply(answer(reader, frames.question()[1:], now_ms=0))
        assert isinstance(reply, wire.Page | wire.Error), seed
        if isinstance(reply, wire.Page):
            assert "den1" == reply.room
            pages += 1
    assert pages


@pytest.fixture
def rooms() -> Iterator[tuple[Socket, Socket, Socket]]:
    """XPUB, an honest peer and a hostile one."""
    context: zmq.Context[Socket] = zmq.Context()
    xpub = context.socket(zmq.XPUB)
    xpub.setsockopt(zmq.XPUB_MANUAL, 1)
    xpub.bind("inproc://rooms")
    peers = (context.socket(zmq.XSUB), context.socket(zmq.XSUB))
    for peer in peers:
        peer.setsockopt(zmq.SNDHWM, 0)
        peer.connect("inproc://rooms")
    yield (xpub, *peers)
    context.destroy(0)


@pytest.mark.parametrize("seed", range(4))
def test_generated_subscriptions_open_nothing(
    rooms: tuple[Socket, Socket, Socket], seed: int
) -> None:
    """Whatever is asked, nobody else's room is heard, and the member hears all of it."""
    xpub, ann, mallory = rooms
    bench = Bench()
    joined = bench.peer("ann").join("calm")
    subscriptions = Subscriptions(xpub, bench.core, Connections(Mock()))
    ann.send(b"\1" + joined.subscription)
    subscriptions.drain()
    frames = Frames(seed, [b"t" * 16], {})
    for number in range(MESSAGES // 100):
        for _ in range(100):
            mallory.send_multipart(frames.subscription())
        subscriptions.drain()
        subscriptions.drain()
        xpub.send(joined.subscription + b"%d" % number)
    assert bench.core.refusals["bad_subscription"]
    ann.recv()  # The head that proves the subscription.
    for number in range(MESSAGES // 100):
        assert joined.subscription + b"%d" % number == ann.recv(zmq.NOBLOCK)
    while mallory.poll(0):
        assert not mallory.recv().startswith(b"calm"), seed


bodies = st.binary(max_size=60)
spoiled = st.builds(
    lambda reply, cut, tail: (reply[0], reply[1][:cut] + tail),
    st.sampled_from(
        [
            wire.reply_frames(wire.Welcome(1, "ann", True, "hello")),
            wire.reply_frames(wire.Ack(1, [wire.Place(1, 2), wire.Place(0, 0, "gap")])),
            wire.reply_frames(wire.RoomList(1, [wire.RoomInfo("r", 1, 2, "t")], more=True)),
        ]
    ),
    st.integers(0, 60),
    bodies,
)


@given(spoiled, bodies)
@settings(max_examples=300)
def test_a_hostile_broker_is_malformed_at_worst(reply: tuple[bytes, bytes], body: bytes) -> None:
    """The client's side of the wire raises nothing else, for answers and for publications."""
    parses: list[Callable[[], wire.Payload]] = [
        lambda: wire.parse_reply(list(reply)),
        lambda: wire.parse_publication(body),
        lambda: wire.parse_publication(topics.split_publication(body)[1]),
    ]
    for parse in parses:
        with contextlib.suppress(Malformed):
            assert isinstance(parse(), wire.Payload)


def test_a_crowd_that_comes_back_at_once_trips_nothing() -> None:
    """2,000 clients fill a restarted broker to the last place, before their inboxes are open."""
    count = 2_000
    bench = Bench(rules=RULES._replace(clients_max=count, rate=Rate(1_000, 10_000)))
    peers = [bench.peer(f"member{index}", hello=False) for index in range(count)]
    for peer in peers:
        peer.say(peer.hello())
    for peer in peers[::-1]:
        for room in ("lobby", "dev", f"room{peer.instance % 90}"):
            peer.say(wire.Join(2, room, resume=True))
        peer.open_inbox()
        peer.say(peer.next_send("lobby", "back"))
    bench.drain(1.0)
    assert {} == dict(bench.core.refusals)
    assert count == len(bench.core.sessions)
    bench.drain(10 * bench.rules.grace_s)
    assert count == len(bench.core.sessions)
