"""Segments on a disk that fails: what was refused stays refused, what was kept stays kept."""

from __future__ import annotations

import contextlib
import errno
import os
import resource
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import pytest

from broker.log import segments
from broker.log.index import connect
from broker.log.interface import LogFailed, LogUnusable
from broker.log.records import Contents
from broker.log.segments import (
    OFFSET_BITS,
    OFFSET_MASK,
    HighWater,
    InDoubt,
    SegmentWriter,
    numbers,
    path_of,
)
from broker.log.writer import BUSY_MS, FILE_NAME
from common.wire import encode
from tests.unit.logs import SqliteStore, kept_texts, proposal, said
from tests.unit.test_segments import after_crash, crashed, small_segments, store

__all__ = ["small_segments", "store"]  # Fixtures.


def failure(code: int) -> Callable[..., int]:
    """Return a system call that fails."""

    def fail(*_: object) -> int:
        raise OSError(code, os.strerror(code))

    return fail


def say(store: SqliteStore, text: str) -> None:
    """Append a text to room r."""
    assert store._log is not None
    store._log.append([proposal("r", said(text))])


def test_a_refused_record_leaves_nothing_behind(tmp_path: Path, store: SqliteStore) -> None:
    """After a failed fsync the file ends where it did, so nothing in it can pass for a record."""
    log = store.open()
    say(store, "a")
    end = log._segments.end & OFFSET_MASK
    store.fill()
    with pytest.raises(LogFailed):
        say(store, "refused")
    assert path_of(tmp_path, 1).stat().st_size == end
    store.free()
    say(store, "b")
    assert ["a", "b"] == after_crash(crashed(tmp_path, tmp_path / "crashed"))[1]


