"""The load test of the command line, small and real; and nothing outlives the load tool."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from bench import stopwatch
from bench.servers import registry
from bench.servers.process import descendants
from bench.target import Target
from bench.works import startup
from bench.works.base import Startup
from client.api import ask_status
from tests.installed import started
from tests.integration.test_bench_works import Silent
from tests.waiting import eventually


def test_every_program_is_started_and_does_its_work(tmp_path: Path) -> None:
    """Each start is timed, the first round apart; and what was sent has arrived."""
    with started(registry.load("hubbub"), tmp_path) as target:
        result = startup.run(target, Startup(starts=2), Silent())
        assert ask_status(f"{target.host}:{target.ports[0]}").entries == result.counts.sent == 3
    assert {"interpreter", "prompt", "send"} == result.histograms.keys()
    assert result.figures["prompt_peak_memory_bytes"] > 0
    assert result.figures["send_peak_memory_bytes"] > 0


def test_no_start_compiles_what_an_earlier_one_has(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PYTHONDONTWRITEBYTECODE", "1")
    target = Target("hubbub", "", True, "127.0.0.1", [5555], [], [])
    assert "PYTHONDONTWRITEBYTECODE" not in startup._environ(target, str(tmp_path))


def test_a_program_that_fails_is_no_measurement() -> None:
    """What it said is told, on a terminal and in a pipe."""
    command = [sys.executable, "-c", "import sys; sys.exit('no such room')"]
    with pytest.raises(stopwatch.Failed, match="status 1: no such room"):
        stopwatch.run_to_end(command, "text")
    with pytest.raises(stopwatch.Failed, match=r"never came; it said .*no such room"):
        stopwatch.run_to_word(command, "#room>")


@pytest.mark.parametrize("server", ["hubbub", "proxy"])
def test_a_killed_load_tool_leaves_no_server(server: str, tmp_path: Path) -> None:
    """After kill -9 of the load tool the kernel ends what it had started."""
    words = ["-m", "bench", "connect", "--clients", "2", "--idle", "600", "--server", server]
    with subprocess.Popen(
        [sys.executable, *words],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        env={**os.environ, "TMPDIR": str(tmp_path)},
    ) as tool:
        family: list[int] = []

        def is_measuring() -> bool:
            family[:] = descendants(tool.pid)
            return any(b"bench.generator" in command(pid) for pid in family)

        try:
            eventually(is_measuring)
        finally:
            tool.send_signal(signal.SIGKILL)
    eventually(lambda: not any(command(pid) for pid in family))


def command(pid: int) -> bytes:
    """Return a process's command line; nothing for one that has ended."""
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return b""
