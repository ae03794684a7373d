"""A generator as its parent holds it."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager

import msgspec

from bench.dialect import Unexpected
from bench.generator.orders import Course, Done, Opened, Orders, Trouble, Word
from bench.works.base import Watch

_decode = msgspec.json.Decoder(Word).decode


@contextmanager
def started(module: str, orders: msgspec.Struct) -> Iterator[subprocess.Popen[bytes]]:
    """Start a generator's module and give it its orders. It ends with the context."""
    with subprocess.Popen(
        [sys.executable, "-m", module],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        start_new_session=True,  # Ctrl+C is for the load tool, which ends it.
    ) as process:
        assert process.stdin is not None
        try:
            process.stdin.write(msgspec.json.encode(orders) + b"\n")
            process.stdin.flush()
            yield process
        finally:
            process.kill()


@contextmanager
def words(orders: Orders) -> Iterator[Iterator[Word]]:
    """Start the generator of a load; give what it says, word by word."""
    with started("bench.generator", orders) as process:
        assert process.stdout is not None
        yield (_decode(line) for line in process.stdout)


def carry_out(orders: Orders, watch: Watch) -> tuple[Opened, Done, list[Course]]:
    """Have a load carried out; raise `Unexpected` when it can't be."""
    opened: Opened | None = None
    course: list[Course] = []
    with words(orders) as heard:
        for word in heard:
            if isinstance(word, Trouble):
                raise Unexpected(word.words)
            if isinstance(word, Opened):
                opened = word
            elif isinstance(word, Course):
                course.append(word)
                watch.moment(word.moment.at_s, word.moment.values)
            else:
                assert opened is not None
                return opened, word, course
    raise Unexpected("the generator ended without a result")
