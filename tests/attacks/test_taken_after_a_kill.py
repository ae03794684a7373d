"""What somebody could take over after the broker was killed: nicks and rooms told of already."""

from __future__ import annotations

from pathlib import Path

from common import wire
from common.errors import Code
from common.order import Role
from tests.attacks.scene import Peer
from tests.broker_process import BrokerProcess


def test_what_was_just_taken_is_its_owners_after_a_kill(tmp_path: Path) -> None:
    """A nick as soon as WELCOME, a room as soon as the first ACK has come."""
    with BrokerProcess(tmp_path / "data", "--secure") as broker:
        with Peer(broker, "ann") as ann:
            ann.enter_room("mine")
            ann.say("mine", "first")
            broker.kill_all()
        broker.start()
        with Peer(broker, "ann") as other:
            assert Code.NICK_TAKEN == other.refused(
                wire.Hello(1, "ann", other.owner, other.instance, 1)
            )
        with Peer(broker, "ann", ann.keys) as again:
            assert Role.OWNER == again.enter_room("mine").role
