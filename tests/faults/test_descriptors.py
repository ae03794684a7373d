"""A broker whose descriptors are used up, by too many clients and by those who never speak."""

from __future__ import annotations

import contextlib
import os
import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from client.api import Client, connect
from common.errors import Code, HubbubError, Refused
from tests.broker_process import BrokerProcess
from tests.faults.talkers import Talkers
from tests.needs import need_program
from tests.waiting import DEADLINE_S, eventually

DESCRIPTORS = 128
CAPACITY = 32  # Clients that live has room for then.
SOME = 100  # Texts.
IDLE_S = 1.0
CPU_PART_MAX = 0.3  # A listener that spins takes two thirds of a core.


@pytest.fixture
def broker(tmp_path: Path) -> Iterator[BrokerProcess]:
    """Return a running broker with few descriptors for each of its processes."""
    need_program("prlimit")
    wrapper = ("prlimit", f"--nofile={DESCRIPTORS}:{DESCRIPTORS}")
    with BrokerProcess(tmp_path / "data", prefix=wrapper) as running:
        yield running


def cpu_s(pid: int) -> float:
    """Return the seconds of CPU that a process has used."""
    fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def descriptors_count(pid: int) -> int:
    """Return how many descriptors a process has open."""
    return len(list(Path(f"/proc/{pid}/fd").iterdir()))


def test_clients_beyond_capacity_are_told(broker: BrokerProcess) -> None:
    """Who does not fit hears `full`; who is in goes on; a place that is free is given again."""
    assert f"room for {CAPACITY} clients" in broker.log()
    with contextlib.ExitStack() as stack:
        inside: list[Client] = []
        for number in range(CAPACITY):
            client = connect(broker.address, nick=f"m{number}", timeout_s=DEADLINE_S)
            inside.append(stack.enter_context(client))
        for number in range(5):
            with pytest.raises(Refused) as refused:
                connect(broker.address, nick=f"late{number}", timeout_s=DEADLINE_S)
            assert refused.value.code == Code.FULL
        for client in inside:
            client.join("lobby", history=0, timeout_s=DEADLINE_S)
        assert inside[0].send("lobby", "hi", timeout_s=DEADLINE_S).seq == 1
        assert len(inside[1].history("lobby", limit=9, timeout_s=DEADLINE_S)) == 1
        inside.pop().close()
        stack.enter_context(connect(broker.address, nick="late", timeout_s=DEADLINE_S))


@pytest.mark.parametrize(("port", "child"), [(0, "live"), (1, "live"), (2, "history")])
def test_connections_that_never_speak_harm_newcomers_only(
    broker: BrokerProcess, port: int, child: str
) -> None:
    """Those inside are served, nothing spins, and newcomers get in when the silent ones go."""
    children = broker.children()
    with Talkers(broker.address) as talkers, contextlib.ExitStack() as stack:
        talkers.await_kept(SOME)
        silent = [
            stack.enter_context(
                socket.create_connection((broker.host, broker.port + port), DEADLINE_S)
            )
            for _ in range(DESCRIPTORS)
        ]
        eventually(lambda: "no open file is left" in broker.log(), "the reason in the log")
        eventually(lambda: descriptors_count(children[child]) == DESCRIPTORS, "all to be taken")
        eventually(lambda: len(_ended(silent)) >= DESCRIPTORS // 8, "some to be turned away")
        talkers.await_kept(SOME)
        talkers.stop()
        cpu_before_s, before_s = cpu_s(children[child]), time.monotonic()
        threading.Event().wait(IDLE_S)
        used = (cpu_s(children[child]) - cpu_before_s) / (time.monotonic() - before_s)
        assert used < CPU_PART_MAX, f"{child} takes {used:.2f} of a core for nothing"
        stack.close()
        assert eventually(lambda: _can_join(broker), "a newcomer to get in")
        assert not talkers.check(broker.data)
    assert broker.children() == children


def _ended(connections: list[socket.socket]) -> list[socket.socket]:
    """Return the connections that the broker has ended."""
    ended = []
    for connection in connections:
        connection.setblocking(False)
        try:
            connection.recv(1, socket.MSG_PEEK)
        except BlockingIOError:
            continue
        except OSError:
            ended.append(connection)
    return ended


def _can_join(broker: BrokerProcess) -> bool:
    try:
        with connect(broker.address, nick="newcomer", timeout_s=5.0) as newcomer:
            newcomer.join("talker-room0", history=5, timeout_s=5.0)
            return len(newcomer.history("talker-room0", limit=5, timeout_s=5.0)) == 5
    except HubbubError:
        return False
