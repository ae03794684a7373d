"""Waiting for conditions, with a deadline that only a failure meets."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")

DEADLINE_S = 60.0  # Long, because the machine may be busy; nobody waits so long unless it fails.
PAUSE_S = 0.01
_never = threading.Event()


def eventually(condition: Callable[[], T], what: str = "", deadline_s: float = DEADLINE_S) -> T:
    """Return the condition's first true value; fail when there is none before the deadline."""
    end_s = time.monotonic() + deadline_s
    while not (value := condition()):
        assert time.monotonic() < end_s, f"waited {deadline_s} s in vain for {what or condition}"
        _never.wait(PAUSE_S)
    return value
