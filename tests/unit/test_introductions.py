"""How long somebody may stay at the introduction endpoint."""

from __future__ import annotations

from broker.introductions import VISIT_S, Visits


def test_each_visit_ends_when_it_has_lasted_long_enough() -> None:
    """Those that came first, first; and a descriptor that is another's has its whole time."""
    now_s = 0.0
    ended: list[int] = []
    visits = Visits(ended.append, lambda: now_s)
    assert visits.end() == VISIT_S
    visits.changed(7)
    now_s = 1.0
    visits.changed(8)
    visits.changed(9)
    now_s = VISIT_S - 1
    visits.changed(8)
    assert (1.0, []) == (visits.end(), ended)
    now_s = VISIT_S
    assert (1.0, [7]) == (visits.end(), ended)
    now_s = VISIT_S + 1
    assert (VISIT_S - 2, [7, 9]) == (visits.end(), ended)
    now_s = 2 * VISIT_S
    assert (VISIT_S, [7, 9, 8]) == (visits.end(), ended)
