"""The work `rejoin`, small and real: a broker is killed, and everybody must have everything.

Nothing here looks at the clock, and nothing stays behind, whatever happens.
"""

from __future__ import annotations

import os
from collections.abc import Iterator

import msgspec
import pytest
import zmq

from bench import zmtp
from bench.dialect import Unexpected
from bench.generator.links import Lost, Net
from bench.generator.sockets import LightSocket, Messages, Timetable
from bench.histogram import Histogram
from bench.servers.process import descendants
from bench.target import Target
from bench.works import rejoin
from bench.works.base import Rejoin
from tests.waiting import eventually

HOST = "127.0.0.1"
HUBBUB = Target("hubbub", "0", is_durable=True, host="", ports=[], pids=[], settings=[])
HUBBUB_CURVE = msgspec.structs.replace(HUBBUB, name="hubbub-curve", server_key="00" * 32)
OPTIONS = Rejoin(
    clients=40, senders=4, rate=50, duration_s=0.5, warmup_s=0.1, storm=3, entries=5_000
)


class Listener:
    """A watch that remembers."""

    def __init__(self) -> None:
        self.parts: list[str] = []

    def begin(self, work: str, server: str, total: float | None, unit: str) -> None:
        assert total
        assert unit in {"s", "whole"}
        self.parts.append(f"{work} {server}")

    def moment(self, at_s: float, values: dict[str, float]) -> None:
        assert at_s >= 0
        assert values["whole"] <= OPTIONS.clients

    def end(self) -> None:
        """See `bench.works.base.Watch`."""


@pytest.fixture(autouse=True)
def nothing_stays() -> Iterator[None]:
    """Hold each test to leave no process behind."""
    before = set(descendants(os.getpid()))
    yield
    assert before == set(descendants(os.getpid()))


@pytest.mark.parametrize("target", [HUBBUB, HUBBUB_CURVE], ids=lambda target: target.name)
def test_everybody_is_whole_after_a_kill(target: Target) -> None:
    watch = Listener()
    result = rejoin.run(target, OPTIONS, watch)
    counts, clients = result.counts, OPTIONS.clients
    assert counts.is_clean, result
    assert counts.sent == counts.acknowledged > 0
    assert counts.sent * clients == counts.delivered
    assert clients == Histogram(result.histograms["whole"]).count
    assert {"quiet", "storm", "rejoin", "after", "whole"} == set(result.histograms)
    assert result.figures["whole_s"] >= result.figures["down_s"] > 0
    assert result.figures["storm_entries_per_s"] > 0
    assert result.figures["storm_p99_ratio"] > 0
    parts = ["gather", "warmup", "quiet", "storm", "rejoin", "after"]
    assert [f"{part} {target.name}" for part in parts] == watch.parts


def test_without_a_storm_there_are_no_figures_of_one() -> None:
    options = Rejoin(clients=3, senders=3, rate=50, duration_s=0.2, warmup_s=0, storm=0)
    result = rejoin.run(HUBBUB, options, Listener())
    assert result.counts.is_clean, result
    assert result.counts.sent * 3 == result.counts.delivered
    assert "storm" not in result.histograms
    assert not [name for name in result.figures if "storm" in name]


def test_a_run_that_fails_ends_all_that_it_started(monkeypatch: pytest.MonkeyPatch) -> None:
    def no_start(_broker: rejoin.Broker) -> int:
        raise Unexpected("the broker did not start")

    monkeypatch.setattr(rejoin.Broker, "start_again", no_start)
    with pytest.raises(Unexpected, match="did not start"):
        rejoin.run(HUBBUB, OPTIONS, Listener())


def test_other_servers_are_refused() -> None:
    other = Target("nats", "0", is_durable=False, host="", ports=[], pids=[], settings=[])
    with pytest.raises(Unexpected, match="only Hubbub"):
        rejoin.run(other, OPTIONS, Listener())


@pytest.fixture
def net() -> Iterator[Net]:
    net = Net(HOST)
    yield net
    net.close()


def test_a_light_socket_comes_back_when_its_peer_does(net: Net) -> None:
    """It is told of the end, and what is sent after the next handshake arrives."""
    timetable, told = Timetable(), list[str]()
    heard: Messages = []

    def turn() -> bool:
        timetable.run_due()
        net.poll(0.01)
        return True

    with zmq.Context() as context:
        router = context.socket(zmq.ROUTER)
        router.linger = 0
        port = router.bind_to_random_port(f"tcp://{HOST}")
        dealer = LightSocket(
            b"DEALER",
            net,
            timetable,
            port,
            heard=heard.extend,
            up=lambda: told.append("up"),
            down=lambda: told.append("down"),
        )
        eventually(lambda: turn() and told == ["up"])
        router.close()
        eventually(lambda: turn() and told == ["up", "down"])
        dealer.send(zmtp.message(b"nobody is there"))
        with context.socket(zmq.ROUTER) as second:
            second.linger = 0
            second.bind(f"tcp://{HOST}:{port}")
            eventually(lambda: turn() and told == ["up", "down", "up"])
            dealer.send(zmtp.message(b"somebody", b"is there"))
            eventually(lambda: turn() and second.poll(0))
            route, *frames = second.recv_multipart()
            assert [b"somebody", b"is there"] == frames
            second.send_multipart([route, b"so it is"])
            eventually(lambda: turn() and heard)
            assert [[b"so it is"]] == heard
            dealer.close()


def test_a_link_that_must_not_end_ends_the_generator(net: Net) -> None:
    with zmq.Context() as context, context.socket(zmq.ROUTER) as router:
        port = router.bind_to_random_port(f"tcp://{HOST}")
        net.open(port, lambda _: None)
        router.close()
        with pytest.raises(Lost):
            eventually(lambda: net.poll(0.01) < 0)
