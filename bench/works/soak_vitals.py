"""What the processes of a broker take: memory, descriptors and threads of each, and its files.

Read from Linux, once a second. A process is named after its module: supervisor, live, history.
"""

from __future__ import annotations

import contextlib
import os
from pathlib import Path
from typing import Final

from bench.servers.process import descendants
from broker.log.segments import numbers, path_of
from broker.log.writer import FILE_NAME

PROCESSES: Final = ("supervisor", "live", "history")
OF_PROCESSES: Final = ("memory_bytes", "descriptors", "threads")
OF_FILES: Final = ("database_bytes", "wal_bytes", "segments_bytes")
BLOCK_BYTES: Final = 512  # The unit of st_blocks, whatever the file system's is: stat(2).


def expected() -> list[str]:
    """Return the names of all that `read` finds of a broker that runs."""
    return [*(f"{each}_{what}" for each in PROCESSES for what in OF_PROCESSES), *OF_FILES]


def read(pids: list[int]) -> dict[str, float]:
    """Return the vitals of the brokers with these supervisors."""
    found: dict[str, float] = {}
    folder: Path | None = None
    for pid in [each for parent in pids for each in descendants(parent)]:
        with contextlib.suppress(OSError):
            words = Path(f"/proc/{pid}/cmdline").read_text().split("\0")
            module = next((word for word in words if word.startswith("broker")), "other")
            name = module.rpartition(".")[2].replace("broker", "supervisor")
            pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
            descriptors = list(Path(f"/proc/{pid}/fd").iterdir())
            values = {
                "memory_bytes": float(pages * os.sysconf("SC_PAGE_SIZE")),
                "descriptors": float(len(descriptors)),
                "threads": float(len(list(Path(f"/proc/{pid}/task").iterdir()))),
            }
            for what, value in values.items():
                found[f"{name}_{what}"] = found.get(f"{name}_{what}", 0) + value
            folder = folder or _folder(descriptors)
    return found | (_files(folder) if folder is not None else {})


def _folder(descriptors: list[Path]) -> Path | None:
    """Return the folder of the log that a process has open."""
    for link in descriptors:
        with contextlib.suppress(OSError):
            path = link.readlink()
            if path.name == FILE_NAME:
                return path.parent
    return None


def _files(folder: Path) -> dict[str, float]:
    """Return the space that the log takes on the disk."""
    database = folder / FILE_NAME
    return {
        "database_bytes": _size(database),
        "wal_bytes": _size(database.with_name(FILE_NAME + "-wal")),
        "segments_bytes": sum(_size(path_of(folder, number)) for number in numbers(folder)),
    }


def _size(path: Path) -> float:
    """Return a file's space; 0 for one that has gone meanwhile."""
    try:
        return float(path.stat().st_blocks * BLOCK_BYTES)
    except OSError:
        return 0.0
