"""What was recorded on the line, or said before, and is said again."""

from __future__ import annotations

import os

from zmq.utils import z85

from common import wire
from common.errors import Code
from tests.attacks.curve import GREETING, HELLO_BYTES, CurveLink
from tests.attacks.scene import Peer
from tests.broker_process import BrokerProcess

TEXT = "pay him once"


def linked(peer: Peer, port: int) -> CurveLink:
    """Return a connection of the same person whose bytes are kept."""
    link = CurveLink(port, peer.server, z85.decode(peer.keys[1]))
    link.shake_hands(Socket_Type=b"DEALER")
    return link


def pay(peer: Peer, room: str) -> list[bytes]:
    """Return the frames of a SEND."""
    send = wire.Send(peer.next_number(), [wire.Draft(room, wire.Kind.TEXT, [TEXT])])
    return wire.command_frames(peer.token, send)


def test_a_recorded_stream_on_another_connection(broker: BrokerProcess) -> None:
    """Each connection has keys of its own: the handshake does not come to its end again."""
    with Peer(broker, "ann-record") as ann:
        joined = ann.enter_room("bank")
        with linked(ann, broker.port) as link:
            link.say(*pay(ann, "bank"))
            assert isinstance(wire.parse_reply(link.hear()), wire.Ack)
            recorded = link.sent
        hello_end = len(GREETING) + HELLO_BYTES
        with CurveLink(broker.port, ann.server) as eve:
            eve.write(recorded[len(GREETING) : hello_end])
            assert eve.hear_command().startswith(b"\7WELCOME")
            eve.write(recorded[hello_end:])
            assert eve.is_hung_up()
        assert [TEXT] == ann.read("bank", joined.ticket)


def test_a_recorded_message_on_the_same_connection(broker: BrokerProcess) -> None:
    """Somebody on the line repeats a message: its nonce was used, and the connection ends."""
    with Peer(broker, "ann-nonce") as ann:
        joined = ann.enter_room("till")
        with linked(ann, broker.port) as link:
            before = len(link.sent)
            link.say(*pay(ann, "till"))
            assert isinstance(wire.parse_reply(link.hear()), wire.Ack)
            link.write(link.sent[before:])
            assert link.is_hung_up()
        assert [TEXT] == ann.read("till", joined.ticket)


def test_a_turned_bit_in_a_message(broker: BrokerProcess) -> None:
    """Somebody on the line changes it: it is not taken, and the connection ends."""
    with Peer(broker, "ann-bit") as ann:
        joined = ann.enter_room("desk")
        with linked(ann, broker.port) as link, linked(ann, broker.port) as made:
            before = len(made.sent)
            made.say(*pay(ann, "desk"))
            assert isinstance(wire.parse_reply(made.hear()), wire.Ack)
            message = bytearray(made.sent[before:])
            message[-1] ^= 1
            link.write(bytes(message))
            assert link.is_hung_up()
        assert [TEXT] == ann.read("desk", joined.ticket)


def test_a_send_that_is_said_again(broker: BrokerProcess) -> None:
    """On the same session it is acknowledged as before, on all connections, and kept once."""
    with Peer(broker, "ann-again") as ann, Peer(broker, "eve-again") as eve:
        joined = ann.enter_room("shop")
        eve.enter_room("shop")
        frames = pay(ann, "shop")
        answers = []
        for _ in range(3):
            ann.dealer.send_multipart(frames)
            answers.append(ann.dealer.recv_multipart())
        assert answers[0] == answers[1] == answers[2]
        refusal = eve.ask_frames(*frames)
        assert Code.NO_SESSION == refusal.code
        assert [TEXT] == ann.read("shop", joined.ticket)


def test_a_hello_on_another_connection(broker: BrokerProcess) -> None:
    """With the same key it is a person who comes back; with another one it is refused."""
    with (
        Peer(broker, "ann-hello") as ann,
        Peer(broker, "ann-hello", ann.keys) as again,
        Peer(broker, "eve-hello") as eve,
    ):
        ann.enter_room("office")
        hello = wire.Hello(1, "ann-hello", ann.owner, ann.instance, 1)
        frames = wire.command_frames(ann.token, hello)
        assert Code.SESSION_TAKEN == eve.ask_frames(*frames).code
        again.dealer.send_multipart(frames)
        welcome = wire.parse_reply(again.dealer.recv_multipart())
        assert isinstance(welcome, wire.Welcome)
        assert welcome.resumed
        ann.say("office", "as before")
        ann.hear("as before")


def test_ids_and_numbers_of_another_session(broker: BrokerProcess) -> None:
    """Two that use the same ids, instance and numbers get their own answers, spend their own."""
    with Peer(broker, "ann-ids") as ann, Peer(broker, "eve-ids") as eve:
        eve.instance = ann.instance
        eve.owner = ann.owner
        joined = ann.enter_room("desk-a")
        eve.enter_room("desk-b")
        for number in range(1, 4):
            for peer, room in ((eve, "desk-b"), (ann, "desk-a")):
                drafts = [wire.Draft(room, wire.Kind.TEXT, [f"{peer.nick} {number}"])]
                ack = peer.ask(wire.Send(number, drafts), wire.Ack)
                assert (number, number) == (ack.number, ack.kept[0].first)
        for request_id in (1, 2**53 - 1):
            assert request_id == eve.ask(wire.Rooms(request_id), wire.RoomList).id
            assert request_id == ann.ask(wire.Who(request_id, "desk-a"), wire.Members).id
        assert not eve.dealer.poll(0)
        assert [f"ann-ids {n}" for n in (1, 2, 3)] == ann.read("desk-a", joined.ticket)


def test_a_token_of_zeros(broker: BrokerProcess) -> None:
    """The token of those who have none is nobody's session."""
    with Peer(broker, "eve-zero") as eve:
        hello = wire.Hello(1, "eve-zero", os.urandom(32), 1, 1)
        assert Code.BAD_PAYLOAD == eve.refused(hello, wire.NO_TOKEN)
        assert Code.NO_SESSION == eve.refused(wire.Rooms(2), wire.NO_TOKEN)
