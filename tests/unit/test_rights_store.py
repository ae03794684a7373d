"""What the log keeps for names, rooms, members, sanctions and the audit log, in its files."""

from __future__ import annotations

import json
import shutil
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from broker.log.interface import LogFailed, RoomRecord
from broker.log.rights_records import AuditEntry, Delete, Member, NickRecord, Put, RoomFacts
from broker.log.rights_store import AUDIT_MAX, AUDIT_PER_PERSON_MAX, SOON_MAX
from broker.log.segments import FIRST, OFFSET_MASK, SegmentReader, numbers, path_of
from broker.log.tail import Tail
from broker.maintenance.backup import backup, restore
from broker.maintenance.checkup import check
from broker.maintenance.commands import main
from broker.maintenance.export import export
from broker.maintenance.salvage import salvage
from common.errors import HubbubError
from common.wire import Mode
from tests.unit.logs import SqliteStore, kept_texts, proposal, said
from tests.unit.test_segments import crashed, small_segments

__all__ = ["small_segments"]  # A fixture.

ANN = b"a" * 32


@pytest.fixture
def store(tmp_path: Path) -> Iterator[SqliteStore]:
    """Return a new log."""
    with closing(SqliteStore(tmp_path / "log", is_quick=True)) as made:
        yield made


@pytest.fixture(autouse=True)
def folder(tmp_path: Path) -> Path:
    """Return the log's folder."""
    (tmp_path / "log").mkdir(exist_ok=True)
    return tmp_path / "log"


def entry(number: int, actor: bytes = ANN, *, is_operator: bool = True) -> AuditEntry:
    """Return an entry of the audit log."""
    return AuditEntry(0, number, "ann", actor, "ban", "bob", "r", f"{number}", is_operator)


def test_the_audit_log_keeps_so_many_of_the_newest(store: SqliteStore) -> None:
    """However many there were; ids go on."""
    log = store.open()
    log.keep([], audit=[entry(number) for number in range(AUDIT_MAX)])
    assert AUDIT_MAX == len(log.audit(2 * AUDIT_MAX))
    log.keep([], audit=[entry(AUDIT_MAX), entry(AUDIT_MAX + 1)])
    kept = log.audit(2 * AUDIT_MAX)
    assert AUDIT_MAX == len(kept)
    assert (AUDIT_MAX + 2, 3) == (kept[0].id, kept[-1].id)
    (count,) = store.database.execute("SELECT count(*) FROM audit").fetchone()
    assert AUDIT_MAX == count


def test_nobody_else_pushes_out_what_an_operator_did(store: SqliteStore) -> None:
    """However many orders in however many rooms of their own, by five keys or any number."""
    log = store.open()
    log.keep([], audit=[entry(1)])
    for key in range(30):
        actor = bytes([key]) * 32
        log.keep([], audit=[entry(2, actor, is_operator=False)] * (AUDIT_PER_PERSON_MAX + 5))
    kept = log.audit(3 * AUDIT_MAX)
    assert (1 + AUDIT_MAX, entry(1)) == (len(kept), kept[-1]._replace(id=0))
    log.keep([], audit=[entry(3)])
    assert 2 == sum(each.is_operator for each in log.audit(3 * AUDIT_MAX))


def test_a_few_people_push_out_nobody_elses_entries(store: SqliteStore) -> None:
    """Each pushes out their own: five who flood leave a moderator's ban."""
    log = store.open()
    log.keep([], audit=[entry(1, is_operator=False)])
    for number in range(3):
        for key in range(5):
            actor = bytes([key]) * 32
            made = [entry(number, actor, is_operator=False)] * AUDIT_PER_PERSON_MAX
            log.keep([], audit=made)
    kept = log.audit(2 * AUDIT_MAX)
    assert 1 + 5 * AUDIT_PER_PERSON_MAX == len(kept)
    assert entry(1, is_operator=False) == kept[-1]._replace(id=0)
    assert {2} == {each.ts_ms for each in kept[:-1]}


def test_what_may_wait_is_bounded(store: SqliteStore) -> None:
    """When so many records wait they are written, and where that fails nothing more is taken."""
    log = store.open()
    log.keep_soon([Put(NickRecord("n0", ANN, 1))])
    for number in range(SOON_MAX):  # Of the same record one change waits, the newest.
        log.keep_soon([Put(NickRecord(f"n{number}", ANN, 2))])
    assert SOON_MAX == len(log._soon)
    store.fill_all()
    with pytest.raises(LogFailed):
        log.keep_soon([Put(NickRecord("more", ANN, 1))])
    assert SOON_MAX == len(log._soon)
    store.free()
    log.keep_soon([Put(NickRecord("more", ANN, 1))])
    assert 1 == len(log._soon)
    nicks = log.load_rights().nicks
    assert (SOON_MAX + 1, 2) == (len(nicks), max(nicks).used_ms)


