"""What a command line means: runs in their order, outputs, conditions. Plain data, no I/O."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from bench.verdicts import Verdict
from bench.works.base import Options
from common.endpoints import Address


class Run(NamedTuple):
    """One measured run."""

    work: str
    server: str
    options: Options
    scenario: str = ""  # In a comparison: its name.


class Outputs(NamedTuple):
    """Where results go; None: nowhere, "-": standard output."""

    json: str | None = None
    csv: str | None = None
    hdr: str | None = None
    plot: str | None = None
    markdown: str | None = None


class Plan(NamedTuple):
    """All that a command line asks for."""

    command: str  # The sub-command.
    runs: Sequence[Run]
    outputs: Outputs
    verdicts: Sequence[Verdict]
    broker: Address | None = None  # None: each run starts a server for itself.


def interleaved(servers: Sequence[str], rounds: int) -> list[str]:
    """Return the order of repeated runs: each round has every server, and begins one further on.

    So a machine that grows slower hurts all alike, and none always comes first.
    """
    order = list(servers)
    found: list[str] = []
    for number in range(rounds):
        start = number % len(order) if order else 0
        found += order[start:] + order[:start]
    return found
