"""docs/PROTOCOL.md says what the code does: its fields, numbers, errors and every byte."""

import re
from typing import get_args

import msgspec
import pytest

import broker.chat.core
import broker.chat.deeds
import broker.chat.floor
import broker.chat.presence
import broker.chat.rights
import broker.chat.rooms
import broker.chat.sanctions
import broker.chat.sessions
import broker.chat.talks
import broker.config
import broker.history
import broker.host.sockets
import broker.live
import broker.log.writer
import broker.subscriptions
import common.limits
from common import order, topics, wire
from common.errors import MEANINGS, Malformed
from common.wire import Command, Payload, Reply
from tests.protocol_document import (
    ROOT,
    TEXT,
    Refusal,
    Vector,
    as_json,
    fields_of,
    headings,
    table_of,
    table_with,
    type_name,
    vectors,
)
from tests.protocol_stage import Shelf, ask, begin, commit, tell

VECTORS = {vector.name: vector for vector in vectors()}
PUBLICATIONS: dict[str, type[Payload]] = {
    schema.__name__.upper(): schema for schema in get_args(wire.Publication)
}
MESSAGES = (
    {code.name: wire.COMMANDS[code] for code in Command}
    | {code.name: wire.REPLIES[code] for code in Reply}
    | PUBLICATIONS
)
SECTIONS: dict[str, type[Payload]] = {
    **{f"{code.name}, {code.value}": wire.COMMANDS[code] for code in Command},
    **{f"{code.name}, {code.value}": wire.REPLIES[code] for code in Reply},
    **{f"{n}, tag {s.__struct_config__.tag}": s for n, s in PUBLICATIONS.items()},
    **{
        schema.__name__: schema
        for schema in (
            wire.Draft,
            wire.Place,
            wire.Post,
            wire.Changes,
            wire.RoomInfo,
            order.MyRoom,
        )
    },
}
ANNA = bytes(range(0xA0, 0xB0))
THE_SESSION = list(VECTORS)[: list(VECTORS).index("goodbye") + 1]


def named(**wanted: bool) -> list[str]:
    return [
        name
        for name, vector in VECTORS.items()
        if wanted["message"] == bool(vector.message) and wanted["refused"] == bool(vector.refused)
    ]


def read(vector: Vector) -> tuple[Payload, list[bytes]]:
    """Return what a vector says, and the frames that say it again."""
    if vector.sender == "rooms":
        (frame,) = vector.frames
        topic, body = topics.split_publication(frame)
        publication = wire.parse_publication(body)
        return publication, [topic + wire.encode(publication)]
    if vector.sender == "client":
        code, token, payload = wire.open_command(vector.frames)
        command = msgspec.msgpack.decode(payload, type=wire.COMMANDS[code])
        return command, wire.command_frames(token, command)
    reply = wire.parse_reply(vector.frames)
    batches = [wire.encode(wire.decode_batch(frame)) for frame in vector.frames[2:]]
    return reply, [*wire.reply_frames(reply), *batches]


def test_vector_names_are_unique() -> None:
    assert len(VECTORS) == len(vectors())


@pytest.mark.parametrize("name", named(message=True, refused=False))
def test_a_vector_says_what_the_document_says(name: str) -> None:
    """Bytes and words of each vector are the same message, both ways."""
    vector = VECTORS[name]
    if vector.message == "SUBSCRIBE":
        assert vector.fields == {"topic": as_json(vector.frames[0])}
        return
    payload, again = read(vector)

    assert type(payload) is MESSAGES[vector.message]
    assert as_json(payload) == vector.fields
    assert (again == vector.frames) == vector.is_canonical


@pytest.mark.parametrize("message", MESSAGES)
def test_each_message_has_a_vector(message: str) -> None:
    assert message in {v.message for v in VECTORS.values() if v.is_canonical}


@pytest.mark.parametrize("name", named(message=False, refused=True))
def test_a_refused_vector_gets_the_error_that_the_document_says(name: str) -> None:
    """A broker where anna is in #lobby answers each with its code, id and value."""
    vector = VECTORS[name]
    if vector.receiver == "history":
        frames = ask(Shelf(0, []), vector.frames)
    else:
        core = begin()
        core.subscribed(topics.inbox(ANNA))
        for step in ("hello", "join"):
            tell(core, VECTORS[step].frames)
        (frames,) = tell(core, vector.frames)
    error = wire.parse_reply(frames)

    assert isinstance(error, wire.Error)
    assert Refusal(error.code, error.id, error.value) == vector.refused
    assert error.survives == MEANINGS[error.code].session_survives


def test_publications_with_unknown_tags_are_told_from_others() -> None:
    """A client ignores what `parse_publication` calls malformed."""
    (vector,) = (vector for vector in VECTORS.values() if vector.is_ignored)
    _, body = topics.split_publication(vector.frames[0])
    with pytest.raises(Malformed):
        wire.parse_publication(body)


