"""What systemd hears, on real datagram sockets, with a name in a folder and without one."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from broker.host.notify import Notifier


@pytest.fixture(params=["path", "abstract"])
def systemd(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[tuple[str, socket.socket]]:
    """Return NOTIFY_SOCKET and the socket that listens there."""
    name = str(tmp_path / "notify") if request.param == "path" else f"@hubbub-{os.getpid()}"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listener:
        listener.bind(name.replace("@", "\0"))
        listener.setblocking(False)
        yield name, listener


def test_fields_are_lines_of_one_datagram(systemd: tuple[str, socket.socket]) -> None:
    name, listener = systemd
    Notifier({"NOTIFY_SOCKET": name}).tell(READY="1", STATUS="serving")
    assert b"READY=1\nSTATUS=serving" == listener.recv(1_024)


def test_a_listener_who_does_not_read_delays_nobody(systemd: tuple[str, socket.socket]) -> None:
    """The queue of a datagram socket is short; what does not fit is not sent."""
    name, listener = systemd
    notifier = Notifier({"NOTIFY_SOCKET": name})
    for number in range(5_000):
        notifier.tell(STATUS=str(number))
    assert b"STATUS=0" == listener.recv(1_024)


def test_without_systemd_nothing_is_said() -> None:
    notifier = Notifier({})
    notifier.tell(READY="1")
    assert 0 == notifier.watchdog_every_s


def test_a_listener_that_is_gone_harms_nobody(tmp_path: Path) -> None:
    Notifier({"NOTIFY_SOCKET": str(tmp_path / "nobody")}).tell(READY="1")
    Notifier({"NOTIFY_SOCKET": "x" * 1_000}).tell(READY="1")


@pytest.mark.parametrize(
    ("environ", "every_s"),
    [
        ({"WATCHDOG_USEC": "30000000"}, 15.0),
        ({"WATCHDOG_USEC": "30000000", "WATCHDOG_PID": str(os.getpid())}, 15.0),
        ({"WATCHDOG_USEC": "30000000", "WATCHDOG_PID": "1"}, 0.0),
        ({"WATCHDOG_USEC": "soon"}, 0.0),
        ({}, 0.0),
    ],
)
def test_half_of_the_watchdogs_time(environ: dict[str, str], every_s: float) -> None:
    """A watchdog that is meant for another process, or makes no sense, is none."""
    assert every_s == Notifier({"NOTIFY_SOCKET": "@x", **environ}).watchdog_every_s
