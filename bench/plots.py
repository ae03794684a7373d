"""Pictures of results by matplotlib: bars, percentile curves, growth, courses.

matplotlib takes a second to import, so this module is imported when a picture is wanted.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Final

import matplotlib as mpl
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, MultipleLocator

from bench.markdown import BASELINE, by_scenario, headlines
from bench.quantities import grouped, merged_histograms, spread, unit_name
from bench.results import Result
from bench.tables import title, varied
from bench.units import humanise, unit_of

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.axis import Axis

PANELS_MAX: Final = 24
WIDTH_INCHES: Final = 9.0
PANEL_INCHES: Final = 3.6
BAR_INCHES: Final = 0.38
DOTS_PER_INCH: Final = 120
TICKS: Final = 6  # On an axis of sizes, at most.
HEADROOM: Final = 1.1  # Above the highest value of a line.
BAR_HEADROOM: Final = 1.18  # Also for the number beside the bar.
HOME, PEER = "#c2410c", "#64748b"
# Levels at which the percentile curves are drawn and labelled: 1 - 1/x.
_LEVELS: Final = [25.0, 50.0, 75.0, 90.0, 95.0, 99.0, 99.5, 99.9, 99.95, 99.99, 99.999]
_LABELLED: Final = {50.0, 90.0, 99.0, 99.9, 99.99, 99.999}

Draw = Callable[["Axes"], None]


def _label(name: str) -> str:
    """Return a figure's name in words. Without its unit: every tick has one."""
    counted, per, rest = name.partition("_per_")
    if unit_of(unit_name(name)).base:
        counted = re.sub(r"_?(?:ns|us|ms|s|bytes|[km]i?b)$", "", counted) or counted
    return f"{counted}{per}{rest}".replace("_", " ")


def _show_units(axis: Axis, name: str, highest: float) -> None:
    """Label a linear axis from 0 to `highest` with numbers and units."""
    unit = unit_of(unit_name(name))
    axis.set_major_formatter(FuncFormatter(lambda value, _: humanise(unit_name(name), value)))
    if unit.base == "B" and highest * unit.factor >= 1:
        # Sizes are shown as MiB and the like, so round ones are powers of two.
        step_bytes = 2.0 ** math.ceil(math.log2(highest * unit.factor / TICKS))
        axis.set_major_locator(MultipleLocator(step_bytes / unit.factor))


def _from_zero(axes: Axes, name: str) -> None:
    """Let a drawn y axis begin at 0, so that heights can be compared, and label it."""
    low, high = axes.dataLim.intervaly
    highest = max(high, 0.0) * HEADROOM or 1.0
    axes.set_ylim(min(low, 0.0) * HEADROOM, highest)
    axes.set_ylabel(_label(name))
    _show_units(axes.yaxis, name, highest)


# --- bars: a comparison -----------------------------------------------------
def _bars(scenario: str, name: str, groups: Sequence[Sequence[Result]]) -> Draw:
    def draw(axes: Axes) -> None:
        rows = [(group[0], found) for group in groups if (found := spread(group, name))]
        rows.sort(key=lambda row: row[1].median)
        for place, (result, found) in enumerate(rows):
            axes.barh(
                place,
                found.median,
                color=HOME if result.server == BASELINE else PEER,
                hatch="" if result.is_durable else "///",
                edgecolor="white",
                xerr=[[found.median - found.low], [found.high - found.median]],
                error_kw={"ecolor": "black", "capsize": 3, "lw": 1},
            )
            axes.annotate(
                humanise(unit_name(name), found.median),
                (found.high, place),
                xytext=(6, 0),
                textcoords="offset points",
                va="center",
                fontsize=8,
            )
        axes.set_yticks(range(len(rows)), [result.server for result, _ in rows])
        highest = max((found.high for _, found in rows), default=0) * BAR_HEADROOM or 1
        axes.set_xlim(0, highest)
        axes.set_xlabel(f"{_label(name)} (hatched: not durable; thin line: lowest to highest)")
        axes.set_title(f"{scenario}: {name}")
        _show_units(axes.xaxis, name, highest)

    return draw


# --- percentile curves ------------------------------------------------------
def _curves(groups: Sequence[Sequence[Result]], varying: Sequence[str]) -> Draw:
    def draw(axes: Axes) -> None:
        for group in groups:
            for name, histogram in merged_histograms(group).items():
                # No further than the values reach: beyond is one value, not a tail.
                levels = [level for level in _LEVELS if histogram.count * (1 - level / 100) >= 1]
                values = [max(histogram.percentile_us(level), 1.0) for level in levels]
                places = [1 / (1 - level / 100) for level in levels]
                axes.plot(places, values, marker=".", label=f"{name}: {title(group[0], varying)}")
        axes.set_xscale("log")
        axes.set_yscale("log")
        shown = [level for level in _LEVELS if level in _LABELLED]
        axes.set_xticks([1 / (1 - level / 100) for level in shown], [f"{x:g}%" for x in shown])
        axes.set_xlabel("percentile of messages")
        axes.set_ylabel("time")
        axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        _show_units(axes.yaxis, "time_us", 0)
        axes.minorticks_off()
        axes.set_title("times by percentile")
        axes.legend(fontsize=7)

    return draw


