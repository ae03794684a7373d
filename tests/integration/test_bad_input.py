"""What peers send wrongly over real sockets: answered with a code, counted, and no harm done."""

from __future__ import annotations

import contextlib
import os
import socket
from collections.abc import Iterator

import pytest
import zmq

from common import limits, topics, wire
from common.wire import MAGIC, Command, Kind, Mode
from tests import saying
from tests.broker_process import BrokerProcess
from tests.raw_peer import RawPeer
from tests.waiting import eventually


@pytest.fixture(scope="module")
def broker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[BrokerProcess]:
    with BrokerProcess(tmp_path_factory.mktemp("bad-input") / "data") as started:
        yield started


@pytest.fixture
def bystander(broker: BrokerProcess) -> Iterator[RawPeer]:
    """Watch from another room, where nobody must notice anything: checked at the end."""
    with RawPeer(broker.port) as peer:
        peer.hello(f"bystander-{peer.instance}")
        joined = peer.join("quiet")
        live = broker.children()["live"]
        yield peer
        ack = peer.ask(saying.send(1, "quiet", ["all is well"]), wire.Ack)
        assert ack.kept[0].first == joined.head + 1
        peer.await_texts("all is well")
        assert broker.children()["live"] == live


@pytest.fixture
def peer(broker: BrokerProcess, bystander: RawPeer) -> Iterator[RawPeer]:  # noqa: ARG001
    """Give a session that will misbehave, and have somebody watch."""
    with RawPeer(broker.port) as raw:
        raw.hello(f"mallory-{raw.instance}")
        yield raw


def head(command: int, token: bytes = wire.NO_TOKEN, magic: bytes = MAGIC) -> bytes:
    return magic + bytes([command]) + token


def test_wrong_frames_are_answered(peer: RawPeer) -> None:
    """Too few or many frames, and heads of wrong sizes, get bad_frames."""
    good = wire.encode(wire.Rooms(1))
    for frames in (
        [b""],
        [head(Command.ROOMS, peer.token)],
        [head(Command.ROOMS, peer.token), good, b""],
        [head(Command.ROOMS, peer.token)] + [b"x"] * 500,
        [b"", good],
        [b"GET / HTTP/1.1", good],
        [head(Command.ROOMS, peer.token)[:-1], good],
        [head(Command.ROOMS, peer.token) + b"x", good],
    ):
        assert peer.ask_frames(*frames).code == "bad_frames"


def test_another_version_is_told_ours(peer: RawPeer) -> None:
    """A client of another version learns which one is spoken."""
    refusal = peer.ask_frames(head(Command.ROOMS, peer.token, b"HUB\x63"), b"\x91\x01")
    assert refusal.code == "bad_version"
    assert refusal.value == limits.PROTOCOL_VERSION


def test_unknown_commands_are_refused(peer: RawPeer) -> None:
    """A command byte that nobody knows, or of the history endpoint, is bad_command."""
    for code in (0, 99, 255, Command.HISTORY):
        assert peer.ask_frames(head(code, peer.token), b"\x91\x01").code == "bad_command"


@pytest.mark.parametrize(
    "payload",
    [
        b"",
        b"\xc1",
        b"\x80",
        b"\x94\x01",
        b"\x91" * 60_000,
        b"\x81" * 60_000,
        b"\xdd\xff\xff\xff\xff",
        b"\xc6\xff\xff\xff\xffx",
        b"\x94\x01\xa5lobby\x00\x91\xa2\xff\xfe",
        b"\x94\x01\xa5lobby\x00\x91\xa3\xed\xa0\x80",
        wire.encode([0, "lobby", 0, ["number too small"]]),
        wire.encode([2**53, "lobby", 0, ["number too large"]]),
        wire.encode([-1, "lobby", 0, ["negative"]]),
        wire.encode([1.5, "lobby", 0, ["not whole"]]),
        wire.encode([1, "lobby", 9, ["no such kind"]]),
        wire.encode([1, "lobby", 0, []]),
        wire.encode([1, "lobby", 0, ["x"] * (limits.SEND_TEXTS_MAX + 1)]),
        wire.encode([1, "lobby", 0, ["x" * (limits.TEXT_CHARS_MAX + 1)]]),
        wire.encode([1, "lobby", 0, "not a list"]),
        wire.encode([1, "", 0, ["no room"]]),
        wire.encode([1, "x" * 500, 0, ["room too long"]]),
        wire.encode(["1", "lobby", 0, ["number as text"]]),
        wire.encode(None),
    ],
)
def test_payloads_that_are_not_a_send_are_refused(peer: RawPeer, payload: bytes) -> None:
    """Undecodable, wrongly typed and out-of-range payloads get bad_payload."""
    assert peer.ask_frames(head(Command.SEND, peer.token), payload).code == "bad_payload"


