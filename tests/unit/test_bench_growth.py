"""Slopes of a long run, and which of them are leaks. Every series here is made, none measured."""

from __future__ import annotations

import random

import pytest

from bench import growth
from bench.growth import MIB, Growth, growths, slope_per_s
from bench.results import Moment

HALF_HOUR_S = 1_800
WARMUP_S = 600.0


def course(name: str, values: list[float]) -> list[Moment]:
    """Return a course with one value a second."""
    return [Moment(float(at_s), {name: value, "cpu_s": at_s}) for at_s, value in enumerate(values)]


def grown(name: str, values: list[float]) -> Growth:
    (found,) = growths(course(name, values), WARMUP_S)
    return found


def noisy(start: float, per_hour: float, noise: float) -> list[float]:
    """Return half an hour of a value that rises, with noise of a fixed seed."""
    chance = random.Random(1)
    return [
        start + per_hour * at_s / 3_600 + chance.uniform(-noise, noise)
        for at_s in range(HALF_HOUR_S)
    ]


# --- the slope --------------------------------------------------------------
def test_the_slope_of_a_line_is_exact() -> None:
    assert pytest.approx(5) == slope_per_s([(at_s, 5.0 * at_s + 3) for at_s in (1, 2, 4, 9)])


def test_outliers_and_steps_do_not_move_the_slope() -> None:
    """A quarter of the values is far off; least squares would see a rise of 19 a second."""
    values = [7.0] * 75 + [1_000.0] * 25
    assert 0 == slope_per_s(list(enumerate(values)))


def test_a_long_course_costs_no_more_than_a_short_one() -> None:
    week = [(float(at_s), 2.0 * at_s) for at_s in range(7 * 86_400)]
    assert pytest.approx(2) == slope_per_s(week)


# --- the verdict ------------------------------------------------------------
@pytest.mark.parametrize(
    ("name", "start", "noise"),
    [
        ("live_memory_bytes", 60 * MIB, 2 * MIB),
        ("live_descriptors", 450, 40),
        ("history_threads", 8, 0),
        ("database_bytes", 5 * MIB, 0.5 * MIB),
        ("wal_bytes", 4 * MIB, 1 * MIB),
    ],
)
def test_what_is_flat_passes_and_what_leaks_fails(name: str, start: float, noise: float) -> None:
    """Each kind: noise alone is none, and twice the bound is one."""
    flat = grown(name, noisy(start, 0, noise))
    assert not flat.is_leak, flat
    leak = grown(name, noisy(start, 2 * flat.bound_per_hour, noise))
    assert leak.is_leak, leak
    falling = grown(name, noisy(start, -2 * flat.bound_per_hour, noise))
    assert not falling.is_leak, falling


def test_a_saw_tooth_is_flat_and_a_log_without_retention_is_not() -> None:
    """Segments come and go by 64 MiB every two minutes; or they only come."""
    teeth = [40 * MIB + 64 * MIB * (at_s % 120) / 120 for at_s in range(HALF_HOUR_S)]
    assert not grown("segments_bytes", teeth).is_leak
    kept = [40 * MIB + 64 * MIB * at_s / 120 for at_s in range(HALF_HOUR_S)]
    assert grown("segments_bytes", kept).is_leak


def test_what_grows_in_the_warm_up_is_not_judged() -> None:
    values = [min(at_s, 599) * MIB for at_s in range(HALF_HOUR_S)]
    found = grown("live_memory_bytes", [float(value) for value in values])
    assert not found.is_leak
    assert 599 * MIB == found.first == found.last == found.highest


def test_a_short_run_does_not_take_noise_for_a_leak() -> None:
    """Two MiB in ten seconds are 720 MiB an hour, and nothing; in half an hour they are nothing."""
    short = growths(course("live_memory_bytes", [at * 0.2 * MIB for at in range(11)]), 0)
    assert pytest.approx(720 * MIB) == short[0].per_hour
    assert not short[0].is_leak
    bound = grown("live_memory_bytes", noisy(0, 0, 0)).bound_per_hour
    assert bound == pytest.approx(3 * growth.BOUNDS["memory_bytes"].rise, rel=0.01)


def test_totals_and_short_series_have_no_slope() -> None:
    found = growths(course("delivered", [1.0, 2.0, 3.0, 4.0]), 0)
    assert [] == found
    assert [] == growths(course("live_threads", [1.0, 2.0]), 0)


def test_a_growth_is_told_with_its_units() -> None:
    found = Growth("live_memory_bytes", 10 * MIB, 12 * MIB, 13 * MIB, 4 * MIB, 8 * MIB)
    assert "live_memory_slope_bytes_per_h" == found.figure
    for words in ("10 MiB after", "12 MiB in the end", "13 MiB at most", "4 MiB an hour", "8 MiB"):
        assert words in found.sentence()
    assert "live_threads_slope_per_h" == found._replace(name="live_threads").figure
