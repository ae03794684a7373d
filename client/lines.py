"""Lines of standard input as texts to send: bounded, UTF-8, without their ends. Pure but reading.

A line that is too long or not UTF-8 becomes a `BadLine`, so that one bad line of a thousand is
told and does not stop the rest, and an endless one does not fill the memory.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import BinaryIO, NamedTuple

from common.limits import TEXT_CHARS_MAX

LINE_BYTES_MAX = 4 * TEXT_CHARS_MAX + 2  # The longest text in UTF-8, CR and LF.


class BadLine(NamedTuple):
    """A line that cannot be sent, and why."""

    number: int  # From 1.
    reason: str


def read_lines(stream: BinaryIO) -> Iterator[str | BadLine]:
    """Yield each line as it arrives, blank ones too."""
    number = 0
    while raw := stream.readline(LINE_BYTES_MAX):
        number += 1
        if len(raw) == LINE_BYTES_MAX and not raw.endswith(b"\n"):
            _skip_line(stream)
            yield BadLine(number, f"longer than {TEXT_CHARS_MAX} characters")
            continue
        try:
            text = raw.decode("utf-8")
        except UnicodeDecodeError:
            yield BadLine(number, "not UTF-8")
            continue
        text = text.removesuffix("\n").removesuffix("\r")
        if len(text) > TEXT_CHARS_MAX:
            yield BadLine(number, f"longer than {TEXT_CHARS_MAX} characters")
        else:
            yield text


def _skip_line(stream: BinaryIO) -> None:
    while raw := stream.readline(LINE_BYTES_MAX):
        if raw.endswith(b"\n"):
            return
