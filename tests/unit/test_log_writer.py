"""The embedded log's own matters: its file, its settings, its age, and what is not its own."""

from __future__ import annotations

import os
import shutil
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

import broker.log.writer
import tests
from broker.log.interface import LogFailed, LogUnusable, RoomRecord
from broker.log.retention import TRIM_BATCHES_MAX, TRIM_ROOMS_MAX
from broker.log.segments import HighWater
from broker.log.writer import (
    APPLICATION_ID,
    DAY_MS,
    FILE_NAME,
    SCHEMA_VERSION,
    SENDER_DAYS,
    SqliteLog,
    prepare,
)
from common.limits import SENDS_IN_FLIGHT_MAX
from common.wire import Mode
from tests.unit.logs import SqliteStore, kept_texts, mark, numbered, proposal, said, sent

GOLDEN = Path(tests.__file__).parent / "golden" / "schema-1.sql"


@pytest.fixture
def store(tmp_path: Path) -> Iterator[SqliteStore]:
    """Return a new log."""
    with closing(SqliteStore(tmp_path, is_quick=True)) as made:
        yield made


def pragma(connection: sqlite3.Connection, name: str) -> object:
    """Return a setting of a connection."""
    return connection.execute(f"PRAGMA {name}").fetchone()[0]


def test_a_file_says_whose_it_is(store: SqliteStore) -> None:
    """file(1), and every version of Hubbub, can tell."""
    store.open()
    assert (APPLICATION_ID, SCHEMA_VERSION) == (
        pragma(store.database, "application_id"),
        pragma(store.database, "user_version"),
    )


def test_a_batch_is_on_the_disk_before_anybody_may_read_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each append waits for the disk once, and readers see nothing of it until then."""
    seen: list[int] = []
    with closing(SqliteStore(tmp_path)) as store:
        log, reader = store.open(), store.reader()

        def sync(file: int) -> None:
            os.fdatasync(file)
            seen.append(reader.read("r", Mode.AFTER, 0, 9).record.head)

        monkeypatch.setattr(log._segments, "_sync", sync)
        log.append([proposal("r", said("a")), proposal("s", said("b"))])
        log.append([proposal("r", said("c"))])
        assert [0, 1] == seen
        assert 2 == reader.read("r", Mode.AFTER, 0, 9).record.head


def test_a_reader_cannot_write(store: SqliteStore) -> None:
    """The history process has no way to change the log."""
    store.open()
    reader = store.reader()
    with pytest.raises(sqlite3.OperationalError, match="readonly"):
        reader._db.execute("DELETE FROM rooms")


def test_preparing_again_changes_nothing(tmp_path: Path, store: SqliteStore) -> None:
    """A restart finds the same secret and the same epoch."""
    log = store.open()
    identity = (log.epoch, log.secret)
    assert 32 == len(log.secret)
    assert 1 <= log.epoch < 2**32
    prepare(tmp_path)
    again = store.open()
    assert identity == (again.epoch, again.secret)


def copy_log(source: Path, target: Path) -> None:
    """Copy the log's files, without the note beside them."""
    target.mkdir(exist_ok=True)
    for path in [source / FILE_NAME, *source.glob("*.segment")]:
        shutil.copyfile(path, target / path.name)


def test_a_restored_backup_has_a_new_epoch_and_the_old_secret(tmp_path: Path) -> None:
    """A log that lacks what was acknowledged is another log to the clients, with the same keys."""
    data, backup = tmp_path / "data", tmp_path / "backup"
    data.mkdir()
    with closing(SqliteStore(data)) as store:
        log = store.open()
        log.append([proposal("r", said("a"))])
        epoch, secret = log.epoch, log.secret
    copy_log(data, backup)
    with closing(SqliteStore(data)) as store:
        store.open().append([proposal("r", said("b"))])
    copy_log(backup, data)
    with pytest.raises(LogUnusable, match=r"ends at segment 1, offset \d+, but .* restore"):
        prepare(data)
    (data / HighWater.NAME).unlink()
    with closing(SqliteStore(data)) as store:
        log = store.open()
        assert epoch != log.epoch
        assert secret == log.secret
        assert [RoomRecord("r", 0, 1, 1, "", 1)] == log.rooms()


