"""A child that cannot be started: the machine has no process, descriptor or memory for it."""

from __future__ import annotations

import errno
import logging
import os
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from unittest.mock import Mock

import pytest

from broker import config
from broker.child import Orders
from broker.metrics.health import DOWN, STARTING
from broker.supervisor import BACK_OFF_S, StartFailed, Supervisor

SHORTAGES = [errno.EAGAIN, errno.ENOMEM, errno.EMFILE]


@pytest.fixture(name="supervisor")
def beginning_supervisor(tmp_path: Path) -> Iterator[Supervisor]:
    """Yield a supervisor that knows its orders and has no child yet."""
    settings = config.load(["--data", str(tmp_path)], {})
    made = Supervisor(settings, lambda _: None)
    made._orders = Orders(settings, "127.0.0.1", 1, 2, 3)
    made._lock = os.open(tmp_path, os.O_RDONLY)
    yield made
    os.close(made._lock)
    made._selector.close()


@pytest.mark.parametrize("reason", SHORTAGES)
def test_a_restart_that_fails_is_told_and_tried_again(
    supervisor: Supervisor,
    reason: int,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """With the back-off of a child that dies again and again; it heals when there is a process."""
    live = supervisor._children["live"]
    popen = Mock(side_effect=OSError(reason, os.strerror(reason)))
    real = subprocess.Popen
    monkeypatch.setattr(subprocess, "Popen", popen)
    with caplog.at_level(logging.ERROR):
        for delay_s in (*BACK_OFF_S, BACK_OFF_S[-1]):
            earliest_s = time.monotonic() + delay_s
            supervisor._restart(live)
            assert live.restart_at_s is not None
            assert earliest_s <= live.restart_at_s <= time.monotonic() + delay_s
            assert caplog.messages[-1] == (
                f"live cannot be started ({os.strerror(reason)}); again in {delay_s:.2f} s"
            )
    assert (DOWN, None, -1) == (live.phase, live.process, live.restarts_count)
    monkeypatch.setattr(subprocess, "Popen", real)
    supervisor._reloads_asked = 3  # By the one before it.
    try:
        supervisor._restart(live)
        assert supervisor._reloads_asked == 0
        assert (STARTING, None, 0) == (live.phase, live.restart_at_s, live.restarts_count)
    finally:
        live.kill()
        live.reap()


@pytest.mark.parametrize("reason", SHORTAGES)
def test_a_first_start_that_fails_says_why(
    supervisor: Supervisor, reason: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nobody waits for it yet: the operator reads one line."""
    failing = Mock(side_effect=OSError(reason, os.strerror(reason)))
    monkeypatch.setattr(subprocess, "Popen", failing)
    with pytest.raises(StartFailed, match=f"^cannot start history: {os.strerror(reason)}; "):
        supervisor._start("127.0.0.1")
