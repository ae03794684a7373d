"""A removal reaches who missed the word of it: session and core, and a wire that loses frames."""

from __future__ import annotations

import msgspec

from broker.chat import rooms
from broker.chat.peer import Peer
from broker.log.interface import REMOVED_MAX
from client import limits
from client.events import Entry, Removed, Reset
from client.room import Room
from common import topics, wire
from common.order import Admin, Table
from tests.unit.bench import Bench
from tests.unit.party import Guest, Party
from tests.unit.test_closed_rooms import in_plans


def drop(party: Party, seq: int) -> None:
    """Remove a text, as an operator on the broker's host."""
    party.bench.set_clock()
    command = wire.command_frames(wire.NO_TOKEN, Admin(1, "drop", "plans", value=seq))
    party.bench.core.receive(b"operator", command, Peer(is_admin=True))
    party.drain()
    (table,) = party.bench.replies.pop(b"operator")
    assert isinstance(table, Table)


def in_oops() -> tuple[Guest, Guest]:
    """Return two who have read what shall be removed."""
    anna, bob = in_plans("anna", "bob")
    anna.say("plans", "oops")
    anna.party.settle()
    assert [text for _, text in bob.texts()] == ["oops"]
    return anna, bob


def test_a_missed_removal_is_told_again_and_shown_once() -> None:
    anna, bob = in_oops()
    drop(anna.party, 1)
    bob.frames.clear()  # One frame is lost.
    anna.party.settle()
    for guest in (anna, bob):
        assert guest.heard(Removed) == [Removed("plans", 1)]
    anna.party.drain(rooms.REMOVED_TOLD_S + max(rooms.BEACON_QUIETS_S))
    for guest in (anna, bob):
        guest.frames.clear()
    anna.party.drain(max(rooms.BEACON_QUIETS_S))
    room = anna.party.bench.core.rooms.get("plans")
    assert room is not None
    assert anna.party.bench.core.rooms.removals(room, anna.party.bench.now_s) == []


def test_who_was_cut_off_hears_of_a_removal_with_joined() -> None:
    anna, bob = in_oops()
    party = anna.party
    cut_off = {topic for topic in bob.topics if topic != topics.inbox(bob.token)}
    bob.topics -= cut_off
    drop(party, 1)
    for _ in range(3):
        party.drain(rooms.REMOVED_TOLD_S)  # It is repeated no more.
    assert not bob.heard(Removed)
    bob.topics |= cut_off
    bob.do(bob.session.connected(party.now))
    party.settle()
    bob.do(bob.session.connected(party.now))
    party.settle()
    assert bob.heard(Removed) == [Removed("plans", 1)]


def test_a_newcomer_reads_of_a_removal_in_history() -> None:
    anna, bob = in_oops()
    bob.do(bob.session.part("plans", "part", bob.party.now))
    bob.party.settle()
    drop(anna.party, 1)
    anna.party.drain(2 * rooms.REMOVED_TOLD_S)
    bob.events.clear()
    bob.join("plans")
    assert [entry.kind for entry in bob.heard(Entry)] == ["removed"]
    assert not bob.heard(Removed)


def test_after_a_restart_it_is_told_with_joined_and_not_to_everybody_again() -> None:
    """A newcomer, who reads it in history, makes no news of it, however often it joins."""
    bench = Bench()
    anna = bench.peer("anna", "plans")
    anna.send("plans", "one", "two", "three")
    for seq in (3, 1):
        bench.core.receive(
            b"operator",
            wire.command_frames(wire.NO_TOKEN, Admin(1, "drop", "plans", value=seq)),
            Peer(is_admin=True),
        )
    bench.drain()
    assert anna.join("plans").removed == [3, 1]
    bench.start()
    joined = bench.peer("anna").join("plans", resume=True)
    assert joined.removed == [3, 1]
    assert bench.core.subscribed(joined.subscription)
    bench.drain(max(rooms.BEACON_QUIETS_S))
    shown = [each.body for each in bench.published if each.topic == joined.subscription]
    assert {wire.Batch, wire.Presence} == {type(body) for body in shown}, "the heads, and no more"

    room = Room("plans", None, None)
    for _ in range(2):
        assert not [each for each in room.joined(joined) if isinstance(each, Removed)]
        room.replica.cursor = 3  # It has read them.
    known = Room("plans", 100, None)
    known.joined(msgspec.structs.replace(joined, removed=None))
    assert known.joined(joined)[:2] == [Removed("plans", 3), Removed("plans", 1)]
    again = msgspec.structs.replace(joined, epoch=joined.epoch + 1)
    assert known.joined(again)[0] == Reset("plans")
    assert not [each for each in known.joined(again) if isinstance(each, Removed)]


def test_so_many_removals_are_remembered() -> None:
    anna, _ = in_oops()
    room = anna.party.bench.core.rooms.get("plans")
    assert room is not None
    for seq in range(1, REMOVED_MAX + 2):
        room.note_removed(seq, 0.0)
    assert list(room.removed) == list(range(2, REMOVED_MAX + 2))
    known = Room("plans", 100, None)
    known.replica.cursor = limits.REMOVED_MAX + 1
    for seq in range(1, limits.REMOVED_MAX + 2):
        assert known.remove(seq) == [Removed("plans", seq)]
    assert len(known.removed) == limits.REMOVED_MAX
    assert known.remove(2) == []
    assert known.remove(limits.REMOVED_MAX + 2) != [], "its page may be on the way"
    assert known.remove(limits.REMOVED_MAX + 2) != []
