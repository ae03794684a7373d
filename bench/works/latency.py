"""Send to receive and send to acknowledge, at rest or beside a given load."""

from __future__ import annotations

from bench.generator.orders import Orders
from bench.results import Result
from bench.target import Target
from bench.works.base import Latency, Watch
from bench.works.load import measured
from bench.works.rooms import names

SAMPLE_MAX = 16  # Spread over the order of joining: a server tells the first ones first.


def run(target: Target, options: Latency, watch: Watch) -> Result:
    """Measure from when each message was meant to be said, measured and background ones alike."""
    members = max(1, options.subscribers // options.rooms)
    orders = Orders(
        target=target,
        rooms=names(options.rooms),
        members=members,
        sample=min(SAMPLE_MAX, members),
        talkers=options.senders,
        warmup_s=options.warmup_s,
        duration_s=options.duration_s,
        messages=options.messages,
        rate=options.rate + options.background,
    )
    return measured("latency", orders, options, watch)
