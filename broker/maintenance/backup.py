"""`hubbub-broker backup` and `restore`: a log copied while its broker runs, and put back."""

from __future__ import annotations

import os
import shutil
import sqlite3
from contextlib import ExitStack, closing
from pathlib import Path

from broker.log import progress
from broker.log.datadir import hold
from broker.log.index import connect, meta, read_indexed
from broker.log.interface import LogUnusable
from broker.log.segments import OFFSET_BITS, OFFSET_MASK, HighWater, numbers, path_of
from broker.log.writer import FILE_NAME, SCHEMA_VERSION, schema_of
from broker.maintenance.checkup import Report, check
from common.errors import HubbubError

COPY_BYTES = 1024 * 1024
TRIES_MAX = 5
PARTIAL = ".partial"  # Of the name of a backup that is not finished.
INCOMING = "restoring"  # In the data folder, while a backup is copied there.


class BackupFailed(HubbubError):
    """There is no backup, or it was not put back; the message says why and what to do."""


def backup(folder: Path, target: Path) -> Report:
    """Copy a log to a folder that has nothing yet, and check the copy.

    The copy is the log as it was at one moment, whatever a broker writes meanwhile. It has the
    target's name only when all of it is on the disk. Raises `BackupFailed`.
    """
    if not (folder / FILE_NAME).is_file():
        raise BackupFailed(f"there is no log in {folder}")
    if target.exists() and (not target.is_dir() or any(target.iterdir())):
        raise BackupFailed(f"{target} is there already: choose a new folder")
    partial = target.with_name(target.name + PARTIAL)
    try:
        shutil.rmtree(partial, ignore_errors=True)  # Of a backup that was killed.
        partial.mkdir(parents=True, mode=0o700)
        try:
            _copy(folder, partial)
            _sync(partial)
            partial.replace(target)
            _sync(target.parent)
        except BaseException:
            shutil.rmtree(partial, ignore_errors=True)
            raise
    except (OSError, ValueError, sqlite3.Error, LogUnusable) as error:
        raise BackupFailed(f"no backup was made: {error}") from error
    return check(target)


def _copy(folder: Path, target: Path) -> None:
    """Copy until all that the copied index needs was there: retention drops segments."""
    for _ in range(TRIES_MAX):
        with ExitStack() as stack:
            files: dict[int, int] = {}
            _open_segments(folder, files, stack)  # A file that is open can be read when it is gone.
            needed, indexed = _copy_index(folder / FILE_NAME, target / FILE_NAME)
            with closing(HighWater(folder, is_writer=False)) as high_water:
                end = high_water.get()
            _open_segments(folder, files, stack)
            newer = range(indexed >> OFFSET_BITS, (end >> OFFSET_BITS) + 1)
            needed |= {segment for segment in newer if segment << OFFSET_BITS < end}
            is_whole = needed <= files.keys()
            if is_whole:
                for segment in sorted(needed):
                    limit = end & OFFSET_MASK if segment == end >> OFFSET_BITS else None
                    _copy_file(files[segment], path_of(target, segment), limit)
                with closing(HighWater(target, is_writer=True)) as mark:
                    mark.set(end)
                if _redactions(folder / FILE_NAME) == _redactions(target / FILE_NAME):
                    return  # Else a text was removed, from the one perhaps and not the other.
        for path in target.iterdir():
            path.unlink()
    if is_whole:
        raise LogUnusable("texts were removed again and again meanwhile: try again")
    missing = ", ".join(map(str, sorted(needed - files.keys())))
    raise LogUnusable(f"the log in {folder} lacks its segments {missing}")


def _redactions(path: Path) -> object:
    """Return how many texts were ever removed from a log."""
    with closing(connect(path, read_only=True)) as db:
        return meta(db, "redactions")


