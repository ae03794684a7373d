"""Runs can be repeated: a seed says all, whatever the machine does; and hunts end as they say."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from broker.log.segments import SegmentWriter
from tests.sim import hunt
from tests.sim.run import home, run
from tests.sim.weather import weather

ROOT = Path(__file__).parent.parent.parent
SEEDS = (7, 18)
STEPS = 400


def simulate(*arguments: str, hash_seed: int) -> subprocess.CompletedProcess[str]:
    """Run `python -m tests.sim` with the hashes of strings drawn from a seed."""
    return subprocess.run(
        [sys.executable, "-m", "tests.sim", *arguments],
        cwd=ROOT,
        env=os.environ | {"PYTHONHASHSEED": str(hash_seed)},
        check=False,
        capture_output=True,
        text=True,
    )


@pytest.mark.parametrize("seed", SEEDS)
def test_a_seed_leaves_the_same_trace_whatever_the_hashes(seed: int) -> None:
    """Byte by byte, so that a failure can be looked at again and again."""
    traces = [simulate("--seed", str(seed), hash_seed=hash_seed) for hash_seed in (1, 2)]
    assert traces[0].stdout == traces[1].stdout
    assert [0, 0] == [trace.returncode for trace in traces], traces[0].stderr
    assert re.search(r"^ +\d+\.\d{3}  live +commits \d+ texts$", traces[0].stdout, re.MULTILINE)
    assert traces[0].stdout.endswith("every promise was kept\n")


def test_seeds_differ() -> None:
    first, second = (run(seed, weather(seed, steps=50), is_traced=True).lines for seed in SEEDS)
    assert first != second


def test_a_hunt_without_a_find_ends_well(capsys: pytest.CaptureFixture[str]) -> None:
    assert 0 == hunt.hunt(range(5), STEPS, 1)
    assert re.fullmatch(r"5 seeds in [\d.]+ s, \d+/s: 0 broken\n", capsys.readouterr().out)


def test_a_hunt_tells_how_to_see_a_find_again(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """With every sync skipped, something is told that is not durable."""
    right = SegmentWriter.append

    def hasty(self: SegmentWriter, *record: object) -> int:
        self._sync = lambda _file: None
        return right(self, *record)  # type: ignore[arg-type]

    monkeypatch.setattr(SegmentWriter, "append", hasty)
    assert 1 == hunt.hunt(range(1), STEPS, 1)
    assert capsys.readouterr().out.startswith("make sim SEED=0: ")


def test_workers_share_a_hunt_and_leave_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    assert 0 == hunt.hunt(range(20), 50, 2)
    assert capsys.readouterr().out.startswith("20 seeds")
    place = home() or Path(tempfile.gettempdir())
    assert [] == list(place.glob(f"hubbub-sims-{os.getpid()}-*"))
