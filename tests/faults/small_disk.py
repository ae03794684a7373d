"""A disk of some megabytes that a test can fill, free, and make read-only: a tmpfs mount."""

from __future__ import annotations

import contextlib
import errno
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

from tests.needs import need, need_program, need_root
from tests.waiting import DEADLINE_S, eventually

BALLAST_NAME = "ballast"
CHUNK_BYTES = 64 * 1024


class SmallDisk:
    """The mounted folder. Whatever a broker keeps lies in `data`."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.data = root / "data"
        self._ballast = root / BALLAST_NAME

    def fill(self) -> None:
        """Take all space that is left, to the last byte."""
        with self._ballast.open("ab", buffering=0) as ballast:
            size_bytes = CHUNK_BYTES
            while size_bytes:
                try:
                    ballast.write(bytes(size_bytes))
                except OSError as error:
                    if error.errno != errno.ENOSPC:
                        raise
                    size_bytes //= 2

    def free(self) -> None:
        """Make room again."""
        self._ballast.unlink(missing_ok=True)

    def remount(self, option: str) -> None:
        """Make it read-only ("ro") or writable ("rw"); nobody may have a file open to write."""
        subprocess.run(
            ["mount", "-o", f"remount,{option}", str(self.root)], check=True, timeout=DEADLINE_S
        )


@contextlib.contextmanager
def small_disk(folder: Path, size_mib: int) -> Iterator[SmallDisk]:
    """Mount a small disk in a new folder, and unmount it whatever happens."""
    need_root()
    need_program("mount")
    root = folder / "disk"
    root.mkdir()
    options = f"size={size_mib}m,mode=0700"
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", options, "hubbub-test", str(root)],
        capture_output=True,
        text=True,
        check=False,
        timeout=DEADLINE_S,
    )
    need(mounted.returncode == 0, f"a tmpfs mount ({mounted.stderr.strip()})")
    try:
        yield SmallDisk(root)
    finally:
        with contextlib.suppress(AssertionError):
            eventually(lambda: _unmount(root), "the disk to be free of users", deadline_s=10.0)
        if os.path.ismount(root):
            subprocess.run(["umount", "--lazy", str(root)], check=True, timeout=DEADLINE_S)
    assert not os.path.ismount(root)


def _unmount(root: Path) -> bool:
    unmounted = subprocess.run(
        ["umount", str(root)], capture_output=True, check=False, timeout=DEADLINE_S
    )
    return unmounted.returncode == 0
