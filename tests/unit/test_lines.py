"""Lines of standard input become texts; bad ones are told and skipped."""

from __future__ import annotations

import io

from hypothesis import given
from hypothesis import strategies as st

from client.lines import LINE_BYTES_MAX, BadLine, read_lines


def read(data: bytes) -> list[str | BadLine]:
    return list(read_lines(io.BytesIO(data)))


def test_line_ends_are_taken_off() -> None:
    assert read(b"one\ntwo\r\n\nlast") == ["one", "two", "", "last"]


def test_a_line_that_is_not_utf8_is_told_by_number() -> None:
    assert read(b"one\n\xff\nthree\n") == ["one", BadLine(2, "not UTF-8"), "three"]


def test_a_line_that_is_too_long_is_told_and_skipped() -> None:
    for long in (b"x" * 4_001, b"x" * (10 * LINE_BYTES_MAX)):
        assert read(long + b"\nshort\n") == [
            BadLine(1, "longer than 4000 characters"),
            "short",
        ]


def test_the_longest_text_fits() -> None:
    text = "\U0001f600" * 4_000
    assert read(text.encode() + b"\r\n") == [text]


@given(st.lists(st.text(st.characters(codec="utf-8", exclude_characters="\r\n"), max_size=50)))
def test_what_is_joined_by_newlines_is_read_back(texts: list[str]) -> None:
    assert read("".join(f"{text}\n" for text in texts).encode()) == texts