# --- lines over a parameter -------------------------------------------------
def _growth(name: str, parameter: str, results: Sequence[Result], others: Sequence[str]) -> Draw:
    def draw(axes: Axes) -> None:
        lines: dict[str, list[list[Result]]] = {}
        for group in grouped(results):
            lines.setdefault(title(group[0], others), []).append(group)
        for label, groups in lines.items():
            points = sorted(
                (float(group[0].parameters[parameter]), found)
                for group in groups
                if (found := spread(group, name))
            )
            places = [place for place, _ in points]
            (line,) = axes.plot(places, [s.median for _, s in points], marker="o", label=label)
            axes.fill_between(
                places,
                [s.low for _, s in points],
                [s.high for _, s in points],
                alpha=0.15,
                color=line.get_color(),
            )
        axes.set_xscale("log")
        places = sorted({float(result.parameters[parameter]) for result in results})
        if places[0] > 0:
            axes.set_xticks(places, [f"{place:,g}" for place in places])
            axes.minorticks_off()
        else:
            axes.set_xscale("linear")
        _from_zero(axes, name)
        axes.set_xlabel(parameter.replace("_", " "))
        axes.set_title(f"{name} by {parameter}")
        axes.legend(fontsize=7)

    return draw


# --- a run's course ---------------------------------------------------------
def _course(result: Result, name: str, varying: Sequence[str]) -> Draw:
    def draw(axes: Axes) -> None:
        points = [(m.at_s, m.values[name]) for m in result.course if name in m.values]
        axes.plot([at_s for at_s, _ in points], [value for _, value in points])
        _from_zero(axes, name)
        axes.set_xlabel("seconds since the start")
        axes.set_title(f"{name}: {title(result, varying)}")

    return draw


# --- which of them ----------------------------------------------------------
def _panels(results: Sequence[Result]) -> list[tuple[float, Draw]]:
    """Return what to draw and how high: what tells most about these results."""
    found: list[tuple[float, Draw]] = []
    varying = varied(results)
    if any("scenario" in result.parameters for result in results):
        for scenario, groups in by_scenario(results).items():
            high = 1.3 + BAR_INCHES * len(groups)
            found += [(high, _bars(scenario, name, groups)) for name in headlines(groups[0][0])]
        return found
    sweeps = [
        name
        for name in varying
        if all(isinstance(result.parameters.get(name), (int, float)) for result in results)
    ]
    for parameter in sweeps:
        others = [name for name in varying if name != parameter]
        found += [
            (PANEL_INCHES, _growth(name, parameter, results, others))
            for name in headlines(results[0])
        ]
    groups = grouped(results)
    if any(result.histograms for result in results):
        found.append((PANEL_INCHES + 0.6, _curves(groups, varying)))
    is_long = not sweeps and (results[0].work == "soak" or not found)
    if is_long:
        course_names = dict.fromkeys(n for m in results[0].course for n in m.values)
        found += [(PANEL_INCHES, _course(results[0], name, varying)) for name in course_names]
    if not found:
        found = [
            (1.3 + BAR_INCHES * len(groups), _bars(results[0].work, name, groups))
            for name in headlines(results[0])
        ]
    return found


def draw(results: Sequence[Result], path: Path) -> None:
    """Draw what fits the results into a .png or .svg file; raise ValueError if there are none."""
    panels = _panels(results)[:PANELS_MAX] if results else []
    if not panels:
        raise ValueError("there is nothing to draw")
    heights = [height for height, _ in panels]
    # Agg and SVG need no display; a Figure without pyplot leaves no global state behind.
    with mpl.rc_context({"svg.hashsalt": "hubbub", "font.size": 9}):
        figure = Figure(figsize=(WIDTH_INCHES, sum(heights)), layout="constrained")
        axes = figure.subplots(len(panels), 1, squeeze=False, height_ratios=heights)
        for place, (_, draw_panel) in zip(axes[:, 0], panels, strict=True):
            draw_panel(place)
            place.grid(visible=True, alpha=0.25)
            place.set_axisbelow(True)
        figure.savefig(path, dpi=DOTS_PER_INCH)
