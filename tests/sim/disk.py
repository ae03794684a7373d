"""The folder of the log, on a disk that fails and forgets.

The files are real, so that what reads them is the shipped code. Beside them the disk keeps what
it would still have after a power cut: a write is durable only once a sync of its file succeeded,
and a new file once its folder was synced. A cut loses all that was not, or keeps it, or part of
it. When a sync fails, the pages count as clean in some cases, as on Linux: a later sync does not
write them. https://wiki.postgresql.org/wiki/Fsync_Errors

`broker.log.segments` is handed this object in place of `os`, and `broker.log.index` one in place of
`sqlite3`; nothing else of the product is changed.
"""

from __future__ import annotations

import errno
import os
import random
import sqlite3
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tests.sim.trace import Trace

DATABASE = "hubbub.db"
ERRORS = (errno.EIO, errno.ENOSPC, errno.EDQUOT)
WAL_HEAD_BYTES = 32  # https://sqlite.org/fileformat2.html#walformat
Range = tuple[int, int]  # Offset and end.


class Killed(BaseException):
    """The process ends in the middle of what it does."""


class File:
    """One segment: what of it would survive a power cut, and what might."""

    __slots__ = ("dirty", "durable", "is_named", "limbo")

    def __init__(self, durable: bytes = b"", *, is_named: bool = False) -> None:
        self.durable = bytearray(durable)
        self.dirty: list[Range] = []  # Written since the last sync.
        self.limbo: list[Range] = []  # Written before a sync that failed, and not again.
        self.is_named = is_named  # Would the folder still know it?


