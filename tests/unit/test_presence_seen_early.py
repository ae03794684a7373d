"""Who came and went between two presence publications, seen by somebody who joined meanwhile."""

from client.roster import Roster
from common import topics, wire
from tests.protocol_stage import START_MS, START_S, begin, reply_of

ANNA, BOB = bytes([1] * 16), bytes([2] * 16)


def test_a_user_whom_only_joined_named_does_not_stay_for_ever() -> None:
    """She came and went within a tick, but bob was shown her: so he is told that she left."""
    core = begin()
    for token, nick in ((ANNA, "anna"), (BOB, "bob")):
        core.subscribed(topics.inbox(token))
        reply_of(core, wire.command_frames(token, wire.Hello(1, nick, token, 1, 1)))
    reply_of(core, wire.command_frames(ANNA, wire.Join(2, "lobby")))
    joined = reply_of(core, wire.command_frames(BOB, wire.Join(2, "lobby")))
    reply_of(core, wire.command_frames(ANNA, wire.Bye(3)))
    core.clock(START_MS + 1_000, START_S + 1)
    core.tick()
    (frame,) = core.take_effects().publications[:1]
    presence = wire.parse_publication(topics.split_publication(frame)[1])
    members = reply_of(core, wire.command_frames(BOB, wire.Who(4, "lobby")))
    assert isinstance(joined, wire.Joined)
    assert isinstance(presence, wire.Presence)
    assert isinstance(members, wire.Members)

    roster = Roster("lobby")
    roster.begin(joined.version, joined.users, joined.nicks)
    _, must_ask = roster.apply(presence)
    assert not must_ask
    assert roster.nicks == set(members.nicks) == {"bob"}
