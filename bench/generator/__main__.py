"""Carry out one load: orders in as JSON, words out as JSON lines. `bench.generator.process`."""

from __future__ import annotations

import sys

from bench.generator.load import Load
from bench.generator.orders import Orders, Spans
from bench.generator.running import heard, ready, status_of, tell
from bench.servers.hubbub import HubbubDialect
from bench.servers.registry import load


def main() -> int:
    """Read orders, carry them out."""
    orders = ready(Orders)
    dialect = load(orders.target.name).dialect(orders.target)
    if isinstance(dialect, HubbubDialect):
        dialect.asks_who = orders.asks_who
        dialect.is_patient = orders.is_patient
        dialect.nicks = orders.nicks
    return status_of(Load(orders, dialect, tell, lambda: heard(Spans)).run)


if __name__ == "__main__":
    sys.exit(main())
