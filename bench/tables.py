"""Results for people: tables by rich."""

from __future__ import annotations

import io
from collections.abc import Iterable, Sequence
from typing import Final

from rich.console import Console, Group, RenderableType
from rich.table import Table
from rich.text import Text

from bench.histogram import PERCENTILES
from bench.quantities import COUNTS, grouped, merged_histograms, spread
from bench.results import Result
from bench.units import humanise

WIDTH_DEFAULT: Final = 100  # Where the output is no terminal.
_BAD: Final = frozenset({"lost", "duplicated", "reordered"})


def varied(results: Iterable[Result]) -> list[str]:
    """Return the parameters that differ between results of the same work."""
    seen: dict[tuple[str, str], list[object]] = {}
    for result in results:
        for name, value in result.parameters.items():
            values = seen.setdefault((result.work, name), [])
            if value not in values:
                values.append(value)
    return list(dict.fromkeys(name for (_, name), values in seen.items() if len(values) > 1))


def title(result: Result, varying: Sequence[str] = ()) -> str:
    """Return what a result is of: work or scenario, server, and what tells it from the others."""
    what = result.parameters.get("scenario", result.work)
    told = " ".join(
        f"{name}={result.parameters[name]}"
        for name in varying
        if name in result.parameters and name != "scenario"
    )
    return f"{what} on {result.server} {result.version}{', ' if told else ''}{told}"


def _figures(group: Sequence[Result]) -> Table:
    repeated = len(group) > 1
    table = Table("figure", box=None, pad_edge=False)
    table.add_column("median" if repeated else "value", justify="right")
    if repeated:
        table.add_column("lowest", justify="right")
        table.add_column("highest", justify="right")
    names = dict.fromkeys(name for result in group for name in result.figures)
    for name in [*names, *COUNTS]:
        found = spread(group, name)
        if found is None:
            continue
        values = [found.median, found.low, found.high] if repeated else [found.median]
        style = "bold red" if name in _BAD and found.high else ""
        table.add_row(name, *(humanise(name, value) for value in values), style=style)
    return table


def _percentiles(group: Sequence[Result]) -> Table | None:
    histograms = merged_histograms(group)
    if not histograms:
        return None
    table = Table("time", box=None, pad_edge=False)
    for name in (*PERCENTILES, "count"):
        table.add_column(name, justify="right")
    for name, histogram in histograms.items():
        levels = histogram.percentiles_us()
        shown = [humanise(f"{level}_us", levels[level]) for level in PERCENTILES]
        table.add_row(name, *shown, f"{histogram.count:,}")
    return table


def _sentences(group: Sequence[Result]) -> list[str]:
    limits = sorted({result.limited_by for result in group} - {""})
    said = [f"limited by the {name}" for name in limits]
    if "generator" in limits:
        said.append("the generator was the limit: the server could do more than this")
    return said + list(dict.fromkeys(note for result in group for note in result.notes))


def table_of(group: Sequence[Result], varying: Sequence[str] = ()) -> RenderableType:
    """Return the tables of a run and its repeats: medians, range, percentiles of all values."""
    times = f", {len(group)} runs" if len(group) > 1 else ""
    first = group[0]
    durable = "durable" if first.is_durable else "not durable"
    parts: list[RenderableType] = [
        Text(f"{title(first, varying)}, {durable}{times}", style="bold"),
        _figures(group),
    ]
    percentiles = _percentiles(group)
    if percentiles is not None:
        parts += [Text(""), percentiles]
    parts += [Text(f"- {sentence}") for sentence in _sentences(group)]
    return Group(*parts, Text(""))


def render(
    results: Sequence[Result], width: int = WIDTH_DEFAULT, *, is_styled: bool = False
) -> str:
    """Return the tables of all results as text, with a terminal's colours if styled.

    As text, because rich that prints by itself ends the program when its reader goes away.
    """
    output = io.StringIO()
    console = Console(file=output, width=width, force_terminal=is_styled, highlight=False)
    varying = varied(results)
    for group in grouped(results):
        console.print(table_of(group, varying))
    return output.getvalue()
