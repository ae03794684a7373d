"""Live's own counts, and the way on which they go to the supervisor."""

from __future__ import annotations

import os

import msgspec
import pytest

from broker.child import Teller
from broker.log.interface import Committed, Proposal
from broker.metrics.figures import BY_NAME, Figures
from broker.metrics.tally import FAILING_S, Tally
from common import wire
from tests.unit.bench import Bench


@pytest.fixture
def bench() -> Bench:
    return Bench()


def test_every_figure_told_is_a_metric(bench: Bench) -> None:
    """A name that nobody shows would be counted for nothing."""
    bench.peer("ann", "a").refused(wire.Who(1, "nowhere"))
    figures = Tally().figures(bench.core, 0.0)
    names = {name.partition(":")[0] for name in [*figures.counted, *figures.now]}
    assert set() == names - set(BY_NAME)
    assert 1 == figures.counted["errors:not_member"]
    assert 1 == figures.now["sessions"] == figures.now["users"] == figures.now["rooms"]


def test_batches_are_counted_by_their_entries(bench: Bench) -> None:
    tally = Tally()
    batches = [Committed(Proposal("r", count=count), 0, 1, count, b"") for count in (1, 2, 3, 300)]
    tally.committed(batches)
    counted = tally.figures(bench.core, 0.0).counted
    assert 4 == counted["batches"]
    assert [1, 1, 1] == [counted[f"batch_entries:{index}"] for index in (0, 1, 2)]
    assert 1 == counted["batch_entries:9"]


def test_the_log_is_failing_from_a_failure_until_a_success_or_for_a_while(bench: Bench) -> None:
    tally = Tally()

    def is_failing(now_s: float) -> float:
        return tally.figures(bench.core, now_s).now["log_failing"]

    assert 0 == is_failing(100)
    tally.append_failed(100)
    assert 1 == is_failing(100 + FAILING_S - 1)
    assert 0 == is_failing(100 + FAILING_S)
    tally.append_failed(200)
    tally.appended(0.001)
    assert 0 == is_failing(200)


def test_a_supervisor_that_does_not_read_delays_nobody() -> None:
    """Lines are left out, but none is torn, however little room there was."""
    end, beginning = os.pipe()
    with os.fdopen(end, "rb", 0) as reader, os.fdopen(beginning, "wb", 0) as writer:
        teller, lines_count, read = Teller(writer.fileno()), 5_000, b""
        for number in range(lines_count):
            # A pipe takes up to 4 KiB whole or not at all.
            teller.tell(Figures({"messages": number, "x" * (number % 97 * 100): 1}))
        while b":9999," not in read:
            read += reader.read(1_000)
            teller.tell(Figures({"messages": 9_999, "end": 1}))
    told = [msgspec.json.decode(line, type=Figures) for line in read.split(b"\n")[:-1]]
    numbers = [figures.counted["messages"] for figures in told]
    assert sorted(numbers) == numbers
    assert 0 == numbers[0]
    assert len(numbers) < lines_count


def test_a_supervisor_that_is_gone_is_no_failure() -> None:
    """The end of the orders will say so."""
    end, beginning = os.pipe()
    os.close(end)
    with os.fdopen(beginning, "wb") as out:
        Teller(out.fileno()).tell(Figures())
