"""One room: senders speak, every subscriber hears everything."""

from __future__ import annotations

from bench.generator.orders import Orders
from bench.results import Result
from bench.target import Target
from bench.works.base import Fanout, Watch
from bench.works.load import measured


def run(target: Target, options: Fanout, watch: Watch) -> Result:
    """Measure deliveries per second, lossless while --window holds."""
    orders = Orders(
        target=target,
        rooms=["hot00"],
        members=options.subscribers,
        sample=options.sample,
        talkers=options.senders,
        warmup_s=options.warmup_s,
        duration_s=options.duration_s,
        messages=options.messages,
        coalesce=options.coalesce,
        window=options.window,
        rate=options.rate,
    )
    return measured("fanout", orders, options, watch)
