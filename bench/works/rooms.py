"""Many rooms: each sender goes through the rooms, one message each in turn."""

from __future__ import annotations

from bench.generator.orders import Orders
from bench.results import Result
from bench.target import Target
from bench.works.base import Rooms, Watch
from bench.works.load import measured


def names(count: int) -> list[str]:
    """Return names of one length."""
    return [f"r{index:05d}" for index in range(count)]


def run(target: Target, options: Rooms, watch: Watch) -> Result:
    """Measure messages and deliveries per second."""
    orders = Orders(
        target=target,
        rooms=names(options.rooms),
        members=options.members,
        sample=1,
        talkers=options.senders,
        warmup_s=options.warmup_s,
        duration_s=options.duration_s,
        messages=options.messages,
        window=options.window,
        rate=options.rate,
    )
    return measured("rooms", orders, options, watch)
