"""Memory is given back after a rush, and a heap that is in use is left alone mostly."""

from __future__ import annotations

import ctypes

import pytest

from broker.host import memory
from broker.host.memory import GROWTH_BYTES, PAUSE_LOOKS_MAX, Keeper


class Process:
    """A process of some size, and how often its memory was walked through."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.size_bytes = 100 * GROWTH_BYTES
        self.free_bytes = 0
        self.trims = 0
        monkeypatch.setattr(memory, "resident_bytes", lambda: self.size_bytes)
        self.keeper = Keeper(self._trim)

    def _trim(self, pad_bytes: int) -> int:
        assert 0 == pad_bytes
        self.trims += 1
        self.size_bytes -= self.free_bytes
        self.free_bytes = 0
        return 1

    def look(self, times: int = 1) -> int:
        """Look so often; return how many trims there were."""
        before = self.trims
        for _ in range(times):
            self.keeper.look()
        return self.trims - before


@pytest.fixture
def process(monkeypatch: pytest.MonkeyPatch) -> Process:
    return Process(monkeypatch)


def test_a_process_that_has_not_grown_is_left_alone(process: Process) -> None:
    process.size_bytes += GROWTH_BYTES
    assert 0 == process.look(100)


def test_what_a_rush_left_is_given_back(process: Process) -> None:
    """At the next look, and again after the next rush."""
    before_bytes = process.size_bytes
    for _ in range(3):
        process.free_bytes = 10 * GROWTH_BYTES
        process.size_bytes += process.free_bytes
        assert 1 == process.look()
        assert before_bytes == process.size_bytes
        assert 0 == process.look()


def test_a_heap_in_use_is_walked_ever_more_rarely_and_given_back_when_it_is_free(
    process: Process,
) -> None:
    process.size_bytes += 10 * GROWTH_BYTES
    assert 1 == process.look()
    assert 2 == process.look(2 + 4)
    assert 10 == process.look(10 * PAUSE_LOOKS_MAX)
    process.free_bytes = 10 * GROWTH_BYTES
    assert 1 == process.look(PAUSE_LOOKS_MAX)


def test_the_c_librarys_own_is_taken() -> None:
    """A look at this very process raises nothing, whether it has grown or not."""
    keeper = Keeper()
    assert (keeper._trim is not None) == hasattr(ctypes.CDLL(None), "malloc_trim")
    keeper._least_bytes = 0
    keeper.look()
    assert 0 < memory.resident_bytes()
