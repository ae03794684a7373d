"""Entries of the audit that wait for a log that cannot be written just now. Pure.

Only of what an operator must be able to do then all the same: announce, drain, reload, kick.
"""

from __future__ import annotations

import math
from collections import deque

from broker.log.interface import Log, LogFailed
from broker.log.rights_records import AuditEntry

AGAIN_S = 1.0  # Until the log is tried again; each attempt may wait for a lock.
WAITING_MAX = 1_024  # Then the oldest are lost.


class LateAudits:
    """Of one broker. Times are seconds of the steady clock."""

    def __init__(self, keeper: Log) -> None:
        self._keeper = keeper
        self._waiting: deque[AuditEntry] = deque(maxlen=WAITING_MAX)
        self._again_s = 0.0

    @property
    def deadline_s(self) -> float:
        """When `tick` tries the log again."""
        return self._again_s if self._waiting else math.inf

    def note(self, entry: AuditEntry, now_s: float) -> None:
        """Write down what is done in any case; where the log fails, as soon as it does not."""
        self._waiting.append(entry)
        self.tick(now_s, is_due=True)

    def tick(self, now_s: float, *, is_due: bool = False) -> None:
        """Try the log again, if it is time and something waits."""
        if not self._waiting or not (is_due or now_s >= self._again_s):
            return
        try:
            self._keeper.keep([], audit=list(self._waiting))
            self._waiting.clear()
        except LogFailed:
            self._again_s = now_s + AGAIN_S
