"""The texts of a run: who sent it, its number, when it was meant to be sent.

Fixed columns of hexadecimal digits, so that many are made and read at once with NumPy.
Nothing in them needs escaping in any protocol (JSON, IRC, RESP, MessagePack).
"""

from __future__ import annotations

from typing import Final

import numpy as np
from numpy.typing import NDArray

SENDER_DIGITS: Final = 4
NUMBER_DIGITS: Final = 8
TIME_DIGITS: Final = 16  # Nanoseconds of CLOCK_MONOTONIC, which all processes share.
TEXT_BYTES_MIN: Final = SENDER_DIGITS + NUMBER_DIGITS + TIME_DIGITS
_NUMBER_AT: Final = SENDER_DIGITS
_TIME_AT: Final = SENDER_DIGITS + NUMBER_DIGITS
_HEX: Final = np.frombuffer(b"0123456789abcdef", np.uint8)

Numbers = NDArray[np.int64]


def make(sender: int, number: int, time_ns: int, size: int) -> bytes:
    """Return one text."""
    return f"{sender:04x}{number:08x}{time_ns:016x}".ljust(size, "x").encode()


class Maker:
    """Makes the texts of one sender, many at once."""

    def __init__(self, sender: int, size: int, count_max: int) -> None:
        row = np.frombuffer(make(sender, 0, 0, size), np.uint8)
        self._rows = np.tile(row, (count_max, 1))
        self._size = size
        self._steps = np.arange(count_max, dtype=np.int64)
        self._shifts = 4 * np.arange(NUMBER_DIGITS - 1, -1, -1, dtype=np.int64)

    def make(self, number: int, count: int, time_ns: int = 0) -> bytes:
        """Return the texts number, number + 1, ... of one time, one after the other."""
        return self._rows_of(number + self._steps[:count], time_ns).tobytes()

    def make_each(self, numbers: Numbers, time_ns: int) -> list[bytes]:
        """Return the text of each number, all of one time."""
        rows = self._rows_of(numbers, time_ns)
        found: list[bytes] = rows.view(f"V{self._size}").reshape(-1).tolist()
        return found

    def _rows_of(self, numbers: Numbers, time_ns: int) -> NDArray[np.uint8]:
        rows = self._rows[: len(numbers)]
        digits = (numbers[:, None] >> self._shifts) & 15
        rows[:, _NUMBER_AT:_TIME_AT] = _HEX[digits]
        stamp = np.frombuffer(f"{time_ns:016x}".encode(), np.uint8)
        rows[:, _TIME_AT:TEXT_BYTES_MIN] = stamp
        return rows


def _bytes(texts: bytes, size: int, start: int, digits: int) -> bytes:
    """Return what columns of digits stand for; three times as fast as sums over the digits."""
    rows = np.frombuffer(texts, np.uint8).reshape(-1, size)
    return bytes.fromhex(rows[:, start : start + digits].tobytes().decode("ascii"))


def senders_and_numbers(texts: bytes, size: int) -> tuple[Numbers, Numbers]:
    """Return two columns of the texts, given one after the other."""
    found = np.frombuffer(_bytes(texts, size, 0, _TIME_AT), [("sender", ">u2"), ("number", ">u4")])
    return found["sender"].astype(np.int64), found["number"].astype(np.int64)


def times_ns(texts: bytes, size: int) -> Numbers:
    """Return when each text was meant to be sent."""
    return np.frombuffer(_bytes(texts, size, _TIME_AT, TIME_DIGITS), ">i8").astype(np.int64)


def framed(head: bytes, texts: bytes, count: int, tail: bytes) -> bytes:
    """Return each text between head and tail, all one after the other."""
    if count == 1:
        return head + texts + tail
    size = len(texts) // count
    start, end = len(head), len(head) + size
    rows = np.empty((count, end + len(tail)), np.uint8)
    rows[:, :start] = np.frombuffer(head, np.uint8)
    rows[:, start:end] = np.frombuffer(texts, np.uint8).reshape(count, size)
    rows[:, end:] = np.frombuffer(tail, np.uint8)
    return rows.tobytes()


def unframed(framed_texts: bytes, head: bytes, count: int) -> bytes:
    """Return the texts of one size that each follow the head; raise `ValueError` if one doesn't."""
    rows = np.frombuffer(framed_texts, np.uint8).reshape(count, -1)
    if (rows[:, : len(head)] != np.frombuffer(head, np.uint8)).any():
        raise ValueError(f"{count} texts, but not each begins with {head.hex()}")
    return rows[:, len(head) :].tobytes()
