"""What a result says, by name: figures, counts and percentiles as one vocabulary. Pure.

`deliveries_per_s` is a figure, `lost` a count, `p99` a percentile of the only histogram,
`delivery.p99` one of several; `p99.9`, `p50` and any other percentile, and `max`.
"""

from __future__ import annotations

import re
import statistics
from collections.abc import Iterable, Sequence
from functools import lru_cache
from typing import Final, NamedTuple

import msgspec

from bench.histogram import PERCENTILES, Histogram, merged
from bench.results import Counts, Result

# A figure of the same name as one of these would be hidden by it.
COUNTS: Final = Counts.__struct_fields__
_PERCENTILE: Final = re.compile(r"(?:(?P<histogram>.+)\.)?(?P<level>p\d{1,2}(?:\.\d{1,6})?|max)")


class Unknown(LookupError):
    """There is no such name in a result; the message lists those that exist."""


class Spread(NamedTuple):
    """The same value over repeated runs."""

    median: float
    low: float
    high: float
    runs: int


def is_percentile(name: str) -> bool:
    """Tell whether a name is a percentile's, of whatever histogram."""
    return _PERCENTILE.fullmatch(name) is not None


def names(result: Result) -> list[str]:
    """Return every name that `value` knows of this result."""
    levels = [
        f"{histogram}.{level}" for histogram in sorted(result.histograms) for level in PERCENTILES
    ]
    if len(result.histograms) == 1:
        levels += PERCENTILES
    return [*sorted(result.figures), *COUNTS, *levels]


@lru_cache(maxsize=4_096)
def _percentile_us(encoded: str, percentile: float) -> float:
    return Histogram(encoded).percentile_us(percentile)


def value(result: Result, name: str) -> float:
    """Return a value in the unit of its name, percentiles in microseconds; raise `Unknown`."""
    if name in COUNTS:
        return float(getattr(result.counts, name))
    if name in result.figures:
        return result.figures[name]
    if match := _PERCENTILE.fullmatch(name):
        histograms = result.histograms
        wanted = match["histogram"] or (next(iter(histograms)) if len(histograms) == 1 else "")
        if wanted in histograms:
            level = match["level"]
            percentile = 100.0 if level == "max" else float(level[1:])
            return _percentile_us(histograms[wanted], percentile)
    raise Unknown(
        f"{result.work} on {result.server} has no {name!r}; it has {', '.join(names(result))}"
    )


def unit_name(name: str) -> str:
    """Return a name whose ending tells the unit that `value` uses: `p99` becomes `p99_us`."""
    return f"{name}_us" if is_percentile(name) else name


def spread(results: Iterable[Result], name: str) -> Spread | None:
    """Return median and range over those results that have this name; None if none has."""
    found = []
    for result in results:
        try:
            found.append(value(result, name))
        except Unknown:
            continue
    if not found:
        return None
    return Spread(statistics.median(found), min(found), max(found), len(found))


def grouped(results: Iterable[Result]) -> list[list[Result]]:
    """Return the repeats of the same run together, in the order in which each came first."""
    groups: dict[bytes, list[Result]] = {}
    for result in results:
        key = msgspec.json.encode(
            [result.work, result.server, result.parameters], order="deterministic"
        )
        groups.setdefault(key, []).append(result)
    return list(groups.values())


def merged_histograms(results: Sequence[Result]) -> dict[str, Histogram]:
    """Return each histogram with the values of all repeats."""
    found = sorted({name for result in results for name in result.histograms})
    return {
        name: merged(each.histograms[name] for each in results if name in each.histograms)
        for name in found
    }
