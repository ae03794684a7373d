"""What is still known of entries that were shown: enough to mark one as removed. Pure."""

from __future__ import annotations

from typing import NamedTuple

from msgspec.structs import replace

from client import render
from client.events import KIND_REMOVED, Entry
from client.limits import SHOWN_MAX
from client.render import Look

Place = tuple[str, int]  # The room, by its name on the wire when it was shown, and the seq.


class Marked(NamedTuple):
    """How the removal of a text is told: by a line, and by what stands in the text's place."""

    line: str
    instead: str


class Shown:
    """Of the newest entries: who said them when, and how they were shown. No texts."""

    def __init__(self) -> None:
        self._entries: dict[Place, tuple[Entry, str]] = {}

    def note(self, entry: Entry, prefix: str) -> None:
        """Remember an entry that is shown behind a prefix."""
        place = entry.room, entry.seq
        self._entries.pop(place, None)
        self._entries[place] = replace(entry, kind=KIND_REMOVED, text=""), prefix
        if len(self._entries) > SHOWN_MAX:
            del self._entries[next(iter(self._entries))]

    def mark(self, place: Place, label: str, look: Look) -> Marked:
        """Return how to tell that a text was removed."""
        found = self._entries.get(place)
        if found is None:
            line = f"a message of {label} was removed by an operator"
            return Marked(render.dim(f"--- {line}", look), "")
        entry, prefix = found
        plain = look._replace(is_json=False)
        clock = render.clock_text(entry.ts, look._replace(color=False))
        where = f" in {prefix}" if prefix else ""
        line = f"--- a message of {render.safe(entry.nick)} at {clock}{where} was removed"
        return Marked(render.dim(line, look), render.entry_line(entry, plain, prefix))

    def move(self, was: str, to: str) -> None:
        """Know a room's entries under its new name."""
        moved = {
            (to if room == was else room, seq): known
            for (room, seq), known in self._entries.items()
        }
        self._entries = moved
