"""`--fail-if`: conditions on results, read before anything runs. Pure.

p99>20ms    delivery.p99.9 >= 1s    lost>0    deliveries_per_s<1e6    peak_memory_bytes>64MiB
"""

from __future__ import annotations

import operator
import re
from collections.abc import Callable, Iterable
from typing import Final, NamedTuple

from bench import quantities
from bench.results import Result
from bench.units import PLAIN, UNITS, Unit, humanise, unit_of

_OPERATORS: Final[dict[str, Callable[[float, float], bool]]] = {
    ">=": operator.ge,
    "<=": operator.le,
    "==": operator.eq,
    ">": operator.gt,
    "<": operator.lt,
}
_EXPRESSION: Final = re.compile(
    r"\s*(?P<name>[A-Za-z_][\w.]*)\s*(?P<operator>>=|<=|==|>|<)"
    r"\s*(?P<number>[+-]?(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?)\s*(?P<unit>[A-Za-zµ]*)\s*"
)


class Verdict(NamedTuple):
    """A condition that makes a run fail."""

    text: str
    name: str
    sign: str
    limit: float  # In the unit that `quantities.value` uses for this name.

    def holds(self, result: Result) -> bool:
        """Tell whether the condition holds; raise `quantities.Unknown`."""
        return _OPERATORS[self.sign](quantities.value(result, self.name), self.limit)

    def explain(self, result: Result) -> str:
        """Return a line for people about a result that it holds for."""
        real = humanise(quantities.unit_name(self.name), quantities.value(result, self.name))
        return f"failed: {self.text}: {self.name} is {real} ({result.work} on {result.server})"


def parse(text: str) -> Verdict:
    """Read a condition; raise ValueError with a sentence for people."""
    match = _EXPRESSION.fullmatch(text)
    if match is None:
        raise ValueError(
            f"{text!r} is not a condition: write NAME OPERATOR NUMBER[UNIT], such as p99>20ms;"
            f" operators: {' '.join(_OPERATORS)}"
        )
    name, word = match["name"], match["unit"].replace("µ", "u")
    own = unit_of(quantities.unit_name(name))
    number = float(match["number"])
    if not word:
        if quantities.is_percentile(name) and number:
            raise ValueError(f"{text!r} needs a unit: write for instance {name}>20ms")
        return Verdict(text, name, match["operator"], number)
    given = UNITS.get(word)
    if given is None:
        raise ValueError(f"{text!r}: {word!r} is not a unit; units: {', '.join(UNITS)}")
    if given.base != own.base:
        raise ValueError(f"{text!r}: {name} {_measured(own)}, and {word} does not measure that")
    return Verdict(text, name, match["operator"], number * given.factor / own.factor)


def _measured(unit: Unit) -> str:
    return {"s": "is a time", "B": "is a size", PLAIN.base: "is a plain number"}[unit.base]


def judge(verdicts: Iterable[Verdict], results: Iterable[Result]) -> list[str]:
    """Return a line for each condition that holds for a run, for unclean runs, and for failures.

    Each repeat is judged by itself. Raises `quantities.Unknown` for names that no result has.
    """
    found, told = [], list(results)
    for result in told:
        if not result.counts.is_clean:
            counts = result.counts
            found.append(
                f"not clean: {result.work} on {result.server} lost {counts.lost}, duplicated"
                f" {counts.duplicated}, reordered {counts.reordered}"
            )
        found += [
            f"failed: {words} ({result.work} on {result.server})" for words in result.failures
        ]
    for verdict in verdicts:
        unknown = None
        known = 0
        for result in told:
            try:
                if verdict.holds(result):
                    found.append(verdict.explain(result))
                known += 1
            except quantities.Unknown as error:
                # In a comparison some works, or some servers, do not have every figure.
                unknown = error
        if unknown is not None and not known:
            raise unknown
    return found
