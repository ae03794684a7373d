"""A full room loses its broker (kill -9): when is everybody whole again, and what waits meanwhile.

The broker is this work's own, so that it can be killed and started again on its ports and its log;
the one in `target` only idles. Members are the client library's own state machines in a process
of their own (`bench.generator.rejoin`), and another one makes the storm (`bench.generator.storm`).
"""

from __future__ import annotations

import subprocess
import tempfile
import time
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
from bench.results import Counts, Result
from bench.servers.hubbub import end, kill, launch
from bench.servers.hubbub_curve import SECURE, server_key
from bench.target import Target
from bench.works.base import Rejoin, Watch
from bench.works.filled_log import ROOM, Filler

HOST: Final = "127.0.0.1"
HISTORY_PORT: Final = 2  # Above the base port.
BUSY: Final = 0.9  # Of a core: then the generator is what limits.
WARMUP, QUIET, STORM, CALM, REJOIN, AFTER = "warmup", "quiet", "storm", "calm", "rejoin", "after"
# Between quiet or storm and the break: what was said last is heard before, and not after it.
CALM_S: Final = 1.0
UNTOLD: Final = {WARMUP, CALM}  # Parts whose latencies are nobody's question.


class Broker:
    """A broker that is killed and started again, always on the same port and log."""

    def __init__(self, data: Path, *, is_secure: bool = False) -> None:
        self._data = data
        self._flags = (SECURE,) if is_secure else ()
        self._process, self.port = launch(data, 0, *self._flags)
        self.key = server_key(data) if is_secure else ""  # Its public one, in hex.
        self._meter = Meter([self._process.pid])

    def kill(self) -> int:
        """Kill it; return when it was dead (monotonic, ns)."""
        self._meter.read()
        kill(self._process)
        return time.monotonic_ns()

    def start_again(self) -> int:
        """Start it again; return when it was ready (monotonic, ns)."""
        end(self._process)
        self._process, _ = launch(self._data, self.port, *self._flags)
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

    def __init__(self, process: subprocess.Popen[bytes], watch: Watch | None = None) -> None:
        self._process = process
        self._watch = watch
        self._decode = msgspec.json.Decoder(Word).decode

    def begin(self, part: Part) -> None:
        """Tell it what comes next."""
        assert self._process.stdin is not None
        self._process.stdin.write(msgspec.json.encode(part) + b"\n")
        self._process.stdin.flush()

    def hear(self) -> Opened | Over | Done:
        """Return its next word that is more than progress; raise `Unexpected` for bad news."""
        assert self._process.stdout is not None
        for line in self._process.stdout:
            word: Word = self._decode(line)
            if isinstance(word, Trouble):
                raise Unexpected(word.words)
            if not isinstance(word, Course):
                return word
            if self._watch is not None:
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


def run(target: Target, options: Rejoin, watch: Watch) -> Result:
    """Gather, listen, storm, kill, and count. Raises `Unexpected`."""
    if not target.is_hubbub:
        raise Unexpected("only Hubbub can be rejoined: its own client library is part of it")
    result = Result(
        work="rejoin",
        server=target.name,
        version=target.version,
        is_durable=target.is_durable,
        parameters={},
        figures={},
        counts=Counts(),
    )
    with tempfile.TemporaryDirectory(prefix="hubbub-rejoin-") as folder:
        data = Path(folder) / "data"
        if options.storm:
            _fill(data, options)
        broker = Broker(data, is_secure=bool(target.server_key))
        try:
            _run(broker, options, watch, result)
        finally:
            broker.end()
    return result


def _fill(data: Path, options: Rejoin) -> None:
    filler = Filler(data, options.size)
    try:
        filler.fill(options.entries)
    finally:
        filler.close()


