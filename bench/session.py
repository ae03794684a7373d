"""One call of the load tool: banner, runs, outputs, verdicts, exit status."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from bench import banner, files, tables, verdicts
from bench import markdown as comparison
from bench.arguments import (
    COMPARE,
    EXIT_FAILED,
    EXIT_INTERRUPTED,
    EXIT_UNREACHABLE,
    EXIT_USAGE,
    STDOUT,
)
from bench.plan import Plan
from bench.progress import watch_on
from bench.quantities import Unknown
from bench.results import Report, Result
from bench.running import NobodyAnswers, RunFailed, ServerMissing, measure
from bench.target import Target
from bench.works.base import Stopped


def _say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)  # noqa: T201 - this is how it talks


class Session:
    """Does what a plan says. One use."""

    def __init__(self, plan: Plan, argv: Sequence[str], root: Path) -> None:
        """`argv` is for the banner; `root` is where servers keep their data meanwhile."""
        self._plan = plan
        self._root = root
        self._banner = banner.collect(plan, argv, root)
        self._results: list[Result] = []
        self._failed = False
        self._missing: set[str] = set()

    def run(self) -> int:
        """Measure, write and print; return the exit status."""
        for line in banner.lines(self._banner):
            _say(line)
        is_interrupted = False
        try:
            self._measure_all()
        except NobodyAnswers as error:
            _say(f"bench: {error}")
            return EXIT_UNREACHABLE
        except KeyboardInterrupt as interrupt:
            if isinstance(interrupt, Stopped):
                self._results.append(interrupt.result)
            is_interrupted = True
            _say("bench: interrupted; this was measured so far")
        status = self._judge()
        self._write()
        return EXIT_INTERRUPTED if is_interrupted else status

    def _measure_all(self) -> None:
        watch = watch_on()
        runs = self._plan.runs
        for number, run in enumerate(runs, 1):
            if run.server in self._missing:
                continue
            if len(runs) > 1:
                _say(f"run {number} of {len(runs)}: {run.scenario or run.work} on {run.server}")
            try:
                result = measure(
                    run, watch, root=self._root, broker=self._plan.broker, started=self._started
                )
            except NobodyAnswers:
                raise
            except ServerMissing as error:
                # A comparison takes those that are there, and says who is not.
                self._missing.add(run.server)
                self._failed |= self._plan.command != COMPARE
                _say(f"bench: {error}")
            except RunFailed as error:
                self._failed = True
                _say(f"bench: {error}")
            else:
                self._results.append(result)

    def _started(self, target: Target) -> None:
        line = banner.add_server(self._banner, target)
        if line:
            _say(line)

    def _judge(self) -> int:
        try:
            lines = verdicts.judge(self._plan.verdicts, self._results)
        except Unknown as error:
            _say(f"bench: --fail-if: {error}")
            return EXIT_USAGE
        for line in lines:
            _say(f"bench: {line}")
        return EXIT_FAILED if lines or self._failed or not self._results else 0

    def _write(self) -> None:
        """Write files first: whoever reads standard output may go away."""
        results, outputs = self._results, self._plan.outputs
        if outputs.hdr and results:
            for path in files.write_distributions(Path(outputs.hdr), results):
                _say(f"wrote    {path}")
        if outputs.plot and results:
            from bench import plots

            plots.draw(results, Path(outputs.plot))
            _say(f"wrote    {outputs.plot}")
        texts: dict[str | None, Callable[[], str]] = {
            outputs.json: lambda: files.report_json(Report(self._banner, results)),
            outputs.csv: lambda: files.results_csv(results),
            outputs.markdown: lambda: comparison.table(results),
        }
        for place, make in texts.items():
            if place and place != STDOUT:
                Path(place).write_text(make(), encoding="utf-8")
                _say(f"wrote    {place}")
        # Where data goes to standard output, the tables make way.
        is_data = STDOUT in texts
        stream = sys.stderr if is_data else sys.stdout
        is_terminal = stream.isatty()
        width = shutil.get_terminal_size().columns if is_terminal else tables.WIDTH_DEFAULT
        stream.write(tables.render(results, width, is_styled=is_terminal))
        if is_data:
            sys.stdout.write(texts[STDOUT]())
