"""What is counted adds up: buckets, sums over restarts, labels."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from broker.metrics.figures import (
    BY_NAME,
    HISTOGRAM,
    METRICS,
    Histogram,
    added,
    cumulated,
    labelled,
    of_label,
)

HISTOGRAMS = [metric.name for metric in METRICS if metric.kind == HISTOGRAM]


@pytest.mark.parametrize("name", HISTOGRAMS)
@given(values=st.lists(st.floats(0, 5_000)))
def test_each_bucket_has_what_is_at_or_below_its_bound(name: str, values: list[float]) -> None:
    histogram = Histogram(name)
    for value in values:
        histogram.add(value)
    told = histogram.told()
    expected = [(f"{b:g}", sum(v <= b for v in values)) for b in BY_NAME[name].bounds]
    assert [*expected, ("+Inf", len(values))] == cumulated(BY_NAME[name], told)
    assert sum(values) == pytest.approx(told[f"{name}:sum"])


@pytest.mark.parametrize("name", HISTOGRAMS)
def test_bounds_rise(name: str) -> None:
    bounds = list(BY_NAME[name].bounds)
    assert sorted(set(bounds)) == bounds


def test_what_an_ended_process_counted_is_kept() -> None:
    past, fresh = {"messages": 5, "errors:full": 2}, {"messages": 1, "errors:closing": 3}
    assert {"messages": 6, "errors:full": 2, "errors:closing": 3} == added(past, fresh)
    assert past == added(past)
    assert {} == added()


def test_labels_are_found_again() -> None:
    told = {**labelled("errors", {"full": 2, "gap": 1}), "errors_of_others": 9, "messages": 1}
    assert {"full": 2, "gap": 1} == of_label("errors", told)


def test_names_are_told_once() -> None:
    assert len(METRICS) == len(BY_NAME)
    assert all(":" not in metric.name for metric in METRICS)
    assert all(metric.help.endswith(".") for metric in METRICS)
