"""Made-up results of the load tool."""

from __future__ import annotations

from typing import Any

from bench.histogram import Histogram
from bench.results import Counts, Moment, Result


def times(*values_us: float) -> str:
    """Return an encoded histogram of these times."""
    histogram = Histogram()
    histogram.record_many(values_us)
    return histogram.encode()


def result(server: str = "hubbub", rate: float = 1e6, **changes: Any) -> Result:  # noqa: ANN401
    """Return a clean run of `fanout`, with changes to its fields."""
    fields: dict[str, Any] = {
        "work": "fanout",
        "server": server,
        "version": "1.0",
        "is_durable": server == "hubbub",
        "parameters": {"subscribers": 50, "size": 64},
        "figures": {
            "deliveries_per_s": rate,
            "cpu_us_per_delivery": 0.25,
            "peak_memory_bytes": 64.0 * 2**20,
        },
        "counts": Counts(sent=10, acknowledged=10, delivered=500),
        "histograms": {"delivery": times(*range(1_000, 2_001))},
        "course": [Moment(1.0, {"deliveries_per_s": rate}), Moment(2.0, {"memory_bytes": 2e7})],
    }
    return Result(**(fields | changes))
