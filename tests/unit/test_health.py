"""When the broker counts as hung, and when as not ready."""

from __future__ import annotations

import pytest

from broker.metrics.health import (
    DOWN,
    FREE_BYTES_MIN,
    READY_SILENCE_S,
    SERVING,
    STARTING,
    SUPERVISOR_SILENCE_S,
    Part,
    Snapshot,
    what_fails,
    what_hangs,
)

NOW_S = 1_000.0
SILENCE_S = 60.0


def part(name: str = "live", silent_s: float = 0.5, phase: str = SERVING) -> Part:
    return Part(name, phase, 4711, 1, NOW_S - silent_s)


def snapshot(*parts: Part, age_s: float = 0.1, **now: int) -> Snapshot:
    return Snapshot(NOW_S - age_s, parts, {}, now)


def test_a_broker_that_speaks_is_alive_and_ready() -> None:
    well = snapshot(part("history"), part("live"))
    assert [] == what_hangs(well, NOW_S, SILENCE_S)
    assert [] == what_fails(well, NOW_S, FREE_BYTES_MIN)
    assert [] == what_fails(well, NOW_S, None)


@pytest.mark.parametrize(
    ("silent_s", "is_ready", "is_alive"),
    [(READY_SILENCE_S, True, True), (READY_SILENCE_S + 1, False, True), (31, False, False)],
)
def test_silence_is_first_not_ready_and_then_not_alive(
    silent_s: float, *, is_ready: bool, is_alive: bool
) -> None:
    silent = snapshot(part("history"), part("live", silent_s))
    words = f"live has been silent for {silent_s:.0f} s"
    assert ([] if is_alive else [words]) == what_hangs(silent, NOW_S, SILENCE_S)
    assert ([] if is_ready else [words]) == what_fails(silent, NOW_S, None)


@pytest.mark.parametrize("phase", [STARTING, DOWN])
def test_a_restart_is_not_ready_but_alive(phase: str) -> None:
    """Somebody cares for it: to restart all of the broker would only take longer."""
    restarting = snapshot(part("history"), part("live", 40, phase))
    assert [] == what_hangs(restarting, NOW_S, SILENCE_S)
    assert ["live is not up"] == what_fails(restarting, NOW_S, None)


def test_waiting_for_the_disk_is_not_ready_but_alive() -> None:
    stalled = snapshot(part("live", 400)._replace(is_at_disk=True))
    assert [] == what_hangs(stalled, NOW_S, SILENCE_S)
    words = "live has been silent for 400 s: it waits for the disk"
    assert [words] == what_fails(stalled, NOW_S, None)


def test_a_supervisor_that_hangs_is_neither() -> None:
    """What it knew of the others is as old."""
    old = snapshot(part("live"), age_s=SUPERVISOR_SILENCE_S + 1)
    assert ["the supervisor has been silent for 16 s"] == what_hangs(old, NOW_S, SILENCE_S)
    assert "the supervisor is silent" in what_fails(old, NOW_S, None)


def test_a_log_that_cannot_be_written_is_not_ready() -> None:
    failing = snapshot(part(), log_failing=1)
    assert [] == what_hangs(failing, NOW_S, SILENCE_S)
    assert ["the log cannot be written"] == what_fails(failing, NOW_S, None)


def test_a_broker_that_is_drained_is_not_ready_but_alive() -> None:
    draining = snapshot(part(), draining=1)
    assert [] == what_hangs(draining, NOW_S, SILENCE_S)
    words = ["nobody new is taken: the broker is to be stopped"]
    assert words == what_fails(draining, NOW_S, None)
    assert [] == what_fails(snapshot(part(), draining=0), NOW_S, None)


def test_a_full_disk_is_not_ready() -> None:
    assert [] == what_fails(snapshot(part()), NOW_S, FREE_BYTES_MIN)
    assert ["the disk is full: 15 MiB left"] == what_fails(
        snapshot(part()), NOW_S, FREE_BYTES_MIN - 1
    )


def test_a_broker_that_closes_is_not_ready() -> None:
    closing = snapshot(part())._replace(is_closing=True)
    assert ["the broker is closing"] == what_fails(closing, NOW_S, None)
