"""When the supervisor takes a silent child for a hung one, and when it does not."""

from __future__ import annotations

import logging
import subprocess
from collections.abc import Iterator
from pathlib import Path
from unittest.mock import create_autospec

import pytest

from broker import config, supervisor
from broker.child_process import Child
from broker.metrics.health import DOWN, SERVING, STARTING
from broker.supervisor import PAUSED_S, START_S_MAX, Supervisor

NOW_S = 10_000.0
SILENCE_S = 60.0


@pytest.fixture(name="watching")
def watching_supervisor(tmp_path: Path) -> Iterator[Supervisor]:
    """Yield a supervisor whose children serve, and have just been heard."""
    made = Supervisor(config.load(["--data", str(tmp_path)], {}), lambda _: None)
    made._turn_s = NOW_S - 1
    for child in made._children.values():
        child.process = create_autospec(subprocess.Popen, instance=True, pid=1)
        child.phase, child.heard_s = SERVING, NOW_S - 0.5
    yield made
    made._selector.close()


def live_after(
    watching: Supervisor, monkeypatch: pytest.MonkeyPatch, state: str, silent_s: float
) -> Child:
    """Return live when it has been silent for a time, with a thread in a state."""
    monkeypatch.setattr(supervisor, "states", lambda _: {"S", state})
    live = watching._children["live"]
    live.heard_s = NOW_S - silent_s
    watching._watch_silence(NOW_S)
    return live


@pytest.mark.parametrize("state", ["S", "R", "T", "D", "t"])
def test_whoever_spoke_lately_is_left_alone(
    watching: Supervisor, monkeypatch: pytest.MonkeyPatch, state: str
) -> None:
    assert SERVING == live_after(watching, monkeypatch, state, SILENCE_S - 1).phase


@pytest.mark.parametrize("state", ["S", "R", "T"])
def test_whoever_hangs_is_killed(
    watching: Supervisor,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    state: str,
) -> None:
    """Blocked, in an endless loop, or stopped: nobody is served."""
    with caplog.at_level(logging.ERROR):
        live = live_after(watching, monkeypatch, state, SILENCE_S + 1)
    assert DOWN == live.phase
    live.process.kill.assert_called_once_with()  # type: ignore[union-attr]
    assert ["live has given no sign of life for 61 s: restarting it"] == caplog.messages
    assert SERVING == watching._children["history"].phase


@pytest.mark.parametrize(("state", "is_at_disk"), [("D", True), ("t", False)])
def test_the_disk_and_a_debugger_are_waited_for(
    watching: Supervisor,
    monkeypatch: pytest.MonkeyPatch,
    state: str,
    is_at_disk: bool,  # noqa: FBT001 - a parameter of the test
) -> None:
    """A new process would wait for the same disk."""
    live = live_after(watching, monkeypatch, state, 100 * SILENCE_S)
    assert (SERVING, is_at_disk) == (live.phase, live.is_at_disk)
    assert is_at_disk == live.part().is_at_disk


def test_a_supervisor_that_was_stopped_itself_blames_nobody(
    watching: Supervisor, monkeypatch: pytest.MonkeyPatch
) -> None:
    """All of a broker can be frozen and thawed: by Ctrl+Z, a cgroup, a virtual machine."""
    watching._turn_s = NOW_S - PAUSED_S - 1
    assert SERVING == live_after(watching, monkeypatch, "S", 100 * SILENCE_S).phase
    assert NOW_S == watching._children["history"].heard_s


def test_a_child_that_never_reports_is_started_again(
    watching: Supervisor, monkeypatch: pytest.MonkeyPatch
) -> None:
    watching._children["live"].phase = STARTING
    assert STARTING == live_after(watching, monkeypatch, "S", START_S_MAX - 1).phase
    assert DOWN == live_after(watching, monkeypatch, "S", START_S_MAX + 1).phase
