"""The promises, under random schedules of crashes, cuts, losses and delays. Each has a seed.

`make sim SEED=n` replays one of `test_promises_hold_in_any_weather` with all that happened.
"""

from __future__ import annotations

import pytest

from broker.chat.floods import Rate
from tests.sim.run import run, world
from tests.sim.weather import FAULTS, PLENTY, Weather, weather

STEPS = 400
# What loses no command that is not sent again, so that nothing is refused.
GENTLE = {
    *("cut", "deafen", "lose_publication", "lose_question", "jump"),
    *("freeze_client", "freeze_broker", "freeze_history"),
    *("kill_live", "kill_history", "cut_power", "stop", "crash_in_drain"),
}


def gentle(seed: int) -> Weather:
    """Return a weather in which no text is refused."""
    chosen = weather(seed, steps=STEPS, has_unnoticed_losses=False, is_secure=False)
    hard = FAULTS.keys() - GENTLE
    weights = {name: weight for name, weight in chosen.weights.items() if name not in hard}
    weights |= {"cut": 20, "deafen": 20, "crash_in_drain": 40}
    return chosen._replace(weights=weights, rate=PLENTY, loss=0.05)


@pytest.mark.parametrize("first", range(0, 300, 10))
def test_promises_hold_in_any_weather(first: int) -> None:
    """Whatever fails: the seeds that `make sim` begins with, ten at a time."""
    found = [run(seed, weather(seed, steps=STEPS)) for seed in range(first, first + 10)]
    assert [] == [(each.seed, each.violation) for each in found if each.violation]


@pytest.mark.parametrize("seed", range(30))
def test_promises_hold_under_any_schedule(seed: int) -> None:
    """Kept means kept, once, in one order, without holes, for everybody; nothing is refused."""
    with world(seed, gentle(seed)) as made:
        for _ in range(STEPS):
            made.step()
        made.heal()
        assert made.judge.failed == {}
        assert made.judge.kept
        assert made.broker.starts > 1


@pytest.mark.parametrize("seed", range(30))
def test_promises_hold_when_losses_go_unnoticed(seed: int) -> None:
    """A text may then be refused, because its room's JOIN was lost, but is never kept as well."""
    found = run(seed, weather(seed, steps=STEPS, has_unnoticed_losses=True))
    assert "" == found.violation, f"seed {seed}"


@pytest.mark.parametrize("seed", range(10))
def test_promises_hold_for_clients_that_are_too_fast(seed: int) -> None:
    """Whoever is told to slow down loses nothing and keeps the order."""
    with world(seed, gentle(seed)._replace(rate=Rate(per_s=40, burst=256))) as made:
        for _ in range(STEPS):
            made.step()
        for client in made.clients:
            if client.stays:
                client.say(sorted(client.stays), 600, made.now_s)
        made.heal()
        assert made.judge.failed == {}
        assert made.broker.core is None  # It was stopped, and its files were judged.
        assert made.refusals["slow_down"]
