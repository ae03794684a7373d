"""A broker on one host of a LAN, a crowd near it and one far away, all of whom talk."""

from __future__ import annotations

import contextlib
import socket
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

from tests.broker_process import BrokerProcess
from tests.torture.lan import Host, Lan, run_inside
from tests.torture.stage import Group, Report, Stage
from tests.waiting import eventually

HOSTS = ("broker", "near", "far")
ESTABLISHED = "01"  # net/tcp_states.h


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
