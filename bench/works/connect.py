"""Clients connect, say hello and join; then they idle, and leave all at once."""

from __future__ import annotations

import time
from typing import Final

import msgspec

from bench.generator.orders import Orders
from bench.generator.process import carry_out
from bench.meter import Meter
from bench.results import Counts, Result
from bench.target import Target
from bench.works.base import Connect, Watch
from bench.works.rooms import names

LEAVING_S_MAX: Final = 120.0
LOOK_S: Final = 0.5
QUIET_CORES: Final = 0.05  # Less than so much between two looks: the server is done.


def run(target: Target, options: Connect, watch: Watch) -> Result:
    """Measure how fast they are in, and what each costs: coming, idling, leaving."""
    watch.begin("connect", target.name, None, "clients")
    orders = Orders(
        target=target,
        rooms=names(options.rooms),
        members=max(1, options.clients // options.rooms),
        sample=1,
        talkers=0,
        connecting=options.concurrency,
        idle_s=max(0.1, options.idle_s),
        asks_who=options.who,
    )
    try:
        opened, done, _ = carry_out(orders, watch)
    finally:
        watch.end()
    figures = {
        "joins_per_s": opened.clients / opened.seconds,
        "connect_s": opened.seconds,
        "heard_bytes_per_client": opened.heard_bytes / opened.clients,
    }
    if target.pids:
        figures["bytes_per_client"] = opened.server_memory_bytes / opened.clients
        figures["cpu_us_per_join"] = opened.server_cpu_s * 1e6 / opened.clients
        figures["idle_cpu_cores"] = done.server_cpu_s / done.seconds
        figures["cpu_us_per_leave"] = _leaving_s(target) * 1e6 / opened.clients
        figures["peak_memory_bytes"] = done.peak_memory_bytes
    return Result(
        work="connect",
        server=target.name,
        version=target.version,
        is_durable=target.is_durable,
        parameters=msgspec.structs.asdict(options),
        figures=figures,
        counts=Counts(),
    )


def _leaving_s(target: Target) -> float:
    """Return the CPU time that the end of all connections takes, which have just been cut."""
    meter = Meter(target.pids)
    start_s = last_s = meter.read().cpu_s
    for _ in range(int(LEAVING_S_MAX / LOOK_S)):
        time.sleep(LOOK_S)
        now_s = meter.read().cpu_s
        if now_s - last_s < QUIET_CORES * LOOK_S:
            break
        last_s = now_s
    return last_s - start_s
