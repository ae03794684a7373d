"""Each work, small and real: a server, a generator, and counts. Nothing here looks at the clock."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from bench.generator.orders import Orders
from bench.generator.process import carry_out
from bench.histogram import Histogram
from bench.results import Result
from bench.servers import registry
from bench.target import Target
from bench.works import connect, fanout, ingest, latency, rooms
from bench.works.base import Connect, Fanout, Ingest, Latency, Rooms
from common.limits import SENDS_IN_FLIGHT_MAX
from tests.installed import started


class Silent:
    """Watches nothing."""

    def begin(self, work: str, server: str, total: float | None, unit: str) -> None:
        """See `bench.works.base.Watch`."""

    def moment(self, at_s: float, values: dict[str, float]) -> None:
        """See `bench.works.base.Watch`."""

    def end(self) -> None:
        """See `bench.works.base.Watch`."""


@pytest.fixture(
    params=["hubbub", "hubbub-curve", "nats", "redis_pubsub", "redis_streams", "jetstream"]
)
def target(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Target]:
    with started(registry.load(request.param), tmp_path) as running:
        yield running


@pytest.fixture(params=["hubbub", "hubbub-curve"])
def hubbub(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Target]:
    with started(registry.load(request.param), tmp_path) as running:
        assert bool(running.server_key) == (request.param == "hubbub-curve")
        yield running


def expect_clean(result: Result, listeners: int) -> None:
    counts = result.counts
    assert counts.is_clean, result
    assert counts.sent > 0
    assert counts.sent * listeners == counts.delivered


def test_fanout(target: Target) -> None:
    options = Fanout(subscribers=6, window=500, messages=1_000, warmup_s=0.1)
    result = fanout.run(target, options, Silent())
    # What was under way at the end of the warm-up is heard in the measured part.
    assert result.counts.is_clean, result
    assert result.counts.delivered >= 6 * result.counts.sent > 0


def test_fanout_of_a_number_of_messages(hubbub: Target) -> None:
    options = Fanout(subscribers=5, messages=2_000, warmup_s=0, sample=5)
    result = fanout.run(hubbub, options, Silent())
    expect_clean(result, 5)
    assert result.counts.sent >= 2_000
    assert result.counts.acknowledged == result.counts.sent
    assert result.figures["cpu_us_per_delivery"] > 0


def test_fanout_in_an_open_loop(hubbub: Target) -> None:
    options = Fanout(subscribers=4, rate=200, messages=40, warmup_s=0)
    result = fanout.run(hubbub, options, Silent())
    expect_clean(result, 4)
    assert result.counts.sent >= 40  # What is due after a stall is said at once.


def test_rooms(target: Target) -> None:
    options = Rooms(rooms=10, members=2, senders=4, window=64, messages=500, warmup_s=0.1)
    result = rooms.run(target, options, Silent())
    assert result.counts.is_clean, result
    assert result.counts.delivered >= 2 * result.counts.sent > 0


def test_latency(hubbub: Target) -> None:
    options = Latency(subscribers=4, rooms=2, rate=100, messages=30, warmup_s=0)
    result = latency.run(hubbub, options, Silent())
    expect_clean(result, 2)
    assert 30 * 2 == Histogram(result.histograms["delivery"]).count
    assert 30 == Histogram(result.histograms["ack"]).count


@pytest.mark.parametrize("coalesce", [1, 256])
def test_ingest(hubbub: Target, coalesce: int) -> None:
    options = Ingest(
        senders=3, window=SENDS_IN_FLIGHT_MAX, coalesce=coalesce, messages=1_000, warmup_s=0
    )
    result = ingest.run(hubbub, options, Silent())
    expect_clean(result, 1)
    assert result.counts.acknowledged == result.counts.sent >= 1_000


@pytest.mark.parametrize("who", [False, True])
def test_connect(hubbub: Target, who: bool) -> None:  # noqa: FBT001 - a parameter of the test
    options = Connect(clients=30, rooms=3, idle_s=0.1, who=who)
    result = connect.run(hubbub, options, Silent())
    assert result.figures["joins_per_s"] > 0
    assert result.figures["bytes_per_client"] >= 0


def test_what_a_server_drops_is_counted(tmp_path: Path) -> None:
    """The bare proxy drops beyond its high-water mark; far more than that is under way at once."""
    with started(registry.load("proxy"), tmp_path) as proxy:
        orders = Orders(
            target=proxy,
            rooms=["hot00"],
            members=40,
            sample=2,
            talkers=1,
            warmup_s=0,
            messages=60_000,
            window=60_000,
            settle_s=1.0,
        )
        _, done, _ = carry_out(orders, Silent())
    assert done.counts.lost > 0
    assert done.counts.delivered < 40 * done.counts.sent
