"""What the books of a member find: each kind of fault, planted."""

from __future__ import annotations

from bench import text
from bench.generator.books import Book, Log
from bench.results import Counts
from client.events import Entry

SIZE = 64


def entry(seq: int, said: str = "") -> Entry:
    return Entry("room", seq, 0, "text", "anna", said or f"text {seq}")


def booked(*seqs: int, head: int) -> Counts:
    book, counts = Book(Log(), 10), Counts()
    for seq in seqs:
        assert book.add(entry(seq))
    book.close(counts, head)
    return counts


def test_every_entry_once_and_in_order_is_clean() -> None:
    counts = booked(11, 12, 13, head=13)
    assert counts.is_clean
    assert 3 == counts.delivered


def test_an_entry_that_never_came_is_lost_in_the_middle_and_at_the_end() -> None:
    assert 1 == booked(11, 13, head=13).lost
    assert 2 == booked(11, head=13).lost
    assert 3 == booked(head=13).lost


def test_an_entry_that_came_twice_is_a_duplicate() -> None:
    counts = booked(11, 12, 11, head=12)
    assert (0, 1, 0) == (counts.lost, counts.duplicated, counts.reordered)


def test_an_entry_that_came_late_is_reordered() -> None:
    counts = booked(11, 13, 12, head=13)
    assert (0, 0, 1) == (counts.lost, counts.duplicated, counts.reordered)


def test_two_members_who_heard_different_texts_are_found() -> None:
    log = Log()
    assert Book(log, 0).add(entry(1, "this"))
    assert not Book(log, 0).add(entry(1, "that"))


def heard(*numbers: int) -> Log:
    """Return a log with texts of one sender, from seq 1 on."""
    log = Log()
    for seq, number in enumerate(numbers, 1):
        log.texts[seq] = text.make(0, number, 5, SIZE).decode()
    return log


def test_a_log_with_each_text_once_is_clean() -> None:
    log = heard(0, 1, 2)
    assert log.check(log.texts.items(), {0: 3}, SIZE).is_clean


def test_a_text_that_was_resent_and_kept_twice_is_a_duplicate() -> None:
    assert 1 == heard(0, 1, 1, 2).check([], {0: 3}, SIZE).duplicated


def test_what_was_acknowledged_must_be_heard_there() -> None:
    log = heard(0, 1)
    kept = [(1, log.texts[1]), (2, log.texts[1]), (3, "never heard")]
    assert 2 == log.check(kept, {0: 2}, SIZE).lost
