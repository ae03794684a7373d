"""Damage: a log that is not what was written is refused, or says what is missing; never less."""

from __future__ import annotations

import errno
import os
import shutil
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import pytest

from broker.history import Once
from broker.log import compaction as log_compaction
from broker.log import index as log_index
from broker.log import segments
from broker.log import writer as log_writer
from broker.log.interface import LogFailed, LogUnusable
from broker.log.records import HEAD_BYTES
from broker.log.segments import OFFSET_MASK, HighWater, SegmentReader, path_of
from broker.log.writer import FILE_NAME, prepare
from common.spans import lost_count
from common.wire import Mode, decode_batch
from tests.unit.logs import SqliteStore, kept_texts, proposal, said, sent

TEXTS = [f"text {number}" for number in range(8)]


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


def filled(store: SqliteStore, texts: list[str] = TEXTS) -> list[int]:
    """Append a record for each text, none of which the index knows; return where each ends."""
    log = store.open()
    ends = []
    for text in texts:
        log.append([proposal("r", said(text))])
        ends.append(log._segments.end)
    return ends


def copied(folder: Path, name: str = "crashed", *, without: str = "") -> Path:
    """Return a copy of a log's folder as a kill of all processes would leave it now."""
    target = folder / name
    target.mkdir()
    for path in folder.iterdir():
        if path.is_file() and path.name != without:
            shutil.copyfile(path, target / path.name)
    return target


def flip(path: Path, offset: int, mask: int = 1) -> None:
    """Change bits of a byte."""
    with path.open("r+b") as file:
        file.seek(offset)
        (byte,) = file.read(1)
        file.seek(offset)
        file.write(bytes([byte ^ mask]))


def refusal(folder: Path) -> str:
    """Return the one line with which a log is refused at the start."""
    with pytest.raises(LogUnusable) as refused:
        prepare(folder)
    says = str(refused.value)
    assert "\n" not in says
    return says


# --- at the start -----------------------------------------------------------
def test_a_flipped_bit_before_other_records_is_no_torn_end(
    tmp_path: Path, store: SqliteStore
) -> None:
    """Whichever byte it hits: the log is refused with file, offset and what to do."""
    ends = filled(store, TEXTS[:3])
    start = ends[0] & OFFSET_MASK
    folder = copied(tmp_path, without=HighWater.NAME)
    for place in range(start, ends[1] & OFFSET_MASK):
        flip(path_of(folder, 1), place)
        says = refusal(folder)
        flip(path_of(folder, 1), place)
        assert f"{path_of(folder, 1)} is damaged at {start}:" in says
        assert "hubbub-broker check" in says
        assert "restore" in says


def test_the_last_record_was_committed_if_the_mark_says_so(
    tmp_path: Path, store: SqliteStore
) -> None:
    """Without others behind it, a broken record looks torn: the high-water mark knows better."""
    ends = filled(store, TEXTS[:2])
    folder = copied(tmp_path)
    os.truncate(path_of(folder, 1), ends[1] & OFFSET_MASK)
    for place in range(ends[0] & OFFSET_MASK, ends[1] & OFFSET_MASK):
        flip(path_of(folder, 1), place)
        says = refusal(folder)
        flip(path_of(folder, 1), place)
        assert f"ends at segment 1, offset {ends[0] & OFFSET_MASK}, " in says
        assert f"up to segment 1, offset {ends[1] & OFFSET_MASK}:" in says
        assert "hubbub-broker restore" in says
    flip(path_of(folder, 1), ends[0] & OFFSET_MASK)
    (folder / HighWater.NAME).unlink()
    with closing(SqliteStore(folder)) as again:
        again.open()
        assert TEXTS[:1] == kept_texts(again.reader(), "r")


def test_a_torn_end_is_dropped_and_the_log_goes_on(tmp_path: Path, store: SqliteStore) -> None:
    """What was being written when the power went was promised to nobody."""
    ends = filled(store, TEXTS[:2])
    store.fill()
    with pytest.raises(LogFailed):
        store.opened.append([proposal("r", said("never"))])
    epoch = store.opened.epoch
    folder = copied(tmp_path)
    with path_of(folder, 1).open("r+b") as file:
        file.seek(ends[1] & OFFSET_MASK)
        file.write(b"HUBS\x01\x02\x03torn")
    with closing(SqliteStore(folder)) as again:
        again.open().append([proposal("r", said("next"))])
        assert [*TEXTS[:2], "next"] == kept_texts(again.reader(), "r")
        assert epoch == again.open().epoch


