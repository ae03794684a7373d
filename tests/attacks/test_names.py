"""Taking so many names that none is left for those who come later."""

from __future__ import annotations

import os
from pathlib import Path

import zmq

from broker.chat.nicks import NICKS_MAX, NICKS_PER_IDENTITY_MAX
from broker.host import certificates
from common import wire
from common.errors import Code
from tests.attacks.scene import WAIT_MS, Peer
from tests.broker_process import BrokerProcess


def take_names(context: zmq.Context[zmq.Socket[bytes]], broker: BrokerProcess, first: int) -> None:
    """Take as many names as one key may have, and go."""
    with context.socket(zmq.DEALER) as dealer:
        dealer.setsockopt(zmq.LINGER, 0)
        dealer.curve_serverkey = certificates.load(broker.data).public
        dealer.curve_publickey, dealer.curve_secretkey = zmq.curve_keypair()
        dealer.connect(f"tcp://127.0.0.1:{broker.port}")
        for index in range(NICKS_PER_IDENTITY_MAX):
            token = os.urandom(16)
            hello = wire.Hello(1, f"z{first + index}", b"x" * 32, index + 1, 1)
            for command in (hello, wire.Bye(2)):
                dealer.send_multipart(wire.command_frames(token, command))
        for _ in range(NICKS_PER_IDENTITY_MAX):
            for kind in (wire.Welcome, wire.Goodbye):
                assert dealer.poll(WAIT_MS)
                assert isinstance(wire.parse_reply(dealer.recv_multipart()), kind)


def test_a_register_that_is_filled_with_names(tmp_path: Path) -> None:
    """A newcomer's name is theirs all the same, also after a restart; and who is here keeps it."""
    with BrokerProcess(tmp_path / "data", "--secure") as broker:
        with Peer(broker, "early") as early, Peer(broker, "talker") as talker:
            for peer in (early, talker):
                peer.enter("r")
            talker.say("r", "this name is used")
            talker.ask(wire.Bye(9), wire.Goodbye)
            with zmq.Context() as context:
                for first in range(0, NICKS_MAX, NICKS_PER_IDENTITY_MAX):
                    take_names(context, broker, first)
            with Peer(broker, "newcomer") as newcomer:
                newcomer.enter("r")
                newcomer.say("r", "this one, too")
                newcomer.ask(wire.Bye(9), wire.Goodbye)
            early.ask(wire.Bye(9), wire.Goodbye)
        broker.kill_all()
        broker.start()
        for nick in ("early", "talker", "newcomer"):
            with Peer(broker, nick) as impostor:
                hello = wire.Hello(1, nick, impostor.owner, impostor.instance, 1)
                assert Code.NICK_TAKEN == impostor.refused(hello)
