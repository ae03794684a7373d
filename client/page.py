"""The lines that a terminal shows, kept so that one can be replaced and all drawn again. Pure."""

from __future__ import annotations

import re
from collections import deque

from prompt_toolkit.utils import get_cwidth

from client.limits import SHOWN_MAX
from client.render import RESET
from client.shown import Place

PROMPT_ROWS = 2  # The typed line and the toolbar.
COLORS = re.compile(r"\x1b\[[0-9;]*m")


class Page:
    """The newest lines, in the order in which they were shown."""

    def __init__(self) -> None:
        self.is_stale = False  # A line was replaced: what stands on the terminal is not right.
        self._lines: deque[tuple[str, Place | None]] = deque(maxlen=SHOWN_MAX)

    def add(self, text: str, place: Place | None) -> None:
        """Note a line that is shown; it may hold newlines."""
        self._lines.append((text, place))

    def mark(self, place: Place | None, instead: str) -> list[str]:
        """Put another text in an entry's place; return what stood there, where it was shown."""
        stood = []
        for index, (text, each) in enumerate(self._lines):
            if place is not None and each == place and instead:
                self._lines[index] = instead, place
                self.is_stale = True
                stood.append(text)
        return stood

    def redrawn(self, rows: int, columns: int) -> str:
        """Return what erases the whole screen, line by line, and shows the newest lines again.

        Not by the one sequence that erases all: some terminals keep what that takes away.
        """
        self.is_stale = False
        left_rows = rows - PROMPT_ROWS
        fitting: list[str] = []
        for text, _ in reversed(self._lines):
            left_rows -= height(text, columns)
            if left_rows < 0:
                break
            fitting.append(text)
        erasing = "".join(f"\x1b[{row};1H\x1b[2K" for row in range(rows, 0, -1))
        return erasing + RESET + "\n".join(reversed(fitting))


def height(text: str, columns: int) -> int:
    """Return how many rows of a terminal a text takes, colours aside."""
    return sum(
        max(1, -(-get_cwidth(COLORS.sub("", line)) // max(columns, 1))) for line in text.split("\n")
    )
