"""Entries of the audit that wait for a log that cannot be written just now. Pure.

Only of what an operator must be able to do then all the same: announce, drain, reload, kick.
"""

from __future__ import annotations

import math
from collections import deque

from broker.log.rights_records import AuditEntry

AGAIN_S = 1.0  # Until the log is tried again; each attempt may wait for a lock.
WAITING_MAX = 1_024  # Then the oldest are lost.


class LateAudits:
    """Of one broker."""

    def __init__(self) -> None:
        self._entries: deque[AuditEntry] = deque(maxlen=WAITING_MAX)
        self._again_s = 0.0

    @property
    def entries(self) -> list[AuditEntry]:
        """What waits, oldest first."""
        return list(self._entries)

    @property
    def deadline_s(self) -> float:
        """When to try the log again, on the steady clock."""
        return self._again_s if self._entries else math.inf

    def add(self, entry: AuditEntry) -> None:
        """Have an entry wait."""
        self._entries.append(entry)

    def failed(self, now_s: float) -> None:
        """Note that the log could not be written."""
        self._again_s = now_s + AGAIN_S

    def clear(self) -> None:
        """Note that all is written."""
        self._entries.clear()
