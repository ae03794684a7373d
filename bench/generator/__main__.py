"""Carry out one load: orders in as JSON, words out as JSON lines. `bench.generator.process`."""

from __future__ import annotations

import gc
import resource
import sys

import msgspec

from bench.dialect import Unexpected
from bench.generator.links import Lost
from bench.generator.load import Load
from bench.generator.orders import Orders, Trouble, Word
from bench.servers.hubbub import HubbubDialect
from bench.servers.registry import load


def tell(word: Word) -> None:
    """Write one line."""
    sys.stdout.buffer.write(msgspec.json.encode(word) + b"\n")
    sys.stdout.buffer.flush()


def main() -> int:
    """Read orders, carry them out."""
    orders = msgspec.json.decode(sys.stdin.readline(), type=Orders)
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    gc.disable()  # Nothing here makes cycles by the million, and a pause would be the server's.
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