def test_what_is_kept_is_on_the_disk_before_anybody_is_told(store: SqliteStore) -> None:
    """SQLite waits for the disk at the end of these transactions, and only of these."""
    log = store.open()
    statements: list[str] = []
    store.database.set_trace_callback(statements.append)
    log.keep([Put(Member("r", ANN))])
    begin = statements.index("PRAGMA synchronous = FULL")
    assert begin < statements.index("COMMIT") < statements.index("PRAGMA synchronous = NORMAL")
    log.append([proposal("r", said("a"))])
    log.raise_generation("r")
    assert statements.count("PRAGMA synchronous = FULL") == 2
    statements.clear()
    log.keep_soon([Put(Member("r", ANN, read_seq=1))])
    log.trim(0)
    assert "PRAGMA synchronous = FULL" not in statements


def test_a_record_that_cannot_be_written_leaves_no_transaction_open(store: SqliteStore) -> None:
    """It is the caller's mistake, and the next one is kept."""
    log = store.open()
    with pytest.raises(OverflowError):
        log.keep([Put(NickRecord("ann", ANN, 1)), Put(NickRecord("bob", ANN, 2**63))])
    log.keep([Put(NickRecord("eve", ANN, 1))])
    assert ["eve"] == [each.nick for each in log.load_rights().nicks]


def test_a_crash_keeps_what_was_kept(store: SqliteStore, tmp_path: Path) -> None:
    """And of what may wait what a trim or a stop has written."""
    log = store.open()
    log.keep([Put(NickRecord("ann", ANN, 1)), Put(RoomFacts("r", "plans", birth=7))])
    log.keep_soon([Put(NickRecord("ann", ANN, 2))])
    log.trim(0)
    log.keep_soon([Put(NickRecord("ann", ANN, 3)), Delete(RoomFacts("r"))])
    with closing(SqliteStore(crashed(store.path.parent, tmp_path / "crashed"))) as again:
        rights = again.open().load_rights()
        assert [NickRecord("ann", ANN, 2)] == rights.nicks
        assert [RoomFacts("r", "plans", birth=7)] == rights.rooms
        assert rights.rooms[0].birth == 7
    store.close()
    rights = store.open().load_rights()
    assert ([NickRecord("ann", ANN, 3)], []) == (rights.nicks, rights.rooms)


@pytest.mark.parametrize("is_index_locked", [False, True])
def test_no_reader_finds_a_renamed_room_under_its_old_name(
    store: SqliteStore, *, is_index_locked: bool
) -> None:
    """Not in the moment after, not one whose tail knew the old name, not with an old index."""
    log = store.open()
    log.append([proposal("other", said("x"))])
    log.trim(0)
    fresh, knowing = store.reader(), store.reader()
    log.append([proposal("plans", said("a"))])
    assert 1 == knowing.read("plans", Mode.AFTER, 0, 9).record.head  # From its tail alone.
    if is_index_locked:
        log._write_index()
        store.database.execute("PRAGMA busy_timeout = 1")
        waiting = log._waiting
        log._waiting = type(waiting)()
        refuse_index(log)
    log.rename_room("plans", "+0")
    for reader in (fresh, knowing, store.reader()):
        assert RoomRecord("plans", 0, 1, 0, "") == reader.read("plans", Mode.AFTER, 0, 9).record
        assert ["a"] == kept_texts(reader, "+0")
        assert ["+0", "other"] == sorted(reader.rooms())
        assert 0 == reader.generation("plans")
    log.append([proposal("plans", said("new")), proposal("+0", said("b"))])
    for reader in (fresh, knowing, store.reader()):
        assert (["new"], ["a", "b"]) == (kept_texts(reader, "plans"), kept_texts(reader, "+0"))


def test_a_tail_that_began_before_both_names_has_the_newer_one(store: SqliteStore) -> None:
    """A snapshot of the index may be older than what is read of the segments."""
    log = store.open()
    with closing(SegmentReader(store.path.parent)) as segments:
        tail = Tail(store.path.parent, segments)
        with closing(tail):
            log.append([proposal("plans", said("a"))])
            tail.catch_up(FIRST)
            assert 1 == tail.room_id("plans")
            log.rename_room("plans", "+0")
            tail.catch_up(FIRST)
            assert (None, 1) == (tail.room_id("plans"), tail.room_id("+0"))
            assert {1: "+0"} == tail.new_names()


