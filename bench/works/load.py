"""What the works that send texts share: have a load carried out, and make its result."""

from __future__ import annotations

import os
from typing import Final

import msgspec

from bench.generator.orders import Done, Opened, Orders
from bench.generator.process import carry_out
from bench.results import Result
from bench.target import Target
from bench.works.base import Options, Watch

BUSY: Final = 0.9  # Of a core, or of all: no more could come out of it.


def measured(work: str, orders: Orders, options: Options, watch: Watch) -> Result:
    """Carry out a load and return what it found. Raises `Unexpected`."""
    target = orders.target
    total = float(orders.messages) if orders.messages else orders.duration_s
    watch.begin(work, target.name, None if orders.messages else total, "s")
    try:
        opened, done, course = carry_out(orders, watch)
    finally:
        watch.end()
    histograms = {"delivery": done.latencies, "ack": done.ack_latencies}
    counts = done.counts
    notes = [f"{done.late} texts were said late by the generator"] if done.late else []
    if done.differing and not counts.lost:
        if target.is_hubbub:
            counts.reordered += done.differing  # It promises one order for everybody.
        else:
            notes.append("members heard the senders in different orders (each sender in its own)")
    return Result(
        work=work,
        server=target.name,
        version=target.version,
        is_durable=target.is_durable,
        parameters=msgspec.structs.asdict(options),
        figures=_figures(opened, done),
        counts=counts,
        histograms={name: encoded for name, encoded in histograms.items() if encoded},
        limited_by=_limit(done, target) if not orders.rate else "",
        notes=notes,
        course=[each.moment for each in course],
    )


def _figures(opened: Opened, done: Done) -> dict[str, float]:
    counts, seconds = done.counts, done.seconds
    figures = {
        "messages_per_s": counts.sent / seconds,
        "deliveries_per_s": counts.delivered / seconds,
        "acknowledged_per_s": counts.acknowledged / seconds,
        "generator_cpu_cores": done.generator_cpu_s / seconds,
        "connect_s": opened.seconds,
    }
    if done.peak_memory_bytes:
        figures["cpu_us_per_delivery"] = done.server_cpu_s * 1e6 / max(1, counts.delivered)
        figures["cpu_us_per_message"] = done.server_cpu_s * 1e6 / max(1, counts.sent)
        figures["server_cpu_cores"] = done.server_cpu_s / seconds
        figures["peak_memory_bytes"] = done.peak_memory_bytes
    return figures


def _limit(done: Done, target: Target) -> str:
    """Tell what was at its limit: the generator is one thread, a server may have several."""
    server, generator = done.server_cpu_s / done.seconds, done.generator_cpu_s / done.seconds
    if generator > BUSY and (server < BUSY or not target.pids):
        return "generator"
    if server + generator > BUSY * (os.cpu_count() or 1):
        return "machine"
    # Neither: the window, the disk or the network's round trips were.
    return "server" if server > BUSY else ""
