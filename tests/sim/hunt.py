"""Tries many seeds, on all cores. Its workers import this module: they cannot import a main."""

from __future__ import annotations

import multiprocessing
import os
import signal
import sys
import tempfile
import time
from collections.abc import Generator
from contextlib import closing
from pathlib import Path

from tests.sim.run import Run, home, run
from tests.sim.weather import weather

STEPS = 400
CHUNK = 10  # Seeds that a worker is handed at once.
TOLD_EVERY_S = 2.0


def hunt(seeds: range, steps: int, jobs: int) -> int:
    """Try many; show each that breaks a promise, with how to see it again."""
    begun_s = told_s = time.monotonic()
    count = broken = 0
    try:
        with closing(_runs(seeds, steps, jobs)) as runs:
            for count, found in enumerate(runs, 1):
                if found.violation:
                    broken += 1
                    again = "" if steps == STEPS else f" ARGS='--steps {steps}'"
                    _tell(f"make sim SEED={found.seed}{again}: {found.violation}\n")
                now_s = time.monotonic()
                if now_s - told_s >= TOLD_EVERY_S:
                    told_s = now_s
                    rate = count / (now_s - begun_s)
                    _progress(f"{count} of {len(seeds)} seeds, {rate:.0f}/s, {broken} broken")
    except KeyboardInterrupt:
        _tell("stopped\n")
    took_s = time.monotonic() - begun_s
    _tell(f"{count} seeds in {took_s:.1f} s, {count / max(took_s, 1e-9):.0f}/s: {broken} broken\n")
    if broken:
        return 1
    return 0 if count == len(seeds) else 130


def _progress(text: str) -> None:
    """Write the line of progress, where somebody looks."""
    if sys.stdout.isatty():
        _tell(text)


def _tell(text: str) -> None:
    """Write over the line of progress, if there is one."""
    sys.stdout.write(f"\r\x1b[K{text}" if sys.stdout.isatty() else text)
    sys.stdout.flush()


def _runs(seeds: range, steps: int, jobs: int) -> Generator[Run, None, None]:
    """Yield what came of each seed, in no order. Leaves nothing behind when it is closed."""
    with tempfile.TemporaryDirectory(prefix=f"hubbub-sims-{os.getpid()}-", dir=home()) as place:
        tasks = [(seed, steps, Path(place)) for seed in seeds]
        if jobs == 1:
            yield from map(_one, tasks)
            return
        context = multiprocessing.get_context("spawn")
        with context.Pool(jobs, _leave_interrupts) as pool:
            yield from pool.imap_unordered(_one, tasks, CHUNK)
            pool.close()
            pool.join()


def _leave_interrupts() -> None:
    """Let Ctrl+C reach the parent alone; it ends the others, by SIGTERM."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)


def _one(task: tuple[int, int, Path]) -> Run:
    seed, steps, place = task
    return run(seed, weather(seed, steps=steps), place=place)
