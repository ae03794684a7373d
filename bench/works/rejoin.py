"""A full room loses its broker (kill -9): when is everybody whole again, and what waits meanwhile.

The broker is this work's own, so that it can be killed and started again on its ports and its log;
the one in `target` only idles. Members are the client library's own state machines in a process
of their own (`bench.generator.rejoin`), and another one makes the storm (`bench.generator.storm`).
"""

from __future__ import annotations

import contextlib
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

import msgspec

from bench.dialect import Unexpected
from bench.generator.orders import Course, Trouble
from bench.generator.process import started
from bench.generator.rejoin_orders import (
    Calm,
    Done,
    Gathering,
    Opened,
    Over,
    Part,
    Storm,
    StormWord,
    Word,
)
from bench.histogram import Histogram
from bench.meter import Meter
from bench.results import Counts, Moment, Result
from bench.servers.hubbub import end, kill, launch
from bench.target import Target
from bench.works.base import Rejoin, Watch
from bench.works.filled_log import ROOM, Filler

HOST: Final = "127.0.0.1"
HISTORY_PORT: Final = 2  # Above the base port.
BUSY: Final = 0.9  # Of a core: then the generator is what limits.
WARMUP, QUIET, STORM, REJOIN, AFTER = "warmup", "quiet", "storm", "rejoin", "after"


class Broker:
    """A broker that is killed and started again, always on the same port and log."""

    def __init__(self, data: Path) -> None:
        self._data = data
        self._process, self.port = launch(data)
        self._meter = Meter([self._process.pid])

    def kill(self) -> int:
        """Kill it; return when it was dead (monotonic, ns)."""
        self._meter.read()
        kill(self._process)
        return time.monotonic_ns()

    def start_again(self) -> int:
        """Start it again; return when it was ready (monotonic, ns)."""
        end(self._process)
        self._process, _ = launch(self._data, self.port)
        self._meter.add([self._process.pid])
        return time.monotonic_ns()

    def cpu_s(self) -> float:
        """Return the CPU time of all its processes since the first start."""
        return self._meter.read().cpu_s

    def peak_bytes(self) -> int:
        """Return the most memory that it was seen to use."""
        return self._meter.read().peak_bytes

    def end(self) -> None:
        """End it."""
        end(self._process)


class Gathered:
    """The generator with the members, as this process holds it."""

    def __init__(self, process: subprocess.Popen[bytes], watch: Watch) -> None:
        self._process = process
        self._watch = watch
        self._decode = msgspec.json.Decoder(Word).decode
        self._begun_s = 0.0
        self.course: list[Moment] = []

    def begin(self, part: Part) -> None:
        """Tell it what comes next."""
        assert self._process.stdin is not None
        self._process.stdin.write(msgspec.json.encode(part) + b"\n")
        self._process.stdin.flush()

    def hear(self) -> Opened | Over | Done:
        """Return its next word that is more than progress; raise `Unexpected` for bad news."""
        assert self._process.stdout is not None
        for line in self._process.stdout:
            word = self._decode(line)
            if isinstance(word, Trouble):
                raise Unexpected(word.words)
            if not isinstance(word, Course):
                return word
            self._watch.moment(word.moment.at_s, word.moment.values)
        raise Unexpected("the generator ended without a result")

    def over(self, part: Part) -> Over:
        """Have a part carried out."""
        self.begin(part)
        return self.until_over()

    def until_over(self) -> Over:
        """Wait for the end of the part that was begun."""
        word = self.hear()
        assert isinstance(word, Over), word
        return word
