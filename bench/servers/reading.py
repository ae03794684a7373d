"""Reading what a server says, cut anywhere: for conversations, and message by message after."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Final

from bench.dialect import Conversation, Heard, Say, Unexpected

# What is not whole yet: a message, or the list of all members that a newcomer gets.
PENDING_BYTES_MAX: Final = 1 << 22
QUOTE_BYTES_MAX: Final = 300


def expect(
    says: list[Say], answer: re.Pattern[bytes], refusal: re.Pattern[bytes]
) -> Conversation[tuple[re.Match[bytes], bytes]]:
    """Say, and hear until the answer has come; return its match and the bytes after it.

    Raises `Unexpected` when a refusal comes first, or neither within a bound.
    """
    pending = b""
    while True:
        heard: Heard = yield says
        says = []
        pending += heard.data
        found = answer.search(pending)
        refused = refusal.search(pending)
        # What follows the answer may be anything, even somebody's text that looks like a refusal.
        if refused and (found is None or refused.start() < found.start()):
            raise Unexpected(_quoted(refused[0]))
        if found:
            return found, pending[found.end() :]
        if len(pending) > PENDING_BYTES_MAX:
            raise Unexpected(_quoted(pending))


def _quoted(data: bytes) -> str:
    return f"the server said {data[:QUOTE_BYTES_MAX]!r}"


class Cut:
    """Cuts a connection's bytes into what a pattern matches, without gaps."""

    def __init__(self, pattern: re.Pattern[bytes], pending: bytes = b"") -> None:
        """Begin with what the conversation had left over."""
        self._pattern = pattern
        self._pending = pending

    def feed(self, data: bytes) -> list[re.Match[bytes]]:
        """Take bytes as they came; return what is whole now.

        Raises `Unexpected` when nothing matches within a bound.
        """
        pending = self._pending + data
        end = 0
        matches = []
        # Not finditer: it would skip what does not match, and find an error inside a message.
        while match := self._pattern.match(pending, end):
            end = match.end()
            matches.append(match)
        self._pending = pending[end:]
        if len(self._pending) > PENDING_BYTES_MAX:
            raise Unexpected(_quoted(self._pending))
        return matches


class CutEar:
    """An ear that cuts its messages by a pattern; `hear` tells each one's text, or b""."""

    stride: int | None = None

    def __init__(
        self,
        channel: int,
        cut: Cut,
        hear: Callable[[re.Match[bytes]], bytes],
    ) -> None:
        self.channel = channel
        self._cut = cut
        self._hear = hear
        self._texts: list[bytes] = []
        self.says: list[Say] = []

    def feed(self, data: bytes) -> int:
        """Take bytes as they came; return how many more messages are whole now."""
        texts = [text for match in self._cut.feed(data) if (text := self._hear(match))]
        self._texts += texts
        return len(texts)

    def take_texts(self) -> bytes:
        """Return and forget the texts heard since the last call."""
        texts, self._texts = self._texts, []
        return b"".join(texts)

    def take_says(self) -> list[Say]:
        """Return what must be said in answer."""
        says, self.says = self.says, []
        return says
