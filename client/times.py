"""Spans of time as people write them: 30s, 10m, 2h, 1d, 1w. Pure."""

from __future__ import annotations

import re

UNITS_S = {"s": 1, "m": 60, "h": 3_600, "d": 86_400, "w": 7 * 86_400}


def seconds_of(text: str) -> int | None:
    """Return the seconds of a number with a unit; None for anything else."""
    match = re.fullmatch(r"([0-9]{1,9})([smhdw])", text)
    return int(match[1]) * UNITS_S[match[2]] if match else None


def span_text(seconds: int) -> str:
    """Return "10 min", "2 h", ...: in the largest unit that fits it, rounded up."""
    for name, size_s in (("d", 86_400), ("h", 3_600), ("min", 60)):
        if seconds >= size_s:
            return f"{-(-seconds // size_s)} {name}"
    return f"{seconds} s"
