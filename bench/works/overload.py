"""More than the broker takes: whether it grows or stalls, what senders meet, and when it is over.

Three generators, one after the other or at once, each a process: a closed loop finds what the
broker takes; an open loop of many clients offers a multiple of that; and a modest client, in a room
of its own, is timed all along: quiet, during the overload, and after it.

Clients are as the client library's: 16 SENDs under way, 10,000 texts at most that are not settled.
What a client can't take is held back, as post() blocks. The listeners of the flooded room check
every text, in the order and number of each sender, and all that was said must have been
acknowledged: nothing that was acknowledged can be missing unseen.
"""

from __future__ import annotations

import itertools
import time
from typing import Final

from bench import growth
from bench.dialect import Patience, Unexpected
from bench.generator.orders import Course, Done, Orders, Span
from bench.generator.process import Loaded, carry_out, started
from bench.histogram import Histogram, merged
from bench.results import Counts, Moment, Result
from bench.target import Target
from bench.units import humanise
from bench.works import soak_vitals
from bench.works.base import Overload, Watch
from client.limits import TEXTS_UNSETTLED_MAX
from common.limits import SENDS_IN_FLIGHT_MAX

LISTENERS: Final = 2
BUSY: Final = 0.9  # Of a core: then the generator is what limits.
QUIET, FLOOD, AFTER = "quiet", "overload", "after"
AFTER_S: Final = 0.25  # The time after the overload is told in such steps.
# The latency is back from when on 98 of 100 texts are heard within the p99 of before: a hundred or
# a thousand texts are looked at, whose own p99 is one or ten of them.
BACK_PERCENTILE: Final = 98.0
LOOK_S: Final = 0.1
SETTLED_PART: Final = 4  # Of the overload, the first such part is left out of the memory's slope.
MIB: Final = 2.0**20


class Flood:
    """What was seen second by second while the broker was offered too much."""

    def __init__(self, target: Target, watch: Watch) -> None:
        self._target = target
        self._watch = watch
        self._begun_s = time.monotonic()
        self.course: list[Moment] = []

    def see(self, course: Course) -> None:
        """Take a word of the generator, and read what the broker takes at the same time."""
        values = course.moment.values | soak_vitals.read(self._target.pids)
        self.course.append(Moment(course.moment.at_s, values))
        told = ("acknowledged", "waiting", "live_memory_bytes")
        self._watch.moment(
            course.moment.at_s, {name: values[name] for name in told if name in values}
        )

    def rates(self) -> list[float]:
        """Return how many texts were acknowledged a second, about once a second."""
        points = [(each.at_s, each.values["acknowledged"]) for each in self.course]
        return [
            (after[1] - before[1]) / (after[0] - before[0])
            for before, after in itertools.pairwise(points)
        ]


def run(target: Target, options: Overload, watch: Watch) -> Result:
    """Search, offer too much, and wait until it is over. Raises `Unexpected`."""
    if target.name != "hubbub":
        raise Unexpected("only Hubbub can be overloaded: its clients' own bounds are part of it")
    watch.begin("search", target.name, options.search_s, "s")
    _, found, _ = carry_out(_search(target, options), watch)
    watch.end()
    capacity = found.acknowledged_per_s
    if not capacity:
        raise Unexpected("nothing was acknowledged while it was to be found how much can be")
    with started("bench.generator", _probes(target, options)) as process:
        probes = Loaded(process)
        probes.open()
        _pass_time(options.warmup_s, probes)
        spans = [_span(QUIET, options.quiet_s, probes)]
        watch.begin("overload", target.name, options.duration_s, "s")
        flood = Flood(target, watch)
        begin_ns = time.monotonic_ns()
        done = _overload(_flood(target, options, capacity), flood, probes)
        watch.end()
        assert done.pressure is not None
        end_ns = done.pressure.offered_until_ns
        spans.append(Span(FLOOD, begin_ns, end_ns))
        watch.begin("after", target.name, options.quiet_s, "s")
        left_s = options.quiet_s - (time.monotonic_ns() - end_ns) / 1e9
        _pass_time(max(left_s, options.quiet_s / 2), probes)
        watch.end()
        steps = int((time.monotonic_ns() - end_ns) / 1e9 / AFTER_S)
        step_ns = int(AFTER_S * 1e9)
        spans += [
            Span(f"{AFTER} {step:04d}", end_ns + step * step_ns, end_ns + (step + 1) * step_ns)
            for step in range(steps)
        ]
        modest = probes.finish(spans)
    return _result(target, options, capacity, (found, done, modest), flood)


def _overload(orders: Orders, flood: Flood, probes: Loaded) -> Done:
    """Have too much offered, and look at the broker meanwhile."""
    with started("bench.generator", orders) as process:
        loaded = Loaded(process)
        loaded.open()
        while True:
            for word in loaded.keep_up():
                if isinstance(word, Done):
                    return word
                flood.see(word)
            _pass_time(LOOK_S, probes)


def _pass_time(seconds: float, probes: Loaded) -> None:
    end_s = time.monotonic() + seconds
    while (left_s := end_s - time.monotonic()) > 0:
        probes.keep_up()
        time.sleep(min(left_s, 1.0))


def _span(name: str, seconds: float, probes: Loaded) -> Span:
    begin_ns = time.monotonic_ns()
    _pass_time(seconds, probes)
    return Span(name, begin_ns, time.monotonic_ns())


