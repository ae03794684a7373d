"""The wire: what is encoded comes back, what grows is tolerated, what is hostile is refused."""

from __future__ import annotations

from contextlib import suppress
from typing import get_type_hints

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from common import limits, order, spans, topics, wire
from common.errors import Code, Malformed, Refused
from common.wire import Command, Payload
from tests import saying

SCHEMAS = [*wire.COMMANDS.values(), *wire.REPLIES.values()]
PUBLICATIONS = [wire.Batch, wire.Presence, wire.Notice, order.Removed]

ids = st.integers(0, limits.NUMBER_MAX)
names = st.text(min_size=1, max_size=20)
texts = st.lists(st.text(max_size=20), min_size=1, max_size=4)
token = st.binary(min_size=limits.TOKEN_BYTES, max_size=limits.TOKEN_BYTES)
posts = st.builds(wire.Post, ids, names, st.integers(0, 2), texts)
publications = st.one_of(
    st.builds(wire.Batch, names, ids, ids, ids, st.lists(posts, max_size=3)),
    st.builds(wire.Presence, names, ids, ids, ids),
    st.builds(wire.Notice, names, names, names, names, names, ids),
    st.builds(order.Removed, names, ids, ids),
)
st.register_type_strategy(wire.Post, posts)
st.register_type_strategy(wire.Place, st.builds(wire.Place, ids, ids, names))
commands = st.one_of(
    st.builds(wire.Greet, ids),
    st.builds(
        wire.Hello,
        ids,
        names,
        st.binary(min_size=limits.OWNER_BYTES_MIN, max_size=limits.OWNER_BYTES_MAX),
        ids,
        st.integers(1, limits.NUMBER_MAX),
    ),
    st.builds(wire.Bye, ids),
    st.builds(wire.SetNick, ids, names),
    st.builds(wire.Join, ids, names, st.booleans()),
    st.builds(wire.Part, ids, names),
    st.builds(
        wire.Send,
        st.integers(1, limits.NUMBER_MAX),
        st.lists(
            st.builds(wire.Draft, names, st.sampled_from(wire.Kind), texts), min_size=1, max_size=4
        ),
    ),
    st.builds(wire.Who, ids, names),
    st.builds(wire.Rooms, ids, st.text(max_size=20)),
    st.builds(
        wire.History,
        ids,
        names,
        st.binary(max_size=limits.KEY_BYTES),
        st.sampled_from(wire.Mode),
        ids,
        st.integers(1, limits.HISTORY_ENTRIES_MAX),
    ),
    st.builds(
        order.Order, ids, names, st.sampled_from(order.Action) | names, names, ids, st.text()
    ),
    st.builds(order.Talk, ids, names),
    st.builds(order.Mine, ids),
    st.builds(order.Read, ids, names, ids),
    st.builds(order.Admin, ids, names, names, names, ids, st.text()),
)


def any_of(schema: type[Payload]) -> st.SearchStrategy[Payload]:
    """Return payloads with numbers that fit the wire; the other fields by their types."""
    numbers = {name: ids for name, kind in get_type_hints(schema).items() if kind is int}
    return st.builds(schema, **numbers)


for nested in (wire.RoomInfo, order.MyRoom):
    st.register_type_strategy(nested, any_of(nested))
replies = st.one_of([any_of(schema) for schema in wire.REPLIES.values()])
hostile = st.one_of(
    st.binary(max_size=200),
    st.builds(
        lambda depth, tail: b"\x91" * depth + tail, st.integers(0, 3_000), st.binary(max_size=3)
    ),
    # A true beginning, and what comes after it.
    st.builds(
        lambda command, cut, tail: wire.encode(command)[:cut] + tail,
        commands,
        st.integers(0, 60),
        st.binary(max_size=8),
    ),
    # Lengths of gigabytes: str32, bin32, array32, map32, ext32.
    st.builds(
        lambda head, kind: head + kind + b"\xff\xff\xff\xff",
        st.sampled_from([b"", b"\x95\x01", b"\x94\x01\xa1a\x00"]),
        st.sampled_from([b"\xdb", b"\xc6", b"\xdd", b"\xdf", b"\xc9"]),
    ),
    st.builds(lambda tail: b"\x92\x01\xa2\xc3\x28" + tail, st.binary(max_size=3)),  # No UTF-8.
)


def grown(encoded: bytes) -> bytes:
    """Return the encoded array with two more fields at its end."""
    fields = msgspec.msgpack.decode(encoded)
    assert isinstance(fields, list)
    return msgspec.msgpack.encode([*fields, {"more": [1, 2]}, b"\0"])