def test_a_text_that_imitates_a_record_behind_a_torn_one_is_none(
    tmp_path: Path, store: SqliteStore
) -> None:
    """Nobody keeps a broker from starting by sending it the bytes of a record."""
    ends = filled(store, TEXTS[:2])
    folder = copied(tmp_path)
    content = path_of(folder, 1).read_bytes()
    forged = content[ends[0] & OFFSET_MASK : ends[1] & OFFSET_MASK]
    path_of(folder, 1).write_bytes(content[: ends[1] & OFFSET_MASK] + b"HUBS torn" + forged)
    with closing(SqliteStore(folder)) as again:
        again.open()
        assert TEXTS[:2] == kept_texts(again.reader(), "r")


@pytest.mark.usefixtures("small_segments")
@pytest.mark.parametrize("where", ["first", "last"])
def test_a_record_before_a_segments_end_is_missed_whatever_hit_it(
    tmp_path: Path, store: SqliteStore, where: str
) -> None:
    """Zeros in place of a segment's last record don't pass for its end."""
    ends = filled(store, [text * 20 for text in TEXTS])
    in_first = [end for end in ends if end >> segments.OFFSET_BITS == 1]
    assert len(in_first) < len(ends) - 1
    begin, end = (0, in_first[0]) if where == "first" else (in_first[-2], in_first[-1])
    folder = copied(tmp_path)
    with path_of(folder, 1).open("r+b") as file:
        file.seek(begin & OFFSET_MASK)
        file.write(bytes((end & OFFSET_MASK) - (begin & OFFSET_MASK)))
    assert "segment" in refusal(folder)


@pytest.mark.usefixtures("small_segments")
@pytest.mark.parametrize("is_indexed", [True, False])
def test_a_deleted_segment_is_missed(
    tmp_path: Path, store: SqliteStore, monkeypatch: pytest.MonkeyPatch, *, is_indexed: bool
) -> None:
    """Any of them, the newest too, and whether the index knew of it or not."""
    filled(store, [text * 20 for text in TEXTS])
    if is_indexed:
        store.open()
    monkeypatch.undo()
    for segment in segments.numbers(tmp_path):
        folder = copied(tmp_path, f"without{segment}", without=path_of(tmp_path, segment).name)
        assert "segment" in refusal(folder)


@pytest.mark.parametrize("is_indexed", [True, False])
def test_a_segment_that_was_cut_off_is_missed(
    tmp_path: Path, store: SqliteStore, *, is_indexed: bool
) -> None:
    """Whether the index knew what it held or not."""
    ends = filled(store)
    if is_indexed:
        store.open()
    for end in (0, ends[3] & OFFSET_MASK, (ends[-1] & OFFSET_MASK) - 1):
        folder = copied(tmp_path, f"cut{end}")
        os.truncate(path_of(folder, 1), end)
        assert "segment" in refusal(folder)


def deleted(folder: Path) -> None:
    (folder / FILE_NAME).unlink()
    for path in folder.glob(f"{FILE_NAME}-*"):
        path.unlink()


def emptied(folder: Path) -> None:
    deleted(folder)
    (folder / FILE_NAME).touch()


@pytest.mark.parametrize("lose", [deleted, emptied])
def test_a_lost_index_is_made_again(
    tmp_path: Path, store: SqliteStore, lose: Callable[[Path], None]
) -> None:
    """The segments hold enough; clients start over, because the keys of the rooms are new."""
    filled(store)
    log = store.open()
    folder = copied(tmp_path)
    lose(folder)
    with closing(SqliteStore(folder)) as again:
        assert log.epoch != again.open().epoch
        assert TEXTS == kept_texts(again.reader(), "r")


@pytest.mark.parametrize("cut", [1_000, 5_000, 9_000])
def test_a_truncated_or_garbled_index_is_refused(
    tmp_path: Path, store: SqliteStore, cut: int
) -> None:
    """SQLite notices; the line says what to do, and nothing is changed."""
    filled(store)
    store.close()
    folder = copied(tmp_path)
    os.truncate(folder / FILE_NAME, cut)
    says = refusal(folder)
    assert "hubbub-broker check" in says
    (folder / FILE_NAME).write_bytes(b"\xff" * 20_000)
    assert "file is not a database" in refusal(folder)


def test_a_log_that_is_gone_altogether_is_not_begun_anew(
    tmp_path: Path, store: SqliteStore
) -> None:
    """What is beside it tells that there was one; without that the folder is a new one."""
    filled(store)
    store.close()
    folder = copied(tmp_path)
    deleted(folder)
    path_of(folder, 1).unlink()
    says = refusal(folder)
    assert "there were messages in it" in says
    assert "hubbub-broker restore" in says
    (folder / "progress").unlink()
    assert "what was acknowledged went up to" in refusal(folder)
    (folder / HighWater.NAME).unlink()
    deleted(folder)
    with closing(SqliteStore(folder)) as again:
        assert [] == again.open().rooms()


