"""Flood limits: who is counted, how much passes, and that a wait is honest."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from broker.chat.floods import (
    ADDRESS_MOVES,
    ADDRESS_NAMES,
    ADDRESS_TALKS,
    ADDRESS_TIMES,
    ADDRESSES_MAX,
    KEY_MOVES,
    KEY_NAMES,
    KEY_NICKS,
    KEY_RIGHTS,
    KEY_TIMES,
    KEYS_MAX,
    Bucket,
    Floods,
    Move,
    Rate,
)
from common.limits import ROOMS_PER_SESSION_MAX

RATE = Rate(10.0, 20.0, frozenset({"importer"}))
KEY, OTHER = b"k" * 32, b"o" * 32
HERE, THERE = "10.0.0.1", "10.0.0.2"
LATER = 1_000.0  # The broker has been up for a while.


@pytest.fixture
def floods() -> Floods:
    """Return the limits of a broker that has been up for a while."""
    return Floods(RATE, returned_s=60.0)


def text(
    floods: Floods,
    count: int,
    *,
    bucket: Bucket | None = None,
    key: bytes = b"",
    address: str = "",
    nick: str = "ann",
    now_s: float = LATER,
) -> int:
    """Send from a session that has not sent before, unless it is given."""
    bucket = bucket or Bucket(RATE, now_s)
    return floods.texts_wait_ms(bucket, nick, count, now_s, key=key, address=address)


def passed(floods: Floods, move: Move, *, key: bytes = b"", address: str = "") -> int:
    """Return how many moves pass at one moment."""
    count = 0
    while not floods.moves_wait_ms(move, LATER, key=key, address=address):
        count += 1
    return count


def test_a_session_has_its_own_rate(floods: Floods) -> None:
    """A burst, and then the rate; another session has another bucket."""
    bucket = Bucket(RATE, LATER)
    assert 0 == text(floods, 20, bucket=bucket)
    assert 101 == text(floods, 1, bucket=bucket)
    assert 0 == text(floods, 1, bucket=bucket, now_s=LATER + 0.101)
    assert 0 == text(floods, 20)


def test_a_wait_for_several_alike_is_enough_for_all_of_them(floods: Floods) -> None:
    """So long that they pass one after the other; but never for more than a burst."""
    bucket = Bucket(RATE, LATER)

    def wait_ms(count: int, now_s: float, alike: int) -> int:
        return floods.texts_wait_ms(bucket, "ann", count, LATER + now_s, alike=alike)

    assert 0 == wait_ms(20, 0.0, alike=16)
    assert 1_501 == wait_ms(5, 0.0, alike=3)
    assert [0, 0, 0] == [wait_ms(5, 1.501, alike=3) for _ in range(3)]
    assert 1_999 <= wait_ms(5, 1.501, alike=16) <= 2_001


def test_sessions_of_one_key_have_four_times_as_much_together(floods: Floods) -> None:
    """The fifth session with its whole burst waits, and what is refused costs nothing."""
    for _ in range(KEY_TIMES):
        assert 0 == text(floods, 20, key=KEY)
    fifth = Bucket(RATE, LATER)
    assert 501 == text(floods, 20, bucket=fifth, key=KEY)
    assert 20 == fifth.allowance
    assert 26 == text(floods, 1, bucket=fifth, key=KEY)
    assert 0 == text(floods, 20, bucket=fifth, key=OTHER)


def test_sessions_of_one_address_have_sixteen_times_as_much(floods: Floods) -> None:
    """Whatever their keys."""
    for index in range(ADDRESS_TIMES):
        assert 0 == text(floods, 20, key=index.to_bytes(32, "big"), address=HERE)
    assert 126 == text(floods, 20, key=KEY, address=HERE)
    assert 0 == text(floods, 20, key=KEY, address=THERE)


def test_a_refusal_by_one_bucket_takes_nothing_from_the_others(floods: Floods) -> None:
    """Else one session that floods would silence all of its key and its address."""
    flood = Bucket(RATE, LATER)
    assert 0 == text(floods, 20, bucket=flood, key=KEY, address=HERE)
    for _ in range(100):
        assert text(floods, 20, bucket=flood, key=KEY, address=HERE)
    for _ in range(KEY_TIMES - 1):
        assert 0 == text(floods, 20, key=KEY, address=HERE)


def test_who_is_unlimited_spends_nothing_of_anybody(floods: Floods) -> None:
    """Neither an own allowance nor that of the key and address."""
    assert 0 == text(floods, 10**9, key=KEY, address=HERE, nick="importer")
    assert 0 == text(floods, 20, key=KEY, address=HERE)
    assert 0 < text(floods, 21)


def test_without_key_and_address_only_the_session_counts(floods: Floods) -> None:
    """In plain mode nobody proves who they are."""
    for _ in range(100):
        assert 0 == text(floods, 20)
    for move in Move:
        for _ in range(3_000):
            assert 0 == floods.moves_wait_ms(move, LATER)


def test_a_rate_set_anew_holds_at_once(floods: Floods) -> None:
    """For sessions, keys and addresses that are known already."""
    bucket = Bucket(RATE, LATER)
    assert 0 == text(floods, 20, bucket=bucket, key=KEY, address=HERE)
    floods.rate = Rate(1_000.0, 2_000.0)
    assert 11 == text(floods, 10, bucket=bucket, key=KEY, address=HERE)
    assert 0 == text(floods, 1_001, bucket=bucket, key=KEY, address=HERE, now_s=LATER + 1.1)
    assert floods.rate.per_s == 1_000.0


def test_a_client_may_join_all_its_rooms_twice_at_once(floods: Floods) -> None:
    """A start and a new session right after it; then as fast as the rate."""
    assert 2 * ROOMS_PER_SESSION_MAX == KEY_MOVES.burst == passed(floods, Move.JOIN, key=KEY)
    assert 51 == floods.moves_wait_ms(Move.PART, LATER, key=KEY)
    assert 0 == floods.moves_wait_ms(Move.PART, LATER + 0.051, key=KEY)
    assert 0 == floods.moves_wait_ms(Move.JOIN, LATER, key=OTHER)


def test_an_address_has_moves_of_its_own(floods: Floods) -> None:
    """Keys cost nothing to make, so there is a bound to what they do from one place."""
    count = 0
    while not floods.moves_wait_ms(
        Move.HELLO, LATER, key=(count // 100).to_bytes(32, "big"), address=HERE
    ):
        count += 1
    assert ADDRESS_MOVES.burst == count
    assert 3 == floods.moves_wait_ms(Move.HELLO, LATER, key=KEY, address=HERE)
    assert 0 == floods.moves_wait_ms(Move.HELLO, LATER, key=KEY, address=THERE)


def test_a_few_nicks_at_once_and_then_one_in_two_seconds(floods: Floods) -> None:
    """Of a key; other moves go on meanwhile."""
    assert KEY_NICKS.burst == passed(floods, Move.NICK, key=KEY, address=HERE)
    assert 2_001 == floods.moves_wait_ms(Move.NICK, LATER, key=KEY, address=HERE)
    assert 0 == floods.moves_wait_ms(Move.JOIN, LATER, key=KEY, address=HERE)
    assert 0 == floods.moves_wait_ms(Move.NICK, LATER + 2.001, key=KEY, address=HERE)


def passed_with_fresh_keys(floods: Floods, move: Move) -> int:
    """Return how many moves one address has at once, whichever keys it makes."""
    count = 0
    while not floods.moves_wait_ms(move, LATER, key=count.to_bytes(32, "big"), address=HERE):
        count += 1
    return count


def test_an_address_begins_so_many_talks(floods: Floods) -> None:
    """Whichever keys it makes; it goes on with all else."""
    assert ADDRESS_TALKS.burst == passed_with_fresh_keys(floods, Move.TALK)
    assert 2_001 == floods.moves_wait_ms(Move.TALK, LATER, key=KEY, address=HERE)
    assert 0 == floods.moves_wait_ms(Move.JOIN, LATER, key=KEY, address=HERE)


def test_new_names_are_counted_from_the_start() -> None:
    """Of a key and of an address; nothing else waits for it."""
    floods = Floods(RATE, returned_s=2 * LATER)
    assert KEY_NAMES.burst == passed(floods, Move.NAME, key=KEY)
    assert 10_001 == floods.moves_wait_ms(Move.NAME, LATER, key=KEY)
    assert ADDRESS_NAMES.burst == passed_with_fresh_keys(floods, Move.NAME)
    assert 2_001 == floods.moves_wait_ms(Move.NAME, LATER, key=OTHER, address=HERE)
    assert 0 == floods.moves_wait_ms(Move.NAME, LATER, key=OTHER, address=THERE)
    assert 0 == floods.moves_wait_ms(Move.HELLO, LATER, key=KEY, address=HERE)


def test_some_orders_at_once_and_then_five_a_second(floods: Floods) -> None:
    """Of a key, and sixteen times as many of an address; other moves go on meanwhile."""
    assert KEY_RIGHTS.burst == passed(floods, Move.RIGHTS, key=KEY, address=HERE)
    assert 201 == floods.moves_wait_ms(Move.RIGHTS, LATER, key=KEY, address=HERE)
    assert 0 == floods.moves_wait_ms(Move.JOIN, LATER, key=KEY, address=HERE)
    assert 0 == floods.moves_wait_ms(Move.RIGHTS, LATER + 0.201, key=KEY, address=THERE)
    left = ADDRESS_TIMES * KEY_RIGHTS.burst - KEY_RIGHTS.burst
    keys = (index.to_bytes(32, "big") for index in range(ADDRESS_TIMES))
    assert left == sum(passed(floods, Move.RIGHTS, key=each, address=HERE) for each in keys)


def test_when_everybody_comes_back_nothing_is_counted() -> None:
    """After the broker's start: HELLO and JOIN, and no other move."""
    floods = Floods(RATE, returned_s=60.0)
    for move in (Move.HELLO, Move.JOIN):
        for _ in range(20_000):
            assert 0 == floods.moves_wait_ms(move, 59.9, key=KEY, address=HERE)
    assert 0 == len(floods._keys)
    for _ in range(int(KEY_RIGHTS.burst)):
        assert 0 == floods.moves_wait_ms(Move.RIGHTS, 59.99, key=KEY)
    assert 0 < floods.moves_wait_ms(Move.RIGHTS, 59.99, key=KEY)
    for _ in range(int(KEY_MOVES.burst - KEY_RIGHTS.burst)):
        assert 0 == floods.moves_wait_ms(Move.PART, 59.99, key=KEY)
    assert 0 < floods.moves_wait_ms(Move.PART, 59.99, key=KEY)
    assert 0 < floods.moves_wait_ms(Move.JOIN, 60.0, key=KEY)


