"""Somebody sets the time of the machine while the broker and its clients run."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest

from broker.log.progress import FILE_NAME
from tests.broker_process import ROOT, BrokerProcess
from tests.torture.__main__ import text_of
from tests.torture.stage import Stage, read_files
from tests.waiting import eventually

FOLDER = Path(__file__).parent / "wall_clock"
HOUR_S = 3_600
YEAR_S = 366 * 24 * HOUR_S


class WallClock:
    """The clock of processes that are started with its prefix."""

    def __init__(self, folder: Path) -> None:
        self._path = folder / "clock"
        self.jump(0)
        self.prefix = [
            "env",
            f"PYTHONPATH={FOLDER}{os.pathsep}{ROOT}",
            f"HUBBUB_CLOCK={self._path}",
        ]

    def jump(self, shift_s: int) -> None:
        """Set it to so many seconds off the true time."""
        fresh = self._path.with_suffix(".new")
        fresh.write_text(str(shift_s))
        fresh.replace(self._path)  # At once: nobody reads half a number.


@pytest.fixture
def clock(tmp_path: Path) -> WallClock:
    return WallClock(tmp_path)


def await_trims(broker: BrokerProcess) -> None:
    """Wait until retention has looked at the log twice: each look notes the progress."""
    noted = broker.data / FILE_NAME
    for _ in range(2):
        before = noted.read_text()
        eventually(lambda before=before: noted.read_text() != before, "a trim")  # type: ignore[misc]


@pytest.mark.parametrize("is_restarted", [False, True])
def test_a_clock_that_jumps_costs_nothing(
    tmp_path: Path, clock: WallClock, *, is_restarted: bool
) -> None:
    """Ahead and back: order, times that rise, sessions; and retention drops nothing young."""
    flags = ("--retain-days", "1", "--grace", "600")
    with (
        BrokerProcess(tmp_path / "data", *flags, prefix=clock.prefix) as broker,
        Stage(broker, tmp_path, members=4) as stage,
    ):
        for _ in range(2):
            stage.add(prefix=clock.prefix)
        stage.await_joined()
        for shift_s in (HOUR_S, -HOUR_S, YEAR_S, 0, -YEAR_S, 2 * YEAR_S):
            clock.jump(shift_s)
            if is_restarted:
                broker.kill_all()
                broker.start(broker.port)
            stage.await_progress(10)
            if shift_s >= YEAR_S:
                await_trims(broker)
        report = stage.finish()
        assert report.is_clean, text_of(report)
        assert not stage.gone()
        newest_s = max(lines[-1].ts for lines in read_files(broker.data).values()) / 1_000
        assert newest_s > time.time() + YEAR_S, "the clock did not jump"
