"""Trouble that lasts is told in few lines."""

from __future__ import annotations

import logging

import pytest

from broker.host.trouble import TOLD_EVERY_S, Trouble

LOGGER = logging.getLogger("test")


def test_trouble_is_told_at_once_then_now_and_then(caplog: pytest.LogCaptureFixture) -> None:
    """A thousand failures are a line each ten seconds, with their number."""
    trouble = Trouble()
    for step in range(101):
        trouble.failed("full", 0.01 * step, LOGGER)
    assert ["full"] == caplog.messages
    trouble.failed("full", TOLD_EVERY_S, LOGGER)
    trouble.failed("full", TOLD_EVERY_S + 1, LOGGER)
    assert ["full", "full (failure 102)"] == caplog.messages


def test_another_reason_is_told_at_once(caplog: pytest.LogCaptureFixture) -> None:
    """What is wrong now is what the operator must know."""
    trouble = Trouble()
    trouble.failed("full", 0.0, LOGGER)
    trouble.failed("read-only", 0.1, LOGGER)
    assert ["full", "read-only (failure 2)"] == caplog.messages


def test_an_end_is_told_once_and_begins_anew(caplog: pytest.LogCaptureFixture) -> None:
    """The number of failures that it ends, and nothing where there was none."""
    trouble = Trouble()
    assert 0 == trouble.succeeded()
    trouble.failed("full", 0.0, LOGGER)
    trouble.failed("full", 0.1, LOGGER)
    assert 2 == trouble.succeeded()
    assert 0 == trouble.succeeded()
    trouble.failed("full", 0.2, LOGGER)
    assert ["full", "full"] == caplog.messages
