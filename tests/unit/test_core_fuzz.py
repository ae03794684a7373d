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
from tests.unit.bench import RULES, Bench, Peer, Published

TOKENS = 4
CLOSED = "+closed"  # In a step it stands for the name of ann's private room,
TALK = "@talk"  # and this for her talk with bob.
head_tokens = st.integers(0, TOKENS - 1).map(lambda index: b"%05d-fuzz-token" % index)
names = st.sampled_from(
    ["r", "R", "s", "x", "ann", "ANN", "zoe", "a b", "", "\0", "-", CLOSED, TALK, "bob"]
)
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
    """Return what the broker knows of a session, and what its person has."""
    core = peer.bench.core
    session = core.sessions.get(peer.token)
    assert session is not None
    rights = core._floor.rights
    return (
        [rights.role(room, session.user.owner) for room in sorted(session.rooms)],
        rights.closed_rooms(session.user.owner)[:2],
        [list(rights.records_of(room)) for room in sorted(session.rooms)],
        [room.subscription for room in core.rooms if room.name in session.rooms],
        dict(session.moved),
        frozenset(session.speaks),
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
    """Whatever strangers send, the session beside them stays, talks and keeps its place.

    And nothing of its closed rooms ever reaches them: no topic, no ticket, no title, no text.
    """
    bench = Bench(rules=RULES._replace(clients_max=5, rooms_max=8, grace_s=1.0))
    ann, bob = bench.peer("Ann", "r", "hidden"), bench.peer("bob")
    first = ann.send("r", "before").kept[0].first
    closed = ann.order("hidden", Action.PRIVATE).room
    rooms = [ann.join(closed), ann.talk("bob")]
    for room in rooms:
        ann.send(room.room, f"a secret of {room.title}")
    bob.ask(wire.Bye(1), wire.Goodbye)
    bench.drain(1)
    bench.published.clear()
    before = state(ann)
    names = {CLOSED.encode(): closed.encode(), TALK.encode(): rooms[1].room.encode()}
    acts: dict[str, Callable[[Any], object]] = {
        "receive": lambda frames: bench.core.receive(b"stranger", meant(frames, names)),
        "subscribe": lambda topic: overheard(bench, meant([topic], names)[0]),
        "unsubscribe": lambda topic: bench.core.unsubscribed(meant([topic], names)[0]),
        "drain": bench.drain,
        "fill": lambda _: bench.store.fill(),
        "free": lambda _: bench.store.free(),
    }
    for act, argument in steps:
        bench.set_clock()
        acts[act](argument)
        assert before == state(ann)
        assert len(bench.core.sessions) <= bench.rules.clients_max
        assert len(list(bench.core.rooms)) <= bench.rules.rooms_max
    bench.store.free()
    bench.drain()
    assert ann.route not in bench.replies
    told = repr(bench.replies) + repr(
        [p.body for p in bench.published if is_inbox_of_others(p, ann)]
    )
    for room in rooms:
        for secret in (room.subscription, room.ticket, "a secret of", f"title={room.title!r}"):
            assert (secret if isinstance(secret, str) else repr(secret)[2:-1]) not in told
    assert ann.send("r", "after").kept[0].first > first
    assert not ann.send(closed, "after").kept[0].code
    assert "Ann" in ann.ask(wire.Who(1, "r"), wire.Members).nicks
    assert set(bench.core.refusals) <= {*map(str, Code), "bad_subscription"}
    check(bench)


def meant(frames: list[bytes], names: dict[bytes, bytes]) -> list[bytes]:
    """Return the frames with the names of the rooms that they are about, if they can be read."""
    try:
        if len(frames) == 2:
            fields = msgspec.msgpack.decode(frames[1])
            known = {key.decode(): name.decode() for key, name in names.items()}
            return [frames[0], msgspec.msgpack.encode(renamed(fields, known))]
    except (msgspec.DecodeError, UnicodeDecodeError):
        pass
    return [
        names.get(frame.partition(b"\0")[0], frame.partition(b"\0")[0])
        + frame[len(frame.partition(b"\0")[0]) :]
        for frame in frames
    ]


def renamed(value: Any, names: dict[str, str]) -> Any:  # noqa: ANN401 - whatever MessagePack has
    """Return a payload's fields with rooms' names in place of what stands for them."""
    if isinstance(value, list):
        return [renamed(each, names) for each in value]
    return names.get(value, value) if isinstance(value, str) else value


def overheard(bench: Bench, topic: bytes) -> None:
    """Subscribe to something; no closed room lets a stranger in."""
    if topic[:1] in (b"+", b"@"):
        assert bench.core.subscribed(topic) is None
    else:
        bench.core.subscribed(topic)


def is_inbox_of_others(published: Published, ann: Peer) -> bool:
    return topics.is_inbox(published.topic) and published.topic != ann.inbox


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
        assert session.speaks <= session.rooms
        assert set(session.moved.values()) <= session.rooms
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