def test_what_a_session_has_already_is_free_to_resume(floods: Floods) -> None:
    """A broken network may bring it back as often as it likes."""
    passed(floods, Move.JOIN, key=KEY)
    for move in (Move.HELLO, Move.JOIN):
        assert 0 < floods.moves_wait_ms(move, LATER, key=KEY)
        assert 0 == floods.moves_wait_ms(move, LATER, key=KEY, is_resume=True)
    assert 0 < floods.moves_wait_ms(Move.PART, LATER, key=KEY, is_resume=True)


def test_so_many_keys_are_remembered(floods: Floods) -> None:
    """The one that did nothing for longest is forgotten first, not the oldest."""
    first, second = (index.to_bytes(32, "big") for index in (0, 1))
    for index in range(KEYS_MAX):
        key = index.to_bytes(32, "big")
        for _ in range(KEY_TIMES):
            assert 0 == text(floods, 20, key=key)
    assert 0 < text(floods, 1, key=first)
    assert 0 == text(floods, 1, key=KEY)
    assert KEYS_MAX == len(floods._keys)
    assert 0 < text(floods, 1, key=first)
    assert 0 == text(floods, 1, key=second)  # It was forgotten.
    assert KEYS_MAX == len(floods._keys)


def test_so_many_addresses_are_remembered(floods: Floods) -> None:
    for index in range(ADDRESSES_MAX + 5):
        assert 0 == text(floods, 1, address=str(index))
    assert ADDRESSES_MAX == len(floods._addresses)