def _run(broker: Broker, options: Rejoin, watch: Watch, result: Result) -> None:
    gathering = Gathering(
        host=HOST,
        commands_port=broker.port,
        room=ROOM,
        clients=options.clients,
        senders=options.senders,
        rate=options.rate,
        size=options.size,
        server_key=broker.key,
    )
    figures = result.figures
    overs: list[Over] = []
    with started("bench.generator.rejoin", gathering) as process:
        gathered = Gathered(process, watch)
        watch.begin("gather", result.server, options.clients, "whole")
        opened = gathered.hear()
        assert isinstance(opened, Opened), opened
        watch.end()
        figures["connect_s"] = opened.seconds
        for name, seconds in ((WARMUP, options.warmup_s), (QUIET, options.duration_s)):
            if seconds:
                watch.begin(name, result.server, seconds, "s")
                overs.append(gathered.over(Part(name, seconds)))
                watch.end()
        if options.storm:
            watch.begin(STORM, result.server, options.duration_s, "s")
            overs.append(_storm(gathered, broker, opened, options, result))
            watch.end()
        gathered.over(Part(CALM, CALM_S))
        watch.begin(REJOIN, result.server, options.clients, "whole")
        _break(gathered, broker, options, result)
        watch.end()
        watch.begin(AFTER, result.server, options.duration_s, "s")
        overs.append(gathered.over(Part(AFTER, options.duration_s)))
        gathered.begin(Part(""))
        done = gathered.hear()
        assert isinstance(done, Done), done
        watch.end()
    figures["peak_memory_bytes"] = broker.peak_bytes()
    lost_in_storm = result.counts.lost
    result.counts = done.counts
    result.counts.lost += lost_in_storm
    result.histograms |= {name: each for name, each in done.latencies.items() if name not in UNTOLD}
    if options.storm:
        p99s_us = [Histogram(result.histograms[name]).percentile_us(99) for name in (STORM, QUIET)]
        figures["storm_p99_ratio"] = p99s_us[0] / p99s_us[1] if p99s_us[1] else 0.0
    busy = [over.name for over in overs if over.generator_cpu_s > BUSY * over.seconds]
    if busy:
        result.limited_by = "generator"
        result.notes.append(f"the generator was busy all the time: {', '.join(busy)}")


def _storm(
    gathered: Gathered, broker: Broker, opened: Opened, options: Rejoin, result: Result
) -> Over:
    """Let readers of history loose while the others go on."""
    orders = Storm(
        host=HOST,
        history_port=broker.port + HISTORY_PORT,
        room=ROOM,
        ticket=opened.ticket,
        readers=options.storm,
        entries=options.entries,
        seconds=options.duration_s,
        keys=opened.keys,
    )
    with started("bench.generator.storm", orders) as process:
        over = gathered.over(Part(STORM, options.duration_s))
        assert process.stdout is not None
        line = process.stdout.readline()
        if not line:
            raise Unexpected("the storm ended without a result")
        word: Calm | Trouble = msgspec.json.decode(line, type=StormWord)
    if isinstance(word, Trouble):
        raise Unexpected(word.words)
    result.figures["storm_entries_per_s"] = word.entries / word.seconds
    result.counts.lost += word.lost
    if word.generator_cpu_s > BUSY * word.seconds:
        result.notes.append("the storm's readers were busy all the time: it could not be stronger")
    return over


def _break(gathered: Gathered, broker: Broker, options: Rejoin, result: Result) -> None:
    """Kill the broker, start it again, and wait until everybody has everything."""
    killed_ns = broker.kill()
    gathered.begin(Part(REJOIN, begun_ns=killed_ns))
    cpu_s = broker.cpu_s()
    time.sleep(options.down_s)
    ready_ns = broker.start_again()
    over = gathered.until_over()
    result.histograms["whole"] = over.whole
    result.figures |= {
        "down_s": (ready_ns - killed_ns) / 1e9,
        "whole_s": (over.whole_ns - killed_ns) / 1e9,
        "whole_after_ready_s": (over.whole_ns - ready_ns) / 1e9,
        "rejoin_questions": float(over.questions),
        "rejoin_cpu_s": broker.cpu_s() - cpu_s,
    }
