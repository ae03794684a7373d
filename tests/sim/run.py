"""One run: a seed and its weather in, the verdict and the trace out."""

from __future__ import annotations

import os
import random
import shutil
import sqlite3
import tempfile
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import NamedTuple
from unittest import mock

import broker.log.index
import broker.log.segments
import broker.log.writer
from tests.sim.checkers import Violation
from tests.sim.weather import Weather, small_limits
from tests.sim.world import World


def home() -> Path | None:
    """Return where runs have their folders: in memory where that can be, or as the system says."""
    memory = Path("/dev/shm")  # noqa: S108 - the folder's own name is drawn by mkdtemp
    return memory if os.access(memory, os.W_OK) else None


@contextmanager
def world(
    seed: int, weather: Weather, *, is_traced: bool = False, place: Path | None = None
) -> Iterator[World]:
    """Make a world in a folder of its own, at a place; afterwards all is as it was before."""
    dice = random.Random(f"secrets {seed}")
    secrets = SimpleNamespace(token_bytes=dice.randbytes, randbelow=dice.randrange)
    folder = Path(tempfile.mkdtemp(prefix="hubbub-sim-", dir=place or home()))
    try:
        made = World(seed, folder, weather, is_traced=is_traced)
        database = SimpleNamespace(connect=made.disk.connect, Connection=sqlite3.Connection)
        with (
            small_limits(weather.limits),
            mock.patch.object(broker.log.writer, "secrets", secrets),
            mock.patch.object(broker.log.segments, "os", made.disk),
            mock.patch.object(broker.log.index, "sqlite3", database),
        ):
            try:
                made.begin()
                yield made
            finally:
                made.close()
    finally:
        shutil.rmtree(folder)


class Run(NamedTuple):
    """What came of a seed."""

    seed: int
    violation: str  # Empty when every promise was kept.
    lines: list[str]  # The trace, if it was wanted.


def run(seed: int, weather: Weather, *, is_traced: bool = False, place: Path | None = None) -> Run:
    """Replay a seed, and judge it."""
    with world(seed, weather, is_traced=is_traced, place=place) as made:
        violation = ""
        try:
            for _ in range(weather.steps):
                made.step()
            made.heal()
        except Violation as broken:
            violation = str(broken)
        except Exception as error:  # noqa: BLE001 - the product failed: no matter how
            last = traceback.extract_tb(error.__traceback__)[-1]
            where = f"{Path(last.filename).name}:{last.lineno}"
            violation = f"{type(error).__name__} at {where}: {error}"
        return Run(seed, violation, made.trace.lines)
