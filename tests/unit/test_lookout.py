"""What systemd hears when the broker is well, ails or hangs."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from broker import config
from broker.lookout import Lookout
from broker.metrics.health import DOWN, SERVING, Part, Snapshot

SILENCE_S = 60.0


@pytest.fixture
def systemd(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[socket.socket]:
    """Yield the socket that systemd would listen on, with a watchdog of 10 s."""
    monkeypatch.setenv("NOTIFY_SOCKET", str(tmp_path / "notify"))
    monkeypatch.setenv("WATCHDOG_USEC", "10000000")
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listener:
        listener.bind(str(tmp_path / "notify"))
        listener.setblocking(False)
        yield listener


def heard(listener: socket.socket) -> list[str]:
    """Return the lines since the last call."""
    lines: list[str] = []
    while True:
        try:
            lines += listener.recv(1_024).decode().splitlines()
        except BlockingIOError:
            return lines


def at(now_s: float, silent_s: float = 0.0, phase: str = SERVING) -> Snapshot:
    return Snapshot(now_s, (Part("live", phase, 1, 1, now_s - silent_s),), {}, {})


def test_signs_of_life_come_in_half_of_the_watchdogs_time(systemd: socket.socket) -> None:
    lookout = Lookout(config.load([], {}))
    lookout.ready("tcp://here")
    assert ["READY=1"] == heard(systemd)
    lookout.show(at(100))
    assert ["STATUS=serving on tcp://here", "WATCHDOG=1"] == heard(systemd)
    lookout.show(at(104.9))
    assert [] == heard(systemd)
    assert 105 == lookout.next_deadline_s()
    lookout.show(at(105))
    assert ["WATCHDOG=1"] == heard(systemd)


def test_who_hangs_gives_no_sign_of_life(systemd: socket.socket) -> None:
    """Unless somebody sees to it: a part that is being restarted is no reason to restart all."""
    lookout = Lookout(config.load(["--silence", str(SILENCE_S)], {}))
    lookout.ready("tcp://here")
    lookout.show(at(100, silent_s=SILENCE_S))
    assert ["READY=1", "STATUS=live has been silent for 60 s"] == heard(systemd)
    lookout.show(at(110, silent_s=SILENCE_S, phase=DOWN))
    assert ["STATUS=live is not up", "WATCHDOG=1"] == heard(systemd)
    lookout.show(at(120))
    assert ["STATUS=serving on tcp://here", "WATCHDOG=1"] == heard(systemd)


def test_the_end_is_told(systemd: socket.socket) -> None:
    lookout = Lookout(config.load([], {}))
    lookout.closing(at(100)._replace(is_closing=True))
    assert ["STOPPING=1", "STATUS=the broker is closing", "WATCHDOG=1"] == heard(systemd)
