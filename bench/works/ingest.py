"""Acknowledged messages per second."""

from __future__ import annotations

from bench.generator.orders import Orders
from bench.results import Result
from bench.target import Target
from bench.works.base import Ingest, Watch
from bench.works.load import measured


def run(target: Target, options: Ingest, watch: Watch) -> Result:
    """Measure with so many requests of each sender under way; one listener checks."""
    orders = Orders(
        target=target,
        rooms=["hot00"],
        members=1,
        sample=1,
        talkers=options.senders,
        warmup_s=options.warmup_s,
        duration_s=options.duration_s,
        messages=options.messages,
        coalesce=options.coalesce,
        requests=options.window,
    )
    return measured("ingest", orders, options, watch)
