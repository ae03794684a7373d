"""Progress on standard error: a bar on a terminal, one plain line a second otherwise."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Final, TextIO

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeElapsedColumn

from bench.units import humanise
from bench.works.base import Watch

LINE_EVERY_S: Final = 1.0
# Moments come about once a second, but not by the clock's tick.
_EARLY_S: Final = 0.1


def _told(values: dict[str, float]) -> str:
    return "  ".join(f"{name} {humanise(name, value)}" for name, value in values.items())


def _position(at_s: float, values: dict[str, float], unit: str) -> float:
    return values.get(unit, at_s)


class LineWatch:
    """Prints plain lines: for files, pipes and CI."""

    def __init__(self, write: Callable[[str], object]) -> None:
        """`write` takes a line without its end."""
        self._write = write
        self._title = ""
        self._total: float | None = None
        self._unit = ""
        self._next_s = 0.0

    def begin(self, work: str, server: str, total: float | None, unit: str) -> None:
        """See `Watch`."""
        self._title = f"{work} on {server}"
        self._total, self._unit = total, unit
        self._next_s = 0.0
        goal = "" if total is None else f", {total:,.15g} {unit}"
        self._write(f"{self._title}: begins{goal}")

    def moment(self, at_s: float, values: dict[str, float]) -> None:
        """See `Watch`."""
        if at_s < self._next_s:
            return
        self._next_s = at_s + LINE_EVERY_S - _EARLY_S
        share = ""
        if self._total:
            done = min(_position(at_s, values, self._unit) / self._total, 1.0)
            share = f" {done:4.0%}"
        self._write(f"{self._title}: {at_s:6.1f} s{share}  {_told(values)}".rstrip())

    def end(self) -> None:
        """See `Watch`. A second time it says nothing."""
        if self._title:
            self._write(f"{self._title}: done")
            self._title = ""


class BarWatch:
    """Draws a bar with the latest figures behind it."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._unit = ""
        self._progress: Progress | None = None
        self._task = TaskID(0)

    def begin(self, work: str, server: str, total: float | None, unit: str) -> None:
        """See `Watch`."""
        self.end()
        self._unit = unit
        self._progress = Progress(
            TextColumn("{task.description}"),
            BarColumn(bar_width=24),
            TextColumn("{task.percentage:>3.0f}%" if total else "   "),
            TimeElapsedColumn(),
            TextColumn("{task.fields[told]}"),
            console=self._console,
            transient=True,
        )
        self._task = self._progress.add_task(f"{work} on {server}", total=total, told="")
        self._progress.start()

    def moment(self, at_s: float, values: dict[str, float]) -> None:
        """See `Watch`."""
        if self._progress is not None:
            position = _position(at_s, values, self._unit)
            self._progress.update(self._task, completed=position, told=_told(values))

    def end(self) -> None:
        """See `Watch`. Also after an interrupt, since a bar hides the cursor; twice is fine."""
        if self._progress is not None:
            self._progress.stop()
            self._progress = None


def watch_on(stream: TextIO | None = None) -> Watch:
    """Return what fits a stream (standard error unless given)."""
    stream = stream or sys.stderr
    if stream.isatty():
        return BarWatch(Console(file=stream))

    def write(line: str) -> None:
        print(line, file=stream, flush=True)

    return LineWatch(write)
