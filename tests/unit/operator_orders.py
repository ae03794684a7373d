"""Orders of an operator to a broker without sockets, and what comes back."""

from __future__ import annotations

from broker.chat.peer import Peer as Transport
from common import wire
from common.order import Admin, Table
from tests.unit.bench import RULES, Bench, Peer

KEY = b"k" * 32
HERE = Transport(is_admin=True)  # At the broker's host,
AFAR = Transport(key=KEY, address="10.0.0.7")  # and through the network.
ROUTE = b"operator"


def new_bench() -> Bench:
    """Return a running broker that has an operator."""
    return Bench(rules=RULES._replace(operators=frozenset({KEY})))


def order_frames(command: wire.Payload) -> list[bytes]:
    """Return a command of no session."""
    return wire.command_frames(wire.NO_TOKEN, command)


def told(bench: Bench, command: wire.Payload, peer: Transport = HERE) -> wire.Payload:
    """Give an order and return its one answer."""
    bench.set_clock()
    bench.core.receive(ROUTE, order_frames(command), peer)
    bench.drain()
    (answer,) = bench.replies.pop(ROUTE)
    return answer


def table(bench: Bench, command: Admin, peer: Transport = HERE) -> list[dict[str, str]]:
    """Give an order that is carried out, and return the rows of its answer."""
    answer = told(bench, command, peer)
    assert isinstance(answer, Table), answer
    assert command.id == answer.id
    assert not answer.more
    return [dict(zip(answer.columns, row, strict=True)) for row in answer.rows]


def code(bench: Bench, command: Admin, peer: Transport = HERE) -> str:
    """Give an order that is refused, and return the code."""
    answer = told(bench, command, peer)
    assert isinstance(answer, wire.Error), answer
    assert command.id == answer.id
    return answer.code


def notices(bench: Bench, peer: Peer) -> list[wire.Notice]:
    """Return and forget what was told to one peer, and all else that was published."""
    bodies = [each.body for each in bench.published if each.topic == peer.inbox]
    bench.published.clear()
    return [body for body in bodies if isinstance(body, wire.Notice)]


def audited(bench: Bench) -> list[tuple[str, str, str, str]]:
    """Return what the audit says, newest first: action, whom, room, detail."""
    rows = table(bench, Admin(9, "audit"))
    return [(row["action"], row["whom"], row["room"], row["detail"]) for row in rows]
