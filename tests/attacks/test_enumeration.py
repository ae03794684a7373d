"""Finding out that a private room or a talk exists: by lists, counts, answers, or their time."""

from __future__ import annotations

import logging
import os
import statistics
import time
from collections.abc import Callable

import pytest

from common import order, wire
from common.errors import Code
from common.order import Action
from tests.attacks.scene import Peer, closed_room
from tests.attacks.test_talks import talk
from tests.broker_process import BrokerProcess

Ask = Callable[[str], wire.Payload]
ROUNDS = 250
COMMANDS: dict[str, Ask] = {
    "join": lambda room: wire.Join(7, room),
    "resume": lambda room: wire.Join(7, room, resume=True),
    "part": lambda room: wire.Part(7, room),
    "who": lambda room: wire.Who(7, room),
    "read": lambda room: order.Read(7, room, 1),
    "send": lambda room: wire.Send(1, [wire.Draft(room, wire.Kind.TEXT, ["hi"])]),
    **{
        f"order {action.value}": (
            lambda room, action=action: order.Order(7, room, action, "owner-hidden")  # type: ignore[misc]
        )
        for action in Action
    },
}


def fresh_name(sign: str) -> str:
    """Return what a closed room could be called, and none is."""
    return sign + os.urandom(12).hex()


def answer(peer: Peer, command: wire.Payload) -> list[bytes]:
    """Return an answer as it stands on the wire."""
    peer.send(command)
    return peer.dealer.recv_multipart()


@pytest.mark.parametrize("name", COMMANDS)
def test_answers_about_closed_rooms(broker: BrokerProcess, name: str) -> None:
    """The same bytes for one that is there and for one that is not."""
    own = os.urandom(4).hex()
    with (
        closed_room(broker, f"hidden-{own}") as (owner, member, joined),
        Peer(broker, f"eve-{own}") as eve,
        Peer(broker, f"mal-{own}") as mal,
    ):
        eve.hello(eve.nick)
        mal.hello(mal.nick)
        private, two = joined.room, talk(owner, member.nick).room
        make = COMMANDS[name]
        # Of one each: the number of a SEND is used up by its refusal.
        there = [answer(eve, make(private)), answer(eve, _next(make(two)))]
        nowhere = [answer(mal, make(fresh_name("+"))), answer(mal, _next(make(fresh_name("@"))))]
        assert nowhere == there
        told = wire.parse_reply(there[0])
        assert isinstance(told, wire.Error)
        assert told.code in {Code.NOT_INVITED, Code.NOT_MEMBER}


def _next(command: wire.Payload) -> wire.Payload:
    return wire.Send(2, command.posts) if isinstance(command, wire.Send) else command


def test_answers_of_history_about_closed_rooms(broker: BrokerProcess) -> None:
    with closed_room(broker, "annals") as (owner, _, joined), Peer(broker, "eve-annals") as eve:
        owner.say(joined.room, "long ago")
        answers = []
        for room in (joined.room, fresh_name("+"), fresh_name("@"), "no-such-room"):
            request = wire.History(7, room, bytes(16), wire.Mode.AFTER, 0, 10)
            eve.req.send_multipart(wire.command_frames(wire.NO_TOKEN, request))
            answers.append(eve.req.recv_multipart())
        assert all(each == answers[0] for each in answers)


def test_lists_and_counts(broker: BrokerProcess) -> None:
    """A room that closes is gone from both, a talk never is there, and its name is free."""
    with (
        Peer(broker, "ann-list") as ann,
        Peer(broker, "bob-list") as bob,
        Peer(broker, "eve-list") as eve,
    ):
        ann.enter_room("plans")
        for peer in (bob, eve):
            peer.enter()
        before = eve.ask(wire.Greet(1), wire.Greeting).rooms
        listed = {each.room for each in eve.ask(wire.Rooms(2), wire.RoomList).rooms}
        room = ann.give_order("plans", Action.PRIVATE).room
        ann.join(room)
        ann.say(room, "hush")
        ann.say(talk(ann, "bob-list").room, "hush, too")
        for after in ("", "+", "@", room[:5]):
            rooms = {each.room for each in eve.ask(wire.Rooms(3, after), wire.RoomList).rooms}
            assert not [each for each in rooms if each[0] in "+@"]
        now = {each.room for each in eve.ask(wire.Rooms(4), wire.RoomList).rooms}
        assert listed - now == {"plans"}
        assert before - 1 == eve.ask(wire.Greet(5), wire.Greeting).rooms
        joined = eve.join("plans")
        assert (0, [eve.nick], "") == (joined.head, joined.nicks, joined.topic)
        assert [] == eve.ask(order.Mine(6), order.MyRooms).rooms


def test_refused_subscriptions_count_alike(broker: BrokerProcess) -> None:
    """What everybody can read from GREETING rises by one in either case."""
    with closed_room(broker, "count") as (_, _, joined), Peer(broker, "eve-count") as eve:
        eve.enter()
        for room in (joined.room, fresh_name("+"), joined.room, fresh_name("@")):
            before = eve.refused_count()
            eve.sub.subscribe(room.encode() + b"\0" + os.urandom(16))
            while (now := eve.refused_count()) == before:
                pass
            assert before + 1 == now


def test_the_time_that_an_answer_takes(broker: BrokerProcess) -> None:
    """The same work is done for both, so the times are alike; how much so is told, not claimed."""
    with closed_room(broker, "clock") as (_, _, joined), Peer(broker, "eve-clock") as eve:
        eve.enter()
        times: dict[bool, list[int]] = {True: [], False: []}
        nowhere = fresh_name("+")
        for number in range(2 * ROUNDS):
            for is_there in (number % 2 == 0, number % 2 == 1):  # Each is asked first as often.
                room = joined.room if is_there else nowhere
                begun_ns = time.perf_counter_ns()
                assert Code.NOT_INVITED == eve.refused(wire.Join(7, room))
                times[is_there].append(time.perf_counter_ns() - begun_ns)
        medians = {key: statistics.median(values) for key, values in times.items()}
        ratio = medians[True] / medians[False]
        logging.getLogger("attacks").info("closed rooms: there to nowhere %.3f", ratio)
        assert len(times[True]) == len(times[False])
