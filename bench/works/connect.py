"""Clients connect, say hello and join; then they idle."""

from __future__ import annotations

import msgspec

from bench.generator.orders import Orders
from bench.generator.process import carry_out
from bench.results import Counts, Result
from bench.target import Target
from bench.works.base import Connect, Watch
from bench.works.rooms import names


def run(target: Target, options: Connect, watch: Watch) -> Result:
    """Measure how fast they are in, what each costs, and what idling costs."""
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
