"""How far the log had got, noted beside it: so that a copy put in its place shows.

The file holds the log's epoch and the number of entries that were ever committed under it. A
log that has fewer lost some that were acknowledged; one without its note came from elsewhere.
Both must get a new epoch. The note may be a second old: then clients that have seen more still
notice. A folder that was moved whole keeps note and epoch.
"""

from __future__ import annotations

import contextlib
from pathlib import Path

FILE_NAME = "progress"


def is_continued(folder: Path, epoch: int, total: int) -> bool:
    """Tell whether the log of this epoch, with so many entries, is the one that was here."""
    try:
        noted_epoch, noted_total = (folder / FILE_NAME).read_text().split()
        return int(noted_epoch) == epoch and int(noted_total) <= total
    except (OSError, ValueError):
        return not total  # Then nothing was ever acknowledged.


def noted_total(folder: Path) -> int:
    """Return how many entries the note tells of; 0 where there is none that can be read."""
    try:
        return int((folder / FILE_NAME).read_text().split()[1])
    except (OSError, ValueError, IndexError):
        return 0


def note(folder: Path, epoch: int, total: int) -> None:
    """Note the entries committed under this epoch; a full disk is no reason to stop."""
    fresh = folder / f"{FILE_NAME}.new"
    with contextlib.suppress(OSError):
        fresh.write_text(f"{epoch} {total}\n")
        fresh.replace(folder / FILE_NAME)