def test_an_old_index_beside_all_segments_has_lost_nothing(tmp_path: Path) -> None:
    """The segments are the log: an index that lags behind them is brought up to date."""
    data, backup = tmp_path / "data", tmp_path / "backup"
    data.mkdir()
    with closing(SqliteStore(data)) as store:
        log = store.open()
        epoch = log.epoch
        log.append([proposal("r", said("a"))])
    copy_log(data, backup)
    with closing(SqliteStore(data)) as store:
        sends = [sent(b"s" * 16, 1, (1, 0, 5))]
        store.open().append([proposal("r", said("b")), proposal("new", said("n"), sends=sends)])
        store.open().append([proposal("r", said("t"), topic="t")])
    shutil.copyfile(backup / FILE_NAME, data / FILE_NAME)
    with closing(SqliteStore(data)) as store:
        log = store.open()
        assert epoch == log.epoch
        expected = [RoomRecord("new", 0, 1, 1, "", 1), RoomRecord("r", 0, 1, 3, "t", 1)]
        assert expected == sorted(log.rooms())
        assert {1: mark(1, (1, 5))} == log.recall(b"s" * 16)
        assert ["a", "b", "t"] == kept_texts(store.reader(), "r")


def test_a_copy_in_an_empty_folder_has_a_new_epoch(tmp_path: Path) -> None:
    """A backup that is served from elsewhere may be old: without its note nobody knows."""
    (tmp_path / "old").mkdir()
    with closing(SqliteStore(tmp_path / "old")) as store:
        log = store.open()
        log.append([proposal("r", said("a"))])
        epoch = log.epoch
    copy_log(tmp_path / "old", tmp_path / "new")
    with closing(SqliteStore(tmp_path / "new")) as store:
        assert epoch != store.open().epoch


def test_a_crash_before_the_first_note_keeps_the_epoch(tmp_path: Path) -> None:
    """The note is there from the start, so a kill at any moment is no restored backup."""
    prepare(tmp_path)
    log = SqliteLog(tmp_path / FILE_NAME, retain_messages=0, retain_days=0)
    log.append([proposal("r", said("a"))])
    log._db.close()
    prepare(tmp_path)
    with closing(SqliteStore(tmp_path)) as store:
        assert log.epoch == store.open().epoch


def test_a_log_that_moved_whole_keeps_its_epoch(tmp_path: Path) -> None:
    """Another disk, or another folder, is no reason to start over."""
    (tmp_path / "old").mkdir()
    with closing(SqliteStore(tmp_path / "old")) as store:
        log = store.open()
        log.append([proposal("r", said("a"))])
        epoch = log.epoch
    shutil.copytree(tmp_path / "old", tmp_path / "new")
    with closing(SqliteStore(tmp_path / "new")) as store:
        assert epoch == store.open().epoch


def refusal(folder: Path) -> str:
    """Return the one line with which a log is refused."""
    with pytest.raises(LogUnusable) as refused:
        prepare(folder)
    assert "\n" not in str(refused.value)
    assert str(folder / FILE_NAME) in str(refused.value)
    return str(refused.value)


def test_a_log_of_a_newer_version_is_refused_and_left_alone(tmp_path: Path) -> None:
    """It says which schema it is, and what to do; nothing is written."""
    prepare(tmp_path)
    with closing(sqlite3.connect(tmp_path / FILE_NAME)) as database:
        database.execute(f"PRAGMA user_version = {SCHEMA_VERSION + 1}")
    before = (tmp_path / FILE_NAME).read_bytes()
    says = refusal(tmp_path)
    assert f"newer Hubbub (schema {SCHEMA_VERSION + 1}, this one knows {SCHEMA_VERSION})" in says
    assert "--data" in says
    assert before == (tmp_path / FILE_NAME).read_bytes()


