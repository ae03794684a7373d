"""What a run found: plain data, written as JSON and read again by tables and plots."""

from __future__ import annotations

from typing import Any

import msgspec


class Counts(msgspec.Struct):
    """What was counted, never assumed. `lost` to `reordered` are of all listeners together."""

    sent: int = 0
    acknowledged: int = 0
    delivered: int = 0
    lost: int = 0
    duplicated: int = 0
    reordered: int = 0

    @property
    def is_clean(self) -> bool:
        """Whether nothing was lost, duplicated or reordered."""
        return not (self.lost or self.duplicated or self.reordered)


class Moment(msgspec.Struct):
    """One line of a run's course."""

    at_s: float  # Since the start of the measured part.
    values: dict[str, float]


class Result(msgspec.Struct):
    """One measured run of one work on one server."""

    work: str
    server: str
    version: str
    is_durable: bool
    parameters: dict[str, Any]
    # Names end in their unit: deliveries_per_s, cpu_us_per_delivery, peak_memory_bytes.
    figures: dict[str, float]
    counts: Counts
    histograms: dict[str, str] = {}  # Name to HdrHistogram V2, base64; values in microseconds.
    limited_by: str = ""  # "server", "generator", "machine", or "" where nothing was at its limit.
    notes: list[str] = []
    failures: list[str] = []  # What the work itself holds against this run: sentences.
    course: list[Moment] = []


class Report(msgspec.Struct):
    """A file of results."""

    banner: dict[str, Any]
    results: list[Result]
