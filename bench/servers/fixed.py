"""Clients of servers whose messages have a fixed form: a head, the text, a tail."""

from __future__ import annotations

import re
from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Final

import numpy as np

from bench.dialect import Heard, Post, Say, Unexpected
from bench.servers.reading import Cut
from bench.text import framed

UNBOUNDED: Final = 1 << 30  # What `Voice.free` says when the protocol has no window.
OTHER_BYTES_MAX: Final = 1 << 16  # A line or packet that is no message.


class FixedEar:
    """Hears messages that all have one size and differ in known places only.

    Subclasses say in `other` what else the server may send in between.
    """

    stride: int | None

    def __init__(
        self,
        channel: int,
        head: bytes,
        text_bytes: int,
        tail: bytes = b"",
        *,
        varies: slice | None = None,
        pending: bytes = b"",
    ) -> None:
        """Begin with what the conversation had left over; `varies` is a part of the head."""
        self.channel = channel
        self.stride = self._stride = len(head) + text_bytes + len(tail)
        self._text = slice(len(head), len(head) + text_bytes)
        template = head + bytes(text_bytes) + tail
        fixed = np.ones(self._stride, np.bool_)
        fixed[self._text] = False
        if varies is not None:
            fixed[varies] = False
        self._columns = np.flatnonzero(fixed)
        self._expected = np.frombuffer(template, np.uint8)[self._columns]
        self._pending = bytearray(pending)
        self._texts: list[bytes] = []
        self._says: list[Say] = []

    def feed(self, data: bytes) -> int:
        """Take bytes as they came; return how many more messages are whole now."""
        self._pending += data
        count = 0
        while self._pending:
            taken, is_all = self._take_messages()
            count += taken
            if is_all:
                break
            size = self.other(bytes(self._pending[:OTHER_BYTES_MAX]))
            if not size:
                if len(self._pending) > OTHER_BYTES_MAX:
                    raise Unexpected(f"the server said {bytes(self._pending[:300])!r}")
                break
            del self._pending[:size]
        return count

    def _take_messages(self) -> tuple[int, bool]:
        """Take the whole messages in front; return how many, and if only part of one is left."""
        whole, part = divmod(len(self._pending), self._stride)
        padded = bytes(self._pending) + bytes(self._stride - part)
        rows = np.frombuffer(padded, np.uint8).reshape(whole + 1, self._stride)
        is_right = rows[:, self._columns] == self._expected
        is_right[whole] |= self._columns >= part  # What has not come yet cannot be wrong.
        is_row_right = is_right.all(axis=1)
        is_all = bool(is_row_right.all())
        count = whole if is_all else int(is_row_right.argmin())
        if count:
            self._texts.append(rows[:count, self._text].tobytes())
            del self._pending[: count * self._stride]
        return count, is_all

    def other(self, pending: bytes) -> int:
        """Take what is no message at the front; return its size, 0 when it is not whole yet."""
        raise Unexpected(f"the server said {pending[:300]!r}")

    def answer(self, data: bytes) -> None:
        """Have this said on the ear's channel."""
        self._says.append(Say(self.channel, data))

    def take_texts(self) -> bytes:
        """Return and forget the texts heard since the last call."""
        texts, self._texts = self._texts, []
        return b"".join(texts)

    def take_says(self) -> list[Say]:
        """Return what must be said in answer."""
        says, self._says = self._says, []
        return says


class FixedVoice:
    """Sends each text between its room's head and a tail; what it hears does not matter."""

    def __init__(self, channel: int, heads: list[bytes], tail: bytes = b"") -> None:
        self.channel = channel
        self._heads = heads
        self._tail = tail

    def free(self) -> int:
        """Return how many texts the protocol's own window lets out now."""
        return UNBOUNDED

    def say(self, posts: Sequence[Post]) -> list[Say]:
        """Return what sends the texts, one message each."""
        heads, tail = self._heads, self._tail
        data = [framed(heads[room], texts, count, tail) for room, texts, count in posts]
        return [Say(self.channel, b"".join(data))]

    def feed(self, heard: Heard) -> list[int]:  # noqa: ARG002 - the signature is the interface's
        """Forget what came: this server acknowledges nothing and asks nothing of talkers."""
        return []


class AnsweredVoice(FixedVoice, ABC):
    """A voice that hears acknowledgements or questions, cut by a pattern."""

    def __init__(self, channel: int, heads: list[bytes], tail: bytes, cut: Cut) -> None:
        super().__init__(channel, heads, tail)
        self._cut = cut
        self._answer = b""

    def say(self, posts: Sequence[Post]) -> list[Say]:
        """Return what sends the texts, after the answers that are due."""
        says = super().say(posts)
        if self._answer:
            says.insert(0, Say(self.channel, self._answer))
            self._answer = b""
        return says

    def feed(self, heard: Heard) -> list[int]:
        """Take bytes that came; return how many texts each acknowledgement in them settles."""
        return [count for match in self._cut.feed(heard.data) if (count := self.settle(match))]

    @abstractmethod
    def settle(self, match: re.Match[bytes]) -> int:
        """Return how many texts this settles; 0 when it is no acknowledgement."""

    def answer(self, data: bytes) -> None:
        """Have this said before the next texts."""
        self._answer = data
