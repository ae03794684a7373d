"""A private room whose former name somebody took: opened by another one, or given away."""

from __future__ import annotations

import pytest

from broker.chat.floor import Rules
from broker.log.rights_records import Put, RoomFacts
from common import order, wire
from common.order import Action, Role
from tests.unit.bench import RULES, Bench
from tests.unit.test_rights import closed


def refusal(peer: object, *fields: object) -> wire.Error:
    """Return why an order is not carried out."""
    return peer.refused(order.Order(1, *fields))  # type: ignore[attr-defined, arg-type, no-any-return]


def test_a_room_whose_former_name_was_taken_is_opened_by_another() -> None:
    """With its history, members and birth; and the refusal says how."""
    bench, ann, bob, eve, name = closed()
    eve.join("plans")
    refused = refusal(ann, name, Action.PUBLIC)
    assert refused.code == "forbidden"
    assert "/room public NAME" in refused.detail
    assert ann.forbidden(name, Action.PUBLIC, reason="plans") == "forbidden"
    assert ann.forbidden(name, Action.PUBLIC, reason="+no") == "room_invalid"
    birth = ann.join(name).birth
    done = ann.order(name, Action.PUBLIC, reason="Plans-2")
    assert (done.room, done.title) == ("plans-2", "")
    assert ann.order("plans-2", Action.PUBLIC, reason="plans-3").room == "plans-2", "it is open"
    joined = eve.join("plans-2")
    assert (joined.birth, joined.head, eve.role("plans-2")) == (birth, 3, Role.GUEST)
    bob.send(name, "still by its name of before")
    assert eve.join("plans").head == 0
    bench.start()
    assert bench.peer("ann").role("plans-2") == Role.OWNER
    assert bench.peer("bob").mine() == []
    refused = bench.peer("cy").refused(wire.Join(1, "plans", True, bench.log.epoch, 1, birth))
    assert refused.code == "not_invited", "who was away is not led to where all can read"


def test_names_of_which_operators_have_the_say_are_not_free() -> None:
    """Those that nobody owns, and those for which they have set something."""
    bench = Bench(rules=Rules(**{**RULES._asdict(), "commons": frozenset({"lobby"})}))
    ann = bench.peer("ann", "plans")
    name = ann.order("plans", Action.PRIVATE).room
    bench.core._floor.keep([Put(RoomFacts("kept", retain_days=1))])
    for wanted in ("lobby", "kept"):
        assert ann.forbidden(name, Action.PUBLIC, reason=wanted) == "forbidden"
    assert ann.order(name, Action.PUBLIC, reason="free").room == "free"


@pytest.mark.parametrize("is_closed", [False, True])
def test_a_room_is_given_away(
    is_closed: bool,  # noqa: FBT001 - a parameter
) -> None:
    """Then its owner keeps order, and may leave for good; again does nothing."""
    bench = Bench()
    ann, bob, eve = (bench.peer(nick, "plans") for nick in ("ann", "bob", "eve"))
    ann.send("plans", "before")
    room = ann.order("plans", Action.PRIVATE).room if is_closed else "plans"
    for peer in (ann, bob, eve):
        peer.join(room)
    assert bob.forbidden(room, Action.OP, "eve", Role.OWNER) == "forbidden"
    assert ann.forbidden(room, Action.OP, "ann", Role.OWNER) == "forbidden"
    assert ann.forbidden(room, Action.OP, "bob", Role.MODERATOR) == "bad_payload"
    bench.peer("far")
    assert ann.forbidden(room, Action.OP, "far", Role.OWNER) == "no_such_nick"
    bob.notices()
    ann.order(room, Action.OP, "bob", Role.OWNER)
    assert [(told.code, told.value) for told in bob.notices("role")] == [("role", Role.OWNER)]
    assert ann.forbidden(room, Action.OP, "eve", Role.OWNER) == "forbidden"
    assert bench.audits[-1].action == "op"
    assert (bench.audits[-1].target, bench.audits[-1].detail) == ("bob", "owner")
    bench.start()
    ann, bob = bench.peer("ann", room), bench.peer("bob", room)
    assert [ann.role(room), bob.role(room)] == [Role.MODERATOR, Role.OWNER]
    if is_closed:
        ann.order(room, Action.UNINVITE, "ann")
        assert ann.shut_out(room).code == "not_invited"
    assert bob.order(room, Action.SLOW, value=1).room == room


def test_a_room_is_not_given_to_who_did_not_come_or_that_nobody_can_own() -> None:
    bench, ann, _, eve, name = closed()
    ann.order(name, Action.INVITE, "eve")
    assert ann.forbidden(name, Action.OP, "eve", Role.OWNER) == "no_such_nick"
    eve.join(name)
    bench.failing.add("keep")
    assert ann.forbidden(name, Action.OP, "eve", Role.OWNER) == "log_failed"
    assert [ann.role(name), eve.role(name)] == [Role.OWNER, Role.MEMBER]
    bench.failing.clear()
    bench.core._floor.rights._commons = frozenset({name})
    assert ann.forbidden(name, Action.OP, "eve", Role.OWNER) == "forbidden"
