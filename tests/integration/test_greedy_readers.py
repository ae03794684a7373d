"""Who asks for much, or reads nothing, harms nobody else: not their waiting, not the memory."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import zmq

from common import wire
from common.limits import HISTORY_BYTES_MAX, HISTORY_ENTRIES_MAX
from common.wire import Mode
from tests import saying
from tests.broker_process import BrokerProcess
from tests.raw_peer import RawPeer

QUESTIONS = 2_000
PAGES_HELD_MAX = 100


@pytest.fixture
def broker(tmp_path: Path) -> Iterator[BrokerProcess]:
    with BrokerProcess(tmp_path / "data") as started:
        yield started


@pytest.fixture
def anna(broker: BrokerProcess) -> Iterator[RawPeer]:
    with RawPeer(broker.port) as peer:
        peer.hello("anna")
        yield peer


@pytest.fixture
def question(anna: RawPeer) -> wire.History:
    """Return a question whose answer is as large as any."""
    joined = anna.join("big")
    for number in range(1, HISTORY_BYTES_MAX // 60_000 + 1):
        anna.ask(saying.send(number, "big", ["x" * 4_000] * 15), wire.Ack)
    return wire.History(1, "big", joined.ticket, Mode.AFTER, 0, HISTORY_ENTRIES_MAX)


def resident_mib(pid: int) -> int:
    fields = dict(
        line.split(":", 1) for line in Path(f"/proc/{pid}/status").read_text().splitlines()
    )
    return int(fields["VmHWM"].split()[0]) >> 10


def flood(dealer: zmq.Socket[bytes], question: wire.History) -> None:
    for _ in range(QUESTIONS):
        dealer.send_multipart([b"", *wire.command_frames(wire.NO_TOKEN, question)])


def test_a_flood_of_questions_waits_its_turn(
    broker: BrokerProcess, anna: RawPeer, question: wire.History
) -> None:
    """Whoever asks a thousand questions at once waits for them; another's comes in between."""
    with zmq.Context() as context, context.socket(zmq.DEALER) as greedy:
        greedy.setsockopt(zmq.LINGER, 0)
        greedy.setsockopt(zmq.SNDHWM, 0)
        greedy.setsockopt(zmq.RCVHWM, 0)
        greedy.connect(f"tcp://127.0.0.1:{broker.port + 2}")
        small = wire.History(1, "big", question.ticket, Mode.AFTER, 0, 1)
        flood(greedy, question)
        greedy.recv_multipart()  # It has begun.
        anna.history(small)
        answered = 0
        while greedy.poll(0):
            greedy.recv_multipart()
            answered += 1
        assert answered < QUESTIONS // 2


def test_pages_that_nobody_reads_are_not_kept(
    broker: BrokerProcess, anna: RawPeer, question: wire.History
) -> None:
    """A peer that asks and never reads costs a page or two, not a thousand."""
    history = broker.children()["history"]
    before_mib = resident_mib(history)
    with zmq.Context() as context, context.socket(zmq.DEALER) as deaf:
        deaf.setsockopt(zmq.LINGER, 0)
        deaf.setsockopt(zmq.SNDHWM, 0)
        deaf.setsockopt(zmq.RCVHWM, 1)
        deaf.connect(f"tcp://127.0.0.1:{broker.port + 2}")
        flood(deaf, question)
        for _ in range(PAGES_HELD_MAX * 2):
            anna.history(question)  # Each in turn with one of the flood.
        assert resident_mib(history) - before_mib < PAGES_HELD_MAX
