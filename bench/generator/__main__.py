"""Carry out one load: orders in as JSON, words out as JSON lines. `bench.generator.process`."""

from __future__ import annotations

import sys

from bench.dialect import Unexpected
from bench.generator.links import Lost
from bench.generator.load import Load
from bench.generator.orders import Orders, Trouble
from bench.generator.running import ready, tell
from bench.servers.hubbub import HubbubDialect
from bench.servers.registry import load


def main() -> int:
    """Read orders, carry them out."""
    orders = ready(Orders)
    dialect = load(orders.target.name).dialect(orders.target)
    if isinstance(dialect, HubbubDialect):
        dialect.asks_who = orders.asks_who
    try:
        Load(orders, dialect, tell).run()
    except (Unexpected, Lost) as trouble:
        tell(Trouble(str(trouble)))
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
