"""Headroom: when memory is short, for how long, and when it is not any more."""

from __future__ import annotations

import math
import os
import resource
from collections.abc import Callable
from pathlib import Path

import pytest

from broker.host import headroom
from broker.host.headroom import LOOK_EVERY_S, MARGIN_BYTES, PATIENCE_S, Headroom

LIMIT_BYTES = 8 * MARGIN_BYTES

Take = Callable[[int], None]


@pytest.fixture
def take(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Take:
    """Return a function that says how much memory this process has taken, of a limit."""
    statm = tmp_path / "statm"
    monkeypatch.setattr(headroom, "STATM", statm)
    monkeypatch.setattr(resource, "getrlimit", lambda _: (LIMIT_BYTES, LIMIT_BYTES))

    def write(taken_bytes: int) -> None:
        statm.write_text(f"{taken_bytes // os.sysconf('SC_PAGE_SIZE')} 1 1 1 0 1 0\n")

    return write


def test_it_is_short_from_the_margin_on(take: Take) -> None:
    """And no more when enough was given back."""
    found = Headroom()
    for step, (taken_bytes, is_short) in enumerate(
        [
            (LIMIT_BYTES - MARGIN_BYTES, False),
            (LIMIT_BYTES - MARGIN_BYTES + 4_096, True),
            (LIMIT_BYTES, True),
            (0, False),
        ]
    ):
        take(taken_bytes)
        found.look(step)
        assert found.is_short == is_short


def test_it_is_hopeless_after_a_while(take: Take) -> None:
    """Counted from the first look that found it short."""
    take(LIMIT_BYTES)
    found = Headroom()
    for step in range(int(PATIENCE_S) + 1):
        found.look(step)
        assert not found.is_hopeless(step)
    assert found.is_hopeless(PATIENCE_S + 1)


def test_it_looks_now_and_then(take: Take) -> None:
    """A look costs more than a short turn of the worker."""
    take(0)
    found = Headroom()
    found.look(0.0)
    take(LIMIT_BYTES)
    found.look(LOOK_EVERY_S / 2)
    assert not found.is_short
    found.look(LOOK_EVERY_S)
    assert found.is_short


def test_without_a_limit_there_is_nothing_to_look_at(
    take: Take, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The usual case costs nothing."""
    take(LIMIT_BYTES)
    endless = (resource.RLIM_INFINITY, resource.RLIM_INFINITY)
    monkeypatch.setattr(resource, "getrlimit", lambda _: endless)
    found = Headroom()
    found.look(1e9)
    assert not found.is_short
    assert found.limit_bytes == math.inf
    assert found.taken_bytes == 0


def test_an_unreadable_figure_changes_nothing(take: Take) -> None:
    """Without a descriptor left, the last look has to do."""
    take(LIMIT_BYTES)
    found = Headroom()
    found.look(0.0)
    headroom.STATM.unlink()
    found.look(1.0)
    assert found.is_short
