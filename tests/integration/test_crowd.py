"""Two hundred people chat at once, and each of them has everything, once and in one order."""

from __future__ import annotations

import random
import threading
from pathlib import Path

from client.api import connect
from tests.broker_process import BrokerProcess
from tests.gathering import Gathering, Shape


def test_200_clients_20_rooms_20000_messages(tmp_path: Path) -> None:
    """Ancestor 1 and 2: no corruption under many clients; each room ordered on its own."""
    shape = Shape(members=200, rooms=20, rooms_per_member=2, messages=50)
    assert shape.total == 20_000
    with BrokerProcess(tmp_path / "data") as broker:
        gathering = Gathering(broker, shape, tmp_path)
        with gathering.gathered():
            gathering.finish()


def test_the_same_while_clients_come_and_go(tmp_path: Path) -> None:
    """People who join, look, speak elsewhere and leave, or drop dead, change nothing for others."""
    shape = Shape(members=60, rooms=6, rooms_per_member=2, messages=60)
    seed = random.randrange(2**32)
    is_over = threading.Event()
    visits: list[int] = []

    def come_and_go(index: int) -> None:
        chance = random.Random(seed + index)
        while not is_over.is_set():
            client = connect(broker.address, nick=f"guest{index}", owner=bytes([index] * 16))
            room = f"room{chance.randrange(shape.rooms)}"
            client.join(room, history=chance.choice([0, 10, 100]))
            client.join("elsewhere", history=0)
            client.send("elsewhere", "hello", timeout_s=30)
            if chance.random() < 0.5:
                client.part(room)
            client.close()
            visits.append(index)

    with BrokerProcess(tmp_path / "data", "--grace", "0.2") as broker:
        gathering = Gathering(broker, shape, tmp_path)
        guests = [threading.Thread(target=come_and_go, args=(index,)) for index in range(4)]
        with gathering.gathered():
            for guest in guests:
                guest.start()
            try:
                gathering.finish()
            finally:
                is_over.set()
                for guest in guests:
                    guest.join()
        assert len(visits) >= len(guests), f"seed {seed}"
