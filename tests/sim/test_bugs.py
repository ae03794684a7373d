"""Do the checkers bite? Each mistake of `tests.sim.bugs` must be caught, and only mistakes."""

from __future__ import annotations

from contextlib import ExitStack

import pytest

from tests.sim.bugs import BUGS
from tests.sim.run import Run, run

STEPS = 400


@pytest.mark.parametrize("name", BUGS)
def test_a_mistake_is_caught_within_its_number_of_seeds(name: str) -> None:
    """And the seed that catches it passes without it."""
    caught = first_caught(name)
    assert caught is not None, f"nobody noticed in {BUGS[name].seeds} seeds: {name}"
    chosen = next(each for seed, each in BUGS[name].weathers(STEPS) if seed == caught.seed)
    assert "" == run(caught.seed, chosen).violation


def first_caught(name: str) -> Run | None:
    """Return the first run that fails because of a mistake."""
    for seed, chosen in BUGS[name].weathers(STEPS):
        with ExitStack() as stack:
            BUGS[name].plant(stack)
            found = run(seed, chosen)
        if found.violation:
            return found
    return None