def _open_segments(folder: Path, files: dict[int, int], stack: ExitStack) -> None:
    for segment in numbers(folder):
        if segment not in files:
            try:
                files[segment] = os.open(path_of(folder, segment), os.O_RDONLY)
            except FileNotFoundError:
                continue
            stack.callback(os.close, files[segment])


def _copy_index(source: Path, target: Path) -> tuple[set[int], int]:
    """Let SQLite copy its file; return the segments that the copy needs, and `read_indexed`."""
    with closing(connect(source, read_only=True)) as db, closing(connect(target)) as copy:
        if schema_of(db, source) < SCHEMA_VERSION:
            raise LogUnusable(f"an older Hubbub made {source}: start the broker on it once")
        db.backup(copy)
        copy.execute("PRAGMA journal_mode = DELETE")  # One file, which needs no other.
        needed = {row[0] for row in copy.execute("SELECT id FROM segments")}
        return needed, read_indexed(copy)


def _copy_file(source: int, target: Path, limit: int | None) -> None:
    with target.open("xb") as file:
        offset = 0
        while limit is None or offset < limit:
            count = COPY_BYTES if limit is None else min(COPY_BYTES, limit - offset)
            data = os.pread(source, count, offset)
            if not data:
                break
            file.write(data)
            offset += len(data)


def _sync(folder: Path) -> None:
    """Wait until a folder and the files in it are on the disk."""
    for path in (*folder.glob("hubbub*"), *folder.glob(HighWater.NAME), folder):
        if path.is_file() or path == folder:
            descriptor = os.open(path, os.O_RDONLY)
            try:
                os.fsync(descriptor)
            finally:
                os.close(descriptor)


def restore(source: Path, folder: Path, *, is_forced: bool) -> tuple[Report, Path | None]:
    """Put a backup into a data folder; return what is in it, and where the old log is now.

    is_forced: move a log that is there out of the way, into a folder beside it.

    The log gets a new epoch when the broker starts, so that clients start over: it has no note of
    how far it had got (`broker.log.progress`). Raises `BackupFailed`, `DataUnusable`.
    """
    report = check(source)
    if report.is_running:
        raise BackupFailed(
            f"a broker uses {source}: make a backup of it with `hubbub-broker backup`"
        )
    if report.problems:
        raise BackupFailed(
            f"the backup {source} is not whole: `hubbub-broker check --data {source}` tells more, "
            "`hubbub-broker salvage` copies what is"
        )
    lock = hold(folder)
    try:
        return report, _restore(source, folder, is_forced=is_forced)
    except OSError as error:
        raise BackupFailed(f"nothing was restored: {error}") from error
    finally:
        os.close(lock)


def _restore(source: Path, folder: Path, *, is_forced: bool) -> Path | None:
    there = _log_files(folder)
    if there and not is_forced:
        raise BackupFailed(f"there is a log in {folder}: --force moves it out of the way")
    incoming = folder / INCOMING
    shutil.rmtree(incoming, ignore_errors=True)
    incoming.mkdir(mode=0o700)
    for path in _log_files(source):
        if path.name != progress.FILE_NAME:
            shutil.copyfile(path, incoming / path.name)
    _sync(incoming)
    aside = _move_aside(folder, there) if there else None
    # The mark first: a crash between these leaves a log that is refused, and not a shorter one.
    for path in sorted(_log_files(incoming), key=lambda path: path.name != HighWater.NAME):
        path.replace(folder / path.name)
    _sync(folder)
    incoming.rmdir()
    return aside


def _log_files(folder: Path) -> list[Path]:
    names = ("hubbub*", HighWater.NAME, progress.FILE_NAME)
    return [path for name in names for path in folder.glob(name) if path.is_file()]


def _move_aside(folder: Path, files: list[Path]) -> Path:
    number = 1
    while (aside := folder / f"replaced-{number}").exists():
        number += 1
    aside.mkdir(mode=0o700)
    for path in files:
        path.replace(aside / path.name)
    return aside
