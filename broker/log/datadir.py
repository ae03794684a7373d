"""The broker's folder of data: made, checked, and held by one broker at a time."""

from __future__ import annotations

import contextlib
import fcntl
import os
import time
from pathlib import Path

from common import private_files
from common.errors import HubbubError
from common.private_files import OTHERS

LOCK_NAME = "lock"
# After a kill of the supervisor its children see the end of their input, and leave at once.
LOCK_WAIT_S = 5.0
LOCK_RETRY_S = 0.02
LOG_FILES = "hubbub*"  # Index and segments, and what SQLite keeps beside the index.


class DataUnusable(HubbubError):
    """The folder cannot be used; the message says why and what to do."""


def hold(folder: Path) -> int:
    """Make the folder and lock it; return the lock's descriptor. Raises `DataUnusable`.

    The lock belongs to the open file, which the children inherit: it is free only when the
    last process of the broker is gone, so no second writer can come while one is left.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        # Root may write everywhere; what counts is that a file can really be made here.
        probe = folder / f"probe-{os.getpid()}"
        probe.touch()
        probe.unlink()
        descriptor = os.open(folder / LOCK_NAME, os.O_RDWR | os.O_CREAT, 0o600)
    except OSError as error:
        message = (
            f"the data folder {folder} cannot be written ({error.strerror}): "
            "choose another one with --data"
        )
        raise DataUnusable(message) from error
    deadline_s = time.monotonic() + LOCK_WAIT_S
    while True:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            holder = (_noted(descriptor) or ["unknown"])[0]
            if _is_alive(holder) or time.monotonic() > deadline_s:
                os.close(descriptor)
                message = (
                    f"another broker (process {holder}) uses {folder}: "
                    "stop it or choose another folder with --data"
                )
                raise DataUnusable(message) from None
            time.sleep(LOCK_RETRY_S)
        else:
            _note_holder(descriptor)
            return descriptor


def check_private(folder: Path) -> None:
    """Raise `HubbubError` where other users of the machine could read or change the log.

    Who may look into the folder sees names; the files are their owner's alone, when they are made.
    """
    folder = folder.resolve()  # It may well be a link to another disk.
    try:
        private_files.check_folder(folder, may_be_read=True)
        if any(path.stat().st_mode & OTHERS for path in folder.glob(LOG_FILES)):
            private_files.check_folder(folder)  # Then it is the folder that must keep others out.
    except OSError as error:
        message = f"who may read the data folder {folder} cannot be seen: {error.strerror}"
        raise DataUnusable(message) from error


def _note_holder(descriptor: int, *port: int) -> None:
    """Let others know who holds the lock; on a full disk they hear that somebody does."""
    with contextlib.suppress(OSError):
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, f"{' '.join(map(str, (os.getpid(), *port)))}\n".encode(), 0)


def note_port(descriptor: int, port: int) -> None:
    """Let others know at which base port the folder is served; `descriptor` is of `hold`."""
    _note_holder(descriptor, port)


def served_port(folder: Path) -> int | None:
    """Return the base port at which a broker serves the folder now; None where none does."""
    if not is_held(folder):
        return None
    with (folder / LOCK_NAME).open("rb") as file:
        _, *port = _noted(file.fileno()) or [""]
    return int(port[0]) if port and port[0].isdigit() else None


def _noted(descriptor: int) -> list[str]:
    """Return the words in the lock: the supervisor's process, and the port once it serves."""
    return os.pread(descriptor, 32, 0).decode(errors="replace").split()


def is_held(folder: Path) -> bool:
    """Tell whether a broker uses the folder now."""
    try:
        descriptor = os.open(folder / LOCK_NAME, os.O_RDONLY)
    except OSError:
        return False
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(descriptor)
    return False


def _is_alive(process: str) -> bool:
    """Tell whether a supervisor still runs; when only its children do, waiting helps."""
    return process.isdigit() and Path(f"/proc/{process}").exists()
