"""What senders do who are offered too much, and when a latency is back. No sockets, no clock."""

from __future__ import annotations

from typing import Any

import pytest

from bench.dialect import Heard, Unexpected
from bench.generator.talkers import BoundedLoop
from bench.histogram import Histogram
from bench.servers.hubbub import PatientHubbubVoice
from bench.works.overload import AFTER_S, back_s
from common import wire
from common.errors import Code, Refused

TOKEN = bytes(16)


# --- a bounded open loop ----------------------------------------------------
class Sender:
    """A talker whose server acknowledges when the test says so."""

    def __init__(self) -> None:
        self.acknowledged = 0
        self.is_free = True
        self.said: list[int] = []
        self.ack_times_ns: list[tuple[int, int]] = []

    def say(self, count: int, meant_ns: int, *, is_tracked: bool) -> None:
        assert is_tracked
        assert meant_ns >= 0
        self.said.append(count)


class Stage:
    """Two senders that are offered 100 texts a second together, and a clock that stands still."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self._patch = monkeypatch
        self.go_to(0)
        self.senders = [Sender(), Sender()]
        untyped: Any = self.senders
        self.loop = BoundedLoop(untyped, 100, 60, 16)

    def go_to(self, at_s: float) -> None:
        self._patch.setattr("bench.generator.talkers.time.monotonic_ns", lambda: int(at_s * 1e9))

    def top_up(self, at_s: float) -> None:
        self.go_to(at_s)
        self.loop.top_up(0)


@pytest.fixture
def stage(monkeypatch: pytest.MonkeyPatch) -> Stage:
    return Stage(monkeypatch)


def test_what_is_due_is_said_in_pieces(stage: Stage) -> None:
    stage.top_up(0.8)
    assert [[16, 16, 8], [16, 16, 8]] == [sender.said for sender in stage.senders]
    assert (80, 0, 80) == (
        stage.loop.pressure.offered,
        stage.loop.pressure.held_back,
        stage.loop.pressure.under_way_max,
    )


def test_a_client_takes_no_more_than_it_may_hold(stage: Stage) -> None:
    """The rest is held back, and not said later; what waits for the window is."""
    stage.senders[0].is_free = False
    stage.top_up(2.0)
    pressure = stage.loop.pressure
    assert (200, 80) == (pressure.offered, pressure.held_back)
    assert ([], 60) == (stage.senders[0].said, sum(stage.senders[1].said))
    assert 60 == stage.loop.waiting == pressure.waiting_max
    stage.senders[0].is_free = True
    stage.senders[1].acknowledged = 30
    stage.top_up(3.0)
    assert (60, 90) == (sum(stage.senders[0].said), sum(stage.senders[1].said))
    assert (300, 80 + 50 + 20) == (pressure.offered, pressure.held_back)
    assert 0 == stage.loop.waiting
    assert 150 == stage.loop.said


def test_after_the_end_nothing_is_offered(stage: Stage) -> None:
    stage.senders[0].is_free = False
    stage.top_up(1.0)
    stage.go_to(1.5)
    stage.loop.stop_offering()
    stage.senders[0].is_free = True
    stage.top_up(9.0)
    assert 100 == stage.loop.said == stage.loop.pressure.offered
    assert 1_500_000_000 == stage.loop.pressure.offered_until_ns


# --- a patient voice --------------------------------------------------------
class Told:
    """Frames of a connection, as the test gives them."""

    def __init__(self) -> None:
        self.messages: list[list[bytes]] = []

    def feed(self, _data: bytes) -> list[list[bytes]]:
        found, self.messages = self.messages, []
        return found


class Patience:
    """A voice and what it is told."""

    def __init__(self) -> None:
        self.told = Told()
        frames: Any = {0: self.told}
        self.voice = PatientHubbubVoice(frames, TOKEN, ["room"])

    def say(self) -> bytes:
        (say,) = self.voice.say([(0, b"x" * 64, 1)])
        return say.data

    def hear(self, *messages: list[bytes]) -> list[int]:
        self.told.messages += messages
        return self.voice.feed(Heard(0, b""))


def ack(number: int) -> list[bytes]:
    return wire.reply_frames(wire.Ack(number, [wire.Place(1, 1)]))


def refusal(number: int, code: Code, value: int = 0) -> list[bytes]:
    return wire.refusal_frames(number, Refused(code, value=value))


def test_a_refused_send_and_those_behind_it_are_said_again_in_order() -> None:
    client = Patience()
    sends = [client.say() for _ in range(4)]
    settled = client.hear(ack(1), refusal(2, Code.SLOW_DOWN, 50), refusal(3, Code.GAP, 2))
    assert [1] == settled
    assert 0 == client.voice.free()
    assert [] == client.voice.due(10.0)
    assert [] == client.voice.due(10.049)
    assert sends[1:] == [say.data for say in client.voice.due(10.051)]
    assert client.voice.free() > 0
    assert [] == client.voice.due(10.052)
    assert [1, 1, 1] == client.hear(ack(2), ack(3), ack(4))
    assert (1, 0, 50) == (
        client.voice.patience.refusals,
        client.voice.patience.untimed,
        client.voice.patience.wait_ms_max,
    )


def test_what_was_acknowledged_twice_counts_once() -> None:
    client = Patience()
    client.say()
    assert [1, 0] == client.hear(ack(1), ack(1))


def test_a_wait_without_a_time_is_counted() -> None:
    client = Patience()
    client.say()
    client.hear(refusal(1, Code.SLOW_DOWN))
    assert 1 == client.voice.patience.untimed
    client.voice.due(1.0)
    assert 1 == len(client.voice.due(1.1))


def test_any_other_refusal_ends_the_run() -> None:
    client = Patience()
    client.say()
    with pytest.raises(Unexpected, match="log_failed"):
        client.hear(refusal(1, Code.LOG_FAILED))


# --- back again -------------------------------------------------------------
def steps(*values_ms: list[float]) -> list[str]:
    found = []
    for values in values_ms:
        histogram = Histogram()
        histogram.record_many([1_000 * value for value in values])
        found.append(histogram.encode())
    return found


def test_the_latency_is_back_from_where_the_rest_is_as_before() -> None:
    slow, mixed, fast = [50.0] * 25, [50.0] * 5 + [3.0] * 20, [3.0] * 25
    assert 2 * AFTER_S == back_s(steps(slow, mixed, *[fast] * 8), 5_000)
    # Two of a hundred may be slow, as one of them was before.
    assert AFTER_S == back_s(steps(slow, [50.0] * 4 + [3.0] * 21, *[fast] * 8), 5_000)
    assert 0 == back_s(steps(*[fast] * 4), 5_000)


def test_a_latency_that_does_not_come_back_is_told() -> None:
    fast, slow = [3.0] * 25, [50.0] * 25
    assert back_s(steps(fast, fast, slow), 5_000) is None
    assert back_s(steps([], []), 5_000) is None
