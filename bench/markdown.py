"""The comparison as a Markdown table: per scenario and figure a row for each server. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from bench.quantities import Spread, grouped, spread, unit_name
from bench.results import Result
from bench.units import humanise
from bench.works.base import WORKS
from bench.works.scenarios import SCENARIOS

BASELINE: Final = "hubbub"
COLUMNS: Final = (
    "scenario",
    "server",
    "durable",
    "figure",
    "median",
    "lowest to highest",
    "ratio to Hubbub",
    "CPU per delivery",
    "peak memory",
    "limited by",
    "faults",
)
CPU: Final = "cpu_us_per_delivery"
MEMORY: Final = "peak_memory_bytes"
ABSENT: Final = "-"
RATIO_PLAIN: Final = 0.1  # Below it two decimals tell nothing.


def headlines(result: Result) -> tuple[str, ...]:
    """Return the figures that a result is compared by: its scenario's, else its work's."""
    scenario = SCENARIOS.get(str(result.parameters.get("scenario", "")))
    if scenario is not None and scenario.headlines:
        return scenario.headlines
    work = WORKS.get(result.work)
    wanted = work.headlines if work is not None else ()
    present = tuple(name for name in wanted if spread([result], name) is not None)
    return present or tuple(result.figures)[:1]


def ratio(found: Spread, baseline: Spread | None) -> str:
    """Return a median over Hubbub's, "-" where there is none."""
    if baseline is None or not baseline.median:
        return ABSENT
    times = found.median / baseline.median
    return f"{times:.2f}" if times >= RATIO_PLAIN else f"{times:.2g}"


def _shown(name: str, value: float) -> str:
    return humanise(unit_name(name), value)


def _median(group: Sequence[Result], name: str) -> str:
    found = spread(group, name)
    return _shown(name, found.median) if found is not None else ABSENT


def _faults(group: Sequence[Result]) -> str:
    """Return what was not clean, all repeats together: a fast server that loses is no match."""
    found = {
        name: sum(getattr(result.counts, name) for result in group)
        for name in ("lost", "duplicated", "reordered")
    }
    return ", ".join(f"{count} {name}" for name, count in found.items() if count) or ABSENT


def _rows(scenario: str, groups: Sequence[Sequence[Result]], name: str) -> list[list[str]]:
    spreads = [(group, spread(group, name)) for group in groups]
    baseline = next((found for group, found in spreads if group[0].server == BASELINE), None)
    rows = []
    for group, found in spreads:
        if found is None:
            continue
        limits = ", ".join(sorted({result.limited_by for result in group} - {""}))
        spread_text = f"{_shown(name, found.low)} to {_shown(name, found.high)}"
        rows.append(
            [
                scenario,
                f"{group[0].server} {group[0].version}",
                "yes" if group[0].is_durable else "no",
                name,
                _shown(name, found.median),
                spread_text,
                ratio(found, baseline),
                _median(group, CPU),
                _median(group, MEMORY),
                limits or ABSENT,
                _faults(group),
            ]
        )
    return rows


def by_scenario(results: Sequence[Result]) -> dict[str, list[list[Result]]]:
    """Return each scenario's groups of repeats, Hubbub's first."""
    found: dict[str, list[list[Result]]] = {}
    for group in grouped(results):
        name = str(group[0].parameters.get("scenario", group[0].work))
        found.setdefault(name, []).append(group)
    for groups in found.values():
        groups.sort(key=lambda group: group[0].server != BASELINE)
    return found


def table(results: Sequence[Result]) -> str:
    """Return the table of a comparison."""
    lines = [
        f"| {' | '.join(COLUMNS)} |",
        f"|{'|'.join('---' for _ in COLUMNS)}|",
    ]
    for scenario, groups in by_scenario(results).items():
        for name in headlines(groups[0][0]):
            for row in _rows(scenario, groups, name):
                cells = (cell.replace("|", "\\|") for cell in row)
                lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"