@pytest.mark.parametrize("version", [0, 7])
def test_a_database_of_somebody_else_is_refused_and_left_alone(
    tmp_path: Path, version: int
) -> None:
    """Not one byte of it changes, not even its journal mode, whatever version it bears."""
    with closing(sqlite3.connect(tmp_path / FILE_NAME)) as database:
        database.execute("CREATE TABLE precious (thing)")
        database.execute(f"PRAGMA user_version = {version}")
    before = (tmp_path / FILE_NAME).read_bytes()
    assert "is a database, but not Hubbub's" in refusal(tmp_path)
    assert before == (tmp_path / FILE_NAME).read_bytes()
    assert [FILE_NAME] == [path.name for path in tmp_path.iterdir()]


def test_a_corrupt_file_is_refused_in_one_line(tmp_path: Path) -> None:
    """Rubbish, or a folder in the file's place, gives a line and no traceback."""
    (tmp_path / FILE_NAME).write_bytes(b"rubbish " * 1_000)
    assert "file is not a database" in refusal(tmp_path)
    (tmp_path / FILE_NAME).unlink()
    (tmp_path / FILE_NAME).mkdir()
    assert "cannot be used: unable to open" in refusal(tmp_path)


def test_an_interrupted_making_is_made_again(tmp_path: Path) -> None:
    """An empty file, as a crash at the very first start leaves it, becomes a log."""
    (tmp_path / FILE_NAME).touch()
    with closing(SqliteStore(tmp_path)) as store:
        store.open().append([proposal("r", said("a"))])


def test_a_log_of_schema_1_is_opened_and_read(tmp_path: Path) -> None:
    """A database made by the first release works: its entries, rooms, marks, keys, and appends."""
    with closing(sqlite3.connect(tmp_path / FILE_NAME)) as database:
        database.executescript(GOLDEN.read_text())
    with closing(SqliteStore(tmp_path)) as store:
        log, reader = store.open(), store.reader()
        assert bytes(range(32)) == log.secret
        expected = [
            RoomRecord("café", 2, 1, 1, "", 1_700_000_004_000),
            RoomRecord("empty", 0, 8, 7, "all gone"),
            RoomRecord("lobby", 0, 3, 6, "Welcome", 1_700_000_003_000),
        ]
        assert expected == sorted(log.rooms())
        page = reader.read("lobby", Mode.AFTER, 0, 100)
        read = [entry for body in page.batches for entry in numbered(body)]
        assert [(3, "three"), (4, "four"), (5, "five"), (6, "Welcome")] == read
        assert 2 == reader.generation("café")
        sender = bytes(range(16))
        marks = {
            4: mark(4, (3, 1_700_000_002_000)),
            5: mark(5, (1, 1_700_000_004_000)),
        }
        assert marks == log.recall(sender)
        log.append([proposal("lobby", said("new"), sends=[sent(sender, 6)])])
        assert [(6, 7, 7)] == [(each.prev, each.first, each.last) for each in log.follow()]
        assert [4, 5, 6] == sorted(log.recall(sender))


def test_a_trim_takes_turns_and_small_bites(store: SqliteStore) -> None:
    """One call drops so many batches of so many rooms; further calls drop the rest."""
    log = store.open(retain_messages=1)
    batches = TRIM_BATCHES_MAX + 10
    log.append([proposal("deep", said("x")) for _ in range(batches)])
    names = [f"r{index}" for index in range(TRIM_ROOMS_MAX + 5)]
    log.append([proposal(name, said("x")) for name in names for _ in range(2)])
    calls = [log.trim(0) for _ in range(4)]
    assert TRIM_ROOMS_MAX == len(calls[0])
    assert TRIM_BATCHES_MAX + 1 == calls[0]["deep"]
    assert 6 == len(calls[1])
    assert {"deep": batches} == calls[2]
    assert {} == calls[3]
    assert {2} == {record.first for record in log.rooms() if record.name != "deep"}


