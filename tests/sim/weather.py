"""What a seed has in store: how many take part, which faults there are, which limits are small.

Each run has some kinds of faults and not others: all at once would hide what a few of them do.
(Groce and others, "Swarm testing", 2012.) Limits that are large in earnest are small in most
runs, so that they are met.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from types import ModuleType
from typing import NamedTuple
from unittest import mock

import broker.chat.core
import broker.chat.rooms
import broker.chat.roster
import broker.log.compaction
import broker.log.index
import broker.log.reader
import broker.log.retention
import broker.log.segments
import broker.log.senders
import broker.log.writer
import client.outbox
import client.replica
import client.requests
from broker.chat.floods import Rate

PLENTY = Rate(10_000, 10_000)

# What each limit is called, where it is known by that name, and what it may be in a run.
LIMITS: dict[str, tuple[tuple[ModuleType, ...], tuple[int, ...]]] = {
    "SEGMENT_BYTES_MAX": ((broker.log.segments, broker.log.compaction), (1_024, 4_096, 1 << 26)),
    "AHEAD_BYTES": ((broker.log.segments,), (64, 2_048)),
    "SPARE_BYTES": ((broker.log.segments,), (16,)),
    "SCAN_BYTES": ((broker.log.segments,), (64, 512, 65_536)),
    "WAITING_MAX": ((broker.log.index, broker.log.writer), (3, 16, 4_096)),
    "HISTORY_BYTES_MAX": ((broker.log.reader,), (100, 1_000, 1 << 20)),
    "TRIM_BATCHES_MAX": ((broker.log.retention,), (2, 512)),
    "TRIM_ROOMS_MAX": ((broker.log.retention,), (1, 64)),
    "FOLD_SENDERS": ((broker.log.senders,), (1, 256)),
    "MOVED_BYTES_MAX": ((broker.log.compaction,), (100, 1 << 20)),
    "SEEN_BATCHES_MAX": ((broker.log.compaction,), (2, 4_096)),
    "BATCH_ENTRIES_MAX": ((broker.chat.rooms,), (3, 4_096)),
    "PRESENCE_NAMES_MAX": ((broker.chat.core, broker.chat.roster), (2, 256, 256)),
    "HELD_BATCHES_MAX": ((client.replica,), (2, 64)),
    "HELD_ENTRIES_MAX": ((client.replica,), (5, 8_192)),
    "HISTORY_ENTRIES_MAX": ((client.replica,), (3, 4_096)),
    "SEND_TEXTS_MAX": ((client.outbox,), (2, 256)),
    "SENDS_IN_FLIGHT_MAX": ((client.outbox, broker.log.senders), (2, 16, 16)),
    "REQUESTS_IN_FLIGHT_MAX": ((client.requests,), (2, 256)),
}

# How often each thing happens where it does.
FAULTS = {
    "cut": 20,
    "deafen": 20,
    "linger": 5,  # A broken link is noticed late, on one side or the other.
    "lose_publication": 25,
    "lose_question": 8,
    "freeze_client": 4,
    "freeze_broker": 3,
    "freeze_history": 3,
    "kill_live": 4,
    "kill_history": 3,
    "cut_power": 4,
    "stop": 2,
    "crash_in_drain": 10,
    "disk": 12,
    "read_errors": 4,
    "jump": 4,
    "leave": 8,
    "part": 12,
    "rename": 6,
    "restore": 8,
}
ORDERS = {"order": 40, "drop": 4, "spy": 12}
UNNOTICED = {"lose_command": 8, "lose_reply": 8}
ALWAYS = {
    "drain": 300,
    "deliver": 250,
    "answer": 110,
    "connect": 90,
    "say": 150,
    "join": 35,
    "pass_time": 14,
    "trim": 14,
    "arrive": 3,
}


class Weather(NamedTuple):
    """What one run is like."""

    clients: int
    clients_max: int
    steps: int
    rate: Rate
    loss: float  # The share of publications that a full queue drops.
    publish_queue: int  # Publications that wait for one client; more are dropped.
    reply_queue: int  # Answers that wait for one client; more are lost.
    retain_messages: int
    retain_days: int
    grace_s: float
    weights: dict[str, int]
    limits: dict[str, int]
    is_secure: bool = False  # Everybody has a key, and some give orders.

    def words(self) -> str:
        """Return it in a line."""
        faults = " ".join(sorted(self.weights.keys() - ALWAYS.keys() - ORDERS.keys()))
        small = " ".join(f"{name}={value}" for name, value in sorted(self.limits.items()))
        return (
            f"clients={self.clients}..{self.clients_max} rate={self.rate.per_s:g} "
            f"loss={self.loss} queues={self.publish_queue},{self.reply_queue} "
            f"keep={self.retain_messages},{self.retain_days}d grace={self.grace_s:g}s"
            f"{' keys and orders' if self.is_secure else ''}\n"
            f"faults: {faults}\nlimits: {small}"
        )


def weather(
    seed: int,
    *,
    steps: int,
    has_unnoticed_losses: bool | None = None,
    is_secure: bool | None = None,
) -> Weather:
    """Return what a seed has in store."""
    if is_secure is None:
        is_secure = random.Random(f"keys {seed}").random() < 0.5
    chance = random.Random(f"weather {seed}")
    is_mild = chance.random() < 0.05  # Also see that all is well without any fault.
    if has_unnoticed_losses is None:
        has_unnoticed_losses = chance.random() < 0.3
    weights = dict(ALWAYS)
    for name, weight in FAULTS.items():
        if not is_mild and chance.random() < 0.5:
            weights[name] = chance.choice([weight, weight, 3 * weight])
    if has_unnoticed_losses:
        weights |= UNNOTICED
    is_small = not is_mild and chance.random() < 0.8
    limits = {name: chance.choice(values) for name, (_, values) in LIMITS.items()}
    if "restore" in weights:
        weights["stop"] = 3 * FAULTS["stop"]  # It is then that backups are made.
    if is_secure:
        weights |= ORDERS
    return Weather(
        clients=chance.choice([2, 3, 3, 4]),
        clients_max=6,
        steps=steps,
        rate=PLENTY if chance.random() < 0.7 else Rate(40, 256),
        loss=chance.choice([0.02, 0.1, 0.3]) if "lose_publication" in weights else 0.0,
        publish_queue=chance.choice([3, 1_000]) if "lose_publication" in weights else 1_000,
        reply_queue=chance.choice([5, 2_048]) if has_unnoticed_losses else 2_048,
        retain_messages=chance.choice([0, 0, 5, 30]),
        retain_days=chance.choice([0, 0, 0, 1]),
        grace_s=chance.choice([0.5, 2.0, 10.0]),
        weights=weights,
        is_secure=is_secure,
        # Megabytes of space would only cost time.
        limits=limits if is_small else {"AHEAD_BYTES": 2_048, "SPARE_BYTES": 16},
    )


@contextmanager
def small_limits(limits: dict[str, int]) -> Iterator[None]:
    """Have these limits while it lasts."""
    with ExitStack() as stack:
        for name, value in limits.items():
            for module in LIMITS[name][0]:
                stack.enter_context(mock.patch.object(module, name, value))
        yield
