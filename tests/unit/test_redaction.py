"""A text that is removed: gone from every file, whenever the process ends, and all else stays."""

from __future__ import annotations

import errno
import os
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from zlib import crc32

import msgspec
import pytest

from broker.log import index as log_index
from broker.log import segments
from broker.log.datadir import hold
from broker.log.interface import LogFailed
from broker.log.reader import SqliteReader
from broker.log.records import UNCHECKED
from broker.log.redaction import check_bytes
from broker.log.segments import OFFSET_MASK, path_of
from broker.maintenance import backup as backup_module
from broker.maintenance import checkup
from broker.maintenance.backup import BackupFailed, backup
from broker.maintenance.checkup import check
from broker.maintenance.export import export
from broker.maintenance.salvage import salvage
from common.wire import Kind, Mode, Post
from tests.unit.logs import SqliteStore, kept_texts, proposal, said, texts_of
from tests.unit.test_segments import crashed, small_segments
from tests.unit.test_upgrade import put, read

__all__ = ["small_segments"]  # A fixture.

SECRET = "the s\u00e9cret that slipped out"
SEGMENT = "hubbub-00000001.segment"
GONE = "\0" * len(SECRET.encode())


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Return the folder of a log."""
    (tmp_path / "log").mkdir()
    return tmp_path / "log"


@pytest.fixture
def store(folder: Path) -> Iterator[SqliteStore]:
    """Return a new log."""
    with closing(SqliteStore(folder, is_quick=True)) as made:
        yield made


def files_with(folder: Path, text: str) -> list[str]:
    """Return the names of the files of a log that have a text's bytes."""
    wanted = text.encode()
    return sorted(p.name for p in folder.iterdir() if p.is_file() and wanted in p.read_bytes())


def assert_gone(store: SqliteStore, folder: Path, texts: list[str], text: str = SECRET) -> None:
    """See that nothing has the text, that room r has these, and that the log is whole."""
    assert texts == kept_texts(store.reader(), "r")
    assert [] == files_with(folder, text)
    assert [] == check(folder).problems
    store.close()
    assert [] == files_with(folder, text)
    assert [] == check(folder).problems
    store.open()
    assert texts == kept_texts(store.reader(), "r")


@pytest.mark.parametrize("is_indexed", [True, False])
def test_a_text_of_several_in_a_post(store: SqliteStore, folder: Path, *, is_indexed: bool) -> None:
    """Known to the index, or in the tail alone; the others in the post and the batch stay."""
    log = store.open()
    log.append([proposal("q", said("x")), proposal("r", said("a", SECRET, "b"), said(SECRET))])
    log.append([proposal("r", said("c"))])
    if is_indexed:
        log.trim(0)
    reader = store.reader()
    assert ["a", SECRET, "b", SECRET, "c"] == kept_texts(reader, "r")
    log.redact("r", 2)
    assert ["a", GONE, "b", SECRET, "c"] == kept_texts(reader, "r")
    log.redact("r", 4)
    assert ["a", GONE, "b", GONE, "c"] == kept_texts(reader, "r")
    assert_gone(store, folder, ["a", GONE, "b", GONE, "c"])


def test_a_topic_leaves_records_and_index(store: SqliteStore, folder: Path) -> None:
    """A record has it twice, and the index has it for the room; a replay does not bring it back."""
    log = store.open()
    log.append([proposal("r", Post(1, "ann", Kind.TOPIC, [SECRET]), topic=SECRET)])
    log.redact("r", 1)
    assert_gone(store, folder, [GONE])
    store.close()
    for path in (*folder.glob("hubbub.db*"), folder / "progress"):
        path.unlink()
    with closing(SqliteStore(folder)) as again:
        assert [""] == [room.topic for room in again.open().rooms()]
        assert [GONE] == kept_texts(again.reader(), "r")


@pytest.mark.usefixtures("small_segments")
@pytest.mark.parametrize("is_emptied", [True, False])
def test_a_batch_that_was_moved_into_the_index(
    store: SqliteStore, folder: Path, monkeypatch: pytest.MonkeyPatch, *, is_emptied: bool
) -> None:
    """Its row, its old copy in a segment that is still there, free pages and write-ahead log."""
    log = store.open(retain_messages=1)
    log.append([proposal("s", said("x" * 800)), proposal("r", said(SECRET))])
    log.append([proposal("s", said("y" * 900))])
    log.append([proposal("s", said("z" * 900))])
    with monkeypatch.context() as lingering:
        lingering.setattr(log._compaction, "_remove_empty", lambda _growing: None)
        log.trim(0)
        log.trim(0)
    (body,) = store.database.execute("SELECT max(length(body)) FROM batches").fetchone()
    assert body
    if is_emptied:
        log.trim(0)
    assert path_of(folder, 1).exists() is not is_emptied
    assert files_with(folder, SECRET)
    log.redact("r", 1)
    assert_gone(store, folder, [GONE])


