"""What /proc tells about a process. Everything is 0 where there is none, or no /proc."""

from __future__ import annotations

import os
from pathlib import Path

PAGE_BYTES = os.sysconf("SC_PAGE_SIZE")


def memory_bytes(process: int) -> int:
    """Return the resident memory."""
    try:
        return int(Path(f"/proc/{process}/statm").read_text().split()[1]) * PAGE_BYTES
    except (OSError, IndexError):
        return 0


def open_files(process: int) -> int:
    """Return the number of open descriptors."""
    try:
        return len(os.listdir(f"/proc/{process}/fd"))  # noqa: PTH208 - names are enough
    except OSError:
        return 0


def open_files_max(process: int) -> int:
    """Return how many descriptors it may open."""
    try:
        for line in Path(f"/proc/{process}/limits").read_text().splitlines():
            if line.startswith("Max open files"):
                return int(line.split()[3])
    except (OSError, ValueError):
        pass
    return 0


def states(process: int) -> set[str]:
    """Return the states of its threads, as ps has them: R, S, D (at the disk), T, t (traced)."""
    found = set()
    try:
        for task in Path(f"/proc/{process}/task").iterdir():
            found.add((task / "stat").read_text().rpartition(")")[2].split()[0])
    except (OSError, IndexError):
        pass
    return found
