"""How a generator's process begins and speaks: JSON lines, for `bench.generator.process`."""

from __future__ import annotations

import gc
import resource
import sys
from typing import TypeVar

import msgspec

T = TypeVar("T", bound=msgspec.Struct)


def ready(kind: type[T]) -> T:
    """Read the orders from standard input, and prepare the process for thousands of clients."""
    orders = msgspec.json.decode(sys.stdin.buffer.readline(), type=kind)
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    gc.disable()  # Nothing here makes cycles by the million, and a pause would be the server's.
    return orders


def tell(word: msgspec.Struct) -> None:
    """Write one line."""
    sys.stdout.buffer.write(msgspec.json.encode(word) + b"\n")
    sys.stdout.buffer.flush()
