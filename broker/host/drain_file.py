"""Who may still come while an operator has the broker drain, noted in the data folder.

So that a live process that is begun anew goes on draining, and lets back in who was there. Live
writes the note, the supervisor removes it at its start.
"""

from __future__ import annotations

from pathlib import Path

FILE_NAME = "draining"


def note(folder: Path, stayers: frozenset[bytes] | None) -> None:
    """Note the identities that may come; None: everybody, it drains no more. Raises `OSError`."""
    if stayers is None:
        (folder / FILE_NAME).unlink(missing_ok=True)
        return
    fresh = folder / f"{FILE_NAME}.new"
    fresh.write_text("".join(f"{each.hex()}\n" for each in sorted(stayers)))
    fresh.replace(folder / FILE_NAME)


def read(folder: Path) -> frozenset[bytes] | None:
    """Return the identities that may come; None where the broker does not drain."""
    try:
        lines = (folder / FILE_NAME).read_text().splitlines()
    except OSError:
        return None
    return frozenset(bytes.fromhex(line) for line in lines)
