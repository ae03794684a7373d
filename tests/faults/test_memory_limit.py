"""A broker that may take no more memory (RLIMIT_AS): it says no, and loses nothing of its yes."""

from __future__ import annotations

import contextlib
import os
import resource
from collections.abc import Iterator
from pathlib import Path

import pytest
import zmq

from broker.host.headroom import MARGIN_BYTES
from client.api import ask_status, connect
from common import wire
from common.errors import Code, Refused
from tests.broker_process import BrokerProcess
from tests.faults.talkers import Talkers
from tests.needs import need_program
from tests.raw_peer import RawPeer
from tests.waiting import DEADLINE_S, eventually

ROOM = "talker-room0"
LONG = 3_000  # Characters of a text.
SOME = 200  # Texts.
SPARE_BYTES = 32 * 1024 * 1024  # What live may take until it is short.
# So much may wait for who does not read that memory ends soon.
GREEDY = ("--rate", "100000", "--burst", "1000000", "--publish-queue", "100000")


def taken_bytes(pid: int) -> int:
    """Return what RLIMIT_AS counts."""
    return int(Path(f"/proc/{pid}/statm").read_text().split()[0]) * os.sysconf("SC_PAGE_SIZE")


@pytest.fixture
def usual_bytes(tmp_path: Path) -> int:
    """Return what a live process takes that has served somebody."""
    with BrokerProcess(tmp_path / "measured") as broker, Talkers(broker.address) as talkers:
        talkers.await_kept(SOME)
        talkers.stop()
        return taken_bytes(broker.children()["live"])


def limited(data: Path, limit_bytes: int) -> BrokerProcess:
    """Start a broker of which no process may take more."""
    need_program("prlimit")
    return BrokerProcess(data, *GREEDY, prefix=("prlimit", f"--as={limit_bytes}"))


def refusal(broker: BrokerProcess) -> Refused | None:
    """Return how a newcomer is refused; None if it is let in, because live began anew just now."""
    try:
        connect(broker.address, nick="newcomer", timeout_s=DEADLINE_S).close()
    except Refused as refused:
        return refused
    return None


@contextlib.contextmanager
def unread(broker: BrokerProcess, room: str) -> Iterator[None]:
    """Have a subscriber in a room that never reads: the broker keeps what it should hear."""
    with RawPeer(broker.port) as peer, peer.sub.context.socket(zmq.SUB) as sub:
        peer.hello("hoarder")
        sub.setsockopt(zmq.RCVHWM, 1)
        sub.setsockopt(zmq.RCVBUF, 4_096)
        sub.connect(f"tcp://127.0.0.1:{broker.port + 1}")
        sub.subscribe(peer.ask(wire.Join(peer.next_id(), room), wire.Joined).subscription)
        assert sub.poll(DEADLINE_S * 1_000), "the subscription was not admitted"
        yield


def test_short_of_memory_everybody_waits_and_nothing_is_lost(
    tmp_path: Path, usual_bytes: int
) -> None:
    """Newcomers hear `full`, senders wait, and when that does not help live begins anew."""
    limit_bytes = usual_bytes + MARGIN_BYTES + SPARE_BYTES
    with (
        limited(tmp_path / "data", limit_bytes) as broker,
        Talkers(broker.address, text_chars=LONG, pause_s=0) as talkers,
    ):
        with unread(broker, ROOM):
            eventually(lambda: "short of memory" in broker.log(), "too little memory")
            refused = eventually(lambda: refusal(broker), "a newcomer who is refused")
            assert refused is not None
            assert refused.code == Code.FULL
            assert "short of memory" in refused.detail
            assert ask_status(broker.address, DEADLINE_S).clients >= 4
        talkers.await_kept(SOME)
        talkers.stop()
        assert set(talkers.check(broker.data)) <= {"log_failed"}
        assert "killed by signal" not in broker.log()


def test_a_death_for_want_of_memory_loses_nothing(tmp_path: Path) -> None:
    """Without memory libzmq aborts. The reason is told, live comes back, and clients resume."""
    with (
        BrokerProcess(tmp_path / "data", *GREEDY) as broker,
        Talkers(broker.address, text_chars=LONG, pause_s=0) as talkers,
    ):
        talkers.await_kept(SOME)
        live = broker.children()["live"]
        with unread(broker, ROOM):
            limit_bytes = taken_bytes(live)
            resource.prlimit(live, resource.RLIMIT_AS, (limit_bytes, limit_bytes))
            eventually(lambda: broker.children().get("live", live) != live, "another live")
        talkers.await_kept(SOME)
        talkers.stop()
        assert set(talkers.check(broker.data)) <= {"log_failed"}
        assert "memory" in broker.log()
        assert "live is back" in broker.log()
