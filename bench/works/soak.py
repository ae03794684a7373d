"""Minutes of mixed traffic by real clients that come, go, die and freeze: what grows meanwhile.

Clients live in crowds, processes of their own (`bench.works.soak_clients`): the steady ones speak
and are timed; visitors come and leave in order; a few are killed (kill -9) and come anew; and two
crowds take turns in being frozen (SIGSTOP) for longer than the broker waits for a sign of life.
Everybody checks every seq. Memory, descriptors, threads and the log's size are read each second
(`bench.works.soak_vitals`), and the run fails when one of them still grows after the warm-up
(`bench.growth`).
"""

from __future__ import annotations

import os
import time
from typing import Final

from bench import growth
from bench.dialect import Unexpected
from bench.histogram import Histogram
from bench.meter import Meter
from bench.results import Counts, Moment, Result
from bench.target import Target
from bench.works import soak_vitals
from bench.works.base import Soak, Watch
from bench.works.soak_party import FREEZE_S, KILL_EVERY_S, Party, gathered
from client.api import ask_status
from client.keys import new_keys

# What the progress shows of a moment.
TOLD: Final = ("live_memory_bytes", "segments_bytes", "delivery_p99_ms", "delivered", "came")
BUSY: Final = 0.9  # Of its share of the machine: then the generator is what limits.


def run(target: Target, options: Soak, watch: Watch) -> Result:
    """Soak a Hubbub, and tell what grew. Raises `Unexpected` for another server."""
    if not target.is_hubbub:
        raise Unexpected("only Hubbub can be soaked: its own client library is part of it")
    broker = f"{target.host}:{target.ports[0]}"
    result = Result(
        work="soak",
        server=target.name,
        version=target.version,
        is_durable=target.is_durable,
        parameters={"kill_every_s": KILL_EVERY_S, "freeze_s": FREEZE_S},
        figures={},
        counts=Counts(),
    )
    server = Meter(target.pids)
    with gathered(broker, options, target.server_key) as party:
        generator = Meter(crowd.process.pid for crowd in party.crowds)
        generator_cpu_s = generator.read().cpu_s
        watch.begin("soak", target.name, options.length_s, "s")
        start_s = time.monotonic()
        latencies = _course(target, options, watch, party, (server, generator), result)
        seconds = time.monotonic() - start_s
        reading = generator.read()
        busy = (reading.cpu_s - generator_cpu_s) / seconds / (os.cpu_count() or 1)
        party.finish()
        watch.end()
        result.counts, comings = party.totals()
        notes = list(dict.fromkeys(party.trouble))
        kills, freezes = party.kills, party.freezes
        gone, settled_s, late = party.gone, party.settled_s, party.late
    result.histograms["delivery"] = latencies.encode()
    if busy > BUSY:
        result.limited_by = "generator"
    if notes and result.counts.is_clean:
        result.counts.lost = len(notes)  # Nothing of that kind may ever be.
    result.notes += notes[:20] + late[:20]
    if gone:
        result.notes.append(f"{gone:,} entries were too old for the log before somebody read them")
    result.notes.append(
        f"{comings:,} clients came, {kills} times some were killed, {freezes} times frozen"
    )
    result.figures |= {
        "clients_came": float(comings),
        "kills": float(kills),
        "freezes": float(freezes),
        "messages_per_s": result.counts.sent / seconds,
        "deliveries_per_s": result.counts.delivered / seconds,
        "settled_s": settled_s,
        "gone_and_told": float(gone),
        "broker_restarts": float(_restarts(target, broker, seconds)),
    }
    _judge(target, options, result)
    return result


def _restarts(target: Target, broker: str, seconds: float) -> int:
    """Return 1 if the broker serves for less time than the soak took, else 0."""
    curve = new_keys(target.server_key) if target.server_key else None
    return int(ask_status(broker, curve=curve).uptime_s + 1 < seconds)


def _judge(target: Target, options: Soak, result: Result) -> None:
    """Tell how steep each quantity rose, and fail the run where that is a leak."""
    if result.figures["broker_restarts"]:
        result.failures.append("the broker ended and was started again")
    # Somebody else's broker may keep far more than comes in the time of a soak.
    is_ours = options.is_of(target.settings)
    found = growth.growths(result.course, min(options.warmup_s, options.length_s / 2))
    for each in found:
        is_judged = is_ours or each.name not in soak_vitals.OF_FILES
        result.figures[each.figure] = each.per_hour
        result.notes.append(each.sentence() + ("" if is_judged else " (not judged)"))
        if each.is_leak and is_judged:
            result.failures.append(f"it grows: {each.sentence()}")
    if target.pids:
        missing = set(soak_vitals.expected()) - {each.name for each in found}
        result.failures += [f"{name} could not be read" for name in sorted(missing)]


def _course(  # noqa: PLR0917 - each is another one's
    target: Target,
    options: Soak,
    watch: Watch,
    party: Party,
    meters: tuple[Meter, Meter],
    result: Result,
) -> Histogram:
    """Let time pass and read everything once a second; return the latencies after the warm-up."""
    server, generator = meters
    latencies = Histogram()
    start_s = time.monotonic()
    known = {crowd.process.pid for crowd in party.crowds}
    while (at_s := time.monotonic() - start_s) < options.length_s:
        party.act(at_s)
        fresh = {crowd.process.pid for crowd in party.crowds} - known
        known |= fresh
        generator.add(fresh)
        generator.read()
        reading = server.read()
        values = {"cpu_s": reading.cpu_s} | soak_vitals.read(target.pids)
        heard = Histogram()
        for crowd in party.crowds:
            heard.add(crowd.take_latencies())
        if heard.count:
            values["delivery_p50_ms"] = heard.percentile_us(50) / 1_000
            values["delivery_p99_ms"] = heard.percentile_us(99) / 1_000
            if at_s >= options.warmup_s:
                latencies.add(heard)
        counts, comings = party.totals()
        values |= {"delivered": float(counts.delivered), "came": float(comings)}
        result.course.append(Moment(at_s, values))
        watch.moment(at_s, {name: values[name] for name in TOLD if name in values})
        left_s = options.length_s - (time.monotonic() - start_s)
        time.sleep(max(min(1.0, left_s), 0))
    return latencies
