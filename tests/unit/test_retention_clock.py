"""What time retention goes by, when the wall clock is not to be trusted."""

from __future__ import annotations

import pytest

from broker.log.retention_clock import DOUBT_S, STEP_MS_MAX, RetentionClock

NOW_MS = 1_700_000_000_000
YEAR_MS = 366 * 86_400_000
START_S = 1_000.0


@pytest.fixture
def clock() -> RetentionClock:
    """One that believes in the wall clock."""
    clock = RetentionClock(START_S - DOUBT_S)
    clock.now_ms(NOW_MS - int(DOUBT_S * 1_000), START_S - DOUBT_S)
    assert NOW_MS == clock.now_ms(NOW_MS, START_S)
    return clock


def test_it_goes_with_the_wall_clock(clock: RetentionClock) -> None:
    """Also where that is set right by a little: a step a minute adds up, and is followed."""
    for minute in range(1, 100):
        now_ms = NOW_MS + minute * (60_000 + STEP_MS_MAX)
        assert now_ms == clock.now_ms(now_ms, START_S + 60 * minute)


def test_a_step_that_is_larger_than_the_bound_is_a_jump(clock: RetentionClock) -> None:
    """As large as allowed is followed at once; a millisecond more is not."""
    assert NOW_MS + STEP_MS_MAX == clock.now_ms(NOW_MS + STEP_MS_MAX, START_S)
    assert NOW_MS + STEP_MS_MAX == clock.now_ms(NOW_MS + 2 * STEP_MS_MAX + 1, START_S)


def test_a_jump_ahead_is_not_believed_at_once(clock: RetentionClock) -> None:
    assert NOW_MS + 5_000 == clock.now_ms(NOW_MS + YEAR_MS, START_S + 5)
    assert NOW_MS + 6_000 == clock.now_ms(NOW_MS + 6_000, START_S + 6), "it was set right"


def test_a_clock_that_stays_ahead_is_believed(clock: RetentionClock) -> None:
    """It may be right: the machine was asleep, or the time before was wrong."""
    clock.now_ms(NOW_MS + YEAR_MS, START_S)
    before_ms = int((DOUBT_S - 1) * 1_000)
    assert NOW_MS + before_ms == clock.now_ms(NOW_MS + YEAR_MS + before_ms, START_S + DOUBT_S - 1)
    after_ms = NOW_MS + YEAR_MS + int(DOUBT_S * 1_000)
    assert after_ms == clock.now_ms(after_ms, START_S + DOUBT_S)


def test_doubt_begins_anew_with_each_jump(clock: RetentionClock) -> None:
    clock.now_ms(NOW_MS + YEAR_MS, START_S)
    clock.now_ms(NOW_MS + 60_000, START_S + 60)
    late_s = START_S + DOUBT_S
    assert clock.now_ms(NOW_MS + YEAR_MS, late_s) < NOW_MS + YEAR_MS


def test_a_jump_back_is_believed_at_once(clock: RetentionClock) -> None:
    assert NOW_MS - YEAR_MS == clock.now_ms(NOW_MS - YEAR_MS, START_S + 1)


def test_nothing_is_too_old_for_a_while_after_a_start() -> None:
    """The clock may have jumped while nobody was there to see it, and the log may believe it."""
    clock = RetentionClock(START_S)
    assert 1_000 == clock.now_ms(NOW_MS, START_S + 1)
    assert DOUBT_S * 1_000 == clock.now_ms(NOW_MS, START_S + DOUBT_S)
    assert NOW_MS == clock.now_ms(NOW_MS, START_S + DOUBT_S + 1)