@given(
    st.floats(1, 1e6),
    st.integers(256, 10_000),
    st.lists(
        st.tuples(
            st.integers(1, 256), st.floats(0, 3), st.integers(0, 5), st.integers(0, 2),
            st.integers(1, 16),
        ),
        min_size=1,
        max_size=40,
    ),
)  # fmt: skip
def test_waiting_as_long_as_told_is_enough_whoever_is_counted(
    per_s: float, burst: int, sends: list[tuple[int, float, int, int, int]]
) -> None:
    """By session, key or address; and no key or address gets more than its rate."""
    rate = Rate(per_s, burst)
    floods = Floods(rate, returned_s=0.0)
    sessions = [Bucket(rate, 0.0) for _ in range(6)]
    now_s, taken = 0.0, [0, 0, 0]
    for count, pause_s, which, key, alike in sends:
        now_s += pause_s

        def send() -> int:
            return floods.texts_wait_ms(
                sessions[which],  # noqa: B023 - called at once, as the next ones
                "ann",
                count,  # noqa: B023
                now_s,  # noqa: B023
                key=bytes([key]) * 32,  # noqa: B023
                address=HERE,
                alike=alike,  # noqa: B023
            )

        wait_ms = send()
        if wait_ms:
            now_s += wait_ms / 1_000
            assert 0 == send()
        taken[key] += count
        for each in taken:
            assert each <= KEY_TIMES * (burst + per_s * now_s) * (1 + 1e-6)
        assert sum(taken) <= ADDRESS_TIMES * (burst + per_s * now_s) * (1 + 1e-6)


@given(st.lists(st.tuples(st.sampled_from(Move), st.floats(0, 2)), min_size=1, max_size=60))
def test_waiting_is_enough_for_a_move(moves: list[tuple[Move, float]]) -> None:
    floods = Floods(RATE, returned_s=0.0)
    now_s = 0.0
    for move, pause_s in moves:
        now_s += pause_s
        wait_ms = floods.moves_wait_ms(move, now_s, key=KEY, address=HERE)
        if wait_ms:
            now_s += wait_ms / 1_000
            assert 0 == floods.moves_wait_ms(move, now_s, key=KEY, address=HERE)
