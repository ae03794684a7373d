"""Commands of the broker: for each one, every answer that it can have."""

from __future__ import annotations

import msgspec
import pytest

from broker.chat.core import Rules
from broker.chat.floods import Rate
from common import wire
from common.errors import Code
from common.limits import (
    NUMBER_MAX,
    PRESENCE_NAMES_MAX,
    PROTOCOL_VERSION,
    ROOMS_BYTES_MAX,
    ROOMS_PAGE_MAX,
    ROOMS_PER_SESSION_MAX,
    TOPIC_CHARS_MAX,
)
from common.wire import Command, Kind
from tests import saying
from tests.unit.bench import FACTS, RULES, Bench, Peer
from tests.unit.logs import SqliteStore

MANY = RULES._replace(clients_max=10_000, rooms_max=10_000)


@pytest.fixture
def bench() -> Bench:
    """Return a running broker."""
    return Bench()


def raw(peer: Peer, *frames: bytes) -> wire.Error:
    """Send frames as they are and return the one refusal."""
    peer.bench.core.receive(peer.route, list(frames))
    (answer,) = peer.heard()
    assert isinstance(answer, wire.Error)
    return answer


def test_greet_needs_no_session_and_tells_the_state(bench: Bench) -> None:
    """Ports, versions, uptime and counts, to anybody who asks."""
    ann = bench.peer("ann", "a", "b")
    ann.send("a", "one", "two")
    ann.refused(wire.Who(1, "c"))
    bench.now_s = 60.9
    bench.drain()
    stranger = bench.peer("stranger", hello=False)
    assert wire.Greeting(
        id=7,
        program=FACTS.program,
        protocol=PROTOCOL_VERSION,
        rooms_port=FACTS.rooms_port,
        history_port=FACTS.history_port,
        epoch=bench.log.epoch,
        uptime_s=60,
        clients=1,
        clients_max=RULES.clients_max,
        rooms=2,
        pyzmq=FACTS.pyzmq,
        libzmq=FACTS.libzmq,
        entries=2,
        refused=1,
    ) == stranger.ask(wire.Greet(7), wire.Greeting)


def test_hello_welcomes_and_resumes(bench: Bench) -> None:
    """The first HELLO begins a session, the next one of the same process resumes it."""
    ann = bench.peer("ann", hello=False)
    assert wire.Welcome(1, "ann", resumed=False, motd="hello") == ann.ask(ann.hello(), wire.Welcome)
    ann.route = b"another"
    assert wire.Welcome(1, "ann", resumed=True, motd="hello") == ann.ask(ann.hello(), wire.Welcome)


def test_hello_is_refused_with_each_of_its_codes(bench: Bench) -> None:
    """Full, invalid and taken nicks, a taken token, and no token at all."""
    bench.rules = RULES._replace(clients_max=2)
    bench.start()
    bench.peer("ann")
    thief = bench.peer("bob", hello=False)
    assert Code.NICK_TAKEN == thief.refused(thief.hello(nick="ANN")).code
    assert Code.NICK_INVALID == thief.refused(thief.hello(nick="a b")).code
    thief.token = wire.NO_TOKEN
    assert Code.BAD_PAYLOAD == thief.refused(thief.hello()).code
    bob = bench.peer("bob")
    thief.token = bob.token
    assert Code.SESSION_TAKEN == thief.refused(thief.hello()).code
    full = bench.peer("cid", hello=False).refused(wire.Hello(3, "cid", b"c" * 16, 1, 1))
    assert (3, Code.FULL, False) == (full.id, full.code, full.survives)
    assert bob.ask(bob.hello(), wire.Welcome).resumed


def test_bye_ends_the_session_at_once(bench: Bench) -> None:
    """GOODBYE; then there is no session, the nick is free, and its numbers leave memory."""
    ann, bob = bench.peer("ann", "r"), bench.peer("bob", "r")
    bench.published.clear()
    assert wire.Goodbye(4) == ann.ask(wire.Bye(4), wire.Goodbye)
    assert Code.NO_SESSION == ann.refused(wire.Bye(4)).code
    assert 1 == len(bench.forgotten)
    bench.drain(0.2)
    (presence,) = bench.take(wire.Presence)
    assert isinstance(presence, wire.Presence)
    assert presence.changes == wire.Changes([], ["ann"], [], [])
    assert "bob" == bob.ask(wire.Who(1, "r"), wire.Members).nicks[0]
    bench.peer("ann", owner="somebody else")


