"""Small files that are their owner's alone: read with care, made once, replaced as a whole.

Broker and client keep their keys here, so both refuse the same, in the same words. Beside
`common.certificates` the only part of `common` that touches the machine.
"""

from __future__ import annotations

import contextlib
import errno
import os
import shlex
import stat
from collections.abc import Callable, Iterator
from pathlib import Path

from common.errors import HubbubError

TRIES_MAX = 3  # A file can vanish between two looks; not for ever.
FILE_MODE = 0o600
FOLDER_MODE = 0o700
OTHERS = 0o077
OTHERS_WRITE = 0o022


class FileUnusable(HubbubError, ValueError):
    """A file or folder cannot be used, or not safely; the message says which, and what to do."""


def make_folder(folder: Path) -> None:
    """Make a folder of its owner's alone where there is none; raise `FileUnusable` or OSError."""
    folder.mkdir(mode=FOLDER_MODE, parents=True, exist_ok=True)
    check_folder(folder)


def check_folder(folder: Path, *, may_be_read: bool = False) -> None:
    """Raise `FileUnusable` where others could change what is in a folder, or look; OSError.

    may_be_read: others may look. A link is no folder.
    """
    facts = folder.lstat()
    if not stat.S_ISDIR(facts.st_mode):
        raise FileUnusable(f"{folder} is no folder: move it out of the way")
    _check(folder, facts, may_be_read=may_be_read)


def read(path: Path, bytes_max: int, *, may_be_read: bool = False) -> bytes:
    """Return a file's content; raise `FileUnusable`, FileNotFoundError or another OSError.

    bytes_max: a longer one is refused. may_be_read: it is no secret, but only its owner may
    change it.
    """
    # No link, which could lead to anybody's file; and no waiting, should there be a pipe.
    flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
    try:
        descriptor = os.open(path, flags)
    except OSError as error:
        if error.errno == errno.ELOOP:
            raise FileUnusable(f"{path} is no file but a link: move it out of the way") from error
        raise
    try:
        facts = os.fstat(descriptor)
        if not stat.S_ISREG(facts.st_mode):
            raise FileUnusable(f"{path} is no file: move it out of the way")
        _check(path, facts, may_be_read=may_be_read)
        with open(descriptor, "rb", closefd=False) as file:
            content = file.read(bytes_max + 1)
    finally:
        os.close(descriptor)
    if len(content) > bytes_max:
        raise FileUnusable(f"{path} has more than {bytes_max} bytes: remove what is not needed")
    return content


def read_or_make(path: Path, bytes_max: int, content: Callable[[], bytes]) -> bytes:
    """Return a secret file's content, made up by `content` where there is none.

    Two processes that start at once get the same: one of them makes the file, and the other reads
    what the first one made. Raises `FileUnusable` or OSError.
    """
    for _ in range(TRIES_MAX):
        with contextlib.suppress(FileNotFoundError):
            return read(path, bytes_max)
        with contextlib.suppress(FileExistsError):
            make(path, content())
    raise FileUnusable(f"{path} comes and goes: find out who removes it")


def make(path: Path, content: bytes) -> None:
    """Make a file that was not there, whole and on the disk; raise FileExistsError or OSError."""
    with _aside(path, content) as aside:
        os.link(aside, path)


def replace(path: Path, content: bytes) -> None:
    """Put a file in the place of whatever was there, whole and on the disk; raise OSError."""
    with _aside(path, content) as aside:
        aside.replace(path)


@contextlib.contextmanager
def _aside(path: Path, content: bytes) -> Iterator[Path]:
    """Give a new file beside `path`, its owner's alone, to be put in place; gone afterwards."""
    aside = path.with_name(f"{path.name}.{os.getpid()}.{os.urandom(4).hex()}")
    descriptor = os.open(aside, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, FILE_MODE)
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(descriptor)
        yield aside
    finally:
        aside.unlink(missing_ok=True)
    folder = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


def _check(path: Path, facts: os.stat_result, *, may_be_read: bool) -> None:
    """Raise `FileUnusable` where it is somebody else's, or open to others."""
    user, mode, name = os.geteuid(), stat.S_IMODE(facts.st_mode), shlex.quote(str(path))
    is_folder = stat.S_ISDIR(facts.st_mode)
    if facts.st_uid != user:
        remedy = f"chown {user} {name}, or "
        remedy += "choose a folder of your own" if is_folder else "move it out of the way"
        raise FileUnusable(f"{path} belongs to somebody else (user {facts.st_uid}); run: {remedy}")
    if not mode & (OTHERS_WRITE if may_be_read else OTHERS):
        return
    if may_be_read:
        remedy = f"chmod go-w {name}; look whether all in it is yours"
    elif is_folder:
        remedy = f"chmod {FOLDER_MODE:o} {name}"
    else:
        remedy = f"chmod {FILE_MODE:o} {name}; if somebody may have read it, remove it instead"
    raise FileUnusable(f"{path} is open to others (mode {mode:o}); run: {remedy}")
