"""Minutes of mixed traffic by real clients that come, go, die and freeze: what grows meanwhile.

Clients live in crowds, processes of their own (`bench.works.soak_clients`): the steady ones speak
and are timed; visitors come and leave in order; a few are killed (kill -9) and come anew; and two
crowds take turns in being frozen (SIGSTOP) for longer than the broker waits for a sign of life.
Everybody checks every seq. Memory, descriptors, threads and the log's size are read each second,
and their slopes are those of least squares over the part after the warm-up.
"""

from __future__ import annotations

import contextlib
import os
import time
from pathlib import Path
from typing import Final

import numpy as np

from bench.dialect import Unexpected
from bench.histogram import Histogram
from bench.meter import Meter
from bench.results import Counts, Moment, Result
from bench.target import Target
from bench.works.base import Soak, Watch
from bench.works.soak_party import FREEZE_S, KILL_EVERY_S, Party, gathered
from client.api import ask_status

BUSY: Final = 0.9  # Of its share of the machine: then the generator is what limits.
POINTS_MIN: Final = 3
TOTALS: Final = {"cpu_s", "delivered", "came"}  # They rise by their nature.


def run(target: Target, options: Soak, watch: Watch) -> Result:
    """Soak a Hubbub, and tell what grew. Raises `Unexpected` for another server."""
    if target.name != "hubbub":
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
    with gathered(broker, options) as party:
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
    result.histograms["delivery"] = latencies.encode()
    if busy > BUSY:
        result.limited_by = "generator"
    result.counts.lost += len(notes)  # Nothing of that kind may ever be.
    result.notes += notes[:20]
    result.notes.append(
        f"{comings:,} clients came, {kills} times some were killed, {freezes} times frozen"
    )
    result.figures |= {
        "clients_came": float(comings),
        "kills": float(kills),
        "freezes": float(freezes),
        "messages_per_s": result.counts.sent / seconds,
        "deliveries_per_s": result.counts.delivered / seconds,
        "broker_restarts": float(_restarts(broker, seconds)),
    }
    result.figures |= slopes(result.course, min(options.warmup_s, options.length_s / 2))
    return result


def _restarts(broker: str, seconds: float) -> int:
    """Return 1 if the broker serves for less time than the soak took, else 0."""
    return int(ask_status(broker).uptime_s + 1 < seconds)


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
        values = {
            "memory_bytes": float(reading.rss_bytes),
            "descriptors": float(reading.descriptors),
            "threads": float(reading.threads),
            "cpu_s": reading.cpu_s,
        }
        values |= _of_processes(target.pids)
        values |= _files_bytes(target.pids)
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
        watch.moment(at_s, values)
        left_s = options.length_s - (time.monotonic() - start_s)
        time.sleep(max(min(1.0, left_s), 0))
    return latencies


def _trees(pids: list[int]) -> list[int]:
    """Return the processes and their children."""
    found = list(pids)
    for pid in pids:
        with contextlib.suppress(OSError):
            for task in Path(f"/proc/{pid}/task").iterdir():
                found += map(int, (task / "children").read_text().split())
    return list(dict.fromkeys(found))


def _of_processes(pids: list[int]) -> dict[str, float]:
    """Return the memory of each process of the broker, by what it is."""
    found: dict[str, float] = {}
    for pid in _trees(pids):
        with contextlib.suppress(OSError):
            words = Path(f"/proc/{pid}/cmdline").read_text().split("\0")
            module = next((word for word in words if word.startswith("broker")), "other")
            name = module.rpartition(".")[2].replace("broker", "supervisor")
            pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
            key = f"{name}_memory_bytes"
            found[key] = found.get(key, 0) + pages * os.sysconf("SC_PAGE_SIZE")
    return found


def _files_bytes(pids: list[int]) -> dict[str, float]:
    """Return the size of the log and of its write-ahead log, from what the broker has open."""
    found: dict[str, float] = {}
    for pid in _trees(pids):
        with contextlib.suppress(OSError):
            for link in Path(f"/proc/{pid}/fd").iterdir():
                with contextlib.suppress(OSError):
                    path = link.readlink()
                    if path.name.endswith((".db", ".db-wal")):
                        key = "wal_bytes" if path.name.endswith("wal") else "log_bytes"
                        found[key] = float(path.stat().st_size)
    return found


def slopes(course: list[Moment], warmup_s: float) -> dict[str, float]:
    """Return by how much each value rose in a second, by least squares after the warm-up.

    `memory_bytes` gives `memory_slope_bytes_per_s`: the unit, where there is one, stays last. A
    value that is not in at least three moments has no slope, nor has one that only ever rises.
    """
    kept = [moment for moment in course if moment.at_s >= warmup_s]
    found = {}
    for name in dict.fromkeys(name for moment in kept for name in moment.values):
        if name in TOTALS:
            continue
        points = [(each.at_s, each.values[name]) for each in kept if name in each.values]
        if len(points) >= POINTS_MIN:
            stem, _, unit = name.rpartition("_")
            label = f"{stem}_slope_{unit}_per_s" if stem else f"{name}_slope_per_s"
            at_s, values = np.array(points).T
            found[label] = float(np.polyfit(at_s, values, 1)[0])
    return found