@given(token, commands)
def test_a_command_comes_back(token: bytes, command: Payload) -> None:
    """What a client encodes, the broker opens and decodes to the same."""
    code, token_again, payload = wire.open_command(wire.command_frames(token, command))
    assert (type(command), token) == (wire.COMMANDS[code], token_again)
    assert command == msgspec.msgpack.decode(payload, type=type(command))
    assert command == msgspec.msgpack.decode(grown(payload), type=type(command))


@given(replies)
def test_a_reply_comes_back(reply: Payload) -> None:
    """What the broker answers, the client reads, also when fields were appended."""
    head, payload = wire.reply_frames(reply)
    assert reply == wire.parse_reply([head, payload])
    assert reply == wire.parse_reply([head, grown(payload)])
    assert reply == wire.parse_reply([head, payload, b"a page's batch"])


@given(publications)
def test_a_publication_comes_back(publication: wire.Publication) -> None:
    """What is published is read as what it was, by its tag, also when fields were appended."""
    body = wire.encode(publication)
    assert publication == wire.parse_publication(body)
    assert publication == wire.parse_publication(grown(body))


def test_fields_with_defaults_may_be_missing() -> None:
    """An older program sends fewer fields: those that came later have their defaults."""
    assert wire.Join(7, "a") == msgspec.msgpack.decode(wire.encode([7, "a"]), type=wire.Join)
    assert wire.Rooms(7) == msgspec.msgpack.decode(wire.encode([7]), type=wire.Rooms)
    old = wire.encode([1, "full", "no", False])
    assert wire.Error(1, "full", "no", survives=False) == wire.parse_reply(
        [wire.REPLY_HEADS[wire.Error], old]
    )


@given(hostile)
@settings(max_examples=300)
def test_hostile_bytes_raise_only_what_is_documented(data: bytes) -> None:
    """Deep, truncated, huge or mistyped: every decoder answers with a documented error."""
    for schema in [*SCHEMAS, *PUBLICATIONS]:
        with suppress(*wire.DECODE_ERRORS):
            msgspec.msgpack.decode(data, type=schema)
    assert 0 <= wire.salvage_id(data) <= limits.NUMBER_MAX
    for call in (wire.parse_publication, topics.split_publication):
        with suppress(Malformed):
            call(data)
    for code in (*wire.REPLIES, 0, 255):
        with suppress(Malformed):
            wire.parse_reply([wire.MAGIC + bytes([code]), data])


@given(st.lists(hostile | st.just(wire.MAGIC + b"\x01" + wire.NO_TOKEN), max_size=4))
def test_any_frames_are_opened_or_refused(frames: list[bytes]) -> None:
    """Frames of any number and content give a command, a token and a payload, or Refused."""
    with suppress(Refused):
        code, token, payload = wire.open_command(frames)
        assert 0 <= code <= 255
        assert limits.TOKEN_BYTES == len(token)
        assert frames[1] == payload
    with suppress(Malformed):
        wire.parse_reply(frames)


HEAD = wire.MAGIC + bytes([Command.GREET]) + wire.NO_TOKEN


@pytest.mark.parametrize(
    ("frames", "code", "value"),
    [
        ([], Code.BAD_FRAMES, 0),
        ([HEAD], Code.BAD_FRAMES, 0),
        ([HEAD, b"", b""], Code.BAD_FRAMES, 0),
        ([b"", b""], Code.BAD_FRAMES, 0),
        ([b"HUB", b""], Code.BAD_FRAMES, 0),
        ([b"GET / HTTP/1.1\r\n....", b""], Code.BAD_FRAMES, 0),
        ([HEAD[:-1], b""], Code.BAD_FRAMES, 0),
        ([HEAD + b"\0", b""], Code.BAD_FRAMES, 0),
        ([wire.MAGIC, b""], Code.BAD_FRAMES, 0),
        ([b"HUB\x02" + HEAD[4:], b""], Code.BAD_VERSION, limits.PROTOCOL_VERSION),
        ([b"HUB\x02", b""], Code.BAD_VERSION, limits.PROTOCOL_VERSION),  # Its head may differ.
    ],
)
def test_wrong_frames_are_refused(frames: list[bytes], code: Code, value: int) -> None:
    """Each fault of the frames has its code, and a wrong version is told the right one."""
    with pytest.raises(Refused) as refused:
        wire.open_command(frames)
    assert (code, value) == (refused.value.code, refused.value.value)


