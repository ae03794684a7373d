"""How far the log had got, noted beside it: so an older copy that was put in its place shows.

The file holds the log's epoch and the number of entries that were ever committed under it. A
log that has fewer lost some that were acknowledged, and must get a new epoch. A note that is
a second old, or missing, does no harm: then clients that have seen more still notice.
"""

from __future__ import annotations

import contextlib
from pathlib import Path

FILE_NAME = "progress"


def read(folder: Path, epoch: int) -> int:
    """Return the entries noted under this epoch; 0 when there is no such note."""
    try:
        noted_epoch, total = (folder / FILE_NAME).read_text().split()
        return int(total) if int(noted_epoch) == epoch else 0
    except (OSError, ValueError):
        return 0


def note(folder: Path, epoch: int, total: int) -> None:
    """Note the entries committed under this epoch; a full disk is no reason to stop."""
    fresh = folder / f"{FILE_NAME}.new"
    with contextlib.suppress(OSError):
        fresh.write_text(f"{epoch} {total}\n")
        fresh.replace(folder / FILE_NAME)
