"""Some subscribers of a room are frozen (SIGSTOP): whether others feel it, and what it costs.

The load goes on all the time, and parts take turns: quiet, frozen, quiet, frozen. So a machine that
grows slower hurts both alike. Those who freeze are the client library's own state machines in a
process of their own (`bench.generator.rejoin`), which is stopped; the others are the members of an
ordinary load (`bench.generator`), some of them read and timed, all of them counted.
"""

from __future__ import annotations

import signal
import statistics
import subprocess
import time
from pathlib import Path
from typing import Final

from bench.dialect import Unexpected
from bench.generator.orders import Done as LoadDone
from bench.generator.orders import Orders, Span
from bench.generator.process import Loaded, started
from bench.generator.rejoin_orders import Done, Gathering, Opened, Over, Part
from bench.histogram import Histogram, merged
from bench.results import Counts, Moment, Result
from bench.target import Target
from bench.units import humanise
from bench.works import soak_vitals
from bench.works.base import Frozen, Watch
from bench.works.rejoin import Gathered
from client.api import connect
from common.limits import BATCH_BYTES_MAX

ROOM: Final = "hot00"
SAMPLE: Final = 8  # Listeners that are timed; spread over the broker's order of sending.
BUSY: Final = 0.9  # Of a core: then the generator is what limits.
QUIET, FROZEN = "quiet", "frozen"
LOOK_S: Final = 0.25  # Between two readings of the broker's memory.
ANSWER_S_MAX: Final = 10.0
STOP_S_MAX: Final = 10.0  # A process that waits for a disk stops when it has its bytes.
STOP_LOOK_S: Final = 0.005
PAGE_BYTES: Final = 4_096  # The unit of the line TCP in /proc/net/sockstat: proc(5).


class Parts:
    """Quiet and frozen in turn, and what was seen meanwhile."""

    def __init__(
        self,
        target: Target,
        options: Frozen,
        watch: Watch,
        loaded: Loaded,
        ice: tuple[subprocess.Popen[bytes], Gathered],
    ) -> None:
        self._target = target
        self._options = options
        self._watch = watch
        self._loaded = loaded
        self._ice_process, self._ice = ice
        self._begun_s = time.monotonic()
        self.spans: list[Span] = []
        self.course: list[Moment] = []
        self.whole: list[Over] = []  # How it went after each waking.

    def run(self) -> None:
        """Do all rounds. Raises `Unexpected`."""
        for number in range(self._options.rounds):
            self._pass_time(f"{QUIET} {number + 1}", QUIET)
            self._ice_process.send_signal(signal.SIGSTOP)
            try:
                _await_stop(self._ice_process.pid)
                self._pass_time(f"{FROZEN} {number + 1}", FROZEN)
            finally:
                self._ice_process.send_signal(signal.SIGCONT)
            woken_ns = time.monotonic_ns()
            part = Part(f"woken {number + 1}", head=head(self._target), begun_ns=woken_ns)
            self.whole.append(self._ice.over(part))
        self._look("after")

    def _pass_time(self, name: str, kind: str) -> None:
        begin_ns = time.monotonic_ns()
        end_s = time.monotonic() + self._options.duration_s
        while (left_s := end_s - time.monotonic()) > 0:
            time.sleep(min(LOOK_S, left_s))
            self._loaded.keep_up()
            self._look(kind)
        self.spans.append(Span(name, begin_ns, time.monotonic_ns()))

    def _look(self, kind: str) -> None:
        at_s = time.monotonic() - self._begun_s
        values = {"is_frozen": float(kind == FROZEN), "tcp_memory_bytes": _tcp_bytes()}
        memory_bytes = soak_vitals.read(self._target.pids).get("live_memory_bytes")
        if memory_bytes is not None:
            values["live_memory_bytes"] = memory_bytes
        self.course.append(Moment(at_s, values))
        self._watch.moment(at_s, values)

    def highest(self, name: str, *, is_frozen: bool) -> float:
        """Return the highest of a value, while frozen or in the first quiet part."""
        values: list[float] = []
        for moment in self.course:
            if moment.values["is_frozen"] and not is_frozen:
                break
            if moment.values["is_frozen"] == is_frozen and name in moment.values:
                values.append(moment.values[name])
        return max(values, default=0.0)


def run(target: Target, options: Frozen, watch: Watch) -> Result:
    """Load, freeze, wake, and count. Raises `Unexpected`."""
    if target.name != "hubbub":
        raise Unexpected("only Hubbub's subscribers can be frozen: its client library is in them")
    result = Result(
        work="frozen",
        server=target.name,
        version=target.version,
        is_durable=target.is_durable,
        parameters={},
        figures={},
        counts=Counts(),
    )
    with started("bench.generator.rejoin", _gathering(target, options)) as ice_process:
        ice = Gathered(ice_process)
        opened = ice.hear()
        assert isinstance(opened, Opened), opened
        with started("bench.generator", _orders(target, options)) as load_process:
            loaded = Loaded(load_process)
            loaded.open()
            time.sleep(options.warmup_s)
            parts = Parts(target, options, watch, loaded, (ice_process, ice))
            # The time to become whole comes on top, and is not known.
            watch.begin("frozen", target.name, 2 * options.rounds * options.duration_s, "s")
            parts.run()
            load_done = loaded.finish(parts.spans)
        ice.begin(Part("", head=head(target)))
        ice_done = ice.hear()
        assert isinstance(ice_done, Done), ice_done
        watch.end()
    _count(result, load_done, ice_done)
    _tell_latencies(result, load_done)
    _tell_memory(result, parts, options, is_ours=options.is_of(target.settings))
    _tell_waking(result, parts, options)
    if load_done.generator_cpu_s > BUSY * load_done.seconds:
        result.limited_by = "generator"
    result.course = parts.course
    return result


