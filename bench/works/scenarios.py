"""The named scenarios of `compare`: what is run, with which parameters, on which servers.

The goals of docs/PERFORMANCE.md, a row each. Peers that hear everything everywhere, that drop
beyond a thousand messages (the proxy) or that take minutes are left out where they can't take part.
"""

from __future__ import annotations

from typing import Final, NamedTuple

from bench.target import HUBBUB, HUBBUB_CURVE
from bench.works.base import Connect, Fanout, Ingest, Latency, Options, Rooms


class Scenario(NamedTuple):
    """One line of the comparison."""

    work: str  # A sub-command; `options` are of its kind.
    options: Options
    servers: tuple[str, ...] = ()  # Those that it makes sense for; () for all.
    headlines: tuple[str, ...] = ()  # The figures to compare; () for those of the sub-command.


OURS: Final = (HUBBUB, HUBBUB_CURVE)
FAST: Final = (*OURS, "nats", "redis_pubsub", "ngircd")
DURABLE: Final = (*OURS, "jetstream", "redis_streams")
QUIET: Final = (*OURS, "nats", "redis_pubsub", "redis_streams")
RESTING: Final = (*OURS, "proxy", "nats", "redis_pubsub", "ngircd")
SHORT_S: Final = 3.0
WINDOW: Final = 8_192  # The same for all; a peer that can't take it shows losses.

SCENARIOS: Final[dict[str, Scenario]] = {
    "fanout-50": Scenario(
        "fanout", Fanout(subscribers=50, window=WINDOW, duration_s=SHORT_S, warmup_s=1.0), FAST
    ),
    "fanout-500": Scenario(
        "fanout", Fanout(subscribers=500, window=WINDOW, duration_s=SHORT_S, warmup_s=1.0), FAST
    ),
    "rooms-200x5": Scenario(
        "rooms",
        Rooms(rooms=200, members=5, senders=64, window=WINDOW, duration_s=SHORT_S, warmup_s=1.0),
        QUIET,
    ),
    "rooms-1000x2": Scenario(
        "rooms",
        # Twice as many on their way: with 8 in each room all wait for the load generator's rounds.
        Rooms(
            rooms=1_000, members=2, senders=64, window=2 * WINDOW, duration_s=SHORT_S, warmup_s=1.0
        ),
        QUIET,
    ),
    # Requests under way are the same for all; only Hubbub's carry several texts, as its client
    # library's do. The next three are the same without that.
    **{
        f"ingest-{senders}{'' if coalesce > 1 else '-single'}": Scenario(
            "ingest",
            Ingest(senders=senders, coalesce=coalesce, duration_s=SHORT_S, warmup_s=1.0),
            DURABLE if coalesce == 1 else OURS,
        )
        for coalesce in (256, 1)
        for senders in (1, 16, 256)
    },
    "rest-2": Scenario(
        "latency", Latency(subscribers=2, senders=1, duration_s=SHORT_S, warmup_s=1.0), RESTING
    ),
    "rest-500": Scenario(
        "latency", Latency(subscribers=500, senders=1, duration_s=SHORT_S, warmup_s=1.0), RESTING
    ),
    "thousand": Scenario(
        "latency",
        Latency(
            subscribers=1_000, rooms=20, rate=1_000, senders=100, duration_s=SHORT_S, warmup_s=1.0
        ),
        (*OURS, "ngircd", "nats", "proxy"),
        ("delivery.p50", "delivery.p99", "server_cpu_cores"),
    ),
    "connect-2000": Scenario(
        "connect",
        # With more at once ngircd, whose listen queue holds ten, resets some connections.
        Connect(clients=2_000, concurrency=16, who=True, idle_s=30.0),
        (*OURS, "ngircd"),
    ),
}
