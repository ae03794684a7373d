"""Posing as somebody else: by session, nick, key or route."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
import zmq

from common import order, topics, wire
from common.errors import Code
from common.order import Action, Role
from tests.attacks.curve import CurveLink
from tests.attacks.scene import Peer, closed_room
from tests.broker_process import BrokerProcess
from tests.waiting import eventually


def test_a_stolen_token(broker: BrokerProcess) -> None:
    """With another key it opens nothing, takes nothing over, and ends nothing."""
    with closed_room(broker, "token") as (owner, member, joined), Peer(broker, "eve-token") as eve:
        eve.enter()
        commands: list[wire.Payload] = [
            wire.Who(1, joined.room),
            wire.Join(2, joined.room),
            wire.Part(3, joined.room),
            wire.Send(4, [wire.Draft(joined.room, wire.Kind.TEXT, ["it is me"])]),
            wire.SetNick(5, "somebody"),
            wire.Rooms(6),
            wire.Bye(7),
            order.Order(8, joined.room, Action.KICK, owner.nick),
            order.Talk(9, owner.nick),
            order.Mine(10),
            order.Read(11, joined.room, 1),
        ]
        for command in commands:
            assert Code.NO_SESSION == eve.refused(command, member.token)
        for instance in (member.instance, 5):
            hello = wire.Hello(12, member.nick, member.owner, instance, 1)
            assert Code.SESSION_TAKEN == eve.refused(hello, member.token)
        member.say(joined.room, "really me")
        owner.hear("really me")


def test_a_token_that_begins_like_another(broker: BrokerProcess) -> None:
    """It would share the inbox: there is no session with it."""
    with Peer(broker, "ann-inbox") as ann, Peer(broker, "eve-begins") as eve:
        ann.enter_room("inbox-room")
        token = ann.token[:5] + os.urandom(11)
        assert topics.inbox(ann.token) == topics.inbox(token)
        hello = wire.Hello(1, "eve-begins", eve.owner, 1, 1)
        assert Code.SESSION_TAKEN == eve.refused(hello, token)
        ann.say("inbox-room", "fine")
        ann.hear("fine")


@pytest.mark.parametrize(
    ("nick", "posed"),
    [
        ("Maria", "maria"),
        ("maria.case", "MARIA.CASE"),
        ("maria-wide", "\uff4d\uff41\uff52\uff49\uff41-wide"),
        ("maria-kyr", "m\u0430ri\u0430-kyr"),
        ("mariagreek", "m\u03b1riagreek"),
        ("marial", "maria1"),
        ("mar.nm", "rnar.nm"),
        ("mari\u00e1-acc", "maria\u0301-acc"),
        ("mari0", "mariO"),
        ("maria-z", "mar\u200bia-z"),
        ("maria-j", "maria\u200d-j"),
        ("maria-b", "\u202emaria-b"),
        ("maria-s", "maria -s"),
        ("maria-v", "maria\ufe0f-v"),
    ],
)
def test_a_nick_that_looks_like_another(broker: BrokerProcess, nick: str, posed: str) -> None:
    """By case, width, other alphabets, invisible characters: taken, or no nick at all."""
    own = f"eve-{os.urandom(4).hex()}"
    with Peer(broker, nick) as maria, Peer(broker, own) as eve:
        maria.enter()
        refusals = {Code.NICK_TAKEN, Code.NICK_INVALID}
        assert eve.refused(wire.Hello(1, posed, eve.owner, 1, 1)) in refusals
        eve.enter()
        assert eve.refused(wire.SetNick(2, posed)) in refusals


def test_the_nick_of_somebody_who_is_away(broker: BrokerProcess) -> None:
    """It stays theirs, and whoever asks under it is told so."""
    with Peer(broker, "traveller") as ann:
        ann.enter()
        ann.ask(wire.Bye(5), wire.Goodbye)
        keys = ann.keys
    with Peer(broker, "eve-away") as eve:
        hello = wire.Hello(1, "Traveller", eve.owner, 1, 1)
        assert Code.NICK_TAKEN == eve.refused(hello)
    with Peer(broker, "traveller", keys) as back:
        back.enter()


@pytest.mark.parametrize(
    "nick", ["operator", "Operator", "\u043eperator", "admin", "system", "hubbub"]
)
def test_a_name_that_sounds_like_the_brokers(broker: BrokerProcess, nick: str) -> None:
    """Reserved, in every spelling."""
    with Peer(broker, nick) as eve:
        assert Code.NICK_RESERVED == eve.refused(wire.Hello(1, nick, eve.owner, 1, 1))


# --- another key ------------------------------------------------------------
def test_a_key_claimed_in_the_handshake(broker: BrokerProcess) -> None:
    """Whatever a client says there about itself: its key is the one that it has the secret of."""
    with closed_room(broker, "claims") as (owner, member, joined):
        server = member.server
        properties = {
            "User_Id": member.identity.hex().encode(),
            "Peer_Address": b"127.0.0.9",
            "Socket_Type": b"DEALER",
            "Identity": b"",
        }
        with CurveLink(broker.port, server) as eve:
            eve.shake_hands(**properties)
            for command in (wire.Who(1, joined.room), wire.Join(2, joined.room)):
                eve.say(*wire.command_frames(member.token, command))
                told = wire.parse_reply(eve.hear())
                assert isinstance(told, wire.Error)
                assert Code.NO_SESSION == told.code
        properties["Socket_Type"] = b"SUB"
        with CurveLink(broker.port + 1, server) as eve:
            eve.shake_hands(**properties)
            before = owner.refused_count()
            eve.say(b"\1" + joined.subscription)
            eventually(lambda: owner.refused_count() > before, "the refusal")
        properties["Socket_Type"] = b"REQ"
        with CurveLink(broker.port + 2, server) as eve:
            eve.shake_hands(**properties)
            request = wire.History(9, joined.room, joined.ticket, wire.Mode.AFTER, 0, 10)
            eve.say(b"", *wire.command_frames(wire.NO_TOKEN, request))
            _, *frames = eve.hear()
            told = wire.parse_reply(frames)
            assert isinstance(told, wire.Error)
            assert Code.BAD_TICKET == told.code


def test_a_key_without_its_secret(broker: BrokerProcess) -> None:
    """A handshake with somebody's public key, and another's secret, ends without a word."""
    with Peer(broker, "ann-key") as ann:
        ann.enter()
        with CurveLink(broker.port, ann.server) as eve:
            eve.public = ann.identity
            with pytest.raises((ConnectionError, AssertionError)) as ended:
                eve.shake_hands(Socket_Type=b"DEALER")
            assert "READY" not in str(ended.value)


def test_the_route_of_an_operator_who_has_left(tmp_path: Path) -> None:
    """ROUTER lets a client bring along a route that was drawn for somebody before."""
    keys = zmq.curve_keypair()
    route = b"\0\1\2\3\4"
    words = ["--secure", "--operators", zmq.utils.z85.decode(keys[0]).hex()]
    with (
        BrokerProcess(tmp_path / "data", *words) as broker,
        Peer(broker, "chief", keys) as chief,
        Peer(broker, "eve-route") as eve,
    ):
        chief.enter()
        at_work = _brought(chief, broker.port, route)
        asked = wire.command_frames(wire.NO_TOKEN, order.Admin(1, "sessions"))
        at_work.send_multipart(asked)
        assert isinstance(wire.parse_reply(at_work.recv_multipart()), order.Table)
        at_work.close()
        eve.enter()

        def answer() -> wire.Payload | None:
            """Ask until libzmq gives the route to this connection: it may still be taken."""
            posing = _brought(eve, broker.port, route)
            posing.setsockopt(zmq.RCVTIMEO, 500)
            try:
                posing.send_multipart(asked)
                return wire.parse_reply(posing.recv_multipart())
            except zmq.Again:
                return None
            finally:
                posing.close()

        told = eventually(answer, "an answer on that route")
        assert isinstance(told, wire.Error)
        assert Code.FORBIDDEN == told.code


def _brought(peer: Peer, port: int, route: bytes) -> zmq.Socket[bytes]:
    made = peer._context.socket(zmq.DEALER)
    made.setsockopt(zmq.LINGER, 0)
    made.setsockopt(zmq.ROUTING_ID, route)
    made.setsockopt(zmq.CURVE_SERVERKEY, peer.server)
    made.setsockopt(zmq.CURVE_PUBLICKEY, peer.keys[0])
    made.setsockopt(zmq.CURVE_SECRETKEY, peer.keys[1])
    made.connect(f"tcp://127.0.0.1:{port}")
    return made


def test_the_route_of_somebody_who_is_there(broker: BrokerProcess) -> None:
    """Two that bring the same one along: the first keeps it, and its answers."""
    with Peer(broker, "ann-route") as ann, Peer(broker, "eve-twin") as eve:
        route = os.urandom(8)
        first = _brought(ann, broker.port, route)
        greet = wire.command_frames(wire.NO_TOKEN, wire.Greet(7))
        first.send_multipart(greet)
        assert 7 == _id_of(first.recv_multipart())
        second = _brought(eve, broker.port, route)
        second.send_multipart(wire.command_frames(wire.NO_TOKEN, wire.Greet(8)))
        for _ in range(20):
            first.send_multipart(greet)
            assert 7 == _id_of(first.recv_multipart())
        assert not second.poll(0)
        eve.enter()


def _id_of(frames: list[bytes]) -> int:
    greeting = wire.parse_reply(frames)
    assert isinstance(greeting, wire.Greeting)
    return greeting.id


def test_the_brokers_own_lines(broker: BrokerProcess) -> None:
    """Nobody can send what the log says of orders, nor kinds that nobody knows."""
    with Peer(broker, "eve-kind") as eve:
        eve.enter_room("kinds")
        for kind in (order.ORDER_KIND, 4, 255, -1):
            post = ["kinds", kind, ["eve-kind banned everybody"]]
            head, _ = wire.command_frames(eve.token, wire.Rooms(1))
            payload = wire.encode([1, [post]])
            refusal = eve.ask_frames(head[:4] + bytes([wire.Command.SEND]) + head[5:], payload)
            assert Code.BAD_PAYLOAD == refusal.code
        assert Role.OWNER == eve.join("kinds").role
