"""What the load tool shows and writes: tables, Markdown, JSON, CSV, distributions, pictures."""

from __future__ import annotations

import csv
import io
from pathlib import Path
from typing import Any
from xml.etree import ElementTree as ET

import matplotlib as mpl
import msgspec
import pytest

from bench import files, markdown, plots, tables
from bench.results import Counts, Moment, Report, Result
from tests.unit.bench_results import result, times


def shown(*results: Result) -> str:
    return tables.render(results)


def row(text: str, name: str) -> list[str]:
    """Return the words behind a row's name."""
    (words,) = [line.split() for line in text.splitlines() if line.split()[:1] == [name]]
    return words[1:]


def compared(server: str, rate: float, **changes: Any) -> Result:  # noqa: ANN401
    return result(server, rate, parameters={"scenario": "fanout-50", "size": 64}, **changes)


# --- tables -----------------------------------------------------------------
def test_a_run_is_shown_with_units() -> None:
    text = shown(result(notes=["a raised limit"], limited_by="generator"))
    assert "fanout on hubbub 1.0, durable" in text
    assert ["1", "M"] == row(text, "deliveries_per_s")
    assert ["64", "MiB"] == row(text, "peak_memory_bytes")
    assert ["0"] == row(text, "lost")
    assert ["1.5", "ms", "1.9", "ms", "1.99", "ms", "2", "ms", "2", "ms", "1,001"] == row(
        text, "delivery"
    )
    assert "- limited by the generator" in text
    assert "- a raised limit" in text


def test_repeats_are_shown_as_median_and_range() -> None:
    text = shown(*(result(rate=rate) for rate in (3e6, 1e6, 2e6)))
    assert "3 runs" in text
    assert ["2", "M", "1", "M", "3", "M"] == row(text, "deliveries_per_s")
    assert "3,003" == row(text, "delivery")[-1]


def test_points_of_a_sweep_are_told_apart() -> None:
    text = shown(*(result(parameters={"subscribers": n, "size": 64}) for n in (10, 50)))
    assert "subscribers=10\n" in text.replace(", durable", "")
    assert "size=64" not in text


# --- Markdown ---------------------------------------------------------------
def cells(text: str) -> list[list[str]]:
    return [[cell.strip() for cell in line.split("|")[1:-1]] for line in text.splitlines()]


def test_the_comparison_has_a_row_per_server_and_hubbub_first() -> None:
    runs = [compared("nats", 5e5), compared("hubbub", 2e6), compared("hubbub", 1e6)]
    runs += [compared("hubbub", 4e6), compared("nats", 3e5), compared("nats", 9e5)]
    head, dashes, hubbub, nats = cells(markdown.table(runs))
    assert list(markdown.COLUMNS) == head
    assert {"---"} == set(dashes)
    expected = "fanout-50|hubbub 1.0|yes|deliveries_per_s|2 M|1 M to 4 M|1.00|250 ns|64 MiB|-|-"
    assert expected.split("|") == hubbub
    assert ["nats 1.0", "no", "500 k", "300 k to 900 k", "0.25"] == [
        nats[i] for i in (1, 2, 4, 5, 6)
    ]


def test_faults_stand_beside_the_figures() -> None:
    runs = [compared("nats", 1e6, counts=Counts(lost=2, reordered=1)) for _ in range(2)]
    assert "4 lost, 2 reordered" == cells(markdown.table(runs))[2][-1]


def test_a_far_slower_server_has_a_ratio_too() -> None:
    runs = [compared("hubbub", 1e7), compared("nats", 12_345)]
    assert ["1.00", "0.0012"] == [row[6] for row in cells(markdown.table(runs))[2:]]


def test_without_hubbub_there_is_no_ratio() -> None:
    assert "-" == cells(markdown.table([compared("nats", 1e6)]))[2][6]


def test_a_server_without_the_figure_has_no_row() -> None:
    runs = [compared("hubbub", 1e6), compared("nats", 1e6, figures={"other": 1.0})]
    assert 3 == len(cells(markdown.table(runs)))


def test_latency_is_compared_by_percentiles() -> None:
    run = result(work="latency", parameters={"rate": 50})
    rows = cells(markdown.table([run]))[2:]
    assert [["delivery.p50", "1.5 ms"], ["delivery.p99", "1.99 ms"]] == [r[3:5] for r in rows]


