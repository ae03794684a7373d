"""What happened in a run, one line each: time, who, what. Costs nothing while nobody reads it."""

from __future__ import annotations


class Trace:
    """The lines of one run, while `is_on`."""

    def __init__(self, *, is_on: bool) -> None:
        self.is_on = is_on
        self.now_s = 0.0
        self.lines: list[str] = []

    def note(self, who: str, what: str) -> None:
        """Add a line."""
        if self.is_on:
            self.lines.append(f"{self.now_s:10.3f}  {who:<8} {what}")


def shown(value: object, chars_max: int = 100) -> str:
    """Return a value in words that fit a line."""
    text = repr(value)
    return text if len(text) <= chars_max else f"{text[: chars_max - 3]}..."
