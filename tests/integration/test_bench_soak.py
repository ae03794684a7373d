"""The work `soak`, for seconds: everybody hears everything, and slopes are those of the course."""

from __future__ import annotations

from pathlib import Path

import pytest

from bench.dialect import Unexpected
from bench.meter import listeners
from bench.results import Moment
from bench.target import Target
from bench.works import soak
from bench.works.base import Soak
from tests.broker_process import BrokerProcess

OPTIONS = Soak(duration_s=5, clients=12, rooms=2, rate=60, churn=1, freeze=1, warmup_s=1)


class Silence:
    """A watch that nobody looks at."""

    def begin(self, work: str, server: str, total: float | None, unit: str) -> None:
        pass

    def moment(self, at_s: float, values: dict[str, float]) -> None:
        pass

    def end(self) -> None:
        pass


def target(broker: BrokerProcess) -> Target:
    ports = [broker.port, broker.port + 1]
    pids = [broker.process.pid]
    return Target(
        "hubbub", "0", is_durable=True, host="127.0.0.1", ports=ports, pids=pids, settings=[]
    )


def test_everybody_hears_everything(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is lost, twice or out of order, though clients leave, are killed and freeze."""
    monkeypatch.setattr("bench.works.soak_party.KILL_EVERY_S", 2.0)
    monkeypatch.setattr("bench.works.soak_party.FREEZE_S", 2.0)
    with BrokerProcess(tmp_path / "data", "--heartbeat", "0.5", "--grace", "0.5") as broker:
        result = soak.run(target(broker), OPTIONS, Silence())
        assert listeners([broker.port])
    assert result.counts.is_clean, result.notes
    assert result.counts.sent >= result.counts.acknowledged > 0
    assert result.counts.delivered > 0
    assert result.figures["kills"] > 0
    assert result.figures["freezes"] > 0
    assert result.figures["clients_came"] > OPTIONS.clients
    assert result.figures["broker_restarts"] == 0
    assert {
        "memory_bytes",
        "live_memory_bytes",
        "history_memory_bytes",
        "supervisor_memory_bytes",
        "descriptors",
        "threads",
        "log_bytes",
        "wal_bytes",
    } <= set(result.course[-1].values)
    assert result.histograms["delivery"]


def test_slopes_are_of_the_part_after_the_warm_up() -> None:
    """Least squares: exact on a line, blind to what came before, and named with their unit."""
    course = [Moment(0, {"memory_bytes": 1e9, "cpu_s": 1})]
    course += [
        Moment(at, {"memory_bytes": 5.0 * at + 3, "threads": 7, "cpu_s": at}) for at in (1, 2, 4)
    ]
    course += [Moment(5, {"memory_bytes": 28.0, "late": 1})]
    found = soak.slopes(course, 1)
    assert {"memory_slope_bytes_per_s", "threads_slope_per_s"} == set(found)
    assert pytest.approx(5) == found["memory_slope_bytes_per_s"]
    assert pytest.approx(0, abs=1e-9) == found["threads_slope_per_s"]


def test_only_hubbub_is_soaked() -> None:
    """A peer is refused before any client is started."""
    peer = Target("nats", "0", is_durable=False, host="", ports=[], pids=[], settings=[])
    with pytest.raises(Unexpected, match="only Hubbub"):
        soak.run(peer, OPTIONS, Silence())
