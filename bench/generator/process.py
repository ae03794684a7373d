"""A generator as its parent holds it."""

from __future__ import annotations

import select
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager

import msgspec

from bench.dialect import Unexpected
from bench.generator.orders import Course, Done, Opened, Orders, Span, Spans, Trouble, Word
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


class Loaded:
    """The generator of a load that goes on while its parent does other things."""

    def __init__(self, process: subprocess.Popen[bytes]) -> None:
        assert process.stdin is not None
        assert process.stdout is not None
        self._input, self._output = process.stdin, process.stdout

    def hear(self) -> Opened | Course | Done:
        """Return its next word; raise `Unexpected` for bad news."""
        line = self._output.readline()
        if not line:
            raise Unexpected("the generator ended without a result")
        word: Word = _decode(line)
        if isinstance(word, Trouble):
            raise Unexpected(word.words)
        return word

    def open(self) -> Opened:
        """Wait until everybody is in."""
        word = self.hear()
        assert isinstance(word, Opened), word
        return word

    def keep_up(self) -> list[Course | Done]:
        """Return what it has said meanwhile; it must never wait to be heard."""
        found: list[Course | Done] = []
        while select.select([self._output], [], [], 0)[0]:
            word = self.hear()
            assert not isinstance(word, Opened), word
            found.append(word)
            if isinstance(word, Done):
                break
        return found

    def finish(self, spans: list[Span]) -> Done:
        """End a load without an end; return what it counted, and the latencies of the spans."""
        self._input.write(msgspec.json.encode(Spans(spans)) + b"\n")
        self._input.flush()
        while not isinstance(word := self.hear(), Done):
            pass
        return word


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
