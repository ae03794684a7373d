"""The work `frozen`, small and real: processes are stopped, and must have everything afterwards."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest

from bench.dialect import Unexpected
from bench.histogram import Histogram
from bench.plan import Run
from bench.running import RunFailed, measure
from bench.servers.process import descendants
from bench.target import Target
from bench.verdicts import judge, parse
from bench.works import frozen
from bench.works.base import Frozen

# Four times the bytes that the kernel holds for a connection, and then more batches than the queue
# takes. A much shorter queue would drop for those who read, too.
OPTIONS = Frozen(
    subscribers=8, frozen=3, rounds=1, duration_s=4, rate=1_000, queue=64, warmup_s=0.1
)
LONGER_S = 20.0  # A slow machine makes few large batches: then it takes longer to fill the queue.


class Listener:
    """A watch that remembers."""

    def __init__(self) -> None:
        self.kinds: list[float] = []

    def begin(self, work: str, server: str, total: float | None, unit: str) -> None:
        assert ("frozen", "hubbub", "s") == (work, server, unit)
        assert total in {2 * OPTIONS.duration_s, 2 * LONGER_S}

    def moment(self, at_s: float, values: dict[str, float]) -> None:
        assert at_s >= 0
        if self.kinds[-1:] != [values["is_frozen"]]:
            self.kinds.append(values["is_frozen"])

    def end(self) -> None:
        """See `bench.works.base.Watch`."""


@pytest.fixture(autouse=True)
def nothing_stays() -> Iterator[None]:
    """Hold each test to leave no process behind, and none that is stopped."""
    before = set(descendants(os.getpid()))
    yield
    assert before == set(descendants(os.getpid()))


def test_the_frozen_ones_become_whole(tmp_path: Path) -> None:
    watch = Listener()
    result = measure(Run("frozen", "hubbub", OPTIONS), watch, root=tmp_path)
    if not result.figures["questions"]:
        assert any("nobody had to ask" in each for each in result.notes)
        longer = msgspec.structs.replace(OPTIONS, duration_s=LONGER_S)
        watch = Listener()
        result = measure(Run("frozen", "hubbub", longer), watch, root=tmp_path)
    counts, figures = result.counts, result.figures
    assert counts.is_clean, result
    assert counts.sent == counts.acknowledged > 0
    # Those who freeze heard the mark, too, which begins the others' books.
    assert OPTIONS.subscribers * counts.sent + OPTIONS.frozen == counts.delivered
    assert figures["questions"] > 0, "nothing was dropped, so nothing is shown"
    assert figures["whole_s"] > 0
    assert [0.0, 1.0, 0.0] == watch.kinds
    for name in ("quiet", "frozen"):
        assert Histogram(result.histograms[name]).count > 0
    assert figures["frozen_p99_ratio"] > 0
    assert figures["memory_peak_bytes"] >= figures["memory_before_bytes"] > 0
    assert figures["memory_after_bytes"] > 0
    assert figures["memory_bound_bytes"] == OPTIONS.queue * 256 * 1024
    held = judge([parse("frozen_p99_ratio>0"), parse("lost>0")], [result])
    assert 1 == len([line for line in held if "frozen_p99_ratio" in line]), held


def test_a_run_that_fails_leaves_nobody_frozen(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(_parts: frozen.Parts, kind: str) -> None:
        if kind == "frozen":
            raise Unexpected("the disk is on fire")

    monkeypatch.setattr(frozen.Parts, "_look", fail)
    with pytest.raises(RunFailed, match="on fire"):
        measure(Run("frozen", "hubbub", OPTIONS), Listener(), root=tmp_path)


def test_who_is_not_stopped_is_found_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("bench.works.frozen.signal.SIGSTOP", signal.SIGCONT)
    monkeypatch.setattr("bench.works.frozen.STOP_S_MAX", 0.1)
    with pytest.raises(RunFailed, match="not stopped"):
        measure(Run("frozen", "hubbub", OPTIONS), Listener(), root=tmp_path)


def test_other_servers_are_refused() -> None:
    other = Target("nats", "0", is_durable=False, host="", ports=[], pids=[], settings=[])
    with pytest.raises(Unexpected, match="only Hubbub"):
        frozen.run(other, OPTIONS, Listener())
