"""kill -9 of each process under load, and a ledger of acknowledgements against the log."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from pathlib import Path

import pytest

from client.api import connect
from client.events import Entry
from tests.broker_process import BrokerProcess
from tests.gathering import Gathering, Shape
from tests.waiting import DEADLINE_S

SHAPE = Shape(members=24, rooms=6, rooms_per_member=2, messages=120)
KILLS = 4
LONG_TEXTS = 4_000


def kill_live(broker: BrokerProcess) -> None:
    """Kill the process that owns the log."""
    broker.kill_child("live")


def kill_history(broker: BrokerProcess) -> None:
    """Kill the process that answers history."""
    broker.kill_child("history")


def kill_everything(broker: BrokerProcess) -> None:
    """Kill the whole broker at once, and start another on the same folder and port."""
    port = broker.port
    broker.kill_all()
    broker.start(port)


def kill_supervisor(broker: BrokerProcess) -> None:
    """Kill the supervisor alone, and start another broker at once."""
    port = broker.port
    broker.kill_supervisor()
    broker.start(port)


@pytest.mark.parametrize("kill", [kill_live, kill_history, kill_everything, kill_supervisor])
def test_nothing_acknowledged_is_lost(
    tmp_path: Path, kill: Callable[[BrokerProcess], None]
) -> None:
    """Killing any process under load loses nothing, doubles nothing, and everybody is whole."""
    with BrokerProcess(tmp_path / "data") as broker:
        gathering = Gathering(broker, SHAPE, tmp_path)
        with gathering.gathered():
            for number in range(1, KILLS + 1):
                share = SHAPE.total * number // (KILLS + 1)
                gathering.await_progress(share)
                kill(broker)
            gathering.finish()


def test_a_frozen_subscriber_catches_up_whole(tmp_path: Path) -> None:
    """A reader stopped with SIGSTOP past the high-water mark delays nobody and misses nothing."""
    shape = Shape(members=2, rooms=1, rooms_per_member=1, messages=1_000)
    flags = ("--publish-queue", "16", "--heartbeat", "30")
    with BrokerProcess(tmp_path / "data", *flags) as broker:
        # Far more than the queue of 16 batches and the kernel's buffers can hold.
        gathering = Gathering(broker, shape, tmp_path, {"room0": LONG_TEXTS})
        with gathering.gathered(), connect(broker.address, nick="talker") as talker:
            talker.join("room0", history=0)
            gathering.await_progress(100)
            os.kill(gathering.crowd_processes()[1], signal.SIGSTOP)
            try:
                for number in range(LONG_TEXTS):
                    talker.send("room0", f"{number:04000}", timeout_s=DEADLINE_S)
            finally:
                os.kill(gathering.crowd_processes()[1], signal.SIGCONT)
            gathering.finish()
        assert gathering.questions[1] > 0, "nothing was dropped: the test did not test"


def test_an_unread_client_still_gets_its_acknowledgements(tmp_path: Path) -> None:
    """A program that sends and never reads is not stuck, and reads everything later."""
    with (
        BrokerProcess(tmp_path / "data") as broker,
        connect(broker.address, nick="anna") as anna,
    ):
        anna.join("lobby", history=0)
        pendings = [anna.post("lobby", str(number)) for number in range(25_000)]
        assert [pending.result(DEADLINE_S).seq for pending in pendings] == list(range(1, 25_001))
        texts: list[str] = []
        for event in anna.events(DEADLINE_S):
            if isinstance(event, Entry):
                texts.append(event.text)
                if len(texts) == len(pendings):
                    break
        assert texts == [str(number) for number in range(25_000)]
