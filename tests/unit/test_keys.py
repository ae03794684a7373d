"""Subscription keys, tickets and digests: each opens exactly what it was made for."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from broker import keys
from common.limits import KEY_BYTES, TICKET_HOURS

SECRET = bytes(range(32))
secrets = st.sampled_from([SECRET, bytes(32)])
rooms = st.sampled_from(["dev", "dev-ops", "1 dev", "é"])
generations = st.sampled_from([0, 1, 10])
doors = st.tuples(secrets, rooms, generations)
holders = st.sampled_from([b"", bytes(32), bytes(31) + b"\1"])
NOW_MIN = 28_000_000
NOW_MS = NOW_MIN * keys.MINUTE_MS


@given(doors, doors, holders, holders)
def test_a_ticket_opens_one_room_of_one_generation_to_one_key(
    one: tuple[bytes, str, int], other: tuple[bytes, str, int], owner: bytes, holder: bytes
) -> None:
    """Another secret, room or generation makes another ticket and another subscription."""
    ticket = keys.fresh_ticket(*one, owner, NOW_MS)
    is_right = (one, owner) == (other, holder)
    assert keys.is_ticket(ticket, *other, key=holder, now_ms=NOW_MS) == is_right
    assert (keys.subscription(*one) == keys.subscription(*other)) == (one == other)


@given(doors)
def test_a_subscription_is_the_room_and_a_key_that_is_not_its_ticket(
    door: tuple[bytes, str, int],
) -> None:
    """Who may subscribe knows nothing of the ticket, and the topic ends the room by NUL."""
    name, _, key = keys.subscription(*door).partition(b"\0")
    assert (door[1].encode(), KEY_BYTES) == (name, len(key))
    ticket = keys.ticket(*door, b"", NOW_MIN)
    assert KEY_BYTES == len(ticket)
    assert ticket[keys.EXPIRY_BYTES :] not in key


def test_a_ticket_of_any_other_length_opens_nothing() -> None:
    """Missing, cut and lengthened tickets are refused without an error of their own."""
    ticket = keys.ticket(SECRET, "dev", 0, b"", NOW_MIN)
    for given_ticket in (b"", ticket[:-1], ticket + b"\0"):
        assert not keys.is_ticket(given_ticket, SECRET, "dev", 0, key=b"", now_ms=0)


def test_a_ticket_ends_and_cannot_be_made_longer() -> None:
    """After TICKET_HOURS; the time that stands in it is signed."""
    ticket = keys.fresh_ticket(SECRET, "dev", 0, b"", NOW_MS)
    end_ms = NOW_MS + TICKET_HOURS * 3_600_000
    assert keys.is_ticket(ticket, SECRET, "dev", 0, key=b"", now_ms=end_ms - 1)
    assert not keys.is_ticket(ticket, SECRET, "dev", 0, key=b"", now_ms=end_ms)
    later = (NOW_MIN * 2).to_bytes(keys.EXPIRY_BYTES, "big") + ticket[keys.EXPIRY_BYTES :]
    assert not keys.is_ticket(later, SECRET, "dev", 0, key=b"", now_ms=NOW_MS)


def test_senders_differ_by_token_and_by_instance() -> None:
    """Nobody spends another session's numbers, nor those of an earlier process."""
    senders = {keys.sender(bytes([t]) * 16, i) for t in range(3) for i in range(3)}
    assert 9 == len(senders)
    assert keys.owner(b"a" * 16) != keys.owner(b"b" * 16)
