"""Rooms that nobody is in and nobody ever said anything in are forgotten."""

from broker.chat.presence import PRESENCE_TICK_S
from common import topics, wire
from common.limits import ROOMS_PER_SESSION_MAX
from tests.protocol_stage import START_MS, START_S, begin, reply_of

ANNA, BOB = bytes([1] * 16), bytes([2] * 16)


def test_a_room_that_was_left_and_then_refused_is_forgotten_once() -> None:
    """A full session that asks for a room which was left in this tick harms nobody."""
    core = begin()
    for token, nick in ((ANNA, "anna"), (BOB, "bob")):
        core.subscribed(topics.inbox(token))
        reply_of(core, wire.command_frames(token, wire.Hello(1, nick, token, 1, 1)))
    for index in range(ROOMS_PER_SESSION_MAX):
        reply_of(core, wire.command_frames(BOB, wire.Join(1, f"room-{index}")))
    core.clock(START_MS + 1_000, START_S + 1)
    core.tick()
    reply_of(core, wire.command_frames(ANNA, wire.Join(2, "left")))
    reply_of(core, wire.command_frames(ANNA, wire.Part(3, "left")))
    refused = reply_of(core, wire.command_frames(BOB, wire.Join(4, "left")))
    core.clock(START_MS + 2_000, START_S + 1 + 2 * PRESENCE_TICK_S)
    core.tick()

    assert isinstance(refused, wire.Error)
    assert refused.code == "too_many_rooms"
    assert len(core.rooms) == ROOMS_PER_SESSION_MAX
