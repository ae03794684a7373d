"""Replays one seed, or hunts over many: `make sim SEED=17`, `make sim SEEDS=100000`."""

from __future__ import annotations

import argparse
import os
import signal
import sys

from tests.sim.hunt import STEPS, hunt
from tests.sim.run import run
from tests.sim.weather import weather


def main() -> int:
    """Return 1 when a promise was broken, 130 after Ctrl+C."""
    parser = argparse.ArgumentParser(prog="make sim", description=__doc__)
    what = parser.add_mutually_exclusive_group()
    what.add_argument("--seed", type=int, help="replay this one, and show all that happens")
    what.add_argument("--seeds", type=int, default=1_000, help="hunt over so many")
    parser.add_argument("--first", type=int, default=0, help="the first one of them")
    parser.add_argument("--steps", type=int, default=STEPS, help="random things before it heals")
    parser.add_argument(
        "--jobs", type=int, default=os.cpu_count() or 1, help="processes at once; all cores"
    )
    chosen = parser.parse_args()
    # A shell that starts us in the background has the first one ignored.
    for interrupt in (signal.SIGINT, signal.SIGTERM):
        signal.signal(interrupt, signal.default_int_handler)
    if chosen.seed is not None:
        return replay(chosen.seed, chosen.steps)
    return hunt(range(chosen.first, chosen.first + chosen.seeds), chosen.steps, chosen.jobs)


def replay(seed: int, steps: int) -> int:
    """Show one run: its weather, every line of its trace, and the verdict."""
    chosen = weather(seed, steps=steps)
    print(f"seed {seed}, {steps} steps\n{chosen.words()}")
    found = run(seed, chosen, is_traced=True)
    print("\n".join(found.lines))
    print(f"BROKEN: {found.violation}" if found.violation else "every promise was kept")
    return 1 if found.violation else 0


if __name__ == "__main__":
    sys.exit(main())
