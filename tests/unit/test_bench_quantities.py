"""Names of the load tool: units, histograms, figures, counts and percentiles."""

from __future__ import annotations

import numpy as np
import pytest

from bench import quantities
from bench.histogram import HIGHEST_US, LOWEST_US, PERCENTILES, Histogram, merged
from bench.quantities import Spread, Unknown
from bench.results import Counts, Result
from bench.units import UNITS, humanise, unit_of
from bench.works.base import WORKS
from tests.unit.bench_results import result, times


# --- units ------------------------------------------------------------------
@pytest.mark.parametrize(
    ("name", "unit"),
    [
        ("whole_s", "s"),
        ("delivery.p99_us", "us"),
        ("cpu_us_per_delivery", "us"),
        ("bytes_per_client", "B"),
        ("bytes_per_s", "B"),
        ("peak_memory_bytes", "B"),
    ],
)
def test_a_figures_name_tells_its_unit(name: str, unit: str) -> None:
    assert UNITS[unit] == unit_of(name)


@pytest.mark.parametrize("name", ["deliveries_per_s", "lost", "ratio", "news"])
def test_other_figures_are_plain_numbers(name: str) -> None:
    assert "" == unit_of(name).base


@pytest.mark.parametrize(
    ("name", "value", "shown"),
    [
        ("x_s", 0.0123, "12.3 ms"),
        ("x_us", 999.9, "1 ms"),
        ("x_us", 1_234.0, "1.23 ms"),
        ("x_s", 75.0, "75 s"),
        ("x_s", 1_234.0, "1234 s"),
        ("cpu_us_per_delivery", 0.0312, "31.2 ns"),
        ("x_bytes", 46_000, "44.9 KiB"),
        ("x_bytes", 12, "12 B"),
        ("x_bytes", 0, "0 B"),
        ("deliveries_per_s", 7_912_345.0, "7.91 M"),
        ("lost", 9_999, "9999"),
        ("lost", 12_345, "12.3 k"),
        ("lost", 0, "0"),
        ("slope_bytes", -2_048, "-2 KiB"),
        ("cpu_share", 0.4512, "0.451"),
    ],
)
def test_numbers_for_people(name: str, value: float, shown: str) -> None:
    assert shown == humanise(name, value)


# --- histograms -------------------------------------------------------------
def test_percentiles_are_those_of_the_values() -> None:
    histogram = Histogram()
    for value in range(1, 10_001):
        histogram.record(value)
    expected = {"p50": 5_000, "p90": 9_000, "p99": 9_900, "p99.9": 9_990, "max": 10_000}
    assert pytest.approx(expected, rel=1e-3) == histogram.percentiles_us()
    assert pytest.approx(2_500, rel=1e-3) == histogram.percentile_us(25)
    assert 10_000 == histogram.count


def test_many_at_once_is_the_same_as_one_by_one() -> None:
    values = np.random.default_rng(7).lognormal(9, 4, 5_000)
    singly, together = Histogram(), Histogram()
    for value in values:
        singly.record(value)
    together.record_many(values)
    assert (singly.count, singly.percentiles_us()) == (together.count, together.percentiles_us())


def test_values_out_of_range_are_put_at_the_nearer_end() -> None:
    histogram = Histogram()
    histogram.record(0.2)
    histogram.record(10.0 * HIGHEST_US)
    histogram.record_many([-5, 1e15])
    assert 4 == histogram.count
    assert LOWEST_US == histogram.percentile_us(50)
    assert pytest.approx(HIGHEST_US, rel=1e-3) == histogram.max_us


def test_an_encoded_histogram_is_the_same_again() -> None:
    histogram = Histogram()
    histogram.record_many([3, 1_000, 123_456])
    again = Histogram(histogram.encode())
    assert histogram.percentiles_us() == again.percentiles_us()
    assert 3 == again.count


def test_merged_histograms_have_all_values() -> None:
    together = merged([times(100), times(300, 300), Histogram().encode()])
    assert (3, 300, 100) == (together.count, together.max_us, together.percentile_us(10))


def test_an_empty_histogram_has_no_times() -> None:
    assert dict.fromkeys(PERCENTILES, 0.0) == Histogram().percentiles_us()
    assert 0 == Histogram(Histogram().encode()).percentile_us(99)


def test_what_is_no_histogram_is_refused() -> None:
    with pytest.raises(ValueError, match="no HdrHistogram"):
        Histogram("nonsense")


def test_the_distribution_is_in_milliseconds() -> None:
    histogram = Histogram(times(2_000))
    value, percentile, count = histogram.distribution().splitlines()[2].split()[:3]
    assert pytest.approx(2.0, rel=1e-3) == float(value)
    assert (0.0, "1") == (float(percentile), count)


# --- quantities -------------------------------------------------------------
def test_figures_counts_and_percentiles_have_names() -> None:
    one = result()
    assert 1e6 == quantities.value(one, "deliveries_per_s")
    assert 500 == quantities.value(one, "delivered")
    assert pytest.approx(1_500, rel=1e-3) == quantities.value(one, "p50")
    assert pytest.approx(1_990, rel=1e-3) == quantities.value(one, "delivery.p99")
    assert pytest.approx(2_000, rel=1e-3) == quantities.value(one, "max")
    assert pytest.approx(1_750, rel=1e-3) == quantities.value(one, "p75")


def test_every_listed_name_has_a_value() -> None:
    one = result(histograms={"ack": times(5), "delivery": times(7)})
    assert all(quantities.value(one, name) >= 0 for name in quantities.names(one))


def test_of_several_histograms_one_must_be_named() -> None:
    two = result(histograms={"ack": times(5), "delivery": times(7)})
    assert 5 == quantities.value(two, "ack.p99")
    with pytest.raises(Unknown, match=r"no 'p99'; it has .*ack\.p99.*delivery\.p99"):
        quantities.value(two, "p99")


def test_an_unknown_name_is_answered_with_those_that_exist() -> None:
    with pytest.raises(Unknown, match=r"no 'delivreis_per_s'.*deliveries_per_s.*lost.*p99"):
        quantities.value(result(), "delivreis_per_s")


def test_repeats_are_grouped_and_spread() -> None:
    runs = [result(rate=3e6), result("nats"), result(rate=1e6), result(rate=2e6)]
    groups = quantities.grouped(runs)
    assert [["hubbub"] * 3, ["nats"]] == [[run.server for run in group] for group in groups]
    assert Spread(2e6, 1e6, 3e6, 3) == quantities.spread(groups[0], "deliveries_per_s")
    assert quantities.spread(groups[0], "whole_s") is None


def test_other_parameters_are_another_run() -> None:
    runs: list[Result] = [result(parameters={"subscribers": count}) for count in (10, 20, 10)]
    assert [2, 1] == [len(group) for group in quantities.grouped(runs)]


def test_no_count_hides_a_headline() -> None:
    headlines = {name for kind in WORKS.values() for name in kind.headlines}
    assert not headlines & set(Counts.__struct_fields__)
