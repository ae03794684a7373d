"""Logs that earlier versions made are opened, read, checked, exported and gone on with."""

from __future__ import annotations

import json
import os
import shutil
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

import tests
from broker.log import progress
from broker.log.interface import RoomRecord
from broker.log.segments import path_of
from broker.log.writer import FILE_NAME, SCHEMA_VERSION
from broker.maintenance.backup import backup
from broker.maintenance.checkup import check
from broker.maintenance.export import export
from broker.maintenance.salvage import salvage
from common.spans import lost_count
from common.wire import Mode, decode_batch
from tests.unit.logs import SqliteStore, entries_of, mark, proposal, said, sent

GOLDEN = Path(tests.__file__).parent / "golden"
SCHEMAS = range(1, SCHEMA_VERSION)
SENDER = bytes(range(16))
T0_MS = 1_700_000_000_000
LOBBY = ["three", "waves", "Welcome", "six", "seven", "eight"]  # From 3 on: 1 and 2 were trimmed.
LINES = [f"line {number}" for number in range(1, 41)]
ROOMS = [
    RoomRecord("café", 0, 1, 2, "", T0_MS + 8_000),
    RoomRecord("dev", 0, 1, 40, "", T0_MS + 7_000),
    RoomRecord("lobby", 0, 3, 8, "Welcome", T0_MS + 5_000),
]
MARKS = {
    1: mark(1, (1, T0_MS)),
    2: mark(2, (5, T0_MS + 3_000)),
    3: mark(3, (2, T0_MS + 8_000)),
}


def put(schema: int, folder: Path) -> int:
    """Put the golden log of a schema into a folder; return its epoch."""
    with closing(sqlite3.connect(folder / FILE_NAME)) as database:
        database.executescript((GOLDEN / f"log-{schema}.sql").read_text(encoding="utf-8"))
        (epoch,) = database.execute("SELECT value FROM meta WHERE key = 'epoch'").fetchone()
    segment = GOLDEN / f"log-{schema}.segment"
    if segment.exists():
        shutil.copyfile(segment, path_of(folder, 1))
    progress.note(folder, epoch, 50)
    assert isinstance(epoch, int)
    return epoch


@pytest.fixture(params=SCHEMAS, ids=lambda schema: f"schema-{schema}")
def old(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[SqliteStore]:
    """Return an old log, which today's code has prepared."""
    epoch = put(request.param, tmp_path)
    with closing(SqliteStore(tmp_path)) as store:
        assert epoch == store.open().epoch  # Clients go on from where they were.
        yield store


def read(store: SqliteStore, room: str) -> list[tuple[int, str]]:
    """Return seq and text of all entries of a room."""
    page = store.reader().read(room, Mode.AFTER, 0, 999)
    return [(seq, text) for body in page.batches for seq, _, text in entries_of(body)]


def test_every_earlier_schema_has_its_golden_log() -> None:
    """Who raises the version adds the log that the version before it made."""
    assert [f"log-{schema}.sql" for schema in SCHEMAS] == sorted(
        path.name for path in GOLDEN.glob("log-*.sql")
    )


def test_every_entry_is_read_and_every_room_known(old: SqliteStore) -> None:
    """With times, topics and what was trimmed."""
    assert ROOMS == sorted(old.opened.rooms())
    assert list(enumerate(LOBBY, 3)) == read(old, "lobby")
    assert list(enumerate(LINES, 1)) == read(old, "dev")
    assert [(1, "salut"), (2, "ça va?")] == read(old, "café")
    page = old.reader().read("lobby", Mode.SINCE, T0_MS + 4_000, 9)
    assert T0_MS + 5_000 == entries_of(page.batches[0])[0][1]


def test_a_send_that_comes_again_is_answered_from_the_log(old: SqliteStore) -> None:
    """What was acknowledged by the old version is acknowledged again, with its place."""
    assert MARKS == old.opened.recall(SENDER)


def test_it_goes_on(old: SqliteStore) -> None:
    """Appends follow the last entry; old and new are read together, also after a restart."""
    old.opened.append([proposal("lobby", said("new", ts=T0_MS + 9_000), sends=[sent(SENDER, 4)])])
    assert [(8, 9, 9)] == [(each.prev, each.first, each.last) for each in old.opened.follow()]
    old.open()
    assert list(enumerate([*LOBBY, "new"], 3)) == read(old, "lobby")
    assert {*MARKS, 4} == old.opened.recall(SENDER).keys()


def test_it_is_checked_copied_and_exported(old: SqliteStore, tmp_path: Path) -> None:
    """Every tool takes it as one of today's."""
    old.opened.append([proposal("dev", said("new", ts=T0_MS + 9_000))])
    old.close()
    for report in (check(tmp_path), backup(tmp_path, tmp_path / "copy")):
        assert [] == report.problems
        assert (3, 49) == (report.rooms, report.entries)
    lines = [json.loads(line) for line in export(tmp_path, [], 0, pytest.fail)]
    assert [*LOBBY] == [line["text"] for line in lines if line["room"] == "lobby"]
    assert "action" == next(line["kind"] for line in lines if line["text"] == "waves")
    assert 49 == len(lines)


def test_what_has_no_checksum_is_missed_all_the_same_when_it_is_cut_off(tmp_path: Path) -> None:
    """Old bodies are not checked on reads, but a short one is no text."""
    put(3, tmp_path)
    with closing(SqliteStore(tmp_path)) as store:
        store.open()
        segment = path_of(tmp_path, 1).read_bytes()
        os.truncate(path_of(tmp_path, 1), segment.index(b"seven"))
        page = store.reader().read("lobby", Mode.AFTER, 0, 999)
        batches = [decode_batch(body) for body in page.batches]
        assert [0, 0, 3] == [lost_count(batch) for batch in batches]
        assert [(6, 8)] == [(batch.first, batch.prev) for batch in batches if not batch.posts]


@pytest.mark.parametrize("schema", SCHEMAS)
def test_it_is_salvaged_without_being_opened(schema: int, tmp_path: Path) -> None:
    """A log that is too damaged for the upgrade can still be saved."""
    old, new = tmp_path / "old", tmp_path / "new"
    old.mkdir()
    put(schema, old)
    assert (48, []) == salvage(old, new, pytest.fail)
    with closing(SqliteStore(new)) as store:
        assert ROOMS == sorted(store.open().rooms())
        assert list(enumerate(LOBBY, 3)) == read(store, "lobby")
        assert MARKS == store.opened.recall(SENDER)


@pytest.mark.parametrize("schema", SCHEMAS)
def test_an_old_log_is_only_read_by_those_that_only_read(schema: int, tmp_path: Path) -> None:
    """Check, backup and export say in a line that the broker must upgrade it first."""
    put(schema, tmp_path)
    before = (tmp_path / FILE_NAME).read_bytes()
    report = check(tmp_path)
    assert ["an older Hubbub made it"] == [problem.what for problem in report.problems]
    assert "what to do: start the broker on it once, then check" == list(report.lines())[-1]
    with pytest.raises(Exception, match=r"an older Hubbub made .*: start the broker on it"):
        list(export(tmp_path, [], 0, pytest.fail))
    with pytest.raises(Exception, match=r"an older Hubbub made .*: start the broker on it"):
        backup(tmp_path, tmp_path / "copy")
    assert before == (tmp_path / FILE_NAME).read_bytes()
    assert not (tmp_path / "copy").exists()