class Disk:
    """Stands for `os` in `broker.log.segments`, and for the power."""

    def __init__(self, folder: Path, chance: random.Random, trace: Trace) -> None:
        self.folder = folder
        self.files: dict[str, File] = {}
        self.fault_rate = 0.0  # Of writes and syncs,
        self.read_fault_rate = 0.0  # of reads,
        self.database_fault_rate = 0.0  # and of SQLite's statements.
        self.is_full = False
        self.failures: Counter[str] = Counter()
        self.meanwhile: Callable[[], None] = lambda: None
        self._chance = chance
        self._trace = trace
        self._names: dict[int, str] = {}  # Of the open files; the folder's is empty.
        self._connections: list[Connection] = []
        self._wal_synced_bytes = 0
        self.dies_in = 0  # The process ends in so many writes and syncs; 0: it does not.
        self.owner = ""  # The process that opens files now: its kill closes them.
        self._owners: dict[int, str] = {}

    def __getattr__(self, name: str) -> Any:  # noqa: ANN401 - constants and whatever cannot fail
        return getattr(os, name)

    # --- in place of os -----------------------------------------------------
    def open(self, path: Path, flags: int, mode: int = 0o600) -> int:
        """Open a segment, or the folder."""
        name = "" if path == self.folder else path.name
        is_new = name and not path.exists()
        if flags & os.O_CREAT:
            self._may_fail("open")
        descriptor = os.open(path, flags, mode)
        self._names[descriptor] = name
        self._owners[descriptor] = self.owner
        if is_new or (name and name not in self.files):
            self.files[name] = File()
        return descriptor

    def dup(self, descriptor: int) -> int:
        """Hold another descriptor of the same file."""
        other = os.dup(descriptor)
        self._names[other] = self._names[descriptor]
        self._owners[other] = self.owner
        return other

    def close(self, descriptor: int) -> None:
        """Close a file."""
        del self._names[descriptor], self._owners[descriptor]
        os.close(descriptor)

    def pwrite(self, descriptor: int, data: bytes | memoryview, offset: int) -> int:
        """Write; perhaps less than asked, perhaps part of it and then fail."""
        wanted_bytes = len(data)
        will_fail = self._is_faulty("pwrite")
        if wanted_bytes > 1 and (will_fail or self._is_faulty("short write")):
            wanted_bytes = self._chance.randrange(1, wanted_bytes)
        written = os.pwrite(descriptor, data[:wanted_bytes], offset)
        self.files[self._names[descriptor]].dirty.append((offset, offset + written))
        self.may_die()
        if will_fail:
            self._fail("pwrite")
        return written

    def pread(self, descriptor: int, size_bytes: int, offset: int) -> bytes:
        """Read."""
        if self.read_fault_rate and self._chance.random() < self.read_fault_rate:
            self._fail("pread", errno.EIO)
        return os.pread(descriptor, size_bytes, offset)

    def ftruncate(self, descriptor: int, size_bytes: int) -> None:
        """Cut a file, or make it longer."""
        self._may_fail("ftruncate")
        before = os.fstat(descriptor).st_size
        os.ftruncate(descriptor, size_bytes)
        if before != size_bytes:
            self.files[self._names[descriptor]].dirty.append((size_bytes, size_bytes))

    def posix_fallocate(self, descriptor: int, offset: int, size_bytes: int) -> None:
        """Take space."""
        if self.is_full:
            self._fail("posix_fallocate", errno.ENOSPC)
        self._may_fail("posix_fallocate")
        os.posix_fallocate(descriptor, offset, size_bytes)
        if descriptor in self._names:  # The other is what all processes share: in memory only.
            self.files[self._names[descriptor]].dirty.append((offset + size_bytes,) * 2)

    def fdatasync(self, descriptor: int) -> None:
        """Make a file durable."""
        name = self._names[descriptor]
        self.may_die()
        if not name:
            self._may_fail("fsync of the folder")
            for file in self.files.values():
                file.is_named = True
            return
        file = self.files[name]
        if self.owner == "live" and self._chance.random() < 0.5:
            self.meanwhile()  # Another process may look at the files before they are durable.
            self.owner = "live"
        if self._is_faulty("fdatasync"):
            if self._chance.random() < 0.5:
                file.limbo += file.dirty
                file.dirty = []
            self._fail("fdatasync")
        self._keep(file, descriptor, file.dirty)
        file.dirty = []

    fsync = fdatasync

    def _keep(self, file: File, descriptor: int, ranges: list[Range]) -> None:
        size_bytes = os.fstat(descriptor).st_size
        durable = file.durable
        if len(durable) > size_bytes:
            del durable[size_bytes:]
        elif len(durable) < size_bytes:
            durable.extend(bytes(size_bytes - len(durable)))
        for start, end in ranges:
            if end > start:
                durable[start:end] = os.pread(descriptor, end - start, start)

    # --- faults -------------------------------------------------------------
    def _is_faulty(self, what: str) -> bool:
        rate = self.fault_rate
        is_faulty = bool(rate) and self._chance.random() < rate
        if is_faulty:
            self.failures[what] += 1
        return is_faulty

    def may_die(self) -> None:
        """End the process here, if it is time."""
        if self.dies_in:
            self.dies_in -= 1
            if not self.dies_in:
                raise Killed

    def _may_fail(self, what: str) -> None:
        if self._is_faulty(what):
            self._fail(what)

    def _fail(self, what: str, code: int | None = None) -> None:
        code = code or self._chance.choice(ERRORS)
        self.failures["told"] += 1
        self._trace.note("disk", f"{what} fails: {os.strerror(code)}")
        raise OSError(code, os.strerror(code))

    def heal(self) -> None:
        """End all faults."""
        self.fault_rate = self.read_fault_rate = self.database_fault_rate = 0.0
        self.is_full = False

    def may_hold(self, name: str, offset: int, start: bytes) -> bool:
        """Tell whether a power cut or a kill might leave these bytes at this place of a file."""
        file = self.files.get(name)
        path = self.folder / name
        if file is None or not path.exists():
            return False
        live = path.read_bytes()[offset : offset + len(start)]
        return live == start or any(begin <= offset < end for begin, end in file.limbo + file.dirty)

    # --- SQLite -------------------------------------------------------------
    def connect(self, file: str, **options: Any) -> sqlite3.Connection:  # noqa: ANN401 - handed on
        """Stand for `sqlite3.connect`."""
        connection = sqlite3.connect(file, factory=Connection, **options)
        connection.disk = self
        connection.owner = self.owner
        connection.is_writer = "mode=ro" not in file
        self._connections = [each for each in self._connections if not each.is_closed]
        self._connections.append(connection)
        return connection

    def database_fails(self, statement: str) -> bool:
        """Tell whether a statement shall fail."""
        if self.database_fault_rate and self._chance.random() < self.database_fault_rate:
            self.failures["told"] += 1
            self.failures["SQLite"] += 1
            self._trace.note("disk", f"SQLite fails at {statement.split(maxsplit=1)[0]}")
            return True
        return False

    def wal_synced(self) -> None:
        """Note that SQLite made durable what is in its write-ahead log."""
        wal = self.folder / f"{DATABASE}-wal"
        self._wal_synced_bytes = wal.stat().st_size if wal.exists() else 0

    # --- the end of processes and of power ----------------------------------
    def kill(self, owner: str) -> None:
        """Close what a killed process had open; what it wrote stays in the kernel's memory."""
        for connection in self._connections:
            if connection.owner == owner and not connection.is_closed:
                connection.close()
        for descriptor, name in list(self._owners.items()):
            if name == owner:
                self.close(descriptor)
        for file in self.files.values():  # Whoever reads a page again may have it written again.
            file.dirty += file.limbo
            file.limbo = []

    def cut_power(self, owners: tuple[str, ...]) -> None:
        """Kill these processes, and lose or tear what was not durable."""
        database, wal = self.folder / DATABASE, self.folder / f"{DATABASE}-wal"
        database_bytes = database.read_bytes()
        wal_bytes = wal.read_bytes() if wal.exists() else b""
        for owner in owners:
            self.kill(owner)
        for name, file in list(self.files.items()):
            self._tear(self.folder / name, file)
        self.files = {name: file for name, file in self.files.items() if file.is_named}
        synced_bytes = self._wal_synced_bytes if self._wal_synced_bytes <= len(wal_bytes) else 0
        kept_bytes = self._chance.randint(synced_bytes, len(wal_bytes))
        database.write_bytes(database_bytes)
        (self.folder / f"{DATABASE}-shm").unlink(missing_ok=True)
        wal.unlink(missing_ok=True)
        if kept_bytes > WAL_HEAD_BYTES:
            wal.write_bytes(wal_bytes[:kept_bytes])
        self.wal_synced()  # What outlived one cut outlives the next.
        committed = self.folder / "committed"
        if committed.exists():
            # Never synced: what was last set, or nothing, or space that was taken and not written.
            content = self._chance.choice([committed.read_bytes(), b"", bytes(3), bytes(8)])
            committed.write_bytes(content)

    def _tear(self, path: Path, file: File) -> None:
        if not path.exists():
            return
        chance = self._chance
        fate = chance.choice(["lost", "torn", "torn", "kept"])
        live, kept = path.read_bytes(), file.durable
        if not file.is_named:
            if fate == "lost":
                path.unlink()
                return
            file.is_named = True
        for start, end in file.dirty + file.limbo:
            if fate == "lost" or (fate == "torn" and chance.random() < 0.3):
                continue
            if fate == "torn":
                middle = chance.randint(start, end)
                start, end = chance.choice([(start, middle), (middle, end), (start, end)])  # noqa: PLW2901
            end = min(end, len(live))  # noqa: PLW2901 - a later cut may have made it shorter
            if len(kept) < end:
                kept.extend(bytes(end - len(kept)))
            kept[start:end] = live[start:end]
        file.dirty, file.limbo = [], []
        path.write_bytes(kept)

    def adopt(self) -> None:
        """Take the folder as it is now for durable: an operator put it there."""
        self.wal_synced()
        self.files = {
            path.name: File(path.read_bytes(), is_named=True)
            for path in sorted(self.folder.glob("*.segment"))
        }


