"""The work `overload`, small and real: too much is offered, and nothing that was kept is lost."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest

from bench.dialect import Unexpected
from bench.histogram import Histogram
from bench.plan import Run
from bench.running import measure
from bench.servers.process import descendants
from bench.target import Target
from bench.works import overload
from bench.works.base import Overload

# Forty times what is taken is too much on a machine that is busy with other things, too.
OPTIONS = Overload(
    duration_s=3, search_s=2, quiet_s=1, senders=4, times=40, probes=100, warmup_s=0.2
)


class Silence:
    """A watch that nobody looks at."""

    def begin(self, work: str, server: str, total: float | None, unit: str) -> None:
        pass

    def moment(self, at_s: float, values: dict[str, float]) -> None:
        pass

    def end(self) -> None:
        pass


@pytest.fixture(autouse=True)
def nothing_stays() -> Iterator[None]:
    """Hold each test to leave no process behind."""
    before = set(descendants(os.getpid()))
    yield
    assert before == set(descendants(os.getpid()))


@pytest.mark.parametrize("limit", [0, 5_000])
def test_what_is_offered_is_kept_or_held_back(tmp_path: Path, limit: int) -> None:
    """Senders wait by their window, or are told to; what was acknowledged was heard once."""
    options = msgspec.structs.replace(OPTIONS, limit=limit)
    result = measure(Run("overload", "hubbub", options), Silence(), root=tmp_path)
    counts, figures = result.counts, result.figures
    assert counts.is_clean, result
    assert counts.sent == counts.acknowledged > 0
    assert figures["held_back"] > 0
    assert 0 < figures["waiting_max"] <= options.senders * 10_000
    assert 0 < figures["under_way_max"] <= options.senders * 16 * 256
    assert figures["offered_per_s"] > figures["acknowledged_per_s"] > 0
    assert bool(limit) == (figures["slow_downs"] > 0)
    assert bool(limit) == (figures["slow_down_ms_max"] > 0)
    assert 0 == figures["slow_downs_untimed"]
    assert figures["peak_memory_bytes"] > 0
    for name in ("quiet", "overload", "after"):
        assert Histogram(result.histograms[name]).count > 0
    # Whether it was back in a second is the machine's business; that it is told is not.
    assert ("back_s" in figures) != any("not back" in failure for failure in result.failures)


def test_other_servers_are_refused() -> None:
    other = Target("nats", "0", is_durable=False, host="", ports=[], pids=[], settings=[])
    with pytest.raises(Unexpected, match="only Hubbub"):
        overload.run(other, OPTIONS, Silence())