def test_a_crash_keeps_a_name_that_is_the_last_record(store: SqliteStore, tmp_path: Path) -> None:
    """Nothing was said since, and the index has not heard of it."""
    log = store.open()
    log.append([proposal("r", said("a"))])
    refuse_index(log)
    log.found_room("+0")
    folder = crashed(store.path.parent, tmp_path / "crashed")
    with closing(SqliteStore(folder)) as again:
        assert ["r", "+0"] == [room.name for room in again.open().rooms()]


def refuse_index(log: object) -> None:
    """Let the index be written no more after its next writing."""
    calls = iter([False])
    write = log._write_index  # type: ignore[attr-defined]

    def refused() -> None:
        if next(calls, True):
            message = "database is locked"
            raise sqlite3.OperationalError(message)
        write()

    log._write_index = refused  # type: ignore[attr-defined]


def test_a_generation_goes_with_the_room_before_the_index_knows(store: SqliteStore) -> None:
    """Tickets for the new name are made for it at once."""
    log = store.open()
    log.found_room("plans")
    assert 1 == log.raise_generation("plans")
    refuse_index(log)
    log.rename_room("plans", "+0")
    assert 1 == store.reader().generation("+0")
    assert 0 == store.reader().generation("plans")


@pytest.mark.parametrize("has_index", [True, False])
def test_a_crash_after_a_rename_keeps_the_new_name(
    store: SqliteStore, tmp_path: Path, *, has_index: bool
) -> None:
    """Also where the index is made again of all segments; what was kept for it goes with it."""
    log = store.open()
    log.append([proposal("plans", said("a")), proposal("r", said("x"))])
    log.keep([Put(RoomFacts("plans", "+plans")), Put(Member("plans", ANN))])
    refuse_index(log)
    log.rename_room("plans", "+0")
    log.append([proposal("+0", said("b")), proposal("plans", said("new"))])
    target = crashed(store.path.parent, tmp_path / "crashed")
    if not has_index:
        for path in target.glob("hubbub.db*"):
            path.unlink()
        (target / "progress").unlink()
    with closing(SqliteStore(target)) as again:
        log = again.open()
        assert ["+0", "plans", "r"] == sorted(record.name for record in log.rooms())
        assert ["a", "b"] == kept_texts(again.reader(), "+0")
        assert ["new"] == kept_texts(again.reader(), "plans")
        rights = log.load_rights()
        assert ([RoomFacts("+0", "+plans")] if has_index else []) == rights.rooms
        assert ([Member("+0", ANN)] if has_index else []) == rights.members
    assert [] == check(target).problems


@pytest.mark.usefixtures("small_segments")
def test_a_segment_of_names_alone_goes_when_the_index_is_safe(
    store: SqliteStore, folder: Path, tmp_path: Path
) -> None:
    """It is needed until then, and then no more."""
    log = store.open()
    log.append([proposal("r", said("a" * 900))])
    log.found_room("s")
    log.append([proposal("r", said("b" * 950))])
    assert [1, 2, 3] == numbers(folder)
    with closing(SqliteStore(crashed(folder, tmp_path / "crashed"))) as again:
        assert ["r", "s"] == [room.name for room in again.open().rooms()]
        assert [1, 2, 3] == numbers(tmp_path / "crashed")
    log.trim(0)
    log.trim(0)
    assert not path_of(folder, 2).exists()
    store.close()
    assert ["r", "s"] == [room.name for room in store.open().rooms()]


def test_tools_know_a_renamed_room_by_its_new_name(store: SqliteStore, tmp_path: Path) -> None:
    """Check, backup, restore and export; the index may know the name or not."""
    log = store.open()
    log.append([proposal("plans", said("a"))])
    log.rename_room("plans", "+0")
    log.append([proposal("+0", said("b"))])
    log.keep([Put(RoomFacts("+0", "+plans", owner=ANN))])
    folder = crashed(store.path.parent, tmp_path / "crashed")
    shutil.copyfile(store.path.parent / "committed", folder / "committed")
    for report in (check(folder), backup(folder, tmp_path / "copy")):
        assert ([], 1, 2) == (report.problems, report.rooms, report.entries)
    restore(tmp_path / "copy", tmp_path / "new", is_forced=False)
    with closing(SqliteStore(tmp_path / "new")) as again:
        assert [RoomFacts("+0", "+plans", owner=ANN)] == again.open().load_rights().rooms
        assert ["a", "b"] == kept_texts(again.reader(), "+0")
    for asked in ("+0", "+plans"):
        lines = list(export(folder, [asked], 0, pytest.fail))
        assert 2 == len(lines)
        assert all('"room": "+0"' in line for line in lines)


