"""What time retention goes by: the wall clock, but not as soon as it jumps ahead. Pure.

What is dropped never comes back, and a clock that is a year ahead for a minute would drop
everything. So a jump ahead counts only when the clock has stayed there for a while; one back
counts at once, since it drops nothing. A start is such a jump: what the log says of the time may
have been written while the clock was wrong.
"""

from __future__ import annotations

STEP_MS_MAX = 60_000  # A smaller step is no jump: the clock is being set right little by little.
DOUBT_S = 3_600.0  # So long somebody, or NTP, has to set right a clock that has jumped ahead.


class RetentionClock:
    """Follows the wall clock with suspicion. Times: ms since 1970, and steady seconds."""

    def __init__(self, now_s: float) -> None:
        """Begin in 1970, with nothing that is too old."""
        self._offset_ms = -now_s * 1_000  # To the steady clock.
        self._ahead_since_s: float | None = None

    def now_ms(self, now_ms: int, now_s: float) -> int:
        """Return the time to go by, given what both clocks say."""
        offset_ms = now_ms - now_s * 1_000
        if offset_ms - self._offset_ms <= STEP_MS_MAX:
            self._offset_ms, self._ahead_since_s = offset_ms, None
        elif self._ahead_since_s is None:
            self._ahead_since_s = now_s
        elif now_s - self._ahead_since_s >= DOUBT_S:
            self._offset_ms, self._ahead_since_s = offset_ms, None
        return int(now_s * 1_000 + self._offset_ms)
