"""How far a session is on its way. Pure data."""

from __future__ import annotations

import enum


class Phase(enum.Enum):
    """How far the session is. Only `ONLINE` sends anything but GREET and HELLO."""

    DOWN = enum.auto()
    GREETING = enum.auto()
    HELLO = enum.auto()
    ONLINE = enum.auto()
    REFUSED = enum.auto()
