"""A broker on one host, its clients on others, and bad wires between them.

Hosts are network namespaces of this machine (`tests.faults.lan`).
"""

from __future__ import annotations

import contextlib
import socket
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.broker_process import BrokerProcess
from tests.faults.lan import Host, Lan, Weather, lan_or_skip, run_inside
from tests.torture.__main__ import text_of
from tests.torture.stage import Group, Report, Stage
from tests.waiting import eventually

BAD_WEATHER = Weather(lost=0.05, delay_s=0.01, jitter_s=0.02, doubled=0.02)
QUICK_HEARTBEAT = ("--heartbeat", "0.5")  # A host that is silent for a second is given up.
LONG_GRACE = ("--grace", "600", *QUICK_HEARTBEAT)  # No cut here is longer.
SHORT_GRACE = ("--grace", "0.3", *QUICK_HEARTBEAT)  # And none shorter.
ESTABLISHED = "01"  # net/tcp_states.h
PROGRESS = 20


@pytest.fixture
def lan() -> Iterator[Lan]:
    with lan_or_skip("broker", "near", "far") as made:
        yield made


class Scene:
    """A broker, a crowd near it and one far away, each on a host of its own."""

    def __init__(self, lan: Lan, broker: BrokerProcess, stage: Stage) -> None:
        self.lan, self.broker, self.stage = lan, broker, stage
        self.near = stage.add(prefix=lan.hosts["near"].prefix)
        stage.await_joined()
        self.far = stage.add(prefix=lan.hosts["far"].prefix)
        stage.await_joined()
        # Who among the near hears of whom where.
        self.all_news = Counter(
            (observer, room, nick)
            for observer, rooms in self.near.members.items()
            for nick, others in self.far.members.items()
            for room in set(rooms) & set(others)
        )
        eventually(lambda: self.told("joined") == self.all_news, "the far ones to have come")
        stage.await_progress()

    def told(self, word: str) -> Counter[tuple[str, str, str]]:
        """Return how often the near were told that one of the far `joined` or `left`."""
        return Counter(
            (observer, room, nick)
            for observer, room, nick in self.near.booked(word)
            if nick in self.far.members
        )

    def finish(self) -> Report:
        """Compare all books; on the broker's host, since nobody else can reach it from here."""
        return run_inside(self.lan.hosts["broker"], self.stage.finish)

    def await_given_up(self, name: str) -> None:
        """Wait until the broker has hung up on each client of a host."""
        port, address = f":{self.broker.port + 1:04X}", _spelled(self.lan.hosts[name])

        def is_given_up() -> bool:
            connections = _connections(self.stage.child("live"))
            return not any(a.endswith(port) and b.startswith(address) for a, b in connections)

        eventually(is_given_up, f"the broker to give up {name}")

    def await_hung_up(self, group: Group) -> None:
        """Wait until a group's host has given up each connection for commands by itself."""
        broker = f"{_spelled(self.lan.hosts['broker'])}:{self.broker.port:04X}"

        def is_hung_up() -> bool:
            return broker not in [remote for _, remote in _connections(group.pid)]

        eventually(is_hung_up, "the clients to hang up")


def _spelled(host: Host) -> str:
    """Return an address as the kernel writes it: in the machine's order of bytes."""
    return f"{int.from_bytes(socket.inet_aton(host.address), sys.byteorder):08X}"


def _connections(pid: int) -> list[tuple[str, str]]:
    """Return both ends of the connections that stand on the host of a process. proc(5)."""
    lines = Path(f"/proc/{pid}/net/tcp").read_text().splitlines()[1:]
    ends = [line.split()[1:4] for line in lines]
    return [(ours, theirs) for ours, theirs, state in ends if state == ESTABLISHED]


@contextlib.contextmanager
def scene(lan: Lan, folder: Path, *flags: str) -> Iterator[Scene]:
    """Begin; all talk."""
    host = lan.hosts["broker"]
    with (
        BrokerProcess(folder / "data", *flags, host=host.address, prefix=host.prefix) as broker,
        Stage(broker, folder, members=3) as stage,
    ):
        yield Scene(lan, broker, stage)


def test_bad_weather_costs_time_and_nothing_else(lan: Lan, tmp_path: Path) -> None:
    """Packets lost, late, double and out of order: everybody is whole, and nobody is gone."""
    with scene(lan, tmp_path, *LONG_GRACE) as each:
        lan.weather = BAD_WEATHER
        each.stage.await_progress(PROGRESS)
        report = each.finish()
        assert report.is_clean, text_of(report)
        assert not each.told("left")
        assert lan.lost > 0


def test_a_cut_shorter_than_the_grace_is_no_news(lan: Lan, tmp_path: Path) -> None:
    """Each time the broker has given the far host up already, and nobody hears of it."""
    with scene(lan, tmp_path, *LONG_GRACE) as each:
        for _ in range(2):
            with lan.without("far"):
                each.await_given_up("far")
            each.stage.await_progress()
        report = each.finish()
        assert report.is_clean, text_of(report)
        assert not each.told("left")
        assert each.told("joined") == each.all_news


def test_after_a_long_cut_nobody_waits_for_tcp(lan: Lan, tmp_path: Path) -> None:
    """Clients drop a connection that is not answered: else TCP tries again minutes later."""
    with scene(lan, tmp_path, *LONG_GRACE) as each:
        with lan.without("far"):
            each.await_hung_up(each.far)
        report = each.finish()
        assert report.is_clean, text_of(report)
        assert not each.told("left")


def test_a_longer_cut_is_told_once_and_so_is_the_return(lan: Lan, tmp_path: Path) -> None:
    with scene(lan, tmp_path, *SHORT_GRACE) as each:
        with lan.without("far"):
            eventually(lambda: each.told("left") == each.all_news, "the far ones to be gone")
        each.stage.await_progress()
        report = each.finish()
        assert report.is_clean, text_of(report)
        assert each.told("left") == each.all_news
        assert each.told("joined") == each.all_news + each.all_news


def test_clients_whose_host_vanishes_are_gone(lan: Lan, tmp_path: Path) -> None:
    """No FIN, no RST, for ever: the broker hangs up, and the others hear of it once."""
    with scene(lan, tmp_path, *SHORT_GRACE) as each:
        lan.cut("far")
        each.far.kill()
        each.stage.groups.remove(each.far)
        each.await_given_up("far")
        eventually(lambda: each.told("left") == each.all_news, "the far ones to be gone")
        report = each.finish()
        assert report.is_clean, text_of(report)
        assert each.told("left") == each.all_news


def test_clients_notice_that_the_brokers_host_has_vanished(lan: Lan, tmp_path: Path) -> None:
    """Half-open connections to a broker that is no more: who talks and who only listens return."""
    with scene(lan, tmp_path, *LONG_GRACE) as each:
        listeners = each.stage.add(prefix=lan.hosts["far"].prefix, is_talking=False)
        listeners.await_joined()
        with lan.without("broker"):
            each.broker.kill_all()
            eventually(
                lambda: (
                    {nick for nick, state in each.near.booked("state") if state == "offline"}
                    == set(each.near.members)
                ),
                "the talkers to notice",
            )
            each.broker.start(each.broker.port)
        each.stage.await_progress()
        report = each.finish()
        assert report.is_clean, text_of(report)
