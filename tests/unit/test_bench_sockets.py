"""The rhythm in which light sockets come back: libzmq's own."""

from __future__ import annotations

from functools import partial
from itertools import islice

import pytest

from bench.generator.sockets import Timetable, pauses_s


def test_pauses_double_up_to_the_longest() -> None:
    first, *later = islice(pauses_s(), 7)
    assert 0.1 <= first < 0.2
    assert [min(first * 2**step, 2.0) for step in range(1, 7)] == pytest.approx(later)


def test_what_is_due_is_done_in_order_and_once() -> None:
    done: list[str] = []
    timetable = Timetable()
    for pause_s, name in ((0, "first"), (0, "second"), (3_600, "never"), (0, "third")):
        timetable.after(pause_s, partial(done.append, name))
    timetable.run_due()
    timetable.run_due()
    assert ["first", "second", "third"] == done
    assert 0 < timetable.wait_s() <= 3_600


def test_an_empty_timetable_never_has_anything() -> None:
    assert float("inf") == Timetable().wait_s()
