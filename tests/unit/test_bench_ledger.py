"""What the generator's books find: each kind of fault, planted."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from bench import text
from bench.generator.ledger import Ledger
from bench.results import Counts

SIZE = 64


def said(*pairs: tuple[int, int]) -> bytes:
    return b"".join(text.make(sender, number, 5, SIZE) for sender, number in pairs)


def booked(*pieces: bytes, of: dict[int, int]) -> Counts:
    ledger = Ledger(SIZE)
    for piece in pieces:
        ledger.add(piece)
    counts = Counts()
    ledger.close(counts, of)
    return counts


def test_what_came_whole_is_clean() -> None:
    assert booked(said((1, 0), (2, 0), (1, 1)), said((2, 1)), of={1: 2, 2: 2}).is_clean


def test_a_text_that_never_came_is_lost_in_the_middle_and_at_the_end() -> None:
    assert 2 == booked(said((1, 0), (1, 2)), of={1: 4}).lost
    assert 3 == booked(of={1: 3}).lost


def test_a_text_that_came_twice_is_a_duplicate() -> None:
    counts = booked(said((1, 0), (1, 1)), said((1, 1)), of={1: 2})
    assert (0, 1, 0) == (counts.lost, counts.duplicated, counts.reordered)


def test_a_text_that_came_late_is_reordered_and_not_lost() -> None:
    counts = booked(said((1, 1)), said((1, 0), (1, 2)), of={1: 3})
    assert (0, 0, 1) == (counts.lost, counts.duplicated, counts.reordered)


def test_the_digest_tells_one_order_from_another() -> None:
    one, other, same = Ledger(SIZE), Ledger(SIZE), Ledger(SIZE)
    one.add(said((1, 0), (2, 0)))
    other.add(said((2, 0), (1, 0)))
    same.add(said((1, 0)))
    same.add(said((2, 0)))
    assert one.digest() == same.digest() != other.digest()


@given(
    st.integers(0, 0xFFFE),
    st.integers(0, 2**31),
    st.integers(1, 300),
    st.integers(0, 2**60),
    st.integers(text.TEXT_BYTES_MIN, 200),
)
def test_texts_made_many_at_once_are_those_made_singly(
    sender: int, number: int, count: int, time_ns: int, size: int
) -> None:
    maker = text.Maker(sender, size, 300)
    many = maker.make(number, count, time_ns)
    singly = [text.make(sender, number + step, time_ns, size) for step in range(count)]
    assert singly == maker.make_each(number + np.arange(count), time_ns)
    assert b"".join(singly) == many
    senders, numbers = text.senders_and_numbers(many, size)
    assert [sender] * count == senders.tolist()
    assert list(range(number, number + count)) == numbers.tolist()
    assert [time_ns] * count == text.times_ns(many, size).tolist()
    assert b"".join(b"<" + each + b">" for each in singly) == text.framed(b"<", many, count, b">")