@pytest.mark.parametrize(
    "command",
    [
        wire.Hello(1, "", b"o" * 16, 1, 1),
        wire.Hello(1, "n" * 129, b"o" * 16, 1, 1),
        wire.Hello(1, "n", b"o" * 15, 1, 1),
        wire.Hello(1, "n", b"o" * 65, 1, 1),
        wire.Hello(-1, "n", b"o" * 16, 1, 1),
        wire.Hello(1, "n", b"o" * 16, 2**53, 1),
        wire.Hello(1, "n", b"o" * 16, 1, 0),
        wire.Join(1, ""),
        wire.Join(1, "r" * 257),
        saying.send(0, "r", ["a"]),
        saying.send(2**53, "r", ["a"]),
        saying.send(1, "r", ["a"], 3),  # type: ignore[arg-type]
        saying.send(1, "r", []),
        saying.send(1, "r", ["a"] * 257),
        saying.send(1, "r", ["a" * 4_001]),
        saying.send(1, "r", [b"a"]),  # type: ignore[list-item]
        wire.Send(1, []),
        wire.Send(1, [wire.Draft("r", wire.Kind.TEXT, ["a"])] * 257),
        saying.send(1, "", ["a"]),
        saying.send(1, "r" * 257, ["a"]),
        wire.Rooms(1, "r" * 257),
        wire.History(1, "r", b"t" * 17, wire.Mode.AFTER, 0, 1),
        wire.History(1, "r", b"t", 3, 0, 1),  # type: ignore[arg-type]
        wire.History(1, "r", b"t", wire.Mode.AFTER, -1, 1),
        wire.History(1, "r", b"t", wire.Mode.AFTER, 0, 0),
        wire.History(1, "r", b"t", wire.Mode.AFTER, 0, 4_097),
        order.Order(1, "", "kick"),
        order.Order(1, "r" * 257, "kick"),
        order.Order(1, "r", "k" * 33),
        order.Order(1, "r", "kick", "n" * 129),
        order.Order(1, "r", "kick", "n", -1),
        order.Order(1, "r", "kick", "n", 2**53),
        order.Order(1, "r", "kick", "n", 0, "x" * 301),
        order.Talk(1, ""),
        order.Talk(1, "n" * 129),
        order.Read(1, "r", -1),
        order.Admin(1, "v" * 33),
        order.Admin(1, "kick", "r" * 257),
        order.Admin(1, "kick", "", "n" * 129),
        order.Admin(1, "kick", "", "", 2**53),
        order.Admin(1, "kick", "", "", 0, "x" * 4_001),
    ],
)
def test_fields_out_of_bounds_do_not_decode(command: Payload) -> None:
    """Numbers, lengths and kinds are checked by the decoder, before any code sees them."""
    with pytest.raises(msgspec.ValidationError):
        msgspec.msgpack.decode(wire.encode(command), type=type(command))


def test_the_id_of_an_unreadable_payload_is_salvaged() -> None:
    """A request with one bad field is still answered under its id; without an id under 0."""
    assert 41 == wire.salvage_id(wire.encode([41, b"not a nick"]))
    for payload in (b"", b"\xff", wire.encode([]), wire.encode(["a"]), wire.encode([-1]), b"\x91"):
        assert 0 == wire.salvage_id(payload)


def test_a_refusal_is_told_whole() -> None:
    """An ERROR carries id, code, sentence, whether the session survives, and the value."""
    refusal = Refused(Code.GAP, "send 3 first", 3)
    expected = wire.Error(9, "gap", "send 3 first", survives=True, value=3)
    assert expected == wire.parse_reply(wire.refusal_frames(9, refusal))
    gone = wire.parse_reply(wire.refusal_frames(0, Refused(Code.NO_SESSION)))
    assert isinstance(gone, wire.Error)
    assert not gone.survives


@given(
    st.text(min_size=1, max_size=9).filter(lambda t: "\0" not in t), token, st.binary(min_size=1)
)
def test_a_published_frame_is_split_after_its_key(room: str, key: bytes, body: bytes) -> None:
    """Topic and body come apart for rooms and inboxes, whatever bytes key and body have."""
    for topic in (room.encode() + b"\0" + key, topics.inbox(key)):
        assert (topic, body) == topics.split_publication(topic + body)
        with pytest.raises(Malformed):
            topics.split_publication(topic)


def test_an_inbox_has_half_bytes_of_the_token_as_letters() -> None:
    """Ten letters from a to p; anything else is nobody's inbox."""
    topic = topics.inbox(bytes.fromhex("0123456789abcdef" * 2))
    assert topic == b"\0abcdefghij"
    assert topics.is_inbox(topic)
    for other in (topic[1:], topic[:-1], topic + b"k", b"\0abcdefghiq", b"\0ABCDEFGHIJ", b""):
        assert not topics.is_inbox(other)


def test_the_last_seq_of_a_batch_counts_texts() -> None:
    """Each text is an entry; an empty batch shows the head, which is its prev."""
    batch = wire.Batch(
        "r", 1, 4, 5, [wire.Post(0, "a", 0, ["x", "y"]), wire.Post(0, "b", 0, ["z"])]
    )
    assert (3, 7) == (spans.texts_count(batch), spans.last_seq(batch))
    beacon = wire.Batch("r", 1, 4, 5, [])
    assert (0, 4) == (spans.texts_count(beacon), spans.last_seq(beacon))
