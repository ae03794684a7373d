"""Who came and went between two presence publications, seen by somebody who joined meanwhile."""

from client.roster import Roster
from common import wire
from tests.protocol_stage import START_MS, START_S, begin, reply_of

ANNA, BOB = bytes([1] * 16), bytes([2] * 16)


def test_a_user_whom_only_joined_named_does_not_stay_for_ever() -> None:
    """Nothing is published about anna, so bob's count shows that he must ask who is there."""
    core = begin()
    for token, nick in ((ANNA, "anna"), (BOB, "bob")):
        core.subscribed(wire.INBOX + token)
        reply_of(core, wire.command_frames(token, wire.Hello(1, nick, token, 1, 1)))
    reply_of(core, wire.command_frames(ANNA, wire.Join(2, "lobby")))
    joined = reply_of(core, wire.command_frames(BOB, wire.Join(2, "lobby")))
    reply_of(core, wire.command_frames(ANNA, wire.Bye(3)))
    core.clock(START_MS + 1_000, START_S + 1)
    core.tick()
    (frame,) = core.take_effects().publications[:1]
    presence = wire.parse_publication(wire.split_publication(frame)[1])
    members = reply_of(core, wire.command_frames(BOB, wire.Who(4, "lobby")))
    assert isinstance(joined, wire.Joined)
    assert isinstance(presence, wire.Presence)
    assert isinstance(members, wire.Members)

    roster = Roster("lobby")
    roster.begin(joined.version, joined.users, joined.nicks)
    _, must_ask = roster.apply(presence)
    assert must_ask
    assert members.version == roster.version  # So an answer of the same version must count.
    roster.replace(members.version, members.users, members.nicks)
    assert roster.nicks == {"bob"}
