"""A short run of `make torture`, and bugs planted into the broker that it must find."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

from tests.broker_process import ROOT
from tests.torture.__main__ import text_of, torture
from tests.torture.plan import FREEZE, KILLED, draw
from tests.torture.stage import Report

PLANTED = Path(__file__).parent.parent / "torture" / "planted"
KILLS = 12
RUNS_MAX = 8  # Of six kills each, until a bug is found.


def with_bug(name: str) -> list[str]:
    return ["env", f"PYTHONPATH={PLANTED}{os.pathsep}{ROOT}", f"HUBBUB_PLANTED={name}"]


def test_a_dozen_kills_of_everything_lose_nothing(tmp_path: Path) -> None:
    """What `make torture` does, with fewer kills: each kind of victim is among them."""
    seed = 6
    kinds = {trouble.victim for trouble in draw(seed, KILLS) if trouble.what != FREEZE}
    assert set(KILLED) == kinds
    report = torture(tmp_path, seed=seed, kills=KILLS)
    assert report.is_clean, text_of(report)
    assert report.verdict.acknowledged > 0
    assert report.verdict.views >= 2 * report.clients_last


def test_orders_hold_over_kills_of_a_broker_that_encrypts(tmp_path: Path) -> None:
    """What `make torture ARGS=--secure` does, with fewer of all, but for its orders."""
    victims = ("live", "all")
    report = torture(
        tmp_path, seed=1, kills=6, victims=victims, crowds=1, members=2, is_secure=True, yards=1
    )
    assert report.is_clean, text_of(report)
    assert report.verdict.acknowledged > 0
    assert sum(report.orders.values()) > 0


def runs_with_bug(folder: Path, bug: str, *, yards: int = 0) -> Iterator[Report]:
    """Yield reports of short runs: a kill must come at the right moment, and does in most."""
    for seed in range(1, RUNS_MAX + 1):
        (folder / str(seed)).mkdir()
        yield torture(
            folder / str(seed),
            seed=seed,
            kills=6,
            victims=("live", "all"),
            prefix=with_bug(bug),
            crowds=2,
            yards=yards,
        )


def test_an_acknowledgement_before_the_commit_is_found(tmp_path: Path) -> None:
    assert any(report.verdict.lost for report in runs_with_bug(tmp_path, "acknowledge_first"))


def test_a_record_dropped_after_a_crash_is_found(tmp_path: Path) -> None:
    assert any(report.verdict.lost for report in runs_with_bug(tmp_path, "drop_last"))


def test_a_resend_stored_twice_is_found(tmp_path: Path) -> None:
    assert any(report.verdict.duplicated for report in runs_with_bug(tmp_path, "forget_sends"))


def test_an_order_that_was_told_before_it_was_kept_is_found(tmp_path: Path) -> None:
    assert any(report.disorder for report in runs_with_bug(tmp_path, "tell_orders_first", yards=1))
