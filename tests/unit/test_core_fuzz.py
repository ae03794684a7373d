"""Anything from anybody: no input raises, and no input touches another's session."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import msgspec
from hypothesis import given, settings
from hypothesis import strategies as st

from common import topics, wire
from common.errors import Code
from common.order import Action
from tests import saying
from tests.unit.bench import RULES, Bench, Peer

TOKENS = 4
head_tokens = st.integers(0, TOKENS - 1).map(lambda index: b"%05d-fuzz-token" % index)
names = st.sampled_from(["r", "R", "s", "x", "ann", "ANN", "zoe", "a b", "", "\0", "-"])
small = st.integers(-1, 5) | st.sampled_from([2**53 - 1, 2**53, 2**64 - 1])
texts = st.lists(st.sampled_from(["a", "", "\0", "x" * 4_000, "x" * 4_001]), max_size=3)
fields: dict[wire.Command, st.SearchStrategy[list[object]]] = {
    wire.Command.GREET: st.tuples(small).map(list),
    wire.Command.HELLO: st.tuples(
        small, names, st.sampled_from([b"o" * 16, b"p" * 16, b""]), small, small
    ).map(list),
    wire.Command.BYE: st.tuples(small).map(list),
    wire.Command.NICK: st.tuples(small, names).map(list),
    wire.Command.JOIN: st.tuples(small, names, st.booleans()).map(list),
    wire.Command.PART: st.tuples(small, names).map(list),
    wire.Command.SEND: st.tuples(small, names, st.integers(0, 3), texts).map(list),
    wire.Command.WHO: st.tuples(small, names).map(list),
    wire.Command.ROOMS: st.tuples(small, names).map(list),
    wire.Command.HISTORY: st.tuples(small, names, st.just(b"t"), small, small, small).map(list),
    wire.Command.ORDER: st.tuples(
        small, names, st.sampled_from([*Action, "fly", ""]), names, small, names
    ).map(list),
    wire.Command.TALK: st.tuples(small, names).map(list),
    wire.Command.MINE: st.tuples(small).map(list),
    wire.Command.READ: st.tuples(small, names, small).map(list),
    wire.Command.ADMIN: st.tuples(
        small, st.sampled_from(["sessions", "kick", "drain", "fly"]), names, names, small, names
    ).map(list),
}


@st.composite
def plausible(draw: st.DrawFn) -> list[bytes]:
    """Return frames that a broken client could send."""
    command = draw(st.sampled_from(wire.Command))
    payload = msgspec.msgpack.encode(draw(fields[command]))
    head = wire.MAGIC + bytes([command]) + draw(head_tokens)
    return [head, payload[: draw(st.sampled_from([1_000_000, 3]))]]


frames = plausible() | st.lists(st.binary(max_size=30), max_size=4)
subscribed = (
    st.binary(max_size=40)
    | head_tokens.map(topics.inbox)
    | st.builds(lambda name, key: name.encode() + b"\0" + key, names, st.binary(max_size=17))
)
steps = st.lists(
    st.tuples(st.just("receive"), frames)
    | st.tuples(st.sampled_from(["subscribe", "unsubscribe"]), subscribed)
    | st.tuples(st.just("drain"), st.sampled_from([0.0, 0.05, 2.0, 10.0]))
    | st.tuples(st.sampled_from(["fill", "free"]), st.none()),
    max_size=40,
)


def state(peer: Peer) -> tuple[object, ...]:
    """Return what the broker knows of a session."""
    session = peer.bench.core.sessions.get(peer.token)
    assert session is not None
    return (
        session.user.nick,
        session.user.owner,
        session.route,
        session.expected,
        session.inbox_count,
        frozenset(session.rooms),
        dict(session.kept),
        session.bucket.allowance,
    )


@given(steps)
@settings(max_examples=200)
def test_no_input_raises_or_touches_another_session(steps: list[tuple[str, Any]]) -> None:
    """Whatever strangers send, the session beside them stays, talks and keeps its place."""
    bench = Bench(rules=RULES._replace(clients_max=4, rooms_max=5, grace_s=1.0))
    ann = bench.peer("Ann", "r")
    first = ann.send("r", "before").kept[0].first
    before = state(ann)
    acts: dict[str, Callable[[Any], object]] = {
        "receive": lambda frames: bench.core.receive(b"stranger", frames),
        "subscribe": bench.core.subscribed,
        "unsubscribe": bench.core.unsubscribed,
        "drain": bench.drain,
        "fill": lambda _: bench.store.fill(),
        "free": lambda _: bench.store.free(),
    }
    for act, argument in steps:
        bench.set_clock()
        acts[act](argument)
        assert before == state(ann)
        assert len(bench.core.sessions) <= bench.rules.clients_max
        assert len(bench.core.rooms) <= bench.rules.rooms_max
    bench.store.free()
    bench.drain()
    assert ann.route not in bench.replies
    assert ann.send("r", "after").kept[0].first > first
    assert "Ann" in ann.ask(wire.Who(1, "r"), wire.Members).nicks
    assert set(bench.core.refusals) <= {*map(str, Code), "bad_subscription"}
    check(bench)


def check(bench: Bench) -> None:
    """See that the core's own tables agree with each other."""
    sessions = list(bench.core.sessions)
    for room in bench.core.rooms:
        users = {session.user for session in sessions if room.name in session.rooms}
        assert len(users) == len(room.roster)
        assert all(user in room.roster for user in users)
    rooms = {room.name for room in bench.core.rooms}
    for session in sessions:
        assert session.rooms <= rooms
        assert session in session.user.sessions


@given(frames)
@settings(max_examples=200)
def test_every_message_has_one_answer(frames: list[bytes]) -> None:
    """Whoever sends anything at all hears exactly one thing, in two frames, on its own route."""
    bench = Bench()
    bench.core.receive(b"route", frames)
    bench.drain()
    assert [b"route"] == list(bench.replies)
    assert 1 == len(bench.replies[b"route"])


def test_bad_input_does_not_grow_the_memory() -> None:
    """A flood of rubbish of every kind leaves counters behind, nothing else."""
    bench = Bench()
    ann = bench.peer("ann", "r")
    for index in range(2_000):
        token = b"%016d" % (index + 10**9)
        bench.core.receive(b"%d" % index, wire.command_frames(token, wire.Join(1, f"x{index}")))
        bench.core.receive(b"%d" % index, [b"rubbish"])
        bench.core.subscribed(b"x%d\0" % index + token)
        ann.say(wire.Join(1, f"x{index}"))
        ann.say(wire.Part(1, f"x{index}"))
        ann.say(saying.send(1, "foreign", ["a"]))
        ann.say(saying.send(99_999, "r", ["a"]))
        if not index % 50:
            bench.drain(0.2)
    bench.drain(1)
    bench.drain(1)
    assert (1, 1) == (len(bench.core.sessions), len(bench.core.rooms))
    assert 4 * 2_000 > len(bench.core.refusals)
    assert [] == bench.core.take_proposals()
    assert ([], [], []) == bench.core.take_effects()
