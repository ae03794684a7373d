"""The work `soak`, for seconds: everybody hears everything, and a leak fails the run."""

from __future__ import annotations

from pathlib import Path

import pytest

from bench.dialect import Unexpected
from bench.meter import listeners
from bench.plan import Run
from bench.running import measure
from bench.target import HUBBUB, HUBBUB_CURVE, Target
from bench.verdicts import judge
from bench.works import soak, soak_vitals
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
        HUBBUB_CURVE if broker.server_key else HUBBUB,
        "0",
        is_durable=True,
        host="127.0.0.1",
        ports=ports,
        pids=pids,
        settings=[],
        server_key=broker.server_key,
    )


@pytest.mark.parametrize("flags", [(), ("--secure",)], ids=["plain", "secure"])
def test_everybody_hears_everything(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, flags: tuple[str, ...]
) -> None:
    """Nothing is lost, twice or out of order, though clients leave, are killed and freeze."""
    monkeypatch.setattr("bench.works.soak_party.KILL_EVERY_S", 2.0)
    monkeypatch.setattr("bench.works.soak_party.FREEZE_S", 2.0)
    with BrokerProcess(tmp_path / "data", "--heartbeat", "0.5", "--grace", "0.5", *flags) as broker:
        result = soak.run(target(broker), OPTIONS, Silence())
        assert listeners([broker.port])
    assert result.counts.is_clean, result.notes
    assert result.counts.sent >= result.counts.acknowledged > 0
    assert result.counts.delivered > 0
    assert result.figures["kills"] > 0
    assert result.figures["freezes"] > 0
    assert result.figures["clients_came"] > OPTIONS.clients
    assert result.figures["broker_restarts"] == 0
    assert set(soak_vitals.expected()) <= set(result.course[-1].values)
    assert all(result.course[-1].values[name] > 0 for name in soak_vitals.expected())
    assert not [each for each in result.failures if "descriptors" in each or "threads" in each]
    assert result.histograms["delivery"]


# Runs in every Python that the broker starts; what leaks is the live process.
LEAK = """
import sys, threading

def leak(kept=[]):
    never = threading.Event()
    while not never.wait(0.01):
        kept.append((bytearray(b"x" * 100_000), open("/dev/null")))

if "broker.live" in sys.orig_argv:
    threading.Thread(target=leak, daemon=True).start()
"""


def test_a_leak_fails_the_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A broker whose live process loses memory and descriptors is found out, and nothing else."""
    (tmp_path / "sitecustomize.py").write_text(LEAK)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    result = measure(Run("soak", "hubbub", OPTIONS), Silence(), root=tmp_path)
    assert result.counts.is_clean, result.notes
    lines = judge([], [result])
    for name in ("live_memory_bytes", "live_descriptors"):
        assert [line for line in lines if f"it grows: {name}" in line], lines
    assert not [line for line in lines if "history_descriptors" in line], lines
    assert result.figures["live_memory_slope_bytes_per_h"] > 1e9


def test_only_hubbub_is_soaked() -> None:
    """A peer is refused before any client is started."""
    peer = Target("nats", "0", is_durable=False, host="", ports=[], pids=[], settings=[])
    with pytest.raises(Unexpected, match="only Hubbub"):
        soak.run(peer, OPTIONS, Silence())