def test_an_export_has_closed_rooms_only_when_asked(
    store: SqliteStore, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """By name or title; else it says that there are some."""
    log = store.open()
    log.append(
        [proposal("r", said("open")), proposal("+0", said("mine")), proposal("@1", said("x"))]
    )
    log.keep([Put(RoomFacts("+0", "+plans"))])
    data = ["--data", str(folder)]
    assert 0 == main(["export", *data])
    told = capsys.readouterr()
    assert ["open"] == [json.loads(line)["text"] for line in told.out.splitlines()]
    assert "2 closed rooms were left out: --room NAME or TITLE exports one" in told.err
    assert 0 == main(["export", *data, "--room", "+plans", "--room", "@1"])
    told = capsys.readouterr()
    assert ["mine", "x"] == [json.loads(line)["text"] for line in told.out.splitlines()]
    assert "" == told.err
    with pytest.raises(HubbubError, match=r"there is no room \+none"):
        main(["export", *data, "--room", "+none"])


@pytest.mark.parametrize("is_index_behind", [True, False])
def test_salvage_keeps_names_and_rights(
    store: SqliteStore, tmp_path: Path, *, is_index_behind: bool
) -> None:
    """Batches that have an older name inside are not taken for another room's."""
    log = store.open()
    log.append([proposal("plans", said("a"))])
    log.keep([Put(RoomFacts("plans", "+plans")), Put(NickRecord("ann", ANN, 1))], audit=[entry(1)])
    log.raise_generation("plans")
    if is_index_behind:
        refuse_index(log)
    log.rename_room("plans", "+0")
    log.append([proposal("plans", said("new")), proposal("+0", said("b"))])
    folder = crashed(store.path.parent, tmp_path / "crashed")
    assert (3, []) == salvage(folder, tmp_path / "new", pytest.fail)
    assert [] == check(tmp_path / "new").problems
    with closing(SqliteStore(tmp_path / "new")) as again:
        log = again.open()
        assert [("+0", 1, 2), ("plans", 0, 1)] == [room[:2] + room[3:4] for room in log.rooms()]
        assert ["a", "b"] == kept_texts(again.reader(), "+0")
        assert ["new"] == kept_texts(again.reader(), "plans")
        rights = log.load_rights()
        assert [RoomFacts("+0", "+plans")] == rights.rooms
        assert [NickRecord("ann", ANN, 1)] == rights.nicks
        assert [1] == [each.ts_ms for each in log.audit(9)]


def test_salvage_without_an_index_opens_no_closed_room(store: SqliteStore, tmp_path: Path) -> None:
    """Its name is in a record; where that is gone, too, it stays closed under a new one."""
    log = store.open()
    log.append([proposal("plans", said("a"))])
    first = log._segments.end & OFFSET_MASK
    log.append([proposal("plans", said("b"))])
    second = log._segments.end & OFFSET_MASK
    log.rename_room("plans", "+0")
    third = log._segments.end & OFFSET_MASK
    log.append([proposal("plans", said("new")), proposal("@1", said("hello"))])
    for is_name_lost in (False, True):
        folder = crashed(store.path.parent, tmp_path / f"crashed{is_name_lost}")
        for path in folder.glob("hubbub.db*"):
            path.unlink()
        if is_name_lost:  # The records that named the room.
            data = path_of(folder, 1).read_bytes()
            rest = data[first:second] + bytes(third - second) + data[third:]
            path_of(folder, 1).write_bytes(bytes(first) + rest)
        told: list[str] = []
        salvage(folder, tmp_path / f"new{is_name_lost}", told.append)
        with closing(SqliteStore(tmp_path / f"new{is_name_lost}")) as again:
            rooms = again.open().rooms()
            assert all(room.generation >= 1 << 30 for room in rooms)
            closed = next(room.name for room in rooms if room.name.startswith("+"))
            assert {closed, "@1", "plans"} == {room.name for room in rooms}
            assert (closed == "+0") is not is_name_lost
            assert is_name_lost is (f"a room that was #plans once is {closed} now" in told)
            assert "b" in kept_texts(again.reader(), closed)
            assert ["new"] == kept_texts(again.reader(), "plans")
            assert ["hello"] == kept_texts(again.reader(), "@1")


def test_salvage_says_what_rights_it_could_not_read(store: SqliteStore, tmp_path: Path) -> None:
    """The other tables are kept."""
    log = store.open()
    log.append([proposal("r", said("a"))])
    log.keep([Put(NickRecord("ann", ANN, 1)), Put(RoomFacts("r"))])
    store.database.execute("DROP TABLE nicks")
    log.trim(0)
    folder = crashed(store.path.parent, tmp_path / "crashed")
    told: list[str] = []
    assert (1, []) == salvage(folder, tmp_path / "new", told.append)
    assert ["what was kept as nicks cannot be read, and is given up: no such table: nicks"] == told
    with closing(SqliteStore(tmp_path / "new")) as again:
        assert [RoomFacts("r")] == again.open().load_rights().rooms
