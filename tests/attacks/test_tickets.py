"""History tickets that were not given to whoever shows them, or not for that, or long ago."""

from __future__ import annotations

import os
import time

import pytest

from broker import keys
from broker.log.reader import SqliteReader
from broker.log.writer import FILE_NAME
from common.errors import Code
from common.limits import KEY_BYTES
from tests.attacks.scene import Peer, closed_room
from tests.broker_process import BrokerProcess


def ticket_of(broker: BrokerProcess, room: str, key: bytes, minutes: int) -> bytes:
    """Return what only the broker can make: a ticket for a key, so many minutes from now."""
    reader = SqliteReader(broker.data / FILE_NAME)
    try:
        now_min = time.time_ns() // 1_000_000 // keys.MINUTE_MS
        return keys.ticket(reader.secret, room, reader.generation(room), key, now_min + minutes)
    finally:
        reader.close()


def test_forged_tickets(broker: BrokerProcess) -> None:
    """Drawn, empty, short, and each bit of a good one turned."""
    with closed_room(broker, "forged") as (owner, member, joined):
        owner.say(joined.room, "dear diary")
        member.hear("dear diary")
        turned = [
            bytes(byte ^ (1 << bit if at == place else 0) for at, byte in enumerate(joined.ticket))
            for place in range(KEY_BYTES)
            for bit in range(8)
        ]
        drawn = [b"", bytes(KEY_BYTES), b"\xff" * KEY_BYTES, os.urandom(KEY_BYTES)]
        cut = [joined.ticket[:size] for size in (1, 4, KEY_BYTES - 1)]
        for ticket in [*drawn, *cut, *turned]:
            assert Code.BAD_TICKET == member.read(joined.room, ticket)
        assert "dear diary" in member.read(joined.room, joined.ticket)


@pytest.mark.parametrize(("minutes", "is_good"), [(-1_000_000, False), (-1, False), (2, True)])
def test_expired_tickets(broker: BrokerProcess, minutes: int, *, is_good: bool) -> None:
    """Signed with the log's own secret for the right key, but for a time that has passed."""
    with closed_room(broker, f"late{minutes + 1_000_000}") as (owner, member, joined):
        owner.say(joined.room, "news of today")
        member.hear("news of today")
        ticket = ticket_of(broker, joined.room, member.identity, minutes)
        answer = member.read(joined.room, ticket)
        assert ("news of today" in answer) if is_good else (Code.BAD_TICKET == answer)


def test_foreign_tickets(broker: BrokerProcess) -> None:
    """A good ticket in another hand, and one's own for another room, or made without a key."""
    with (
        closed_room(broker, "mine") as (owner, member, joined),
        Peer(broker, "eve-ticket") as eve,
    ):
        own = eve.enter_room("open-house")
        owner.say(joined.room, "between us")
        member.hear("between us")
        keyless = ticket_of(broker, joined.room, b"", 60)
        for ticket in (joined.ticket, own.ticket, keyless):
            assert Code.BAD_TICKET == eve.read(joined.room, ticket)
        assert "between us" in member.read(joined.room, joined.ticket)


def test_history_of_rooms_one_never_joined(broker: BrokerProcess) -> None:
    """An open room's, too: one comes in first, where everybody sees it."""
    with Peer(broker, "ann-hall") as ann, Peer(broker, "eve-hall") as eve:
        joined = ann.enter_room("hall")
        own = eve.enter_room("elsewhere")
        ann.say("hall", "who is listening?")
        for ticket in (b"", own.ticket, joined.ticket):
            assert Code.BAD_TICKET == eve.read("hall", ticket)
        assert ["who is listening?"] == ann.read("hall", joined.ticket)
