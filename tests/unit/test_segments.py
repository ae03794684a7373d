"""Segments: what a crash, a full disk, a hostile text and a long life make of them."""

from __future__ import annotations

import errno
import os
import shutil
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from zlib import crc32

import pytest

from broker.log import compaction as log_compaction
from broker.log import segments
from broker.log.interface import LogFailed, LogUnusable, RoomRecord
from broker.log.records import BatchPlace, Contents
from broker.log.segments import (
    FIRST,
    OFFSET_BITS,
    OFFSET_MASK,
    OPEN_FILES_MAX,
    HighWater,
    SegmentReader,
    SegmentWriter,
    numbers,
    path_of,
)
from broker.log.writer import FILE_NAME, SqliteLog, prepare
from common.wire import Mode, encode
from tests.unit.logs import SqliteStore, kept_texts, proposal, said, sent


def contents_of(body: bytes) -> bytes:
    """Return the contents of a record that holds one batch."""
    return encode(Contents([], [], {}, [BatchPlace(1, 1, 1, 1, len(body), crc32(body))]))


@pytest.fixture
def store(tmp_path: Path) -> Iterator[SqliteStore]:
    """Return a new log."""
    with closing(SqliteStore(tmp_path, is_quick=True)) as made:
        yield made


@pytest.fixture
def small_segments(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let a few records fill a segment."""
    monkeypatch.setattr(segments, "SEGMENT_BYTES_MAX", 1_000)
    monkeypatch.setattr(log_compaction, "SEGMENT_BYTES_MAX", 1_000)


def crashed(folder: Path, target: Path) -> Path:
    """Return a copy of a log as a crash would leave it now, without what its processes share."""
    target.mkdir()
    for path in folder.glob("hubbub*"):
        shutil.copyfile(path, target / path.name)
    shutil.copyfile(folder / "progress", target / "progress")
    return target


def after_crash(folder: Path) -> tuple[list[RoomRecord], list[str]]:
    """Return the rooms, and the texts of room r, that a new start finds."""
    with closing(SqliteStore(folder)) as store:
        return store.open().rooms(), kept_texts(store.reader(), "r")


def test_what_was_committed_survives_a_crash_and_nothing_is_told_twice(
    tmp_path: Path, store: SqliteStore
) -> None:
    """Whether the index knew it or not: rooms, heads, topics, marks and texts are there."""
    log = store.open()
    log.append([proposal("r", said("a"))])
    log.trim(0)
    log.append([proposal("r", said("b"), sends=[sent(b"s" * 16, 1)])])
    log.append([proposal("q", said("new"), topic="t"), proposal("r", said("c"))])
    folder = crashed(tmp_path, tmp_path / "crashed")
    rooms, texts = after_crash(folder)
    assert log.rooms() == rooms
    assert ["a", "b", "c"] == texts
    with closing(SqliteStore(folder)) as again:
        opened = again.open()
        assert [] == opened.follow()
        assert log.epoch == opened.epoch
        assert log.recall(b"s" * 16) == opened.recall(b"s" * 16)
        opened.append([proposal("r", said("d"))])
        assert [(3, 4, 4)] == [(each.prev, each.first, each.last) for each in opened.follow()]


def test_a_record_that_was_cut_short_never_was(tmp_path: Path, store: SqliteStore) -> None:
    """Wherever the last record ends too early, the ones before it stand, and the log goes on."""
    log = store.open()
    log.append([proposal("r", said("a"))])
    before = log._segments.end & OFFSET_MASK
    log.append([proposal("r", said("b"))])
    end = log._segments.end & OFFSET_MASK
    for cut in range(before, end):
        folder = crashed(tmp_path, tmp_path / f"cut{cut}")
        os.truncate(path_of(folder, 1), cut)
        assert ["a"] == after_crash(folder)[1]
        with closing(SqliteStore(folder)) as again:
            again.open().append([proposal("r", said("c"))])
            assert ["a", "c"] == kept_texts(again.reader(), "r")


def test_a_record_with_any_byte_changed_never_was(tmp_path: Path, store: SqliteStore) -> None:
    """A sector that did not reach the disk is noticed in contents, bodies and head alike."""
    log = store.open()
    log.append([proposal("r", said("a"))])
    before = log._segments.end & OFFSET_MASK
    log.append([proposal("r", said("b"))])
    whole = path_of(tmp_path, 1).read_bytes()
    for place in range(before, log._segments.end & OFFSET_MASK):
        folder = crashed(tmp_path, tmp_path / f"changed{place}")
        changed = bytearray(whole)
        changed[place] ^= 0xFF
        path_of(folder, 1).write_bytes(changed)
        assert ["a"] == after_crash(folder)[1]


def test_what_lies_behind_the_end_is_never_read_as_a_record(tmp_path: Path) -> None:
    """Neither what a crash left, nor a text made to look like a record where the next one ends."""
    writer = SegmentWriter(tmp_path, FIRST)
    ends = []
    for body in (b"first", b"never", b"forged"):
        writer.append(contents_of(body), [body])
        ends.append(writer.end)
    writer.close()
    with closing(SegmentWriter(tmp_path, ends[0])) as again:
        again.append(
            contents_of(b"other"), [b"other"]
        )  # As long as what was there: the forged one comes next.
        with closing(SegmentReader(tmp_path)) as reader:
            assert ends[:2] == [record.end for record in reader.whole_records(FIRST)]


def test_a_refused_record_stays_refused_after_a_crash(tmp_path: Path, store: SqliteStore) -> None:
    """The disk failed when all of it was written: nobody was told yes, so it must not appear."""
    log = store.open()
    log.append([proposal("r", said("a"))])
    store.fill()
    with pytest.raises(LogFailed, match="No space left on device"):
        log.append([proposal("r", said("refused"))])
    assert ["a"] == after_crash(crashed(tmp_path, tmp_path / "crashed"))[1]
    store.free()
    log.append([proposal("r", said("b"))])
    assert ["a", "b"] == kept_texts(store.reader(), "r")


@pytest.mark.usefixtures("small_segments")
def test_a_full_segment_is_followed_by_another(tmp_path: Path, store: SqliteStore) -> None:
    """No record spans two files, a file keeps no space it does not need, and all are read."""
    log, reader = store.open(), store.reader()
    texts = [f"{number}".rjust(100, ".") for number in range(60)]
    for text in texts:
        log.append([proposal("r", said(text))])
    there = numbers(tmp_path)
    assert len(there) > OPEN_FILES_MAX
    for segment in there[:-1]:
        assert path_of(tmp_path, segment).stat().st_size <= 1_000
    assert texts == kept_texts(reader, "r")
    assert texts == after_crash(crashed(tmp_path, tmp_path / "crashed"))[1]
    log.append([proposal("r", said("x" * 4_000))])  # One that is larger than a segment.
    assert "x" * 4_000 == kept_texts(reader, "r")[-1]


@pytest.mark.usefixtures("small_segments")
def test_a_segment_that_cannot_be_begun_leaves_the_one_before_it(
    tmp_path: Path, store: SqliteStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The commit is refused, and whatever is written then still lies where it is looked for."""
    log = store.open()
    kept = []

    def say(number: int, size: int) -> None:
        log.append([proposal("r", said(f"{number}".rjust(size, ".")))])
        kept.append(number)

    for number in range(6):
        say(number, 80)
    with monkeypatch.context() as failing:
        failing.setattr(os, "fsync", _fail)
        with pytest.raises(LogFailed, match="Input/output error"):
            say(99, 900)
        say(6, 10)  # It has space where the last one had none.
    say(7, 900)
    assert [1, 2] == numbers(tmp_path)
    folder = crashed(tmp_path, tmp_path / "crashed")
    assert kept == [int(text.strip(".")) for text in kept_texts(store.reader(), "r")]
    assert kept == [int(text.strip(".")) for text in after_crash(folder)[1]]


def _fail(_file: int) -> None:
    raise OSError(errno.EIO, os.strerror(errno.EIO))


@pytest.mark.usefixtures("small_segments")
def test_damage_in_the_middle_is_told(tmp_path: Path, store: SqliteStore) -> None:
    """What others follow was acknowledged: a log that lacks it is not opened in silence."""
    log = store.open()
    for number in range(20):
        log.append([proposal(f"r{number}", said("x" * 100))])
    folder = crashed(tmp_path, tmp_path / "crashed")
    path = path_of(folder, 1)
    content = bytearray(path.read_bytes())
    content[300] ^= 1
    path.write_bytes(content)
    with pytest.raises(LogUnusable, match=r"00000001\.segment is damaged at"):
        prepare(folder)


@pytest.mark.usefixtures("small_segments")
def test_segments_go_when_nothing_is_left_in_them(tmp_path: Path, store: SqliteStore) -> None:
    """Retention frees the disk, and a reader that looks on meanwhile sees what is kept."""
    log, reader = store.open(retain_messages=3), store.reader()
    for number in range(60):
        log.append([proposal("r", said(f"{number}".rjust(100, ".")))])
        log.trim(0)
        assert min(3, number + 1) == len(kept_texts(reader, "r"))
    assert len(numbers(tmp_path)) <= 2
    folder = crashed(tmp_path, tmp_path / "crashed")
    path_of(folder, 1).write_bytes(b"left by a crash between the index and the file")
    assert 3 == len(after_crash(folder)[1])
    assert numbers(tmp_path) == numbers(folder)


@pytest.mark.usefixtures("small_segments")
def test_a_few_old_lines_do_not_keep_a_segment(
    tmp_path: Path, store: SqliteStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What a quiet room has in files that are mostly dropped moves, in bounded steps."""
    monkeypatch.setattr(log_compaction, "SEEN_BATCHES_MAX", 2)
    log, reader = store.open(retain_messages=2), store.reader()
    for number in range(40):
        if number % 10 == 0:
            log.append([proposal("quiet", said(f"{number}"))])
        log.append([proposal("busy", said("x" * 100))])
    for _ in range(60):
        log.trim(0)
    assert len(numbers(tmp_path)) <= 2
    assert ["20", "30"] == kept_texts(reader, "quiet")
    rooms = log.rooms()
    folder = crashed(tmp_path, tmp_path / "crashed")
    with closing(SqliteStore(folder)) as again:
        assert rooms == again.open().rooms()
        assert ["20", "30"] == kept_texts(again.reader(), "quiet")


def use_early_and_late(log: SqliteLog) -> None:
    """Let segment 1 have little in use only after others behind it had, and were emptied."""
    log.append([proposal("keep", said("first"))])
    for _ in range(4):
        log.append([proposal("moves on", said("x" * 120))])
    for number in range(3):
        log.append([proposal(f"keep{number}", said("x"))])
        for _ in range(6):
            log.append([proposal("busy", said("x" * 120))])
    for _ in range(20):
        log.trim(0)
    assert log._compaction._position >> OFFSET_BITS > 1
    for _ in range(4):
        log.append([proposal("moves on", said("x"))])


@pytest.mark.usefixtures("small_segments")
def test_a_segment_that_has_little_in_use_late_goes_as_well(
    tmp_path: Path, store: SqliteStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And it stops no other one: those that come to have little later go, too."""
    monkeypatch.setattr(log_compaction, "SEEN_BATCHES_MAX", 2)
    log, reader = store.open(retain_messages=4), store.reader()
    use_early_and_late(log)
    assert path_of(tmp_path, 1).exists()
    for number in range(60):
        log.append([proposal("busy", said("x" * 120))])
        if number % 10 == 0:
            log.append([proposal(f"later{number}", said("x"))])
        for _ in range(8):
            log.trim(0)
    growing = log._segments.segment
    assert {growing - 1, growing} >= set(numbers(tmp_path))
    assert ["first"] == kept_texts(reader, "keep")
    assert ["x"] * 4 == kept_texts(reader, "moves on")
    rooms = log.rooms()
    with closing(SqliteStore(crashed(tmp_path, tmp_path / "crashed"))) as again:
        assert rooms == again.open().rooms()
        assert ["first"] == kept_texts(again.reader(), "keep")


@pytest.mark.usefixtures("small_segments")
def test_a_segment_that_cannot_be_read_does_not_keep_others(
    tmp_path: Path, store: SqliteStore
) -> None:
    """The failure is told again and again, and between two times the others have their turn."""
    log = store.open(retain_messages=2)
    for number in range(40):
        if number % 10 == 0:
            log.append([proposal(f"quiet{number}", said("x"))])
        log.append([proposal("busy", said("x" * 100))])
    log._write_index()
    path_of(tmp_path, 1).unlink()
    failures = 0
    for _ in range(200):
        try:
            log.trim(0)
        except LogFailed:
            failures += 1
    assert failures > 1
    kept = [row[0] for row in log._db.execute("SELECT id FROM segments ORDER BY id")]
    assert {1, log._segments.segment - 1, log._segments.segment} >= set(kept)


@pytest.mark.usefixtures("small_segments")
def test_a_reader_that_looked_before_a_segment_went_looks_again(
    tmp_path: Path, store: SqliteStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Between its look into the index and its read, the file may be dropped."""
    log, reader = store.open(retain_messages=1), store.reader()
    for _ in range(20):
        log.append([proposal("r", said("x" * 100))])
    read = SegmentReader.read
    asked: list[int] = []

    def read_late(self: SegmentReader, position: int, size_bytes: int) -> bytes:
        if not asked:
            asked.append(position)
            for _ in range(3):
                log.trim(0)
            self.close()
        return read(self, position, size_bytes)

    monkeypatch.setattr(SegmentReader, "read", read_late)
    log._write_index()
    page = reader.read("r", Mode.AFTER, 0, 9)
    assert not path_of(tmp_path, asked[0] >> OFFSET_BITS).exists()
    assert (20, 20) == (page.record.first, page.record.head)
    assert 1 == len(page.batches)


def test_a_tail_forgets_what_the_index_knows(store: SqliteStore) -> None:
    """A reader that is asked all the time keeps no more than what may wait for the index."""
    log, reader = store.open(), store.reader()
    for number in range(1, 50):
        log.append([proposal("r", said(f"{number}"))])
        assert number == len(kept_texts(reader, "r"))
        if number % 7 == 0:
            log.trim(0)
            log.append([proposal("other", said("x"))])
            kept_texts(reader, "r")
            assert sum(map(len, reader._tail._batches.values())) <= 1


def test_the_high_water_mark_is_shared(tmp_path: Path) -> None:
    """What the writer says, every reader sees."""
    with (
        closing(HighWater(tmp_path, is_writer=True)) as writer,
        closing(HighWater(tmp_path, is_writer=False)) as reader,
    ):
        writer.set(FIRST + 77)
        assert FIRST + 77 == reader.get()
        with pytest.raises(TypeError):
            reader.set(1)


def test_a_folder_with_the_database_alone_says_what_is_missing(tmp_path: Path) -> None:
    """One line names the files, and what to do."""
    with closing(SqliteStore(tmp_path)) as store:
        store.open().append([proposal("r", said("a"))])
    other = tmp_path / "other"
    other.mkdir()
    shutil.copyfile(tmp_path / FILE_NAME, other / FILE_NAME)
    with pytest.raises(LogUnusable, match=r"put back the hubbub-\*\.segment files"):
        prepare(other)


@pytest.mark.usefixtures("small_segments")
def test_segments_alone_are_a_log_if_they_are_all_there(tmp_path: Path, store: SqliteStore) -> None:
    """A lost index is made again; from segments that begin too late nothing is guessed."""
    log = store.open()
    for number in range(20):
        log.append([proposal("r", said(f"{number}".rjust(100, ".")))])
    for missing in (0, 1):
        folder = crashed(tmp_path, tmp_path / f"crashed{missing}")
        (folder / FILE_NAME).unlink()
        (folder / f"{FILE_NAME}-wal").unlink()
        if missing:
            path_of(folder, 1).unlink()
            with pytest.raises(LogUnusable, match="lacks what was before"):
                prepare(folder)
        else:
            assert 20 == len(after_crash(folder)[1])
