"""Giving memory back to the system after a rush. Reads this process's own size; no other state.

libzmq allocates from many threads, and glibc keeps what they free for the next time. A crowd or
an attacker that has left would be seen in the broker's memory for ever.
"""

from __future__ import annotations

import ctypes
import os
from collections.abc import Callable
from pathlib import Path

PAGE_BYTES = os.sysconf("SC_PAGE_SIZE")
CALM_S = 5.0  # Between two looks.
GROWTH_BYTES = 8 * 1024 * 1024  # Less than this is not worth a walk through the heap.


def resident_bytes() -> int:
    """Return this process's resident memory."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * PAGE_BYTES


class Keeper:
    """Looks now and then, and gives back what is free when the process has grown."""

    def __init__(self, trim: Callable[[int], int] | None = None) -> None:
        """Take the C library's own `malloc_trim`; one that has none (musl) keeps nothing back."""
        self._trim = trim or getattr(ctypes.CDLL(None), "malloc_trim", None)
        self._kept_bytes = resident_bytes()

    def look(self) -> None:
        """Give back what is free, if it may be much."""
        now_bytes = resident_bytes()
        if self._trim is not None and now_bytes > self._kept_bytes + GROWTH_BYTES:
            self._trim(0)
            self._kept_bytes = resident_bytes()
        else:
            self._kept_bytes = min(self._kept_bytes, now_bytes)