@pytest.mark.parametrize(
    "command",
    [
        wire.Bye(9),
        wire.SetNick(9, "zoe"),
        wire.Join(9, "r"),
        wire.Part(9, "r"),
        saying.send(9, "r", ["a"]),
        wire.Who(9, "r"),
        wire.Rooms(9),
    ],
)
def test_every_other_command_needs_a_session(bench: Bench, command: wire.Payload) -> None:
    """Before HELLO each is refused under its own id, and nothing comes of it."""
    refused = bench.peer("ann", hello=False).refused(command)
    assert (9, Code.NO_SESSION, False) == (refused.id, refused.code, refused.survives)
    assert 0 == len(bench.core.rooms)
    assert {"no_session": 1} == bench.core.refusals


def test_nick_renames_in_every_room(bench: Bench) -> None:
    """RENAMED, and each room of the user hears it once."""
    ann = bench.peer("ann", "a", "b")
    bench.published.clear()
    assert wire.Renamed(3, "Zoe") == ann.ask(wire.SetNick(3, "Zoe"), wire.Renamed)
    bench.drain(0.2)
    told = {p.room: p.changes for p in bench.take(wire.Presence) if isinstance(p, wire.Presence)}
    change = wire.Changes([], [], [("ann", "Zoe")], [])
    assert {"a": change, "b": change} == told
    ann.send("a", "hi")
    batch = bench.take(wire.Batch)[0]
    assert isinstance(batch, wire.Batch)
    assert "Zoe" == batch.posts[0].nick


def test_one_of_two_sessions_renames_itself_alone(bench: Bench) -> None:
    """In its rooms the new nick joins; the old one leaves only where no other session is."""
    one, two = bench.peer("ann", "both", "mine"), bench.peer("ann", "both")
    bench.published.clear()
    assert wire.Renamed(3, "zoe") == one.ask(wire.SetNick(3, "zoe"), wire.Renamed)
    bench.drain(0.2)
    told = {p.room: p.changes for p in bench.take(wire.Presence) if isinstance(p, wire.Presence)}
    assert {
        "both": wire.Changes(["zoe"], [], [], []),
        "mine": wire.Changes(["zoe"], ["ann"], [], []),
    } == told
    assert ["ann", "zoe"] == sorted(two.ask(wire.Who(1, "both"), wire.Members).nicks)
    one.ask(wire.Bye(1), wire.Goodbye)
    two.ask(wire.Part(1, "both"), wire.Parted)


def test_nick_is_refused_when_taken_or_invalid(bench: Bench) -> None:
    """The nick stays what it was."""
    ann = bench.peer("ann")
    bench.peer("bob")
    assert Code.NICK_TAKEN == ann.refused(wire.SetNick(3, "bob")).code
    assert Code.NICK_INVALID == ann.refused(wire.SetNick(3, "\u202ebob")).code
    assert "ann" == ann.ask(ann.hello(), wire.Welcome).nick


def test_join_gives_all_that_a_member_needs(bench: Bench) -> None:
    """Subscription, ticket, state of the log, topic and users, under the room's only spelling."""
    ann = bench.peer("ann", "r")
    ann.send("r", "a topic", kind=Kind.TOPIC)
    bob = bench.peer("bob")
    joined = bob.join("R")
    room = bench.core.rooms.open("r")
    version = room.roster.version
    assert (
        wire.Joined(
            id=2,
            room="r",
            subscription=room.subscription,
            ticket=room.ticket(b"", 1_000_000),
            epoch=bench.log.epoch,
            first=1,
            head=1,
            topic="a topic",
            version=version,
            users=2,
            nicks=["ann", "bob"],
            birth=bench.core._floor.rights.facts("r").birth,
        )
        == joined
    )
    assert joined == bob.join("r")  # Again: the same, and nothing to tell anybody.
    bench.drain(0.2)
    assert version + 1 == bob.join("r").version
    assert Code.ROOM_INVALID == bob.refused(wire.Join(2, "#r")).code