@pytest.mark.parametrize("name", [HighWater.NAME, "progress"])
def test_a_missing_note_loses_nothing(tmp_path: Path, store: SqliteStore, name: str) -> None:
    """Without `progress` nobody knows whether the log is an old copy, so clients start over."""
    filled(store)
    log = store.open()
    folder = copied(tmp_path, without=name)
    with closing(SqliteStore(folder)) as again:
        assert (log.epoch == again.open().epoch) == (name != "progress")
        assert TEXTS == kept_texts(again.reader(), "r")


def test_a_log_that_somebody_else_holds_is_refused(
    tmp_path: Path, store: SqliteStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An open transaction of sqlite3 is not damage, and the line says so."""
    filled(store)
    store.close()
    connect = log_index.connect

    def impatient(path: Path) -> sqlite3.Connection:
        connection = connect(path)
        connection.execute("PRAGMA busy_timeout = 0")
        return connection

    monkeypatch.setattr(log_writer, "connect", impatient)
    with closing(sqlite3.connect(tmp_path / FILE_NAME, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        assert "another program holds a lock on it" in refusal(tmp_path)
    prepare(tmp_path)


# --- while it runs ----------------------------------------------------------
def test_a_lock_of_somebody_else_stops_nobody_for_long(
    store: SqliteStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Messages are kept and read as long as they may wait for the index; then they are refused."""
    monkeypatch.setattr(log_writer, "WAITING_MAX", 3)
    log, reader = store.open(), store.reader()
    with closing(sqlite3.connect(tmp_path / FILE_NAME, isolation_level=None)) as other:
        other.execute("BEGIN EXCLUSIVE")
        for text in TEXTS[:3]:
            log.append([proposal("r", said(text))])
            with pytest.raises(LogFailed, match="cannot be trimmed: database is locked"):
                log.trim(0)
        with pytest.raises(LogFailed, match="cannot be written: database is locked"):
            log.append([proposal("r", said("refused"))])
        assert TEXTS[:3] == kept_texts(reader, "r")
        assert (log_writer.BUSY_MS,) == store.database.execute("PRAGMA busy_timeout").fetchone()
        other.execute("ROLLBACK")
    log.append([proposal("r", said("again"))])
    assert [*TEXTS[:3], "again"] == kept_texts(reader, "r")


def damaged_reads(store: SqliteStore, room: str = "r") -> dict[str, list[object]]:
    """Return what each way of reading shows: texts, and (first, last) of what is lost."""
    said_lines: list[str] = []
    once = Once(said_lines.append)
    reader = store.reader()
    reader._tell = once
    found: dict[str, list[object]] = {}
    for name, mode, at in (("after", Mode.AFTER, 0), ("before", Mode.BEFORE, 99)):
        shown: list[object] = []
        for body in reader.read(room, mode, at, 99).batches:
            batch = decode_batch(body)
            if lost_count(batch):
                shown.append((batch.first, batch.prev))
            shown += [text for post in batch.posts for text in post.texts]
        found[name] = shown
    found["told"] = list(said_lines)
    return found


@pytest.mark.parametrize("is_indexed", [True, False])
def test_an_altered_text_is_never_delivered(
    tmp_path: Path, store: SqliteStore, *, is_indexed: bool
) -> None:
    """A bit that flips long after: the batch is lost and said so once, all else is read."""
    filled(store)
    store.opened.append([proposal("r", said("one", "two of three", "three"))])
    store.opened.append([proposal("r", said("end"))])
    if is_indexed:
        store.open()
    path = path_of(tmp_path, 1)
    flip(path, path.read_bytes().index(b"text 3"))
    flip(path, path.read_bytes().index(b"two of three"))
    found = damaged_reads(store)
    expected = [*TEXTS[:3], (4, 4), *TEXTS[4:], (9, 11), "end"]
    assert expected == found["after"]
    assert expected == found["before"]
    assert 2 == len(found["told"])
    for line, entries in zip(found["told"], ("4 to 4", "9 to 11"), strict=True):
        assert f"#r: entries {entries} are damaged, in segment 1, offset" in str(line)
    store.opened.append([proposal("other", said("fine"))])
    assert ["fine"] == kept_texts(store.reader(), "other")


@pytest.mark.usefixtures("small_segments")
@pytest.mark.parametrize("harm", ["delete", "truncate", "zero"])
def test_a_segment_that_goes_while_the_broker_runs(
    tmp_path: Path, store: SqliteStore, harm: str
) -> None:
    """What it held is told as missing; what others hold is read."""
    filled(store, [text * 20 for text in TEXTS])
    log = store.open()
    log.append([proposal("other", said("fine"))])
    victim = path_of(tmp_path, 1)
    assert victim != path_of(tmp_path, log._segments.segment)
    if harm == "delete":
        victim.unlink()
    elif harm == "truncate":
        os.truncate(victim, 10)
    else:
        victim.write_bytes(bytes(victim.stat().st_size))
    shown = damaged_reads(store)["after"]
    lost = [each for each in shown if isinstance(each, tuple)]
    assert [(seq, seq) for seq in range(1, len(lost) + 1)] == lost
    assert [text * 20 for text in TEXTS[len(lost) :]] == shown[len(lost) :]
    assert ["fine"] == kept_texts(store.reader(), "other")


@pytest.mark.usefixtures("small_segments")
@pytest.mark.parametrize("where", ["all of it", "a magic", "contents"])
def test_damage_does_not_stop_retention(
    tmp_path: Path, store: SqliteStore, monkeypatch: pytest.MonkeyPatch, where: str
) -> None:
    """A segment whose records can't be found stays, and chat and trims go on."""
    monkeypatch.setattr(log_compaction, "SEEN_BATCHES_MAX", 1)
    log = store.open(retain_messages=2)
    for number in range(40):
        if number % 10 == 0:
            log.append([proposal(f"quiet{number}", said("old"))])
        log.append([proposal("busy", said("x" * 100))])
    log._write_index()
    path = path_of(tmp_path, 2)
    if where == "all of it":
        path.write_bytes(b"\xff" * path.stat().st_size)
    else:  # Of the second record: what comes before it moves.
        with closing(SegmentReader(tmp_path)) as reader:
            record = reader.whole_record(2 << segments.OFFSET_BITS)
        assert record is not None
        flip(path, (record.end & OFFSET_MASK) + (0 if where == "a magic" else HEAD_BYTES))
    for _ in range(60):
        log.trim(0)
    log.append([proposal("busy", said("on"))])
    assert 5 == len([room for room in log.rooms() if room.head])
    assert "on" == kept_texts(store.reader(), "busy")[-1]
    assert [2, log._segments.segment] == segments.numbers(tmp_path)
    looked_at: list[int] = []
    monkeypatch.setattr(
        log_compaction.Compaction, "_empty", lambda _, segment: looked_at.append(segment)
    )
    for _ in range(3):
        log.trim(0)
    assert [] == looked_at, "not again and again, for nothing"


def test_what_a_killed_writer_left_is_synced_before_it_is_read(
    tmp_path: Path, store: SqliteStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A record may be whole in memory alone: only a disk that says yes makes it committed."""
    ends = filled(store)
    folder = copied(tmp_path, without=HighWater.NAME)

    def fail(_file: int) -> None:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    with monkeypatch.context() as failing:
        failing.setattr(os, "fsync", fail)
        assert "Input/output error" in refusal(folder)
    with closing(HighWater(folder, is_writer=False)) as high_water:
        assert 0 == high_water.get()
        prepare(folder)
        assert ends[-1] == high_water.get()


def test_damage_in_what_is_remembered_of_senders(store: SqliteStore) -> None:
    """Of all at once: refused at the start. Of one: as if it was long ago."""
    log = store.open()
    log.append([proposal("r", said("a"), sends=[sent(b"s" * 16, 1), sent(b"t" * 16, 1)])])
    log.trim(0)
    store.database.execute("UPDATE senders SET marks = x'ff' WHERE sender = ?", (b"s" * 16,))
    again = store.open()
    assert {} == again.recall(b"s" * 16)
    assert [1] == [*again.recall(b"t" * 16)]
    store.database.execute("INSERT INTO sends (marks) VALUES (x'ff')")
    with pytest.raises(LogUnusable, match=r"remembers of senders is damaged.* salvage"):
        store.open()
    store._log = None  # It was closed, and no other came in its place.


def test_a_damaged_tail_is_an_error_and_no_crash(tmp_path: Path, store: SqliteStore) -> None:
    """What can't be found can't be skipped: readers refuse until the index has passed it."""
    ends = filled(store, TEXTS[:3])
    flip(path_of(tmp_path, 1), (ends[0] & OFFSET_MASK) + 30)
    with pytest.raises(LogFailed, match="is damaged at"):
        store.reader().read("r", Mode.AFTER, 0, 9)
    with closing(SegmentReader(tmp_path)) as reader:
        assert reader.next_record(ends[0]) == ends[1]