def test_a_trim_of_many_rooms_does_not_wait_for_the_disk(store: SqliteStore) -> None:
    """What one call drops is one transaction, and old senders are not looked for each time."""
    log = store.open(retain_messages=1)
    said_statements: list[str] = []
    everywhere = [proposal(f"r{index}", said("x")) for index in range(TRIM_ROOMS_MAX)]
    for _ in range(2):
        log.append(everywhere)
    log.trim(0)
    log.append(everywhere)
    log._write_index()
    store.database.set_trace_callback(said_statements.append)
    assert TRIM_ROOMS_MAX == len(log.trim(1_000))
    store.database.set_trace_callback(None)
    assert 1 == said_statements.count("COMMIT")
    assert not any("FULL" in statement for statement in said_statements)
    assert not any("senders" in statement for statement in said_statements)


def test_old_senders_are_forgotten_and_young_ones_are_not(store: SqliteStore) -> None:
    """After as many days as a client may take to send again, its marks go from the file."""
    log = store.open()
    now_ms = 10**12
    log.append([proposal("r", said("a"), sends=[sent(b"s" * 16, 1, (0, 0, now_ms))])])
    log.trim(now_ms + SENDER_DAYS * DAY_MS)
    assert [1] == sorted(store.open().recall(b"s" * 16))
    store.open().trim(now_ms + SENDER_DAYS * DAY_MS + 1)
    assert {} == store.open().recall(b"s" * 16)


@pytest.mark.parametrize("retain_messages", [0, 1])
def test_a_trim_on_a_full_disk_fails_as_the_log_does(
    store: SqliteStore, retain_messages: int
) -> None:
    """Whatever of it cannot be written, it is LogFailed, and works again afterwards."""
    log = store.open(retain_messages=retain_messages)
    for number in range(3):
        log.append([proposal("r", said("a"), sends=[sent(b"s" * 16, number)])])
    store.database.execute("PRAGMA query_only = 1")  # Refuses writes as a full disk does.
    with pytest.raises(LogFailed, match="cannot be trimmed"):
        log.trim(10**15)
    store.database.execute("PRAGMA query_only = 0")
    assert ({"r": 3} if retain_messages else {}) == log.trim(10**15)
    assert {} == store.open().recall(b"s" * 16)


def test_an_index_that_cannot_be_written_stops_appends_in_time(
    store: SqliteStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What waits for the index is bounded; nothing is lost when it can be written again."""
    monkeypatch.setattr(broker.log.writer, "WAITING_MAX", 3)
    log = store.open()
    store.database.execute("PRAGMA query_only = 1")
    for number in range(1, 4):
        log.append([proposal("r", said(f"{number}"))])
    with pytest.raises(LogFailed, match="the log cannot be written: attempt to write a readonly"):
        log.append([proposal("r", said("4"))])
    assert not store.database.in_transaction
    store.database.execute("PRAGMA query_only = 0")
    log.append([proposal("r", said("5"))])
    assert [3, 4] == [each.last for each in log.follow()][-2:]
    assert ["1", "2", "3", "5"] == kept_texts(store.reader(), "r")


def test_a_reader_sees_one_moment(store: SqliteStore) -> None:
    """A page's record and batches agree while the writer appends and trims between reads."""
    log, reader = store.open(retain_messages=3), store.reader()
    for number in range(1, 3 * SENDS_IN_FLIGHT_MAX):
        log.append([proposal("r", said(f"{number}"))])
        log.trim(0)
        page = reader.read("r", Mode.AFTER, 0, 100)
        seqs = [seq for body in page.batches for seq, _ in numbered(body)]
        assert list(range(page.record.first, page.record.head + 1)) == seqs
        assert number == page.record.head
