"""How a generator's process begins and speaks: JSON lines, for `bench.generator.process`."""

from __future__ import annotations

import gc
import resource
import select
import sys
from collections.abc import Callable
from typing import TypeVar

import msgspec

from bench.dialect import Unexpected
from bench.generator.links import Lost
from bench.generator.orders import Trouble

T = TypeVar("T", bound=msgspec.Struct)


def ready(kind: type[T]) -> T:
    """Read the orders from standard input, and prepare the process for thousands of clients."""
    orders = msgspec.json.decode(sys.stdin.buffer.readline(), type=kind)
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    gc.disable()  # Nothing here makes cycles by the million, and a pause would be the server's.
    return orders


def heard(kind: type[T]) -> T | None:
    """Return the next line of standard input, if there is one; raise `Unexpected` at its end."""
    if not select.select([sys.stdin.buffer], [], [], 0)[0]:
        return None
    line = sys.stdin.buffer.readline()
    if not line:
        raise Unexpected("nobody says how it goes on")
    return msgspec.json.decode(line, type=kind)


def tell(word: msgspec.Struct) -> None:
    """Write one line."""
    sys.stdout.buffer.write(msgspec.json.encode(word) + b"\n")
    sys.stdout.buffer.flush()


def status_of(work: Callable[[], None]) -> int:
    """Do a generator's work, and tell in words what went wrong; return the exit status."""
    try:
        work()
    except (Unexpected, Lost) as trouble:
        tell(Trouble(str(trouble)))
        return 1
    return 0
