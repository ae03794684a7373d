"""Results in files: JSON, CSV and HdrHistogram's percentile distributions."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, Final

import msgspec

from bench.histogram import PERCENTILES, Histogram
from bench.quantities import COUNTS, grouped, merged_histograms
from bench.results import Report, Result

_PLACE: Final = ("work", "server", "version", "is_durable")


def report_json(report: Report) -> str:
    """Return a report as indented JSON that `read_report` reads again."""
    return msgspec.json.format(msgspec.json.encode(report), indent=1).decode() + "\n"


def read_report(path: Path) -> Report:
    """Read a file of results; raise msgspec.DecodeError for anything else."""
    return msgspec.json.decode(path.read_bytes(), type=Report)


def _row(result: Result) -> dict[str, Any]:
    row: dict[str, Any] = {name: getattr(result, name) for name in _PLACE}
    row |= {f"parameter.{name}": value for name, value in result.parameters.items()}
    row |= {name: getattr(result.counts, name) for name in COUNTS}
    row |= result.figures
    for name, encoded in result.histograms.items():
        levels = Histogram(encoded).percentiles_us()
        row |= {f"{name}.{level}_us": levels[level] for level in PERCENTILES}
    return row | {"limited_by": result.limited_by}


def results_csv(results: Iterable[Result]) -> str:
    """Return a row per result under one head; what a result doesn't have stays empty."""
    rows = [_row(result) for result in results]
    columns = list(dict.fromkeys(name for row in rows for name in row))
    output = io.StringIO()
    writer = csv.DictWriter(output, columns, restval="", lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return output.getvalue()


def distributions(results: Sequence[Result]) -> dict[str, str]:
    """Return the text of each histogram, repeats added up, by a name that tells it from others.

    The name is "" where there is only one.
    """
    found: list[tuple[list[str], str]] = []
    for group in grouped(results):
        first = group[0]
        base = [str(first.parameters.get("scenario", first.work)), first.server]
        for name, histogram in merged_histograms(group).items():
            found.append(([*base, name], histogram.distribution()))
    if len(found) == 1:
        return {"": found[0][1]}
    named: dict[str, str] = {}
    for words, text in found:
        name = re.sub(r"[^\w.-]", "_", "-".join(words))
        number = sum(1 for other in named if other == name or other.startswith(f"{name}-"))
        named[f"{name}-{number + 1}" if number else name] = text
    return named


def write_distributions(path: Path, results: Sequence[Result]) -> list[Path]:
    """Write each histogram to a file of its own, the only one to `path`; return where they are.

    The plotters of HdrHistogram read one distribution per file.
    """
    written = []
    for name, text in distributions(results).items():
        place = path.with_name(f"{path.stem}-{name}{path.suffix}") if name else path
        place.write_text(text, encoding="utf-8")
        written.append(place)
    return written
