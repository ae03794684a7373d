"""How near the process is to the memory that it may have (RLIMIT_AS, `ulimit -v`).

libzmq does not survive an allocation that fails: it aborts, or worse. So the broker says no while
there still is some memory. What is measured is what the limit is about, the addresses taken; they
fall when what waits for slow readers was sent, but not always: then only a new process helps.
"""

from __future__ import annotations

import math
import os
import resource
from pathlib import Path

MARGIN_BYTES = 64 * 1024 * 1024  # More than a turn of the worker takes; malloc's own step.
LOOK_EVERY_S = 0.02
PATIENCE_S = 5.0
STATM = Path("/proc/self/statm")


class Headroom:
    """Of this process."""

    def __init__(self) -> None:
        """Read the limit; without one there is nothing to look at."""
        limit = resource.getrlimit(resource.RLIMIT_AS)[0]
        self.limit_bytes = math.inf if limit == resource.RLIM_INFINITY else limit
        self._page_bytes = os.sysconf("SC_PAGE_SIZE")
        self._look_at_s = -math.inf if self.limit_bytes < math.inf else math.inf
        self._short_since_s = math.inf
        self.taken_bytes = 0

    @property
    def is_short(self) -> bool:
        """Whether there was too little at the last look."""
        return self._short_since_s < math.inf

    def is_hopeless(self, now_s: float) -> bool:
        """Tell whether it has been too little for too long."""
        return now_s - self._short_since_s > PATIENCE_S

    def look(self, now_s: float) -> None:
        """Look, unless it was just done."""
        if now_s < self._look_at_s:
            return
        self._look_at_s = now_s + LOOK_EVERY_S
        try:
            self.taken_bytes = int(STATM.read_text().split()[0]) * self._page_bytes
        except OSError:  # No descriptor is left, or no /proc: the last look has to do.
            return
        if self.taken_bytes <= self.limit_bytes - MARGIN_BYTES:
            self._short_since_s = math.inf
        elif not self.is_short:
            self._short_since_s = now_s