# --- the three loads --------------------------------------------------------
def _search(target: Target, options: Overload) -> Orders:
    return Orders(
        target=target,
        rooms=["flood0"],
        members=LISTENERS,
        sample=LISTENERS,
        talkers=options.senders,
        warmup_s=options.warmup_s,
        duration_s=options.search_s,
        coalesce=options.coalesce,
        requests=SENDS_IN_FLIGHT_MAX,
        is_patient=True,
        nicks="search",
    )


def _flood(target: Target, options: Overload, capacity: float) -> Orders:
    return Orders(
        target=target,
        rooms=["flood1"],
        members=LISTENERS,
        sample=LISTENERS,
        talkers=options.senders,
        warmup_s=0.0,
        duration_s=options.duration_s,
        coalesce=options.coalesce,
        rate=options.times * capacity,
        unsettled=TEXTS_UNSETTLED_MAX,
        is_patient=True,
        nicks="flood",
    )


def _probes(target: Target, options: Overload) -> Orders:
    return Orders(
        target=target,
        rooms=["modest"],
        members=LISTENERS,
        sample=LISTENERS,
        talkers=1,
        warmup_s=0.0,
        rate=options.probes,
        is_open_ended=True,
        nicks="modest",
    )


# --- what came of it --------------------------------------------------------
def _result(
    target: Target,
    options: Overload,
    capacity: float,
    loads: tuple[Done, Done, Done],
    flood: Flood,
) -> Result:
    _, done, modest = loads
    assert done.pressure is not None
    pressure, patience = done.pressure, done.patience or Patience()
    rates = flood.rates()
    result = Result(
        work="overload",
        server=target.name,
        version=target.version,
        is_durable=target.is_durable,
        parameters={},
        figures={
            "capacity_per_s": capacity,
            "offered_per_s": pressure.offered / options.duration_s,
            "acknowledged_per_s": done.acknowledged_per_s,
            "acknowledged_ratio": done.acknowledged_per_s / capacity,
            "held_back": float(pressure.held_back),
            "waiting_max": float(pressure.waiting_max),
            "under_way_max": float(pressure.under_way_max),
            "slow_downs": float(patience.refusals),
            "slow_down_ms_max": float(patience.wait_ms_max),
            "slow_downs_untimed": float(patience.untimed),
            "server_cpu_cores": done.server_cpu_s / done.seconds,
            "generator_cpu_cores": done.generator_cpu_s / done.seconds,
        },
        counts=_counts(loads),
        course=flood.course,
    )
    if rates:
        result.figures["slowest_second_ratio"] = min(rates) / capacity
    _tell_back(result, modest)
    _tell_memory(result, flood)
    result.notes.append(
        f"senders hold {TEXTS_UNSETTLED_MAX:,} texts each at most, {SENDS_IN_FLIGHT_MAX} SENDs of"
        f" {options.coalesce} under way; waiting_max is of all {options.senders} together, and"
        " held_back is what their programs could not hand over at its time"
    )
    if patience.untimed:
        result.failures.append(f"{patience.untimed} times slow_down was told without a time")
    if done.generator_cpu_s > BUSY * done.seconds:
        result.limited_by = "generator"
    return result


def _counts(loads: tuple[Done, Done, Done]) -> Counts:
    """Book all three; what was said and never acknowledged is lost too."""
    total = Counts()
    for load in loads:
        for name in Counts.__struct_fields__:
            setattr(total, name, getattr(total, name) + getattr(load.counts, name))
        total.reordered += load.differing  # One order for everybody is promised.
    return total


def back_s(latencies: list[str], within_us: float) -> float | None:
    """Return after how many seconds latencies were back for good; None if they were not.

    latencies: one HdrHistogram for each `AFTER_S` since the overload's end. within_us: what is
    taken for being back, for `BACK_PERCENTILE` of all values from then on.
    """
    found = None
    rest = Histogram()
    for step in reversed(range(len(latencies))):
        rest.add(Histogram(latencies[step]))
        if rest.count and rest.percentile_us(BACK_PERCENTILE) <= within_us:
            found = step * AFTER_S
    return found


def _tell_back(result: Result, modest: Done) -> None:
    """Tell the modest client's latencies, and when they were as before."""
    after = [modest.spans[name] for name in sorted(modest.spans) if name.startswith(AFTER)]
    quiet = modest.spans[QUIET]
    result.histograms = {QUIET: quiet, FLOOD: modest.spans[FLOOD], AFTER: merged(after).encode()}
    within_us = Histogram(quiet).percentile_us(99)
    found = back_s(after, within_us)
    if found is None:
        result.failures.append(
            f"the latency was not back within {len(after) * AFTER_S:g} s after the overload"
        )
    else:
        result.figures["back_s"] = found
    result.notes.append(
        f"back_s: from then on {BACK_PERCENTILE:g} of 100 texts of the modest client were heard"
        f" within {humanise('p99_us', within_us)}, the p99 of before; in steps of {AFTER_S:g} s"
    )


def _tell_memory(result: Result, flood: Flood) -> None:
    """Tell how the live process grew from the first part of the overload to its end."""
    points = [
        (each.at_s, each.values["live_memory_bytes"])
        for each in flood.course
        if "live_memory_bytes" in each.values
    ]
    if points:
        result.figures["peak_memory_bytes"] = max(value for _, value in points)
    points = points[len(points) // SETTLED_PART :]
    if len(points) < growth.POINTS_MIN:
        return
    slope = growth.slope_per_s(points)
    result.figures["memory_slope_bytes_per_s"] = slope
    result.figures["memory_growth_bytes"] = max(slope * (points[-1][0] - points[0][0]), 0.0)