@pytest.mark.parametrize("schema", [1, 2, 3, 4])
def test_a_text_of_an_old_log(folder: Path, schema: int) -> None:
    """In a row of schema 1 and 2, in a record of schema 3 and 4."""
    put(schema, folder)
    with closing(SqliteStore(folder)) as store:
        log = store.open()
        log.redact("lobby", 7)
        assert [(6, "six"), (7, "\0" * 5), (8, "eight")] == read(store, "lobby")[-3:]
        log.redact("lobby", 5)
        assert "" == {room.name: room.topic for room in log.rooms()}["lobby"]
        log.redact("dev", 40)
    assert [] == files_with(folder, "seven") + files_with(folder, "Welcome")
    assert [] == files_with(folder, "line 40")
    assert [] == check(folder).problems
    assert (48, []) == salvage(folder, folder.parent / "new", pytest.fail)


def test_another_process_sees_it_at_once(store: SqliteStore) -> None:
    """One that has read the text before."""
    log = store.open()
    log.append([proposal("r", said(SECRET))])
    program = (
        "import sys\n"
        "from pathlib import Path\n"
        "from broker.log.reader import SqliteReader\n"
        "from tests.unit.logs import kept_texts\n"
        "reader = SqliteReader(Path(sys.argv[1]))\n"
        "for _ in sys.stdin:\n"
        "    print(ascii(kept_texts(reader, 'r')), flush=True)\n"
    )
    command = [sys.executable, "-c", program, str(store.path)]
    with subprocess.Popen(command, stdin=-1, stdout=-1, text=True) as other:
        assert other.stdin is not None
        assert other.stdout is not None
        said_by_other = []
        for _ in range(2):
            other.stdin.write("\n")
            other.stdin.flush()
            said_by_other.append(other.stdout.readline().strip())
            log.redact("r", 1)
        other.stdin.close()
    assert [ascii([SECRET]), ascii([GONE])] == said_by_other


class _Killed(BaseException):
    """The process ends here."""


