"""Histograms of times: HdrHistogram by Gil Tene, in the Python package hdrhistogram. Pure.

Values are microseconds from 1 to 3.6e9 (an hour), kept to 3 digits; what lies outside is put at
the nearer end. Nothing is corrected for coordinated omission afterwards: works time each message
from when it was meant to be sent, so there is nothing to correct.
"""

from __future__ import annotations

import io
from collections.abc import Iterable
from typing import Final

import numpy as np
from hdrh.histogram import HdrHistogram
from numpy.typing import ArrayLike

LOWEST_US: Final = 1
HIGHEST_US: Final = 3_600_000_000
DIGITS: Final = 3
PERCENTILES: Final = {"p50": 50.0, "p90": 90.0, "p99": 99.0, "p99.9": 99.9, "max": 100.0}
_STEPS: Final = 2_048  # So many equal steps per power of two keep the digits that we keep.
_TICKS_PER_HALVING: Final = 5  # Lines of the percentile distribution; what the plotters expect.


class Histogram:
    """Times in microseconds."""

    def __init__(self, encoded: str | None = None) -> None:
        """Make an empty one, or decode one; raise ValueError if that is no histogram."""
        if encoded is None:
            self._hdr = HdrHistogram(LOWEST_US, HIGHEST_US, DIGITS)
            return
        try:
            self._hdr = HdrHistogram.decode(encoded.encode())
        except Exception as error:  # The package raises zlib's, ctypes' and errors of its own.
            raise ValueError(f"this is no HdrHistogram: {encoded[:40]!r}") from error

    @property
    def count(self) -> int:
        """How many values there are."""
        return int(self._hdr.get_total_count())

    @property
    def max_us(self) -> int:
        """The greatest value, as exact as all others; 0 when empty."""
        return int(self._hdr.get_max_value())

    def record(self, value_us: float, count: int = 1) -> None:
        """Add a value, once or more often."""
        within = min(max(round(value_us), LOWEST_US), HIGHEST_US)
        if not self._hdr.record_value(within, count):
            raise AssertionError(f"{within} us does not fit")

    def record_many(self, values_us: ArrayLike) -> None:
        """Add an array of values; a million cost about as much as a few thousand one by one."""
        values = np.rint(np.asarray(values_us, np.float64)).astype(np.int64)
        values = np.clip(values, LOWEST_US, HIGHEST_US)
        # Values of one step are one to the histogram: what is recorded singly is bounded so.
        exponents = np.frexp(values.astype(np.float64))[1].astype(np.int64)
        shifts = np.maximum(exponents - _STEPS.bit_length() + 1, 0)
        steps, counts = np.unique((values >> shifts) << shifts, return_counts=True)
        for step, count in zip(steps.tolist(), counts.tolist(), strict=True):
            self._hdr.record_value(step, count)

    def add(self, other: Histogram) -> None:
        """Add all values of another one."""
        if other.count:
            self._hdr.add(other._hdr)

    def encode(self) -> str:
        """Return it as HdrHistogram V2, base64: what `Result.histograms` holds."""
        encoded: bytes = self._hdr.encode()
        return encoded.decode()

    def percentile_us(self, percentile: float) -> float:
        """Return the value that so many percent (0 to 100) of all do not exceed; 0 when empty."""
        if not self.count:
            return 0.0
        found: dict[float, int] = self._hdr.get_percentile_to_value_dict([percentile])
        return float(min(found.get(percentile, self.max_us), self.max_us))

    def percentiles_us(self) -> dict[str, float]:
        """Return p50, p90, p99, p99.9 and max; all 0 when empty."""
        if not self.count:
            return dict.fromkeys(PERCENTILES, 0.0)
        found: dict[float, int] = self._hdr.get_percentile_to_value_dict([*PERCENTILES.values()])
        return {
            name: float(min(found.get(percentile, self.max_us), self.max_us))
            for name, percentile in PERCENTILES.items()
        }

    def distribution(self) -> str:
        """Return the text of HdrHistogram's percentile distribution, in milliseconds."""
        output = io.BytesIO()
        self._hdr.output_percentile_distribution(output, 1_000, _TICKS_PER_HALVING)
        return output.getvalue().decode()


def merged(encoded: Iterable[str]) -> Histogram:
    """Return the histogram of all values of several encoded ones."""
    total = Histogram()
    for each in encoded:
        total.add(Histogram(each))
    return total
