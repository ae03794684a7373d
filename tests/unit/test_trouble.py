"""Trouble that lasts is told in few lines."""

from __future__ import annotations

from broker.trouble import TOLD_EVERY_S, Trouble


def test_trouble_is_told_at_once_then_now_and_then() -> None:
    """A thousand failures are a line each ten seconds, with their number."""
    trouble = Trouble()
    assert trouble.failed("full", 0.0) == "full"
    assert [trouble.failed("full", 0.01 * step) for step in range(100)] == [None] * 100
    assert trouble.failed("full", TOLD_EVERY_S) == "full (failure 102)"
    assert trouble.failed("full", TOLD_EVERY_S + 1) is None


def test_another_reason_is_told_at_once() -> None:
    """What is wrong now is what the operator must know."""
    trouble = Trouble()
    trouble.failed("full", 0.0)
    assert trouble.failed("read-only", 0.1) == "read-only (failure 2)"


def test_an_end_is_told_once_and_begins_anew() -> None:
    """The number of failures that it ends, and nothing where there was none."""
    trouble = Trouble()
    assert trouble.succeeded() == 0
    trouble.failed("full", 0.0)
    trouble.failed("full", 0.1)
    assert trouble.succeeded() == 2
    assert trouble.succeeded() == 0
    assert trouble.failed("full", 0.2) == "full"