class _Fate:
    """Ends the process at one of its writes, half of it done."""

    def __init__(self, step: int) -> None:
        self._left = step

    def tick(self) -> None:
        """Count a write, or end."""
        self._left -= 1
        if self._left < 0:
            raise _Killed

    def pwrite(self, file: int, data: bytes, offset: int) -> int:
        """Write all of it; at the end, half of it."""
        try:
            self.tick()
        except _Killed:
            os.pwrite(file, bytes(data[: len(data) // 2]), offset)
            raise
        return os.pwrite(file, data, offset)

    def fsync(self, file: int) -> None:
        """Wait for the disk, or end before it is there."""
        self.tick()
        os.fsync(file)

    def __getattr__(self, name: str) -> object:
        return getattr(os, name)


class _Dying:
    """A connection whose process may end before each statement that writes."""

    def __init__(self, real: sqlite3.Connection, fate: _Fate) -> None:
        self._real = real
        self._fate = fate

    def execute(self, *given: object) -> object:
        """Carry a statement out, or end."""
        if not str(given[0]).startswith("SELECT"):
            self._fate.tick()
        return self._real.execute(*given)  # type: ignore[arg-type]

    def __getattr__(self, name: str) -> object:
        return getattr(self._real, name)


def killed_at(step: int, store: SqliteStore, monkeypatch: pytest.MonkeyPatch) -> bool:
    """Remove entry 2 in a process that ends at a write; tell whether it ended."""
    fate, real = _Fate(step), store.database
    with monkeypatch.context() as dying:
        dying.setattr(segments, "os", fate)
        dying.setattr(store.opened, "_db", _Dying(real, fate))
        try:
            store.opened.redact("r", 2)
        except _Killed:
            return True
        finally:
            if real.in_transaction:
                real.execute("ROLLBACK")
    return False


def test_a_crash_at_every_write(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The text is there for everybody, or gone for good; nothing else is ever damaged."""
    seen: list[bool] = []
    is_killed = True
    while is_killed:
        step = len(seen)
        target = tmp_path / f"log{step}"
        target.mkdir()
        with closing(SqliteStore(target)) as store:
            log = store.open()
            log.append([proposal("q", said("x")), proposal("r", said("a", SECRET))])
            log.append([proposal("r", said("b"))])
            is_killed = killed_at(step, store, monkeypatch)
            texts = kept_texts(store.reader(), "r")  # Of a history process that lives on.
            copy = crashed(target, tmp_path / f"crashed{step}")
        assert texts in (["a", SECRET, "b"], ["a", GONE, "b"])
        seen.append(GONE in texts)
        with closing(SqliteStore(copy)) as again:
            again.open().trim(0)
            assert texts == kept_texts(again.reader(), "r"), step
            assert (GONE in texts) is not bool(files_with(copy, SECRET)), step
            again.opened.append([proposal("r", said("c"))])
        assert [] == check(copy).problems, step
    assert seen == sorted(seen), "once it is gone, no later end brings it back"
    assert (False, True) == (seen[0], seen[-3])


def test_it_is_decided_on_the_disk_before_a_segment_is_touched(
    store: SqliteStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A power cut in the midst of a write would else leave a record that nothing mends."""
    log = store.open()
    log.append([proposal("r", said(SECRET))])
    log.trim(0)
    done: list[str] = []
    store.database.set_trace_callback(done.append)
    overwrite = segments.overwrite

    def note(folder: Path, position: int, data: bytes) -> None:
        done.append("overwrite")
        overwrite(folder, position, data)

    monkeypatch.setattr(log_index, "overwrite", note)
    log.redact("r", 1)
    full, commit = done.index("PRAGMA synchronous = FULL"), done.index("COMMIT")
    assert full < commit < done.index("overwrite")


@pytest.mark.parametrize("call", ["pwrite", "fsync"])
def test_a_disk_that_fails_is_told_and_tried_again(
    store: SqliteStore, folder: Path, monkeypatch: pytest.MonkeyPatch, call: str
) -> None:
    """Nobody is shown the text, though its file still has it; the next trim that can removes it."""
    log = store.open()
    log.append([proposal("r", said(SECRET))])
    before = store.reader()

    def fail(*_: object) -> int:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    with monkeypatch.context() as failing:
        failing.setattr(os, call, fail)
        with pytest.raises(LogFailed, match="nobody is shown the text any more, but"):
            log.redact("r", 1)
        with pytest.raises(LogFailed, match=r"cannot be trimmed: .*Input/output"):
            log.trim(0)
        assert [GONE] == kept_texts(before, "r") == kept_texts(store.reader(), "r")
        assert [] == check(folder).problems
    assert [] == backup(folder, folder.parent / "copy").problems
    damaged = crashed(folder, folder.parent / "damaged")
    assert [SEGMENT] == files_with(damaged, SECRET)
    assert (1, []) == salvage(damaged, folder.parent / "new", pytest.fail)
    assert [] == files_with(folder.parent / "new", SECRET)
    log.trim(0)
    assert_gone(store, folder, [GONE])
    with closing(SqliteStore(folder.parent / "copy")) as copy:
        copy.open()
        assert_gone(copy, folder.parent / "copy", [GONE])


@pytest.mark.parametrize("place", ["head", "contents", "body"])
def test_a_damaged_record_is_refused(store: SqliteStore, folder: Path, place: str) -> None:
    """With what is wrong and what to do; nothing is changed."""
    log = store.open()
    log.append([proposal("r", said("a"))])
    start = log._segments.end & OFFSET_MASK
    log.append([proposal("r", said(SECRET))])
    log.trim(0)
    data = bytearray(path_of(folder, 1).read_bytes())
    data[{"head": start, "contents": start + 26, "body": data.index(SECRET.encode())}[place]] ^= 1
    path_of(folder, 1).write_bytes(data)
    with pytest.raises(LogFailed, match=r"damaged: .*check` tells more; nothing was removed"):
        log.redact("r", 2)
    assert data == path_of(folder, 1).read_bytes()


def test_a_text_that_imitates_records_hides_nothing(store: SqliteStore, folder: Path) -> None:
    """What looks like a head between a record's head and the text is none."""
    log = store.open()
    text = "HUBS" + "HUBR\x01\x02" * 400 + SECRET
    log.append([proposal("r", said("a", text, "b"))])
    log.redact("r", 2)
    texts = kept_texts(store.reader(), "r")
    assert_gone(store, folder, ["a", texts[1], "b"])


def test_a_file_that_was_read_before_the_index_is_read_again(
    store: SqliteStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A page that was begun before a removal tells no entries as missing."""
    log, reader = store.open(), store.reader()
    log.append([proposal("r", said(SECRET))])
    log.trim(0)
    read_body = SqliteReader._body
    calls: list[int] = []

    def late(self: SqliteReader, *given: object) -> bytes:
        if not calls:
            log.redact("r", 1)
        calls.append(1)
        return read_body(self, *given)  # type: ignore[arg-type]

    monkeypatch.setattr(SqliteReader, "_body", late)
    (body,) = reader.read("r", Mode.AFTER, 0, 9).batches
    assert [GONE] == texts_of(body)
    assert 2 == len(calls)


def test_what_sqlite_gives_up_is_overwritten(store: SqliteStore) -> None:
    """Whatever SQLite was built with."""
    store.open()
    assert (1,) == store.database.execute("PRAGMA secure_delete").fetchone()


def test_a_backup_made_meanwhile_is_of_one_moment(
    store: SqliteStore, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its index must not tell of the text, and its segment of NULs, or the other way round."""
    log = store.open()
    log.append([proposal("r", said(*[SECRET] * 10))])
    seqs = iter(range(1, 11))
    copy_file = backup_module._copy_file
    removals_max = 1

    def copy(source: int, target: Path, limit: int | None) -> None:
        seq = next(seqs)
        if seq <= removals_max:
            log.redact("r", seq)
        copy_file(source, target, limit)

    monkeypatch.setattr(backup_module, "_copy_file", copy)
    assert [] == backup(folder, tmp_path / "copy").problems
    with closing(SqliteStore(tmp_path / "copy")) as made:
        made.open()
        assert [GONE, *[SECRET] * 9] == kept_texts(made.reader(), "r")
    removals_max = 10
    with pytest.raises(BackupFailed, match="texts were removed again and again meanwhile"):
        backup(folder, tmp_path / "another")
    assert not (tmp_path / "another").exists()


def test_a_check_meanwhile_looks_again(
    store: SqliteStore, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What was removed under its eyes is no damage."""
    log = store.open()
    log.append([proposal("r", said(SECRET, "b"))])
    log.trim(0)
    looks: list[int] = []
    look = checkup._Checkup._look_at_rooms

    def late(self: checkup._Checkup, db: sqlite3.Connection) -> None:
        looks.append(1)
        if len(looks) == 1:
            log.redact("r", 1)
        look(self, db)

    monkeypatch.setattr(checkup._Checkup, "_look_at_rooms", late)
    lock = hold(folder)
    try:
        report = check(folder)
    finally:
        os.close(lock)
    assert (True, []) == (report.is_running, report.problems)
    assert 2 == len(looks)


def test_a_check_sum_has_the_size_of_the_one_before() -> None:
    """Whatever it is: MessagePack's integers vary in size, and a record must not."""
    for old in (5, 200, 60_000, 4_000_000_000):
        size_bytes = len(msgspec.msgpack.encode(old))
        for new in (0, 127, 128, 255, 256, 65_535, 65_536, 2**32 - 1):
            packed = check_bytes(new, size_bytes)
            assert size_bytes == len(packed)
            read_back = msgspec.msgpack.decode(packed)
            assert read_back in (new, UNCHECKED)
            if len(msgspec.msgpack.encode(new)) <= size_bytes:
                assert new == read_back


def test_a_check_sum_that_does_not_fit_is_left_to_the_index(
    store: SqliteStore, folder: Path
) -> None:
    """A body whose CRC-32 was a small number is removed as any other."""
    log = store.open()
    texts = (f"{SECRET} {number}" for number in range(200_000))
    text = next(text for text in texts if _crc_of(log.epoch, text) < 1 << 16)
    log.append([proposal("r", said(text))])
    log.redact("r", 1)
    (kept,) = store.database.execute("SELECT crc FROM batches").fetchone()
    assert kept >= 1 << 16
    assert_gone(store, folder, ["\0" * len(text.encode())])


def _crc_of(epoch: int, text: str) -> int:
    return crc32(msgspec.msgpack.encode([1, "r", epoch, 0, 1, [said(text)]]))


def test_an_export_says_what_was_removed(store: SqliteStore, folder: Path) -> None:
    """An empty text, and that it was removed."""
    log = store.open()
    log.append([proposal("r", said("a", SECRET))])
    log.redact("r", 2)
    lines = [msgspec.json.decode(line) for line in export(folder, [], 0, pytest.fail)]
    assert [("a", None), ("", True)] == [(line["text"], line.get("removed")) for line in lines]
