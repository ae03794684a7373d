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
PAUSE_LOOKS_MAX = 6
GROWTH_BYTES = 8 * 1024 * 1024  # Less than this is not worth a walk through the heap.


def resident_bytes() -> int:
    """Return this process's resident memory."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * PAGE_BYTES


class Keeper:
    """Looks now and then, and gives back what is free when the process has grown.

    What is in use can't be given back: then it looks more rarely, for a walk through a large heap
    takes milliseconds, and whoever needs memory of it meanwhile waits.
    """

    def __init__(self, trim: Callable[[int], int] | None = None) -> None:
        """Take the C library's own `malloc_trim`; one that has none (musl) keeps nothing back."""
        self._trim = trim or getattr(ctypes.CDLL(None), "malloc_trim", None)
        self._least_bytes = resident_bytes()
        self._pause_looks = 1  # After a trim; doubles while trims do not help.
        self._looks_left = 0

    def look(self) -> None:
        """Give back what is free, if it may be much and it was not tried just now."""
        now_bytes = resident_bytes()
        self._least_bytes = min(self._least_bytes, now_bytes)
        if self._trim is None or now_bytes <= self._least_bytes + GROWTH_BYTES:
            self._pause_looks, self._looks_left = 1, 0
        elif self._looks_left:
            self._looks_left -= 1
        else:
            self._trim(0)
            is_help = resident_bytes() <= now_bytes - GROWTH_BYTES
            self._pause_looks = 1 if is_help else min(2 * self._pause_looks, PAUSE_LOOKS_MAX)
            self._looks_left = self._pause_looks - 1