def test_a_big_room_is_joined_with_a_count(bench: Bench) -> None:
    """Names are given up to the limit; WHO gives them all the same."""
    bench.rules = MANY
    bench.start()
    for index in range(PRESENCE_NAMES_MAX - 1):
        bench.peer(f"n{index}").join("r")
    ann, bob = bench.peer("ann"), bench.peer("bob")
    assert len(ann.join("r").nicks or []) == PRESENCE_NAMES_MAX
    joined = bob.join("r")
    assert (PRESENCE_NAMES_MAX + 1, None) == (joined.users, joined.nicks)
    assert joined.users == len(bob.ask(wire.Who(1, "r"), wire.Members).nicks)


def test_a_session_joins_so_many_rooms(bench: Bench) -> None:
    """One more is refused and not made; another of those joined is no further one."""
    bench.rules = MANY
    bench.start()
    ann = bench.peer("ann", *[f"r{index}" for index in range(ROOMS_PER_SESSION_MAX)])
    assert Code.TOO_MANY_ROOMS == ann.refused(wire.Join(1, "more")).code
    assert bench.core.rooms.get("more") is None
    ann.join("r0")
    ann.ask(wire.Part(1, "r0"), wire.Parted)
    ann.join("more")


@pytest.mark.parametrize("is_joined_again", [True, False])
def test_a_refused_join_does_not_forget_a_room_twice(
    bench: Bench, *, is_joined_again: bool
) -> None:
    """A room that its last member left in this tick survives somebody's join that is refused."""
    bench.rules = MANY
    bench.start()
    full = bench.peer("full", *[f"r{index}" for index in range(ROOMS_PER_SESSION_MAX)])
    ann, bob = bench.peer("ann", "x"), bench.peer("bob")
    ann.ask(wire.Part(1, "x"), wire.Parted)
    assert Code.TOO_MANY_ROOMS == full.refused(wire.Join(1, "x")).code
    if is_joined_again:
        bob.join("x")
    bench.drain(0.2)
    bob.join("x")
    assert ["bob"] == bob.ask(wire.Who(1, "x"), wire.Members).nicks
    bob.ask(wire.Bye(1), wire.Goodbye)
    bench.drain(0.2)
    assert bench.core.rooms.get("x") is None


def test_the_broker_makes_so_many_rooms(bench: Bench) -> None:
    """At the limit a new room is refused, an old one is joined; a left one makes place."""
    bench.rules = RULES._replace(rooms_max=2)
    bench.start()
    ann, bob = bench.peer("ann", "a", "b"), bench.peer("bob", "a")
    assert Code.TOO_MANY_ROOMS == bob.refused(wire.Join(1, "c")).code
    ann.ask(wire.Part(1, "b"), wire.Parted)
    bench.drain(0.2)
    bob.join("c")


def test_part_leaves_a_room(bench: Bench) -> None:
    """PARTED; then it is not a member's room any more. Without membership it is refused."""
    ann = bench.peer("ann", "r")
    assert Code.NOT_MEMBER == ann.refused(wire.Part(1, "s")).code
    assert Code.NOT_MEMBER == ann.refused(wire.Part(1, "R")).code  # Not the room's spelling.
    assert wire.Parted(5, "r") == ann.ask(wire.Part(5, "r"), wire.Parted)
    assert Code.NOT_MEMBER == ann.refused(wire.Part(1, "r")).code


def test_send_is_acknowledged_with_its_place(bench: Bench) -> None:
    """Text i has seq first + i; the batch is published once, before the ACK's reader can ask."""
    ann = bench.peer("ann", "r")
    bench.published.clear()
    assert saying.acknowledgement(1, 1, bench.now_ms) == ann.send("r", "a", "b")
    assert saying.acknowledgement(2, 3, bench.now_ms) == ann.send("r", "waves", kind=Kind.ACTION)
    first, second = bench.take(wire.Batch)
    posts = [wire.Post(bench.now_ms, "ann", 0, ["a", "b"])]
    assert wire.Batch("r", bench.log.epoch, 0, 1, posts) == first
    assert isinstance(second, wire.Batch)
    assert (2, 3, 1) == (second.prev, second.first, second.posts[0].kind)