def head(target: Target) -> int:
    """Return the newest seq of the room."""
    address = f"{target.host}:{target.ports[0]}"
    with connect(address, nick="frozen-head", timeout_s=ANSWER_S_MAX) as client:
        return next(info.head for info in client.rooms() if info.room == ROOM)


def _gathering(target: Target, options: Frozen) -> Gathering:
    return Gathering(
        host=target.host,
        commands_port=target.ports[0],
        room=ROOM,
        clients=options.frozen,
        senders=0,
        rate=0.0,
        size=options.size,
        nicks="ice",
    )


def _orders(target: Target, options: Frozen) -> Orders:
    awake = options.subscribers - options.frozen
    return Orders(
        target=target,
        rooms=[ROOM],
        members=awake,
        sample=min(SAMPLE, awake),
        talkers=options.senders,
        warmup_s=0.0,
        rate=options.rate,
        is_open_ended=True,
    )


def _count(result: Result, load: LoadDone, ice: Done) -> None:
    """Book what the others and what the frozen ones heard."""
    result.counts = load.counts
    result.counts.reordered += load.differing  # One order for everybody is promised.
    for name in ("delivered", "lost", "duplicated", "reordered"):
        total = getattr(result.counts, name) + getattr(ice.counts, name)
        setattr(result.counts, name, total)
    result.figures["frozen_ones_lost"] = float(ice.counts.lost)
    result.figures["messages_per_s"] = load.counts.sent / load.seconds
    result.figures["server_cpu_cores"] = load.server_cpu_s / load.seconds


def _tell_latencies(result: Result, done: LoadDone) -> None:
    """Tell the others' latencies, by kind of part and round by round."""
    p99s_us: dict[str, list[float]] = {QUIET: [], FROZEN: []}
    for kind, found in p99s_us.items():
        encoded = [each for name, each in done.spans.items() if name.startswith(kind)]
        found += [Histogram(each).percentile_us(99) for each in encoded]
        result.histograms[kind] = merged(encoded).encode()
    rounds = "; ".join(
        f"{humanise('p99_us', quiet)} and {humanise('p99_us', frozen)}"
        for quiet, frozen in zip(p99s_us[QUIET], p99s_us[FROZEN], strict=True)
    )
    result.notes.append(f"p99 of the others, quiet and frozen, in each round: {rounds}")
    medians_us = {kind: statistics.median(found) for kind, found in p99s_us.items()}
    ratio = medians_us[FROZEN] / medians_us[QUIET] if medians_us[QUIET] else 0.0
    result.figures["frozen_p99_ratio"] = ratio


def _tell_memory(result: Result, parts: Parts, options: Frozen, *, is_ours: bool) -> None:
    """Tell the memory of the live process, and hold it against its bound."""
    tcp_bytes = [parts.highest("tcp_memory_bytes", is_frozen=each) for each in (False, True)]
    result.figures["tcp_growth_bytes"] = max(tcp_bytes[1] - tcp_bytes[0], 0)
    before = parts.highest("live_memory_bytes", is_frozen=False)
    if not before:
        result.notes.append("the broker's memory could not be read from here")
        return
    peak = parts.highest("live_memory_bytes", is_frozen=True)
    result.figures |= {
        "memory_before_bytes": before,
        "memory_peak_bytes": peak,
        "memory_after_bytes": parts.course[-1].values["live_memory_bytes"],
        "memory_growth_bytes": max(peak - before, 0.0),
    }
    if not is_ours:
        result.notes.append("what its --publish-queue bounds is for its owner to say")
        return
    bound = float(options.queue * BATCH_BYTES_MAX)
    result.figures["memory_bound_bytes"] = bound
    result.notes.append(
        f"bound of the growth: {options.queue} batches wait for one slow reader at most"
        f" (--publish-queue), of at most {humanise('x_bytes', BATCH_BYTES_MAX)} each"
        f" (BATCH_BYTES_MAX): {humanise('x_bytes', bound)}, whatever the number of slow readers,"
        " for they share the frames; here batches have about"
        f" {humanise('x_bytes', options.size)}:"
        f" {humanise('x_bytes', options.queue * options.size)}."
        " What the kernel's buffers hold is tcp_growth_bytes"
    )
    if peak - before > bound:
        result.failures.append("the broker's memory grew beyond the bound")


def _tell_waking(result: Result, parts: Parts, options: Frozen) -> None:
    whole_s = [over.seconds for over in parts.whole]
    questions = sum(over.questions for over in parts.whole)
    result.figures |= {"whole_s": max(whole_s), "questions": float(questions)}
    result.notes.append(
        f"{options.frozen} frozen ones had everything up to the moment of waking, in each round"
        f" after: {'; '.join(humanise('x_s', each) for each in whole_s)}"
    )
    if not questions:
        result.notes.append(
            "nobody had to ask history: the buffers held all that was said; freeze for longer"
        )


def _await_stop(pid: int) -> None:
    """Wait until a process stands still: the state in /proc/PID/stat, proc(5)."""
    end_s = time.monotonic() + STOP_S_MAX
    while Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "T":
        if time.monotonic() > end_s:
            raise Unexpected("those who shall be frozen are not stopped")
        time.sleep(STOP_LOOK_S)


def _tcp_bytes() -> float:
    """Return what the kernel holds of all TCP connections of this machine; 0 if it won't tell."""
    try:
        lines = Path("/proc/net/sockstat").read_text().splitlines()
    except OSError:
        return 0.0
    words = next((line.split() for line in lines if line.startswith("TCP:")), [])
    pages = dict(zip(words[1::2], words[2::2], strict=False)).get("mem", "0")
    return float(pages) * PAGE_BYTES