def test_a_text_with_nul_is_refused_and_the_next_is_taken(peer: RawPeer) -> None:
    """A refused text uses up its number; the session goes on."""
    peer.join("cellar")
    refusal = peer.ask(saying.send(1, "cellar", ["a\0b"]), wire.Error)
    assert (refusal.id, refusal.code) == (1, "text_invalid")
    refusal = peer.ask(saying.send(2, "cellar", ["t" * 301], Kind.TOPIC), wire.Error)
    assert (refusal.id, refusal.code) == (2, "text_invalid")
    assert peer.ask(saying.send(3, "cellar", ["fine"]), wire.Ack).kept[0].first > 0


@pytest.mark.parametrize(
    "command",
    [
        wire.Join(7, "lobby"),
        wire.Part(7, "lobby"),
        saying.send(7, "lobby", ["x"]),
        wire.Who(7, "lobby"),
        wire.Rooms(7),
        wire.SetNick(7, "x"),
        wire.Bye(7),
    ],
)
@pytest.mark.usefixtures("bystander")
def test_commands_before_hello(broker: BrokerProcess, command: wire.Payload) -> None:
    """Whoever has not said HELLO is told so."""
    with RawPeer(broker.port) as stranger:
        refusal = stranger.ask(command, wire.Error)
        assert (refusal.id, refusal.code, refusal.survives) == (7, "no_session", False)


@pytest.mark.parametrize("nick", ["a b", "/quit", "a\0b", "a\x1b[2J", "\u202eevil", "n" * 33, "-x"])
@pytest.mark.usefixtures("bystander")
def test_invalid_nicks(broker: BrokerProcess, nick: str) -> None:
    """A nick that breaks the rules is refused, at HELLO and later."""
    with RawPeer(broker.port) as stranger:
        hello = wire.Hello(1, nick, stranger.owner, 1, 1)
        assert stranger.ask(hello, wire.Error).code == "nick_invalid"
        stranger.hello(f"valid-{stranger.instance}")
        assert stranger.ask(wire.SetNick(2, nick), wire.Error).code == "nick_invalid"
        stranger.ask(wire.Bye(3), wire.Goodbye)


@pytest.mark.parametrize("room", ["a b", "#lobby", "a\0b", "r" * 65, "..", "\u202eevil"])
def test_invalid_rooms(peer: RawPeer, room: str) -> None:
    """A room that breaks the rules is refused."""
    assert peer.ask(wire.Join(1, room), wire.Error).code == "room_invalid"


def test_a_room_that_one_has_not_joined(peer: RawPeer) -> None:
    """Nobody writes, leaves or looks where they don't belong."""
    for command in (
        saying.send(1, "lobby", ["x"]),
        wire.Part(1, "lobby"),
        wire.Who(1, "lobby"),
    ):
        assert peer.ask(command, wire.Error).code == "not_member"


def test_two_processes_with_one_token(broker: BrokerProcess, peer: RawPeer) -> None:
    """A copied token opens nothing: the process that has it keeps its session."""
    with RawPeer(broker.port) as thief:
        thief.token = peer.token
        hello = wire.Hello(1, "thief", thief.owner, thief.instance, 1)
        assert thief.ask(hello, wire.Error).code == "session_taken"
    peer.ask(wire.Rooms(5), wire.RoomList)


def test_too_many_rooms_for_one_client(peer: RawPeer) -> None:
    """A client joins as many rooms as allowed, and is told at the next one."""
    for index in range(limits.ROOMS_PER_SESSION_MAX):
        peer.ask(wire.Join(index, f"many-{index}"), wire.Joined)
    assert peer.ask(wire.Join(1, "one-more"), wire.Error).code == "too_many_rooms"


@pytest.mark.parametrize("ticket", [b"", b"x" * 16])
def test_history_with_a_forged_or_missing_ticket(peer: RawPeer, ticket: bytes) -> None:
    """History is for those who joined."""
    answer, batches = peer.history(wire.History(4, "lobby", ticket, Mode.AFTER, 0, 10))
    assert isinstance(answer, wire.Error)
    assert (answer.id, answer.code, batches) == (4, "bad_ticket", [])


def test_history_with_a_ticket_of_another_room(peer: RawPeer) -> None:
    """A ticket opens its own room only."""
    ticket = peer.join("cellar").ticket
    answer, _ = peer.history(wire.History(4, "lobby", ticket, Mode.AFTER, 0, 10))
    assert isinstance(answer, wire.Error)
    assert answer.code == "bad_ticket"