def test_send_is_refused_with_each_of_its_codes(bench: Bench) -> None:
    """Not a member, a NUL, a topic of two texts or of too many characters; none is kept."""
    ann = bench.peer("ann", "r")
    assert Code.NOT_MEMBER == ann.refused(ann.next_send("s", "a")).code
    assert Code.TEXT_INVALID == ann.refused(ann.next_send("r", "ok", "a\0b")).code
    topics = [["a", "b"], ["x" * (TOPIC_CHARS_MAX + 1)]]
    for texts in topics:
        refused = ann.refused(ann.next_send("r", *texts, kind=Kind.TOPIC))
        assert Code.TEXT_INVALID == refused.code
    assert 1 == ann.send("r", "x" * TOPIC_CHARS_MAX, kind=Kind.TOPIC).kept[0].first


def test_a_topic_is_the_rooms_from_then_on(bench: Bench) -> None:
    """The last one said stands, also within one drain and after a restart; it is an entry."""
    ann = bench.peer("ann", "r")
    for topic in ("one", "two"):
        ann.say(ann.next_send("r", topic, kind=Kind.TOPIC))
    assert [1, 2] == [ack.kept[0].first for ack in ann.heard() if isinstance(ack, wire.Ack)]
    assert "two" == ann.join("r").topic
    assert [wire.RoomInfo("r", 1, 2, "two")] == ann.ask(wire.Rooms(1), wire.RoomList).rooms
    bench.start()
    assert "two" == bench.peer("bob").join("r").topic


def test_who_lists_the_users(bench: Bench) -> None:
    """MEMBERS in the order of joining, users once however many sessions they have."""
    ann = bench.peer("ann", "r")
    bench.peer("ann", "r")
    bench.peer("bob", "r")
    version = bench.core.rooms.open("r").roster.version
    assert wire.Members(6, "r", version, 2, ["ann", "bob"]) == ann.ask(
        wire.Who(6, "r"), wire.Members
    )
    assert Code.NOT_MEMBER == ann.refused(wire.Who(6, "s")).code


def test_rooms_are_listed_page_by_page(bench: Bench) -> None:
    """In order of names, from after a name on, with a word whether there are more."""
    bench.rules = MANY
    bench.start()
    names = sorted(f"r{index}" for index in range(ROOMS_PAGE_MAX + 3))
    after_three = names[2]
    ann = bench.peer("ann", *names)
    first = ann.ask(wire.Rooms(1), wire.RoomList)
    second = ann.ask(wire.Rooms(2, first.rooms[-1].room), wire.RoomList)
    assert (True, False) == (first.more, second.more)
    assert (1, 2) == (first.id, second.id)
    assert names == [info.room for info in [*first.rooms, *second.rooms]]
    rest = ann.ask(wire.Rooms(3, after_three), wire.RoomList)
    assert (ROOMS_PAGE_MAX, False) == (len(rest.rooms), rest.more)
    assert wire.RoomList(3, [], more=False) == ann.ask(wire.Rooms(3, names[-1]), wire.RoomList)


def test_a_list_of_rooms_is_bounded_in_bytes(bench: Bench) -> None:
    """However long the topics are, one answer stays small, and the next one goes on."""
    topic = "\N{GRINNING FACE}" * TOPIC_CHARS_MAX
    count = 2 * ROOMS_BYTES_MAX // len(topic.encode())
    bench.rules = MANY
    bench.start()
    names = [f"r{index:04}" for index in range(count)]
    ann = bench.peer("ann", *names)
    for number, name in enumerate(names, 1):
        ann.ask(saying.send(number, name, [topic], Kind.TOPIC), wire.Ack)
    listed: list[str] = []
    is_more = True
    while is_more:
        answer = ann.ask(wire.Rooms(1, listed[-1] if listed else ""), wire.RoomList)
        assert len(wire.encode(answer)) < 2 * ROOMS_BYTES_MAX
        listed += [info.room for info in answer.rooms]
        is_more = answer.more
    assert names == listed


