"""Rooms: batch limits, head beacons, and which subscriptions are let in."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from broker import keys
from broker.chat.rooms import (
    BEACON_JOIN_S,
    BEACON_QUIETS_S,
    BEACON_SPREAD,
    POST_HEAD_BYTES,
    TEXT_HEAD_BYTES,
    TOLD_MEMBER_S,
    Room,
    Rooms,
)
from broker.chat.sessions import User
from broker.chat.texts import check_texts
from broker.log.interface import Proposal, RoomRecord, Spot, nowhere
from common import limits, topics, wire
from common.errors import Code, Refused
from common.limits import BATCH_BYTES_MAX, BATCH_ENTRIES_MAX
from common.wire import Batch, Kind, Post, encode
from tests import saying

SECRET = bytes(range(32))
EPOCH = 9
NOWHERE = nowhere(Code.NOT_MEMBER)


def judge(speaks: set[str]) -> Callable[[wire.Draft], str | Spot]:
    """Return a judge for whom every text may be where some may."""
    return lambda draft: draft.room if draft.room in speaks else NOWHERE


def rooms_with(*records: RoomRecord, rooms_max: int = 10) -> Rooms:
    """Return rooms as they are after a start with this log."""
    return Rooms(records, secret=SECRET, epoch=EPOCH, version=100, rooms_max=rooms_max)


def beacons(rooms: Rooms, now_s: float) -> list[tuple[bytes, Batch]]:
    """Return topic and batch of the beacons that are due."""
    frames = map(topics.split_publication, rooms.beacons(now_s))
    return [(topic, wire.decode_batch(body)) for topic, body in frames]


def put(rooms: Rooms, room: Room, send: wire.Send, nick: str) -> Proposal:
    """Propose a SEND as the core does."""
    wide = check_texts(send.posts, saying.texts_of(send))
    speaks = {room.name}
    _, proposal = rooms.propose(send.posts, speaks, nick, 2**53, wide=wide, judge=judge(speaks))
    assert proposal is not None
    return proposal


def put_text(rooms: Rooms, room: Room, *, chars: int = 0, count: int = 1) -> Proposal:
    """Propose texts of some size."""
    return put(rooms, room, saying.send(1, room.name, ["x" * chars] * count), "ann")


def test_a_room_is_made_once_under_its_only_spelling() -> None:
    """Every form of the name opens the same room, and a bad name opens none."""
    rooms = rooms_with()
    room = rooms.open("Dev")
    assert room is rooms.open("DEV")
    assert room is rooms.get("dev")
    assert rooms.get("Dev") is None
    with pytest.raises(Refused) as refused:
        rooms.open("a b")
    assert Code.ROOM_INVALID == refused.value.code
    assert ["dev"] == [each.name for each in rooms]


def test_the_number_of_rooms_is_limited() -> None:
    """One room more than the limit is refused; those that are there still open."""
    rooms = rooms_with(rooms_max=2)
    rooms.open("a")
    rooms.open("b")
    with pytest.raises(Refused) as refused:
        rooms.open("c")
    assert Code.TOO_MANY_ROOMS == refused.value.code
    rooms.open("A")
    assert 2 == len(rooms)


def test_a_room_of_the_log_is_there_with_all_that_the_log_knows() -> None:
    """Head, oldest entry, topic, time and keys come from the record."""
    room = rooms_with(RoomRecord("dev", 3, 5, 8, "a topic", 77)).open("dev")
    assert (3, 5, 8, "a topic", 77) == (
        room.generation,
        room.first,
        room.head,
        room.topic,
        room.ts,
    )
    assert keys.subscription(SECRET, "dev", 3) == room.subscription
    assert keys.is_ticket(room.ticket(b"", 60_000), SECRET, "dev", 3, key=b"", now_ms=60_000)
    assert 100 == room.roster.version


def test_only_a_room_without_members_entries_and_proposals_is_forgotten() -> None:
    """Whatever is still needed of a room keeps it; and it can be forgotten once only."""
    rooms = rooms_with(RoomRecord("said", 0, 1, 1, ""))
    member, proposed, unused = (rooms.open(name) for name in ("member", "proposed", "unused"))
    member.roster.add(User("ann", b""))
    put_text(rooms, proposed)
    for room in (rooms.open("said"), member, proposed, unused):
        rooms.drop_if_unused(room)
    assert {"said", "member", "proposed"} == {room.name for room in rooms}
    rooms.drop_if_unused(unused)
    made_again = rooms.open("unused")
    rooms.drop_if_unused(unused)  # The former one: its name belongs to another room now.
    assert made_again is rooms.get("unused")


def test_posts_of_a_drain_share_a_batch_until_it_is_full() -> None:
    """A full batch is followed by another, in order, and each taking begins anew."""
    rooms = rooms_with()
    room = rooms.open("r")
    first = put_text(rooms, room)
    first.count = BATCH_ENTRIES_MAX - 1
    assert first is put_text(rooms, room)
    second = put_text(rooms, room, count=2)
    assert second is not first
    second.size_bytes = BATCH_BYTES_MAX - POST_HEAD_BYTES - TEXT_HEAD_BYTES - 10
    assert second is put_text(rooms, room, chars=10)
    third = put_text(rooms, room)
    other = put_text(rooms, rooms.open("s"))
    assert [first, second, third, other] == rooms.take_proposals()
    assert [0, 1, 2, 3] == [each.index for each in (first, second, third, other)]
    assert [] == rooms.take_proposals()
    assert put_text(rooms, room) not in (first, second, third)


def test_posts_of_one_send_go_to_their_rooms_in_order() -> None:
    """Each has its spot: proposal, entries before it, time; a room not joined has none."""
    rooms = rooms_with()
    for name in ("r", "s", "foreign"):
        rooms.open(name)
    drafts = [
        wire.Draft("r", Kind.TEXT, ["a", "b"]),
        wire.Draft("foreign", Kind.TEXT, ["no"]),
        wire.Draft("s", Kind.ACTION, ["c"]),
        wire.Draft("r", Kind.TOPIC, ["d"]),
    ]
    speaks = {"r", "s"}
    spots, last = rooms.propose(drafts, speaks, "ann", 7, wide=1, judge=judge(speaks))
    in_r, in_s = rooms.take_proposals()
    assert [(0, 0, 7), NOWHERE, (1, 0, 7), (0, 2, 7)] == spots
    assert last is in_s
    assert [Post(7, "ann", 0, ["a", "b"]), Post(7, "ann", 2, ["d"])] == in_r.posts
    assert [Post(7, "ann", 1, ["c"])] == in_s.posts
    assert ("d", None) == (in_r.topic, in_s.topic)
    refused = rooms.propose(drafts[1:2], {"r"}, "ann", 7, wide=1, judge=judge({"r"}))
    assert ([NOWHERE], None) == refused
    assert [] == rooms.take_proposals()


SIZES = [1, 100, limits.TEXT_CHARS_MAX]
letters = st.sampled_from(["a", "é", "\N{PILE OF POO}"])
a_text = st.builds(lambda letter, size: letter * size, letters, st.sampled_from(SIZES))
sends = st.lists(
    st.lists(a_text, min_size=1, max_size=4) | st.just(["x"] * limits.SEND_TEXTS_MAX),
    min_size=1,
    max_size=20,
)


@given(sends, st.sampled_from(["r", "\N{CJK UNIFIED IDEOGRAPH-20000}" * limits.ROOM_CHARS_MAX]))
@settings(max_examples=40)
def test_no_batch_passes_its_limits_when_encoded(sends: list[list[str]], name: str) -> None:
    """The estimate that fills batches is never below what encoding makes of them."""
    rooms = rooms_with()
    room = rooms.open(name)
    nick = "\N{CJK UNIFIED IDEOGRAPH-20000}" * limits.NICK_CHARS_MAX
    for number, texts in enumerate(sends * 4, 1):
        put(rooms, room, saying.send(number, name, texts), nick)
    proposals = rooms.take_proposals()
    for proposal in proposals:
        top = limits.NUMBER_MAX
        body = encode(Batch(room.name, 2**32, top, top, proposal.posts))
        assert len(body) <= BATCH_BYTES_MAX
        assert proposal.count <= BATCH_ENTRIES_MAX
        assert len(proposal.posts) == 1 or proposal.size_bytes <= BATCH_BYTES_MAX
    said = [post.texts for proposal in proposals for post in proposal.posts]
    assert sends * 4 == said


def test_a_batch_that_is_filled_to_the_last_byte_is_not_too_long() -> None:
    """Also with the longest names and numbers, what surrounds the posts is counted."""
    rooms = rooms_with()
    wide = "\N{CJK UNIFIED IDEOGRAPH-20000}"
    room = rooms.open(wide * limits.ROOM_CHARS_MAX)
    nick = wide * limits.NICK_CHARS_MAX
    largest = [wide * limits.TEXT_CHARS_MAX] * 4
    proposal = put(rooms, room, saying.send(1, room.name, largest), nick)
    for _ in range(2):
        put(rooms, room, saying.send(1, room.name, largest), nick)
    chars = (BATCH_BYTES_MAX - proposal.size_bytes - 205) // 4 - limits.TEXT_CHARS_MAX * 3 - 4
    last = [*largest[:3], wide * chars]
    assert proposal is put(rooms, room, saying.send(1, room.name, last), nick)
    assert proposal.size_bytes > BATCH_BYTES_MAX - 8
    top = limits.NUMBER_MAX
    body = encode(Batch(room.name, 2**32, top, top, proposal.posts))
    assert BATCH_BYTES_MAX - 1_000 < len(body) <= BATCH_BYTES_MAX


def test_subscribers_that_come_together_share_a_beacon() -> None:
    """A head is shown shortly after the first subscription, once for all that come by then."""
    rooms = rooms_with(RoomRecord("r", 0, 1, 6, ""))
    room = rooms.open("r")
    rooms.subscribed("r", 1.0)
    rooms.subscribed("r", 1.0 + BEACON_JOIN_S / 2)
    assert 1.0 + BEACON_JOIN_S == rooms.next_deadline_s()
    assert [] == rooms.beacons(1.0 + BEACON_JOIN_S / 2)
    assert [(room.subscription, Batch("r", EPOCH, 6, 7, []))] == beacons(rooms, 1.0 + BEACON_JOIN_S)
    assert [] == rooms.beacons(1e9)  # Nobody is in the room: no further ones.


def test_a_head_is_shown_again_ever_more_rarely() -> None:
    """After a batch come beacons at the scheduled quiets, until the next batch begins anew."""
    rooms = rooms_with()
    room = rooms.open("r")
    room.roster.add(User("ann", b""))
    now_s = 10.0
    rooms.published(room, now_s)
    own = [quiet * room.beacon_pace for quiet in BEACON_QUIETS_S]
    quiets: list[float] = []
    for _ in range(len(BEACON_QUIETS_S) + 3):
        quiets.append(rooms.next_deadline_s() - now_s)
        now_s = rooms.next_deadline_s()
        assert 2 == len(rooms.beacons(now_s))  # The head, and the version of presence.
    assert pytest.approx([BEACON_QUIETS_S[0], *own, own[-1], own[-1]]) == quiets
    assert 1 - BEACON_SPREAD <= room.beacon_pace <= 1
    rooms.published(room, now_s)
    for quiet in (BEACON_QUIETS_S[0], own[0], own[1]):
        now_s += quiet
        assert now_s == rooms.next_deadline_s()
        assert 2 == len(rooms.beacons(now_s))


def test_a_busy_room_shows_no_beacons() -> None:
    """While batches follow each other, they show the head themselves."""
    rooms = rooms_with()
    room = rooms.open("r")
    room.roster.add(User("ann", b""))
    for step in range(20):
        rooms.published(room, step * BEACON_QUIETS_S[0] / 2)
        assert [] == rooms.beacons(step * BEACON_QUIETS_S[0] / 2)


def test_the_topic_of_a_room_is_let_in_and_no_other() -> None:
    """Empty, cut, lengthened, foreign and forged topics are refused."""
    rooms = rooms_with(RoomRecord("dev", 1, 1, 6, ""))
    topic = rooms.open("dev").subscription
    assert "dev" == rooms.admits(topic)
    refused = [
        b"",
        b"\0",
        b"dev",
        b"dev\0",
        *[topic[:cut] for cut in range(len(topic))],
        topic + b"\0",
        topic[:-1] + bytes([topic[-1] ^ 1]),
        b"dev-ops" + topic[3:],
        b"DEV" + topic[3:],
        b"\xff\xfe\0" + topic[4:],
        b"a b\0" + topic[4:],
        b"\0" + topic[4:],
        keys.subscription(SECRET, "dev", 0),  # Of a generation that is over.
        keys.subscription(SECRET, "dev", 2),
        keys.subscription(bytes(32), "dev", 1),
        keys.subscription(SECRET, "Dev", 0),  # Rightly signed, but no room's spelling.
        keys.subscription(SECRET, "a b", 0),
    ]
    assert [] == [topic for topic in refused if rooms.admits(topic) is not None]


def test_a_member_of_a_forgotten_room_is_let_in_and_shown_an_empty_head() -> None:
    """After a restart the key alone proves a room that nobody said anything in."""
    rooms = rooms_with()
    topic = keys.subscription(SECRET, "quiet", 0)
    assert "quiet" == rooms.admits(topic)
    rooms.subscribed("quiet", 0.0)
    assert [(topic, Batch("quiet", EPOCH, 0, 1, []))] == beacons(rooms, 1.0)
    assert rooms.get("quiet") is None
    assert float("inf") == rooms.next_deadline_s()


@given(st.binary(max_size=60))
def test_any_bytes_may_ask_for_a_subscription(topic: bytes) -> None:
    """No topic raises, and none that was not handed out is let in."""
    assert rooms_with(RoomRecord("dev", 0, 1, 6, "")).admits(topic) is None


def test_a_large_room_is_shown_to_newcomers_no_more_often_than_it_can_bear() -> None:
    rooms = Rooms([], secret=b"s" * 32, epoch=EPOCH, version=0, rooms_max=10)
    room = rooms.open("r")
    members = 1_000
    for index in range(members):
        room.roster.add(User(f"n{index}", b"o" * 16))
    rooms.subscribed("r", 1.0)
    assert len(rooms.beacons(1.0 + BEACON_JOIN_S)) == 2  # Of the log and of presence.
    rooms.subscribed("r", 1.0 + BEACON_JOIN_S)
    free_s = 1.0 + BEACON_JOIN_S + members * TOLD_MEMBER_S
    assert free_s == rooms.next_deadline_s()
    assert [] == rooms.beacons(free_s - 0.001)
    assert len(rooms.beacons(free_s)) == 2


def test_rooms_that_fell_silent_together_are_shown_apart() -> None:
    """Else a reader whose queue takes one head would miss the same rooms' heads for ever."""
    names = [f"soak-{index:04d}" for index in range(10)]
    rooms = rooms_with(*(RoomRecord(name, 0, 1, 7, "") for name in names))
    for room in rooms:
        room.roster.add(User("anna", b""))
        rooms.published(room, 0.0)
    alone: set[str] = set()
    while (now_s := rooms.next_deadline_s()) < sum(BEACON_QUIETS_S):
        bodies = [topics.split_publication(each)[1] for each in rooms.beacons(now_s)]
        shown = {wire.parse_publication(body).room for body in bodies}
        if len(shown) == 1:
            alone |= shown
    assert set(names) == alone
