"""Units: what a figure's name says of its unit, and numbers with units for people. Pure.

A figure's name ends in its unit, or has it before `_per_`: `whole_s`, `peak_memory_bytes`,
`cpu_us_per_delivery`, `bytes_per_client`. Anything else is a plain number: `deliveries_per_s`.
"""

from __future__ import annotations

from typing import Final, NamedTuple


class Unit(NamedTuple):
    """A unit and how much of the base unit (seconds or bytes) it is."""

    base: str
    factor: float


UNITS: Final = {
    "ns": Unit("s", 1e-9),
    "us": Unit("s", 1e-6),
    "ms": Unit("s", 1e-3),
    "s": Unit("s", 1.0),
    "B": Unit("B", 1.0),
    "KB": Unit("B", 1e3),
    "KiB": Unit("B", 2.0**10),
    "MB": Unit("B", 1e6),
    "MiB": Unit("B", 2.0**20),
    "GB": Unit("B", 1e9),
    "GiB": Unit("B", 2.0**30),
}
PLAIN: Final = Unit("", 1.0)
_OF_NAMES: Final = {
    **{name: UNITS[name] for name in ("ns", "us", "ms", "s")},
    "bytes": UNITS["B"],
    "kb": UNITS["KB"],
    "kib": UNITS["KiB"],
    "mb": UNITS["MB"],
    "mib": UNITS["MiB"],
}
_STEPS: Final = {
    "s": [("s", 1.0), ("ms", 1e-3), ("µs", 1e-6), ("ns", 1e-9)],
    "B": [("GiB", 2.0**30), ("MiB", 2.0**20), ("KiB", 2.0**10), ("B", 1.0)],
    "": [("G", 1e9), ("M", 1e6), ("k", 1e3), ("", 1.0)],
}
_WHOLE: Final = 100  # From here on three digits stand before the point.
_PLAIN_AS_IS: Final = 10_000  # Plain numbers below are shown to the last unit.


def unit_of(name: str) -> Unit:
    """Return the unit of a figure's values."""
    counted = name.partition("_per_")[0]
    word = counted.rpartition("_")[2]
    return _OF_NAMES.get(word, PLAIN)


def humanise(name: str, value: float) -> str:
    """Return a figure for people: three digits or so, and a unit of a fitting size."""
    unit = unit_of(name)
    base = value * unit.factor
    if not unit.base and float(value).is_integer() and abs(value) < _PLAIN_AS_IS:
        return f"{value:.0f}"
    if not base:
        return f"0 {unit.base}".strip()
    # As it will be rounded: 999.9 us is shown as 1.00 ms.
    rounded = abs(float(f"{base:.3g}"))
    steps = _STEPS[unit.base]
    word, factor = next((step for step in steps if rounded >= step[1]), steps[-1])
    shown = base / factor
    digits = f"{shown:.0f}" if abs(shown) >= _WHOLE else f"{shown:.3g}"
    return f"{digits} {word}".strip()