def test_what_cannot_be_read_is_refused_and_the_session_lives(bench: Bench) -> None:
    """Frames, version, command and payload each have a code; the id is told where it is there."""
    ann = bench.peer("ann", "r")
    head, payload = wire.command_frames(ann.token, wire.Who(9, "r"))
    assert (0, Code.BAD_FRAMES) == msgspec.structs.astuple(raw(ann, head))[:2]
    assert (0, Code.BAD_FRAMES) == msgspec.structs.astuple(raw(ann))[:2]
    assert Code.BAD_FRAMES == raw(ann, head, payload, b"").code
    version = raw(ann, b"HUB\x07" + head[4:], payload)
    assert (Code.BAD_VERSION, PROTOCOL_VERSION) == (version.code, version.value)
    for code in (0, 255, Command.HISTORY, wire.Reply.ACK):
        unknown = head[:4] + bytes([code]) + head[5:]
        assert Code.BAD_COMMAND == raw(ann, unknown, payload).code
    for bad in (b"", b"\xff", wire.encode([]), b"\x91" * 5_000, wire.encode({"id": 9})):
        assert (0, Code.BAD_PAYLOAD) == msgspec.structs.astuple(raw(ann, head, bad))[:2]
    assert (9, Code.BAD_PAYLOAD) == msgspec.structs.astuple(raw(ann, head, b"\x92\x09\xa1\xff"))[:2]
    assert (9, Code.BAD_PAYLOAD) == msgspec.structs.astuple(raw(ann, head, b"\x92\x09\xc0"))[:2]
    ann.send("r", "still here")
    assert 15 == bench.core.refusals.total()


def test_a_token_that_nobody_has_is_no_session(bench: Bench) -> None:
    """A guess reaches nothing, and the session that was not hit keeps its route."""
    ann = bench.peer("ann", "r")
    guess = ann.token[:-1] + b"x"
    frames = wire.command_frames(guess, wire.Who(1, "r"))
    bench.core.receive(b"elsewhere", frames)
    bench.drain()
    (answer,) = bench.replies.pop(b"elsewhere")
    assert isinstance(answer, wire.Error)
    assert Code.NO_SESSION == answer.code
    assert 1 == ann.send("r", "a").kept[0].first


def test_answers_follow_the_route_of_the_newest_command(bench: Bench) -> None:
    """After a reconnect the ACK of a SEND from before goes to the new connection."""
    ann = bench.peer("ann", "r")
    ann.say(ann.next_send("r", "a"))
    old, ann.route = ann.route, b"new"
    ann.say(ann.hello())
    answers = ann.heard()
    assert [wire.Welcome, wire.Ack] == [type(answer) for answer in answers]
    assert old not in bench.replies
    ann.say(ann.next_send("r", "b"))
    ann.route = b"newest"
    ann.say(wire.Who(1, "r"))
    assert [wire.Members, wire.Ack] == [type(answer) for answer in ann.heard()]
    assert {} == bench.replies


def test_a_burst_above_the_rate_is_told_to_slow_down(bench: Bench) -> None:
    """SLOW_DOWN says for how long; then the same number goes through."""
    bench.rules = Rules(10, 10, 5.0, Rate(100.0, 256.0), "")
    bench.start()
    ann = bench.peer("ann", "r")
    ann.send("r", *["x"] * 256)
    send = ann.next_send("r", *["y"] * 50)
    slow = ann.refused(send)
    assert (2, Code.SLOW_DOWN, True) == (slow.id, slow.code, slow.survives)
    bench.drain(slow.value / 1_000)
    assert 257 == ann.ask(send, wire.Ack).kept[0].first


def test_numbers_up_to_the_largest_are_taken(bench: Bench) -> None:
    """A session may begin with any number there is, and ids may be the largest."""
    ann = bench.peer("ann", hello=False)
    ann.number = NUMBER_MAX
    ann.ask(ann.hello(), wire.Welcome)
    ann.join("r")
    assert NUMBER_MAX == ann.send("r", "a").number
    assert NUMBER_MAX == ann.ask(wire.Who(NUMBER_MAX, "r"), wire.Members).id


def test_times_do_not_fall_in_a_room(tmp_path_factory: pytest.TempPathFactory) -> None:
    """Also when the clock is set back, and the broker restarted in between."""
    store = SqliteStore(tmp_path_factory.mktemp("log"), is_quick=True)
    bench = Bench(store)
    ann = bench.peer("ann", "r")
    late = ann.send("r", "a").kept[0].ts
    bench.wall_shift_s = -50.0
    assert late == ann.send("r", "b").kept[0].ts
    bench.start()
    bob = bench.peer("bob", "r")
    assert late == bob.send("r", "c").kept[0].ts
    bench.wall_shift_s = 1.0
    assert late < bob.send("r", "d").kept[0].ts
    store.close()
