"""--fail-if: what is understood, what is refused beforehand, what holds."""

from __future__ import annotations

import pytest

from bench import verdicts
from bench.quantities import Unknown
from bench.results import Counts
from tests.unit.bench_results import result, times


@pytest.mark.parametrize(
    "text",
    [
        "p99>1.9ms",
        "p99 > 1900us",
        "p99>1900µs",
        "p99.9>=0.0019s",
        "max<2100000ns",
        "delivery.p50<1.6ms",
        "deliveries_per_s<1e7",
        "deliveries_per_s==1000000",
        "lost<=0",
        "peak_memory_bytes>63MiB",
        "peak_memory_bytes<68MB",
        "peak_memory_bytes>67000000",
        "cpu_us_per_delivery>200ns",
        "cpu_us_per_delivery<0.26",
        "p99>0",
    ],
)
def test_a_condition_holds(text: str) -> None:
    assert verdicts.parse(text).holds(result())


@pytest.mark.parametrize(
    "text",
    [
        "p99>20ms",
        "lost>0",
        "deliveries_per_s<1e6",
        "delivery.max>1s",
        "peak_memory_bytes>64MiB",
        "cpu_us_per_delivery>1us",
    ],
)
def test_a_condition_does_not_hold(text: str) -> None:
    assert not verdicts.parse(text).holds(result())


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "not a condition"),
        ("p99", "not a condition"),
        ("p99>", "not a condition"),
        ("p99=>20ms", "not a condition"),
        ("p99!=20ms", "not a condition"),
        ("20ms<p99", "not a condition"),
        ("p99>20ms;rm", "not a condition"),
        ("p99>20", "needs a unit"),
        ("p99>20parsecs", "not a unit"),
        ("p99>20MiB", "is a time"),
        ("peak_memory_bytes>1s", "is a size"),
        ("lost>1ms", "is a plain number"),
        ("deliveries_per_s<1s", "is a plain number"),
    ],
)
def test_a_malformed_condition_is_refused(text: str, reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        verdicts.parse(text)


def test_a_failure_is_told_with_the_real_value() -> None:
    slow = result("nats", histograms={"delivery": times(25_000)})
    (line,) = verdicts.judge([verdicts.parse("p99>20ms")], [result(), slow])
    assert line.startswith("failed: p99>20ms: p99 is 25 ms (fanout on nats)")


@pytest.mark.parametrize("fault", ["lost", "duplicated", "reordered"])
def test_an_unclean_run_fails_without_being_asked(fault: str) -> None:
    (line,) = verdicts.judge([], [result(), result(counts=Counts(sent=5, **{fault: 1}))])
    assert f"{fault} 1" in line


def test_clean_runs_pass() -> None:
    assert [] == verdicts.judge([verdicts.parse("lost>0")], [result(), result("nats")])


def test_a_name_that_no_run_has_is_an_error() -> None:
    with pytest.raises(Unknown, match=r"has no 'whole_s'; it has .*deliveries_per_s"):
        verdicts.judge([verdicts.parse("whole_s>10s")], [result(), result("nats")])


def test_a_name_that_some_runs_have_is_none() -> None:
    other = result("nats", figures={"whole_s": 11.0})
    (line,) = verdicts.judge([verdicts.parse("whole_s>10s")], [result(), other])
    assert "whole_s is 11 s" in line
