"""The named scenarios of `compare`: what is run, with which parameters, on which servers."""

from __future__ import annotations

from typing import Final, NamedTuple

from bench.works.base import Fanout, Options


class Scenario(NamedTuple):
    """One line of the comparison."""

    work: str  # A sub-command; `options` are of its kind.
    options: Options
    servers: tuple[str, ...] = ()  # Those that it makes sense for; () for all.
    headlines: tuple[str, ...] = ()  # The figures to compare; () for those of the sub-command.


SCENARIOS: Final[dict[str, Scenario]] = {
    "fanout-50": Scenario("fanout", Fanout(subscribers=50)),
    "fanout-500": Scenario("fanout", Fanout(subscribers=500)),
}
