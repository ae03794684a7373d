"""What befalls whom and when, drawn from a seed. Pure: no I/O, no clock."""

from __future__ import annotations

import random
from typing import Final, NamedTuple

KILL: Final = "kill"
FREEZE: Final = "freeze"

# How often each is drawn, in parts. Live owns the log, so it is hit most. `start` kills all,
# begins a start, and kills that in its middle as well.
KILLED: Final = {"live": 8, "history": 3, "supervisor": 3, "all": 4, "start": 2, "clients": 4}
FROZEN: Final = {"live": 4, "history": 2, "supervisor": 2, "clients": 4}
FREEZES_PER_KILL: Final = 0.1
# A moment right after the last trouble, one in the middle of the recovery, one some time after.
PAUSES_S: Final = ((0.0, 0.1), (0.1, 0.5), (0.5, 1.5))
PAUSE_PARTS: Final = (4, 4, 2)
# Before so many of all strokes everybody gets on first: else a run could be one long outage, in
# which nothing can go wrong.
CALM_PART: Final = 0.4
HOLDS_S: Final = (0.05, 1.5)  # Of a freeze.
START_S_MAX: Final = 0.5  # A start is killed within so long; a whole one takes about as long.


class Trouble(NamedTuple):
    """One stroke: after a pause, this befalls them."""

    what: str  # `KILL` or `FREEZE`
    victim: str
    is_calm: bool  # Everybody has recovered from the one before, and talks.
    pause_s: float
    hold_s: float  # How long a freeze lasts, or how far a start gets.
    chance: float  # From 0 to 1: which of the crowds.

    @property
    def name(self) -> str:
        """What and whom, for reports."""
        return f"{self.what} {self.victim}"


def draw(seed: int, kills: int, *, victims: tuple[str, ...] = tuple(KILLED)) -> list[Trouble]:
    """Return so many kills of these victims, with freezes between them."""
    chance = random.Random(seed)
    troubles: list[Trouble] = []
    kills_left = kills
    while kills_left:
        is_freeze = chance.random() < FREEZES_PER_KILL
        table = FROZEN if is_freeze else KILLED
        names = [name for name in table if name in victims or is_freeze]
        victim = chance.choices(names, [table[name] for name in names])[0]
        pause_s = chance.uniform(*chance.choices(PAUSES_S, PAUSE_PARTS)[0])
        hold_s = chance.uniform(*HOLDS_S) if is_freeze else chance.uniform(0.0, START_S_MAX)
        what = FREEZE if is_freeze else KILL
        is_calm = chance.random() < CALM_PART
        troubles.append(Trouble(what, victim, is_calm, pause_s, hold_s, chance.random()))
        kills_left -= not is_freeze
    return troubles