# --- files ------------------------------------------------------------------
def test_a_report_is_read_again(tmp_path: Path) -> None:
    report = Report({"commit": "abc"}, [result(), result("nats")])
    path = tmp_path / "x.json"
    path.write_text(files.report_json(report))
    assert report == files.read_report(path)
    path.write_text("{}")
    with pytest.raises(msgspec.DecodeError):
        files.read_report(path)


def test_csv_has_a_row_per_result() -> None:
    runs = [result(), result("nats", figures={"other": 2.0}, histograms={})]
    first, second = csv.DictReader(io.StringIO(files.results_csv(runs)))
    assert ("hubbub", "50", "500", "1000000.0") == (
        first["server"],
        first["parameter.subscribers"],
        first["delivered"],
        first["deliveries_per_s"],
    )
    assert pytest.approx(1_990, rel=1e-3) == float(first["delivery.p99_us"])
    assert ("2.0", "", "") == (
        second["other"],
        second["deliveries_per_s"],
        second["delivery.p99_us"],
    )


def test_one_distribution_is_the_file_itself(tmp_path: Path) -> None:
    path = tmp_path / "x.hdr"
    assert [path] == files.write_distributions(path, [result(), result()])
    assert "TotalCount     =     2002" in path.read_text()


def test_several_distributions_have_names_of_their_own(tmp_path: Path) -> None:
    two = {"delivery": times(5), "ack": times(6)}
    runs = [
        result(histograms=two),
        result("nats"),
        result("nats", parameters={"subscribers": 9}),
        result("nats", parameters={"subscribers": 10}),
    ]
    written = files.write_distributions(tmp_path / "x.hdr", runs)
    assert [
        "x-fanout-hubbub-ack.hdr",
        "x-fanout-hubbub-delivery.hdr",
        "x-fanout-nats-delivery.hdr",
        "x-fanout-nats-delivery-2.hdr",
        "x-fanout-nats-delivery-3.hdr",
    ] == [path.name for path in written]
    assert set(written) == set(tmp_path.iterdir())


# --- pictures ---------------------------------------------------------------
SVG_TEXT = "{http://www.w3.org/2000/svg}text"


def drawn(path: Path, results: list[Result]) -> str:
    """Return the words of a picture."""
    with mpl.rc_context({"svg.fonttype": "none"}):
        plots.draw(results, path)
    # A picture that we have just drawn.
    return "\n".join(element.text or "" for element in ET.parse(path).iter(SVG_TEXT))  # noqa: S314


def test_a_comparison_is_drawn_as_bars(tmp_path: Path) -> None:
    words = drawn(tmp_path / "x.svg", [compared("hubbub", 2e6), compared("nats", 5e5)])
    for word in ("fanout-50: deliveries_per_s", "hubbub", "nats", "2 M", "500 k", "not durable"):
        assert word in words


def test_latency_is_drawn_as_curves(tmp_path: Path) -> None:
    runs = [
        result(server, work="latency", parameters={"rate": 50}) for server in ("hubbub", "nats")
    ]
    words = drawn(tmp_path / "x.svg", runs)
    for word in ("99.9%", "percentile of messages", "delivery: latency on nats 1.0"):
        assert word in words


def test_a_sweep_is_drawn_as_lines(tmp_path: Path) -> None:
    runs = [result(rate=n * 1e5, parameters={"subscribers": n}, histograms={}) for n in (10, 50)]
    words = drawn(tmp_path / "x.svg", runs)
    for word in ("deliveries_per_s by subscribers", "subscribers", "10", "50"):
        assert word in words


def test_a_soak_is_drawn_over_time(tmp_path: Path) -> None:
    course = [Moment(at_s, {"memory_bytes": 2e7 + at_s}) for at_s in range(60)]
    words = drawn(tmp_path / "x.svg", [result(work="soak", course=course)])
    for word in ("seconds since the start", "\nmemory\n", "20 MiB", "memory_bytes: soak"):
        assert word in words


def test_a_png_is_one(tmp_path: Path) -> None:
    path = tmp_path / "x.png"
    plots.draw([result(course=[], histograms={}, counts=Counts())], path)
    assert path.read_bytes().startswith(b"\x89PNG")


def test_nothing_can_not_be_drawn(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="nothing to draw"):
        plots.draw([], tmp_path / "x.png")