def test_wrong_requests_to_history(peer: RawPeer) -> None:
    """The history endpoint answers every wrong request and goes on."""
    joined = peer.join("lobby")
    good = wire.encode(wire.History(1, "lobby", joined.ticket, Mode.AFTER, 0, 1))
    for frames, code in (
        ([b"", good], "bad_frames"),
        ([head(Command.HISTORY)], "bad_frames"),
        ([head(Command.HISTORY), good, good], "bad_frames"),
        ([head(Command.HISTORY, magic=b"HUB\x09"), good], "bad_version"),
        ([head(Command.SEND), good], "bad_command"),
        ([head(Command.HISTORY), b"\x91" * 900], "bad_payload"),
        ([head(Command.HISTORY), wire.encode([1, "lobby", joined.ticket, 7, 0, 1])], "bad_payload"),
        ([head(Command.HISTORY), wire.encode([1, "lobby", joined.ticket, 0, 0, 0])], "bad_payload"),
        (
            [head(Command.HISTORY), wire.encode([1, "lobby", joined.ticket, 0, 2**60, 1])],
            "bad_payload",
        ),
    ):
        peer.req.send_multipart(frames)
        answer = wire.parse_reply(peer.req.recv_multipart())
        assert isinstance(answer, wire.Error), answer
        assert answer.code == code
    page, _ = peer.history(wire.History(1, "lobby", joined.ticket, Mode.AFTER, 0, 1))
    assert isinstance(page, wire.Page)


def test_foreign_subscriptions_receive_nothing(broker: BrokerProcess, peer: RawPeer) -> None:
    """Empty, partial and forged topics, and other people's, are never admitted."""
    joined = peer.join("lobby")
    with RawPeer(broker.port) as spy:
        for topic in (
            b"",
            b"l",
            b"lobby",
            b"lobby\0",
            joined.subscription[:-1],
            joined.subscription + b"\x93",
            b"lobby\0" + os.urandom(16),
            topics.INBOX,
            topics.inbox(peer.token)[:-1],
            topics.INBOX + b"A" * limits.INBOX_LETTERS,
        ):
            spy.sub.subscribe(topic)
        # One that is admitted, at the end: when its head comes, the others have been judged.
        spy.hello(f"spy-{spy.instance}")
        spy.join("elsewhere")
        peer.ask(saying.send(1, "lobby", ["secret"]), wire.Ack)
        peer.await_texts("secret")
        spy.ask(saying.send(1, "elsewhere", ["mine"]), wire.Ack)
        spy.await_texts("mine")


def test_data_on_the_rooms_endpoint_is_ignored(broker: BrokerProcess, peer: RawPeer) -> None:
    """What a peer says where one only listens reaches nobody."""
    peer.join("lobby")
    context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
    with context.socket(zmq.XSUB) as talker:
        talker.setsockopt(zmq.LINGER, 0)
        talker.connect(f"tcp://127.0.0.1:{broker.port + 1}")
        refused = peer.ask(wire.Greet(1), wire.Greeting).refused
        talker.send(b"hello")
        talker.send_multipart([b"\x01lobby", b"\x01", b"more"])

        def is_counted() -> bool:
            return peer.ask(wire.Greet(1), wire.Greeting).refused > refused

        eventually(is_counted, "the count")
    context.destroy(0)


@pytest.mark.parametrize("offset", [0, 1, 2])
@pytest.mark.usefixtures("bystander")
def test_bytes_that_are_not_zmtp(broker: BrokerProcess, offset: int) -> None:
    """A web browser at the wrong port, or noise, is cut off."""
    for noise in (b"GET / HTTP/1.1\r\nHost: hubbub\r\n\r\n", os.urandom(4_096), b"\xff" * 64):
        with socket.create_connection(("127.0.0.1", broker.port + offset)) as raw:
            raw.settimeout(10)
            raw.sendall(noise)
            raw.shutdown(socket.SHUT_WR)
            with contextlib.suppress(ConnectionError):  # Cut off either way.
                while raw.recv(4_096):
                    pass


@pytest.mark.usefixtures("bystander")
def test_a_frame_beyond_the_bound_costs_only_its_sender(broker: BrokerProcess) -> None:
    """The transport drops the connection of a peer whose frame is too large; it may come again."""
    with RawPeer(broker.port) as giant:
        giant.hello(f"giant-{giant.instance}")
        giant.dealer.send_multipart([b"x" * (limits.COMMAND_BYTES_MAX + 1), b""])
        giant.dealer.send_multipart(wire.command_frames(giant.token, wire.Rooms(9)))
        # What followed on the broken connection may be lost: ask until it is answered.
        while not giant.dealer.poll(200):
            giant.send(wire.Rooms(9))
        assert isinstance(giant.receive(), wire.RoomList)