class Connection(sqlite3.Connection):
    """A connection whose statements fail when the disk says so."""

    disk: Disk
    owner = ""
    is_closed = False
    is_writer = False
    is_full_sync = False

    def execute(self, statement: str, *rest: Any) -> sqlite3.Cursor:  # noqa: ANN401
        """Carry out a statement, or fail."""
        if hasattr(self, "disk") and self.disk.database_fault_rate:
            self._may_fail(statement)
        is_durable = self.is_full_sync and statement == "COMMIT"
        if is_durable:
            self.disk.may_die()  # Before it is written,
        found = super().execute(statement, *rest)
        if statement.startswith("PRAGMA synchronous"):
            self.is_full_sync = statement.endswith("FULL")
        elif is_durable or statement.startswith("PRAGMA wal_checkpoint"):
            self.disk.wal_synced()
            self.disk.may_die()  # or after.
        return found

    def executemany(self, statement: str, *rest: Any) -> sqlite3.Cursor:  # noqa: ANN401
        """Carry out a statement many times, or fail."""
        if self.disk.database_fault_rate:
            self._may_fail(statement)
        return super().executemany(statement, *rest)

    def _may_fail(self, statement: str) -> None:
        is_end = statement == "ROLLBACK" or (statement == "COMMIT" and not self.is_writer)
        if is_end or not self.disk.database_fails(statement):
            return
        if statement == "COMMIT" and self.disk.failures["SQLite"] % 2:
            super().execute("ROLLBACK")  # As SQLite does by itself in some cases, not in all.
        message = "database is locked" if statement.startswith("BEGIN") else "disk I/O error"
        raise sqlite3.OperationalError(message)

    def close(self) -> None:
        """Close."""
        self.is_closed = True
        super().close()
