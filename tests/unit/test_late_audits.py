"""What operators do while the log cannot be written, and that it is in the audit afterwards."""

from __future__ import annotations

import pytest

from broker.chat.late_audits import AGAIN_S, WAITING_MAX
from common.errors import Code
from common.order import Admin
from tests.unit.bench import Bench
from tests.unit.operator_orders import HERE, ROUTE, audited, code, new_bench, order_frames, table


@pytest.fixture(name="bench")
def failing_bench() -> Bench:
    """Return a broker with bob in it, whose log has just begun to fail."""
    bench = new_bench()
    bench.peer("bob", "r")
    bench.failing |= {"keep", "raise_generation", "found_room"}
    return bench


def test_what_cannot_wait_for_the_log_is_done(bench: Bench) -> None:
    """And is written down with its own time when the log is back, unasked."""
    assert [{"told": "1"}] == table(bench, Admin(1, "announce", text="no disk"))
    assert [{"sessions": "1"}] == table(bench, Admin(1, "drain", value=1))
    assert [{"ended": "1"}] == table(bench, Admin(1, "kick", nick="bob", text="loud"))
    assert [] == audited(bench)
    bench.drain(AGAIN_S)
    assert bench.core.next_deadline_s() <= bench.now_s + AGAIN_S
    bench.failing.clear()
    done_ms = bench.now_ms
    bench.drain(AGAIN_S)
    assert [
        ("kick", "bob", "", "loud"),
        ("drain", "", "", ""),
        ("announce", "", "", "no disk"),
    ] == audited(bench)
    assert all(each.ts_ms < done_ms for each in bench.audits)
    bench.drain(AGAIN_S)
    assert 3 == len(bench.audits)


def test_a_reload_is_asked_for(bench: Bench) -> None:
    bench.core.receive(ROUTE, order_frames(Admin(1, "reload")), HERE)
    assert bench.core.reloads.take_question()


def test_they_are_written_in_their_order(bench: Bench) -> None:
    table(bench, Admin(1, "announce", text="no disk"))
    bench.failing.clear()
    table(bench, Admin(1, "kick", nick="bob"))
    assert ["kick", "announce"] == [each[0] for each in audited(bench)]


def test_a_broker_that_ends_tries_once_more(bench: Bench) -> None:
    table(bench, Admin(1, "announce", text="no disk"))
    bench.failing.clear()
    bench.core.close()
    assert ["announce"] == [each.action for each in bench.audits]


@pytest.mark.parametrize(
    "command",
    [Admin(1, "ban", nick="bob"), Admin(1, "mute", "r", "bob"), Admin(1, "slow", "r", value=5)],
)
def test_what_must_outlive_the_broker_waits_for_the_log(bench: Bench, command: Admin) -> None:
    assert Code.LOG_FAILED == code(bench, command)


def test_so_many_wait_and_no_more(bench: Bench) -> None:
    """The oldest are lost."""
    for number in range(WAITING_MAX + 1):
        table(bench, Admin(1, "announce", text=f"{number}"))
    bench.failing.clear()
    bench.drain(AGAIN_S)
    details = [each.detail for each in bench.log.audit(WAITING_MAX + 1)]
    assert [str(number) for number in range(WAITING_MAX, 0, -1)] == details
