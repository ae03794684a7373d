"""Messages of one form, with something else in between, cut anywhere."""

from __future__ import annotations

import pytest

from bench.dialect import Ear, Heard, Say, Unexpected, Voice
from bench.servers.jetstream import PENDING_MAX, SERVER
from bench.servers.nats import PING, PONG, NatsDialect
from bench.servers.reading import PENDING_BYTES_MAX
from bench.target import Target
from bench.text import Maker

TEXT_BYTES = 40
COUNT = 7
TEXTS = Maker(1, TEXT_BYTES, COUNT).make(0, COUNT)
MESSAGES = [
    b"MSG r.dev 1 40\r\n%b\r\n" % TEXTS[at : at + TEXT_BYTES]
    for at in range(0, len(TEXTS), TEXT_BYTES)
]
INFO = b'INFO {"ldm":true}\r\n'
TARGET = Target("nats", "0", False, "127.0.0.1", [1], [], [], TEXT_BYTES)


def ear(said_after: bytes = b"") -> Ear:
    conversation = NatsDialect(TARGET).join(0, "dev")
    next(conversation)
    conversation.send(Heard(0, INFO))
    with pytest.raises(StopIteration) as end:
        conversation.send(Heard(0, PONG + said_after))
    found: Ear = end.value.value
    return found


def voice() -> Voice:
    conversation = SERVER.dialect(TARGET).speak(0, ["dev"])
    next(conversation)
    conversation.send(Heard(0, INFO))
    with pytest.raises(StopIteration) as end:
        conversation.send(Heard(0, PONG))
    found: Voice = end.value.value
    return found


@pytest.mark.parametrize("size", [1, 2, 3, 5, 57, 58, 59, 1_000])
def test_messages_are_found_around_what_is_none(size: int) -> None:
    stream = PING + MESSAGES[0] + b"".join(MESSAGES[1:4]) + PING + INFO + b"".join(MESSAGES[4:])
    stream += PING
    member = ear()
    assert member.stride == len(MESSAGES[0])
    counts = [member.feed(stream[at : at + size]) for at in range(0, len(stream), size)]
    assert sum(counts) == COUNT
    assert member.take_texts() == TEXTS
    assert member.take_texts() == b""
    assert member.take_says() == [Say(0, PONG)] * 3
    assert member.take_says() == []


def test_what_came_with_the_servers_last_answer_is_heard_too() -> None:
    member = ear(MESSAGES[0] + MESSAGES[1][:20])
    assert member.feed(MESSAGES[1][20:]) == 2


@pytest.mark.parametrize(
    "data",
    [
        b"-ERR 'Slow Consumer'\r\n",
        MESSAGES[0].replace(b"dev", b"ops"),
        MESSAGES[0].replace(b" 40", b" 41"),
        b"MSG r.dev 1 40\r\n" + b"x" * (TEXT_BYTES + 20),
    ],
    ids=["error", "another room", "another size", "no end"],
)
def test_what_no_member_should_hear_is_refused(data: bytes) -> None:
    with pytest.raises(Unexpected):
        ear().feed(MESSAGES[0] + data + MESSAGES[1])


def test_a_talker_minds_the_window_and_answers_with_its_next_message() -> None:
    talker = voice()
    assert talker.free() == PENDING_MAX
    (say,) = talker.say([(0, TEXTS, COUNT)])
    assert say.data.startswith(b"PUB r.dev _INBOX.t0 40\r\n" + TEXTS[:TEXT_BYTES])
    assert talker.free() == PENDING_MAX - COUNT
    ack = b'MSG _INBOX.t0 1 29\r\n{"stream":"ROOMS", "seq":12}\r\n'
    assert talker.feed(Heard(0, ack + PING + ack[:9])) == [1]
    assert talker.feed(Heard(0, ack[9:])) == [1]
    assert talker.free() == PENDING_MAX - COUNT + 2
    assert talker.say([(0, TEXTS[:TEXT_BYTES], 1)])[0] == Say(0, PONG)


@pytest.mark.parametrize(
    "data",
    [
        b'MSG _INBOX.t0 1 9\r\n{"error":{"code":503,"seq":1}}\r\n',
        b"HMSG _INBOX.t0 1 37 37\r\nNATS/1.0 503\r\nNats-Subject: r.dev\r\n\r\n\r\n",
        b"-ERR 'Maximum Payload Violation'\r\n",
        b"?" * (PENDING_BYTES_MAX + 1),
    ],
    ids=["refused", "nobody stores", "error", "endless"],
)
def test_a_message_that_was_not_stored_is_no_acknowledgement(data: bytes) -> None:
    with pytest.raises(Unexpected):
        voice().feed(Heard(0, data))
