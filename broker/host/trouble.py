"""Trouble that lasts, told to the operator: at once, then now and then, and when it is over.

A full disk fails every commit, hundreds of times a second; the log of the broker may even lie
on that disk.
"""

from __future__ import annotations

import logging

TOLD_EVERY_S = 10.0


class Trouble:
    """One kind of trouble."""

    def __init__(self) -> None:
        self._count = 0
        self._reason = ""
        self._told_at_s = 0.0

    def failed(self, reason: str, now_s: float, logger: logging.Logger) -> None:
        """Note a failure, and tell it unless enough was told."""
        self._count += 1
        is_new = self._count == 1 or reason != self._reason
        if not is_new and now_s < self._told_at_s + TOLD_EVERY_S:
            return
        self._reason, self._told_at_s = reason, now_s
        logger.error("%s", reason if self._count == 1 else f"{reason} (failure {self._count})")

    def succeeded(self) -> int:
        """Note that it works; return how many failures that ends."""
        count, self._count = self._count, 0
        return count
