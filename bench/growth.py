"""What grows over a long run, and whether that is more than noise. Pure.

A slope is Theil and Sen's: the median of the slopes between all pairs of points. One-off steps and
the tips of a saw-tooth, which pull least squares up and down, do not move it. Source: P. K. Sen,
"Estimates of the regression coefficient based on Kendall's tau", JASA 63 (1968).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Final, NamedTuple

import numpy as np

from bench.results import Moment
from bench.units import humanise
from broker.log.compaction import SPARSE_PART
from broker.log.segments import SEGMENT_BYTES_MAX

POINTS_MIN: Final = 3
POINTS_MAX: Final = 1_000  # Half a million pairs; of a longer course every n-th is taken.
HOUR_S: Final = 3_600.0
MIB: Final = 2.0**20


class Bound(NamedTuple):
    """How steep a quantity may rise. Both must be exceeded for a leak."""

    per_hour: float  # Steeper than this would be felt after days,
    rise: float  # and less than this, from the first to the last point, is noise.


# By the end of a quantity's name. A leak is found from the larger of `per_hour`, and `rise` in the
# time that was watched: in half an hour, 20 minutes after the warm-up, from 3 times `rise`.
BOUNDS: Final[dict[str, Bound]] = {
    # The allocators of C and Python keep what a burst needed, in steps of a MiB or so, and take
    # longer than any warm-up to have met the largest burst. At 8 MiB an hour the supervisor's
    # bound of memory would be met after days.
    "memory_bytes": Bound(8 * MIB, 4 * MIB),
    # Dozens of clients are always just coming, dying, frozen, or have asked history of late, with
    # a connection or two each. One lost for each of them would be thousands an hour.
    "descriptors": Bound(20, 40),
    # Nothing starts a thread once it serves.
    "threads": Bound(0.5, 0.5),
    # What is left in a segment that is mostly dropped moves into the index, a quarter of a segment
    # at most, and its pages are used again: until the first one it has hardly anything.
    "database_bytes": Bound(8 * MIB, SEGMENT_BYTES_MAX / SPARSE_PART),
    # It is as long as the longest time between two checkpoints made it.
    "wal_bytes": Bound(4 * MIB, 4 * MIB),
    # Space is taken and given back by the segment: a saw-tooth.
    "segments_bytes": Bound(SEGMENT_BYTES_MAX, SEGMENT_BYTES_MAX),
}


class Growth(NamedTuple):
    """How a quantity went after the warm-up."""

    name: str
    first: float  # Medians of the first and of the last tenth.
    last: float
    highest: float
    per_hour: float
    bound_per_hour: float

    @property
    def is_leak(self) -> bool:
        """Whether it rises more steeply than it may."""
        return self.per_hour > self.bound_per_hour

    @property
    def figure(self) -> str:
        """The name of its slope among a result's figures; the unit, if any, stays last."""
        stem, _, unit = self.name.rpartition("_")
        if unit == "bytes":
            return f"{stem}_slope_bytes_per_h"
        return f"{self.name}_slope_per_h"

    def sentence(self) -> str:
        """Return it for people."""

        def shown(value: float) -> str:
            return humanise(self.name, value)

        return (
            f"{self.name}: {shown(self.first)} after the warm-up, {shown(self.last)} in the end,"
            f" {shown(self.highest)} at most; {shown(self.per_hour)} an hour,"
            f" bound {shown(self.bound_per_hour)}"
        )


def bound_of(name: str) -> Bound | None:
    """Return the bound of a quantity of a course; None for what rises by its nature."""
    return next((bound for end, bound in BOUNDS.items() if name.endswith(end)), None)


def slope_per_s(points: Sequence[tuple[float, float]]) -> float:
    """Return the median slope of points (seconds, value) at different times."""
    places = np.linspace(0, len(points) - 1, min(len(points), POINTS_MAX)).astype(int)
    at_s, values = np.array(points, np.float64)[places].T
    one, other = np.triu_indices(len(places), 1)
    return float(np.median((values[other] - values[one]) / (at_s[other] - at_s[one])))


def growths(course: Iterable[Moment], warmup_s: float) -> list[Growth]:
    """Return how each quantity that has a bound went from `warmup_s` on.

    What is in fewer than three moments is left out.
    """
    kept = [moment for moment in course if moment.at_s >= warmup_s]
    found = []
    for name in dict.fromkeys(name for moment in kept for name in moment.values):
        bound = bound_of(name)
        points = [(each.at_s, each.values[name]) for each in kept if name in each.values]
        if bound is None or len(points) < POINTS_MIN:
            continue
        hours = (points[-1][0] - points[0][0]) / HOUR_S
        values = [value for _, value in points]
        tenth = max(1, len(values) // 10)
        found.append(
            Growth(
                name,
                float(np.median(values[:tenth])),
                float(np.median(values[-tenth:])),
                max(values),
                slope_per_s(points) * HOUR_S,
                max(bound.per_hour, bound.rise / hours),
            )
        )
    return found
