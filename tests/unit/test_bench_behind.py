"""A closed loop to a broker that encrypts waits for listeners that nobody reads."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing, contextmanager
from types import SimpleNamespace
from typing import Any

import pytest

from bench.generator.listeners import Room, is_behind
from bench.generator.load import BEHIND_WINDOWS_MAX, Load
from bench.generator.orders import Orders
from bench.servers.hubbub import HubbubDialect
from bench.target import Target

WINDOW, TEXT_BYTES = 100, 64
BOUND = BEHIND_WINDOWS_MAX * WINDOW * TEXT_BYTES


class Loop:
    """Remembers what it was told to be heard."""

    def __init__(self) -> None:
        self.heard: list[int] = []

    def top_up(self, heard: int) -> None:
        self.heard.append(heard)


def listeners(room: Room, sample_bytes: int, *drained_bytes: int) -> None:
    untyped: Any = room
    untyped.samples = [SimpleNamespace(bytes_since_mark=sample_bytes)]
    untyped.drained = [SimpleNamespace(bytes_since_mark=size) for size in drained_bytes]


@contextmanager
def load(monkeypatch: pytest.MonkeyPatch, server_key: str, **changes: float) -> Iterator[Load]:
    now_s = iter(range(1, 100))  # Each look at the clock is a second later.
    monkeypatch.setattr("bench.generator.load.time.monotonic", lambda: float(next(now_s)))
    target = Target("hubbub", "", True, "127.0.0.1", [], [], [], TEXT_BYTES, server_key)
    orders = Orders(target, ["r"], 3, 1, 1, window=WINDOW, **changes)  # type: ignore[arg-type]
    dialect: Any = HubbubDialect(TEXT_BYTES)
    found = Load(orders, dialect, lambda _: None)
    with closing(found._net):
        yield found


def test_the_one_that_is_furthest_behind_counts() -> None:
    room = Room(0, lambda _: None)
    listeners(room, 1_000, 1_000, 901, 2_000)
    assert not is_behind(room, 99)
    assert is_behind(room, 98)


def test_nothing_is_said_until_all_have_caught_up(monkeypatch: pytest.MonkeyPatch) -> None:
    loop: Any = Loop()
    with load(monkeypatch, "00" * 32) as busy:
        (room,) = busy._rooms
        for missing, expected in ((0, 1), (BOUND, 2), (BOUND + 1, 2), (BOUND, 3)):
            listeners(room, 10 * BOUND, 10 * BOUND, 10 * BOUND - missing)
            busy._top_up(loop)
            assert expected == len(loop.heard)


@pytest.mark.parametrize(
    ("server_key", "changes"), [("", {}), ("00" * 32, {"rate": 5.0}), ("00" * 32, {"requests": 5})]
)
def test_other_loops_wait_for_nobody(
    monkeypatch: pytest.MonkeyPatch, server_key: str, changes: dict[str, float]
) -> None:
    """Plain servers are measured as ever; an open loop goes by its timetable."""
    loop: Any = Loop()
    with load(monkeypatch, server_key, **changes) as free:
        (room,) = free._rooms
        listeners(room, 10 * BOUND, 0)
        free._top_up(loop)
        assert 1 == len(loop.heard)