def test_the_session_in_bytes_is_what_a_broker_says() -> None:
    """The client's side of the walk, told to the broker's core, brings the broker's side."""
    core = begin()
    expected: list[bytes] = []
    told: list[bytes] = []
    now_ms, now_s, batches = 1_700_000_000_000, 100.0, list[bytes]()
    for vector in (VECTORS[name] for name in THE_SESSION):
        if vector.sender != "client":
            expected += vector.frames
        elif vector.receiver == "history":
            told += ask(Shelf(2, batches), vector.frames)
        elif vector.message == "SUBSCRIBE":
            greetings = core.subscribed(vector.frames[0])
            assert greetings is not None
            told += greetings
        else:
            core.receive(b"route", vector.frames)
        if vector.message == "SEND":
            batches += [batch.body for batch in commit(core, 0)]
        effects = core.take_effects()
        told += effects.publications
        told += [frame for _, frames in effects.replies for frame in frames]
        # The change of presence is due; then what shows the heads to all is.
        if vector.name in ("beacon", "presence"):
            wait_s = {"beacon": 0.1, "presence": 0.15}[vector.name]
            core.clock(now_ms, now_s := now_s + wait_s)
            core.tick()
            told += core.take_effects().publications
        if vector.name == "presence-head":
            core.clock(now_ms + 500, now_s)

    assert [frame.hex() for frame in told] == [frame.hex() for frame in expected]


@pytest.mark.parametrize("heading", SECTIONS)
def test_a_sections_fields_are_the_schemas(heading: str) -> None:
    """Name, type and bounds of each field, in their order."""
    schema = SECTIONS[heading]
    assert [row[:2] for row in table_of(heading)] == fields_of(schema)


@pytest.mark.parametrize("code", list(Command))
def test_a_commands_section_lists_its_replies(code: Command) -> None:
    _, _, section = TEXT.partition(f"\n### {code.name}, {code.value}\n")
    assert re.search(r"^Replies: ", section.split("\n#")[0], re.MULTILINE)


def test_the_errors_are_those_of_the_code() -> None:
    documented = [row[:3] for row in table_with("code", "meaning", "survives", "what to do")]
    assert documented == [
        [str(code), meaning.text, "yes" if meaning.session_survives else "no"]
        for code, meaning in MEANINGS.items()
    ]


def test_the_limits_are_those_of_the_code() -> None:
    documented = {
        name: int(value) for name, value, _ in table_with("name", "number", "what it bounds")
    }
    actual = {n: v for n, v in vars(common.limits).items() if n.isupper()}
    assert documented == actual


def test_the_orders_and_roles_are_those_of_the_code() -> None:
    orders = table_with("action", "needs", "what it does")
    needed = {action.value: role.name.lower() for action, role in broker.chat.deeds.NEEDED.items()}
    assert needed == {row[0].strip("`"): row[1] for row in orders}
    roles = [(role.name.lower(), str(int(role))) for role in order.Role]
    assert roles == [tuple(row[:2]) for row in table_with("role", "number", "of whom")]


def test_the_settings_defaults_are_those_of_the_code() -> None:
    for name, default, _ in table_with("setting", "default", "what it does"):
        assert default == str(broker.config.BY_NAME[name].default), name


def test_the_brokers_own_times_and_sizes_are_those_of_the_code() -> None:
    modules = (
        broker.connections, broker.chat.core, broker.history, broker.live, broker.log.writer,
        broker.chat.presence, broker.chat.rooms, broker.chat.sessions, broker.host.sockets,
        broker.subscriptions, broker.chat.floor, broker.chat.orders, broker.chat.rights,
        broker.chat.sanctions, broker.chat.talks,
    )  # fmt: skip
    known = {name: value for module in modules for name, value in vars(module).items()}
    for name, value, _ in table_with("name", "value", "what it is"):
        assert value == str(known[name]).strip("()"), name


def test_the_sections_that_the_code_cites_are_there() -> None:
    cited: set[str] = set()
    for package in ("broker", "client", "common"):
        for path in (ROOT / package).rglob("*.py"):
            source = path.read_text(encoding="utf-8")
            for sentence in re.findall(r"PROTOCOL\.md,([^.]*)", source):
                cited |= set(re.findall(r'"([^"]+)"', sentence))
    assert cited
    assert cited - headings() == set()


def test_types_are_written_the_documents_way() -> None:
    """The comparison of the tables relies on this."""
    assert fields_of(wire.Send)[-1] == ["posts", "array 1..256 of Draft"]
    assert fields_of(wire.Draft)[-1] == ["texts", "array 1..256 of str 0..4000"]
    assert fields_of(wire.Join)[2] == ["resume", "bool, default false"]
    assert fields_of(wire.Changes)[2] == ["renamed", "array of (str, str)"]
    assert fields_of(wire.Hello)[2] == ["owner", "bin 16..64"]
    assert type_name(msgspec.inspect.type_info(wire.Kind)) == "one of 0, 1, 2"