def test_a_record_that_cannot_be_taken_back_is_nobodys_to_tell(
    tmp_path: Path, store: SqliteStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whole in the file, not surely on the disk: no answer is right, so there is none."""
    store.open()
    say(store, "a")
    store.fill()
    with monkeypatch.context() as broken:
        broken.setattr(os, "ftruncate", failure(errno.EROFS))
        with pytest.raises(InDoubt, match=r"nobody is told.*|Read-only"):
            say(store, "doubtful")
        folder = crashed(tmp_path, tmp_path / "crashed")
    assert ["a", "doubtful"] == after_crash(folder)[1]


def test_a_record_cut_short_needs_no_doubt(
    tmp_path: Path, store: SqliteStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What was not written whole never counts, taken back or not."""
    store.open()
    say(store, "a")
    with monkeypatch.context() as broken:
        broken.setattr(os, "pwrite", failure(errno.EIO))
        broken.setattr(os, "ftruncate", failure(errno.EIO))
        with pytest.raises(LogFailed, match="Input/output error"):
            say(store, "refused")
    assert ["a"] == after_crash(crashed(tmp_path, tmp_path / "crashed"))[1]


def test_a_start_writes_the_last_record_again(
    tmp_path: Path, store: SqliteStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It may be in memory alone, and held for written: only writing brings it to the disk."""
    log = store.open()
    say(store, "a")
    start = log._segments.end & OFFSET_MASK
    say(store, "b")
    folder = crashed(tmp_path, tmp_path / "crashed")
    record = path_of(folder, 1).read_bytes()[start : log._segments.end & OFFSET_MASK]
    written: list[tuple[bytes, int]] = []
    synced: list[int] = []
    pwrite, fsync = os.pwrite, os.fsync

    def note_write(file: int, data: bytes, offset: int) -> int:
        written.append((bytes(data), offset))
        return pwrite(file, data, offset)

    def note_sync(file: int) -> None:
        synced.append(len(written))
        fsync(file)

    monkeypatch.setattr(os, "pwrite", note_write)
    monkeypatch.setattr(os, "fsync", note_sync)
    assert ["a", "b"] == after_crash(folder)[1]
    assert (record, start) in written
    assert synced[0] == written.index((record, start)) + 1, "it is synced before anything else"


def test_a_start_whose_disk_fails_serves_nothing(
    tmp_path: Path, store: SqliteStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What cannot be brought to the disk is not shown to readers either."""
    store.open()
    say(store, "a")
    folder = crashed(tmp_path, tmp_path / "crashed")
    monkeypatch.setattr(os, "fsync", failure(errno.EIO))
    with pytest.raises(LogUnusable, match="Input/output error"):
        after_crash(folder)


def test_records_leave_the_index_some_space_on_a_full_disk(
    store: SqliteStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Much is taken ahead where there is any, then little; a start needs what lies behind."""
    asked: list[int] = []
    little_bytes = segments.SPARE_BYTES + 4_096

    def allocate(_file: int, _offset: int, size_bytes: int) -> None:
        asked.append(size_bytes)
        if size_bytes > little_bytes:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    log = store.open()
    monkeypatch.setattr(os, "posix_fallocate", allocate)
    say(store, "a")
    say(store, "b")
    assert [size > little_bytes for size in asked] == [True, False] * 2
    little_bytes = 0
    with pytest.raises(LogFailed, match="No space left"):
        say(store, "c")
    writer = log._segments
    assert writer._space - (writer.end & segments.OFFSET_MASK) >= segments.SPARE_BYTES
    assert ["a", "b"] == kept_texts(store.reader(), "r")


@pytest.mark.usefixtures("small_segments")
def test_a_segment_that_could_not_be_begun_is_not_there(
    tmp_path: Path, store: SqliteStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An empty one that follows would make a record that a crash cuts short look damaged."""
    store.open()
    say(store, "a" * 600)
    with monkeypatch.context() as failing:
        failing.setattr(os, "fsync", failure(errno.EIO))
        with pytest.raises(LogFailed):
            say(store, "b" * 600)
    assert numbers(tmp_path) == [1]


def killed_in_a_new_segment(tmp_path: Path, store: SqliteStore, left: bytes) -> Path:
    """Return a log whose segment 2 was begun, and in which only this much was written."""
    store.open()
    say(store, "a" * 500)
    with pytest.MonkeyPatch.context() as full:
        full.setattr(os, "posix_fallocate", failure(errno.ENOSPC))
        with pytest.raises(LogFailed, match="No space left"):
            say(store, "b" * 500)
    folder = crashed(tmp_path, tmp_path / "crashed")
    assert numbers(folder) == [1, 2]
    path_of(folder, 2).write_bytes(left)
    return folder


@pytest.mark.usefixtures("small_segments")
@pytest.mark.parametrize("left", [b"", b"HUBS torn", bytes(5_000)])
def test_a_segment_in_which_nothing_was_committed_goes_at_the_start(
    tmp_path: Path, store: SqliteStore, monkeypatch: pytest.MonkeyPatch, left: bytes
) -> None:
    """Beside the one that goes on, a record that the next kill cuts short would look damaged."""
    folder = killed_in_a_new_segment(tmp_path, store, left)
    synced: list[tuple[Path, list[int]]] = []
    fsync = os.fsync

    def note_sync(file: int) -> None:
        synced.append((Path(f"/proc/self/fd/{file}").readlink(), numbers(folder)))
        fsync(file)

    with closing(SqliteStore(folder)) as again:
        with monkeypatch.context() as watched:
            watched.setattr(os, "fsync", note_sync)
            log = again.open()
        assert (folder, [1]) in synced, "before anything is written"
        say(again, "short")
        offset = log._segments.end & OFFSET_MASK
        torn = crashed(folder, tmp_path / "torn")
        say(again, "never")
        written = path_of(folder, 1).read_bytes()
    assert [1] == numbers(torn)
    path_of(torn, 1).write_bytes(written[: offset + 40])
    assert ["a" * 500, "short"] == after_crash(torn)[1]


@pytest.mark.usefixtures("small_segments")
@pytest.mark.parametrize("is_first_whole", [True, False])
def test_a_later_segment_with_a_record_is_never_removed(
    tmp_path: Path, store: SqliteStore, *, is_first_whole: bool
) -> None:
    """What it needs may be found again: the start is refused, and says which file it is."""
    folder = killed_in_a_new_segment(tmp_path, store, b"")
    other = SegmentWriter(folder, 4 << OFFSET_BITS)
    other.append(encode(Contents([], [], {}, [])), [])
    if not is_first_whole:
        begin = other.end
        other.append(encode(Contents([], [], {}, [])), [])
        with path_of(folder, 4).open("r+b") as file:
            file.write(bytes(begin & OFFSET_MASK))
    other.close()
    with pytest.raises(LogUnusable, match=r"00000004\.segment lacks what was before"):
        after_crash(folder)
    assert [1, 2, 4] == numbers(folder)


def test_what_is_said_into_a_removed_file_is_refused(tmp_path: Path, store: SqliteStore) -> None:
    """It would end with the process: nobody may be told that it is kept."""
    store.open()
    say(store, "a")
    path_of(tmp_path, 1).unlink()
    with pytest.raises(LogFailed, match=r"hubbub-00000001\.segment was removed"):
        say(store, "b")


def test_a_removed_database_is_told_until_it_is_back(tmp_path: Path, store: SqliteStore) -> None:
    """SQLite would go on in a file without a name."""
    log = store.open()
    say(store, "a")
    (tmp_path / FILE_NAME).rename(tmp_path / "away")
    with pytest.raises(LogFailed, match=r"hubbub\.db was removed or replaced"):
        log.trim(0)
    with pytest.raises(LogFailed, match="was removed or replaced"):
        say(store, "refused")
    (tmp_path / "away").rename(tmp_path / FILE_NAME)
    say(store, "b")
    log.trim(0)
    assert ["a", "b"] == kept_texts(store.reader(), "r")


def test_a_removed_database_is_not_made_anew_by_live(tmp_path: Path, store: SqliteStore) -> None:
    """An empty one would be taken for a new log by the next start."""
    (tmp_path / FILE_NAME).unlink()
    with pytest.raises(LogUnusable, match="was removed"):
        store.open()
    assert not (tmp_path / FILE_NAME).exists()


def test_a_locked_database_does_not_stop_chat(tmp_path: Path, store: SqliteStore) -> None:
    """The index waits; it is written when the other one has let go."""
    log = store.open()
    with contextlib.closing(connect(tmp_path / FILE_NAME)) as other:
        other.execute("BEGIN EXCLUSIVE")
        say(store, "a")
        with pytest.raises(LogFailed, match="database is locked"):
            log.trim(0)
        say(store, "b")
        other.execute("ROLLBACK")
    log.trim(0)
    assert not log._waiting.rows
    assert store.database.execute("PRAGMA busy_timeout").fetchone()[0] == BUSY_MS
    assert ["a", "b"] == kept_texts(store.reader(), "r")


def test_the_memory_that_is_shared_has_its_place_on_the_disk(tmp_path: Path) -> None:
    """On a full disk the start says so; without it the first write would kill the process."""
    with closing(HighWater(tmp_path, is_writer=True)):
        assert (tmp_path / "committed").stat().st_blocks > 0


@pytest.mark.usefixtures("small_segments")
def test_a_segment_begins_though_peers_have_every_descriptor(
    store: SqliteStore, every_descriptor: Callable[[], None]
) -> None:
    """Two are held for it."""
    log = store.open()
    say(store, "a" * 600)
    every_descriptor()
    say(store, "b" * 600)
    say(store, "c" * 600)
    every_descriptor()
    say(store, "d" * 600)
    assert [4, 4] == [log._segments.segment, log.rooms()[0].head]


@pytest.fixture
def every_descriptor() -> Iterator[Callable[[], None]]:
    """Return a function that takes every descriptor that is left, until the test ends."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    taken: list[int] = []
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(soft, 512), hard))

    def take() -> None:
        with contextlib.suppress(OSError):
            while True:
                taken.append(os.dup(2))

    yield take
    for file in taken:
        os.close(file)
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
