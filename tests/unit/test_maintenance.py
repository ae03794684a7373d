"""`hubbub-broker check` and `salvage`, on logs without a broker, and the command line."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest

from broker.log import compaction as log_compaction
from broker.log import segments
from broker.log.index import connect
from broker.log.segments import HighWater, path_of
from broker.log.writer import FILE_NAME
from broker.maintenance import checkup
from common.spans import lost_count
from common.wire import Mode, decode_batch
from tests.unit.logs import SqliteStore, kept_texts, mark, proposal, said
from tests.unit.tools import SENDER, TEXTS, Said, flip, make_data


@pytest.fixture
def tool(capsys: pytest.CaptureFixture[str]) -> Said:
    """Return something that runs sub-commands."""
    return Said(capsys)


@pytest.fixture
def small_segments(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let a few records fill a segment."""
    monkeypatch.setattr(segments, "SEGMENT_BYTES_MAX", 1_000)
    monkeypatch.setattr(log_compaction, "SEGMENT_BYTES_MAX", 1_000)


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """Return the folder of a log; see there."""
    return make_data(tmp_path)


# --- check ------------------------------------------------------------------
def test_a_whole_log_passes(tool: Said, data: Path) -> None:
    """It says what it looked at; with --json, too."""
    assert 0 == tool.run("check", "--data", data)
    assert f"{data}: 2 rooms, 25 entries in 17 batches" in tool.out[0]
    assert "9 records in 1 segments" in tool.out[0]
    assert "whole: all of it was read, and is what was written" == tool.out[-1]
    assert 0 == tool.run("check", "--data", data, "--json")
    found = json.loads(tool.out[0])
    assert (2, 25, 17, 9, []) == tuple(
        found[name] for name in ("rooms", "entries", "batches", "records", "problems")
    )


def test_check_changes_nothing(tool: Said, data: Path) -> None:
    """Not a byte of what was written."""
    before = {path.name: path.read_bytes() for path in data.glob("*.segment")}
    tool.run("check", "--data", data)
    assert before == {path.name: path.read_bytes() for path in data.glob("*.segment")}


def damaged_body(data: Path) -> str:
    offset = flip(path_of(data, 1), b"text 3")
    assert offset
    return "hubbub-00000001.segment at"


def damaged_tail_body(data: Path) -> str:
    flip(path_of(data, 1), b"text 7")
    return "#r, entries 8 to 8: not what was written"


def damaged_contents(data: Path) -> str:
    position = path_of(data, 1).read_bytes().index(b"HUBS", 5)
    content = bytearray(path_of(data, 1).read_bytes())
    content[position + 30] ^= 1
    path_of(data, 1).write_bytes(content)
    return f"hubbub-00000001.segment at {position}: "


def cut_off(data: Path) -> str:
    os.truncate(path_of(data, 1), 400)
    return "entries"


def cut_tail(data: Path) -> str:
    with closing(HighWater(data, is_writer=False)) as high_water:
        end = high_water.get() & segments.OFFSET_MASK
    os.truncate(path_of(data, 1), end - 1)
    return "ends here, but more was acknowledged"


def missing_segment(data: Path) -> str:
    path_of(data, 1).unlink()
    return "hubbub-00000001.segment: the file is missing"


def missing_index(data: Path) -> str:
    (data / FILE_NAME).unlink()
    return "the index is missing; if all segments are there, a start of the broker"


def garbled_index(data: Path) -> str:
    (data / FILE_NAME).write_bytes(b"\xff" * 9_000)
    return "file is not a database"


def damaged_page(data: Path) -> str:
    fold(data)
    with (data / FILE_NAME).open("r+b") as file:
        file.seek(4_096)
        file.write(b"\xff" * 2_000)
    return "hubbub.db"


def change(data: Path, statement: str) -> None:
    with closing(connect(data / FILE_NAME)) as db:
        db.execute(statement)


def fold(data: Path) -> None:
    change(data, "PRAGMA wal_checkpoint(TRUNCATE)")


def fewer_than_noted(data: Path) -> str:
    epoch = (data / "progress").read_text().split()[0]
    (data / "progress").write_text(f"{epoch} 99\n")
    return "tells of 99 entries, the log has 25"


# What to do to the index, and what `check` says of it.
INDEX_HARMS = {
    "hole_in_index": (
        "DELETE FROM batches WHERE place & 0xFF = 3 AND place >> 40 = 1",
        "#r, entries 3 to 3: not in the index",
    ),
    "wrong_position": (
        "UPDATE batches SET position = position + 1 WHERE place = 1 << 40 | 2",
        "#r, entries 2 to 2: not what was written",
    ),
    "wrong_use": (
        "UPDATE segments SET live_bytes = 0",
        "bytes in use, noted are 0",
    ),
    "strange_rows": (
        "UPDATE batches SET place = place + (7 << 40) WHERE place = 1 << 40 | 2",
        "1 batches are of no room",
    ),
    "older_than_before": (
        "UPDATE batches SET ts = 9 WHERE place = 1 << 40 | 1",
        "#r, entries 2 to 2: older than what is before it",
    ),
    "wrong_begin": (
        "UPDATE rooms SET first = 3 WHERE id = 1",
        "#r begins at 3, trimmed up to 0",
    ),
    "another_batch": (
        """UPDATE batches SET (position, size_bytes, crc) = (
            SELECT position, size_bytes, crc FROM batches WHERE place = 1 << 40 | 2
        ) WHERE place = 1 << 40 | 3""",
        "#r, entries 3 to 3: another batch is there",
    ),
    "hole_before_tail": (
        "DELETE FROM batches WHERE place = 1 << 40 | 5",
        "#r, entries 6 to 6: does not follow what is before it",
    ),
    "wrong_marks": (
        "INSERT INTO sends (marks) VALUES (x'ff')",
        "what 1 senders sent last cannot be read",
    ),
}


HARMS = [
    damaged_body,
    damaged_tail_body,
    damaged_contents,
    cut_off,
    cut_tail,
    missing_segment,
    missing_index,
    garbled_index,
    damaged_page,
    fewer_than_noted,
]


def assert_found(tool: Said, data: Path, expected: str) -> None:
    """See that `check` tells of it, and what to do."""
    assert 1 == tool.run("check", "--data", data)
    problems = [line for line in tool.out if line.startswith("problem: ")]
    assert any(expected in line for line in problems), tool.out
    assert "hubbub-broker restore" in tool.out[-1]
    assert [] == tool.err


@pytest.mark.parametrize("harm", HARMS)
def test_check_finds(tool: Said, data: Path, harm: Callable[[Path], str]) -> None:
    """Each kind of damage by itself: where it is, and what to do."""
    assert_found(tool, data, harm(data))


@pytest.mark.parametrize("harm", INDEX_HARMS)
def test_check_finds_a_wrong_index(tool: Said, data: Path, harm: str) -> None:
    """The segments are whole, and the index tells something else."""
    statement, expected = INDEX_HARMS[harm]
    change(data, statement)
    assert_found(tool, data, expected)


@pytest.mark.usefixtures("small_segments")
def test_check_follows_records_across_segments(tool: Said, tmp_path: Path) -> None:
    """A segment's last record that vanished leaves a gap that the next segment tells of."""
    with closing(SqliteStore(tmp_path, is_quick=True)) as store:
        log = store.open()
        for number in range(30):
            log.append([proposal("r", said(f"{number}".rjust(100, "."), ts=number))])
    assert len(segments.numbers(tmp_path)) > 1
    assert 0 == tool.run("check", "--data", tmp_path)
    path = path_of(tmp_path, segments.numbers(tmp_path)[0])
    last = path.read_bytes().rindex(b"HUBS")
    os.truncate(path, last)
    assert 1 == tool.run("check", "--data", tmp_path)
    assert any("what was written before it is gone" in line for line in tool.out)


def test_a_torn_end_is_no_problem(tool: Said, data: Path) -> None:
    """What a crash left was promised to nobody."""
    with closing(HighWater(data, is_writer=False)) as high_water:
        end = high_water.get() & segments.OFFSET_MASK
    content = path_of(data, 1).read_bytes()[:end]
    path_of(data, 1).write_bytes(content + b"HUBS\x01torn")
    assert 0 == tool.run("check", "--data", data)


@pytest.mark.parametrize("words", [("check",), ("export",), ("backup", "to"), ("salvage", "to")])
def test_an_empty_folder_and_none_are_no_log(
    tool: Said, tmp_path: Path, words: tuple[str, ...]
) -> None:
    """That is said, and not that it is damaged."""
    for folder in (tmp_path, tmp_path / "none"):
        for asked in ((*words, "--data", folder), ("restore", folder, "--data", tmp_path / "x")):
            assert 1 == tool.run(*asked)
            assert [f"hubbub-broker: there is no log in {folder}"] == tool.err


def test_a_room_is_exported_as_people_write_it(tool: Said, data: Path) -> None:
    assert 0 == tool.run("export", "--data", data, "--room", "#R")
    shown = tool.out
    assert 0 == tool.run("export", "--data", data, "--room", "r")
    assert shown == tool.out != []


def test_check_looks_so_often_when_retention_outruns_it(
    tool: Said, data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Then it tells what it saw last."""
    looks: list[int] = []

    def outrun(_checkup: checkup._Checkup) -> bool:
        looks.append(1)
        return True

    monkeypatch.setattr(checkup._Checkup, "is_outrun", outrun)
    missing_segment(data)
    assert 1 == tool.run("check", "--data", data)
    assert checkup.TRIES_MAX == len(looks)
    assert "problem: hubbub-00000001.segment: the file is missing" in tool.out


@pytest.mark.parametrize(
    ("found_count", "told_count"),
    [(checkup.INTEGRITY_MAX, checkup.INTEGRITY_MAX), (99, checkup.INTEGRITY_MAX)],
)
def test_check_tells_what_sqlite_finds_up_to_a_bound(
    tool: Said, data: Path, found_count: int, told_count: int
) -> None:
    """Also where all that is ours can be read: what else is wrong nobody knows."""
    with closing(connect(data / FILE_NAME)) as db:
        db.execute("CREATE TABLE other (number)")
        db.executemany("INSERT INTO other VALUES (?)", [(None,)] * found_count)
        db.execute("PRAGMA writable_schema = ON")
        db.execute(
            "UPDATE sqlite_schema SET sql = 'CREATE TABLE other (number NOT NULL)' "
            "WHERE name = 'other'"
        )
    assert 1 == tool.run("check", "--data", data)
    told = "problem: hubbub.db: SQLite finds: NULL value in other.number"
    assert [told] * told_count == [line for line in tool.out if line.startswith("problem: ")]


@pytest.mark.parametrize("is_more", [False, True])
def test_check_counts_the_problems_beyond_a_bound(
    tool: Said, data: Path, monkeypatch: pytest.MonkeyPatch, *, is_more: bool
) -> None:
    """A log that is damaged all over fills no screen, and no memory; the bound is smaller here."""
    missing_segment(data)
    tool.run("check", "--data", data)
    problems = [line for line in tool.out if line.startswith("problem: ")]
    bound = len(problems) - 2 * is_more
    monkeypatch.setattr(checkup, "PROBLEMS_MAX", bound)
    assert 1 == tool.run("check", "--data", data)
    rest = ["problem: and 2 more"] if is_more else []
    told = [line for line in tool.out if line.startswith("problem: ")]
    assert [*problems[:bound], *rest] == told


# --- salvage ----------------------------------------------------------------
@pytest.mark.parametrize("is_index_lost", [False, True])
def test_salvage_keeps_what_is_whole_and_tells_what_is_not(
    tool: Said, data: Path, tmp_path: Path, *, is_index_lost: bool
) -> None:
    """Places stay, holes are told to readers, and the new log passes the check."""
    new = tmp_path / "new"
    damaged_body(data)
    if is_index_lost:
        garbled_index(data)
    assert 0 == tool.run("salvage", "--data", data, new)
    assert "missing: #r, entries 4 to 4" == tool.out[0]
    assert f"{new} has 24 entries; 1 are missing" == tool.out[-1]
    assert is_index_lost == bool(tool.err)
    assert 0 == tool.run("check", "--data", new)
    assert "1 entries were given up in a salvage before" in tool.out
    with closing(SqliteStore(new)) as store:
        assert 9 == {room.name: room.head for room in store.open().rooms()}["r"]
        assert "cats" == {room.name: room.topic for room in store.opened.rooms()}["r"]
        assert mark(8, (8, 7)) == store.opened.recall(SENDER)[8]
        page = store.reader().read("r", Mode.AFTER, 0, 99)
        lost = [decode_batch(body) for body in page.batches if lost_count(decode_batch(body))]
        assert [(4, 4)] == [(batch.first, batch.prev) for batch in lost]
        assert [*TEXTS[:3], *TEXTS[4:], "cats"] == kept_texts(store.reader(), "r")
        store.opened.append([proposal("r", said("on", ts=100))])
    assert 0 == tool.run("check", "--data", new)
    assert 0 == tool.run("salvage", "--data", new, tmp_path / "again")
    assert "missing: #r, entries 4 to 4" == tool.out[0]


@pytest.mark.parametrize("harm", HARMS)
def test_whatever_is_salvaged_is_whole(
    tool: Said, data: Path, tmp_path: Path, harm: Callable[[Path], str]
) -> None:
    """After any damage the new log passes, and what it lacks was told."""
    harm(data)
    new = tmp_path / "new"
    status = tool.run("salvage", "--data", data, new)
    if harm is missing_segment:
        assert "has 0 entries; " in tool.out[-1]
    assert 0 == status
    lost = [line for line in tool.out if line.startswith("missing: ")]
    kept = int(tool.out[-1].split(" has ")[1].split()[0])
    missing = int(tool.out[-1].split("; ")[1].split()[0])
    assert bool(lost) == bool(missing)
    assert kept + missing <= 25
    assert 0 == tool.run("check", "--data", new)
    with closing(SqliteStore(new)) as store:
        store.open()
        assert kept == sum(
            lost_count(decode_batch(body)) == 0 and len(decode_batch(body).posts[0].texts)
            for room in store.opened.rooms()
            for body in store.reader().read(room.name, Mode.AFTER, 0, 99).batches
        )


def test_salvage_tells_of_a_rooms_last_entry(tool: Said, data: Path, tmp_path: Path) -> None:
    """Nothing comes after it, but the index knows that it was there."""
    with closing(SqliteStore(data)) as store:
        store.open()
    content = bytearray(path_of(data, 1).read_bytes())
    content[content.rindex(b"cats")] ^= 1
    path_of(data, 1).write_bytes(content)
    assert 0 == tool.run("salvage", "--data", data, tmp_path / "new")
    assert "missing: #r, entries 9 to 9" == tool.out[0]
    with closing(SqliteStore(tmp_path / "new")) as store:
        assert 9 == {room.name: room.head for room in store.open().rooms()}["r"]


def test_salvage_brings_nothing_back(tool: Said, data: Path, tmp_path: Path) -> None:
    """Neither what retention has dropped from the index alone, nor tickets that have ended."""
    with closing(SqliteStore(data)) as store:
        log = store.open(retain_messages=2)
        for _ in range(9):
            log.trim(0)
        first = {room.name: room.first for room in log.rooms()}["r"]
    assert first > 1
    change(data, "UPDATE rooms SET generation = 5 WHERE name = 'r'")
    assert b"text 0" in path_of(data, 1).read_bytes()
    assert 0 == tool.run("salvage", "--data", data, tmp_path / "new")
    assert b"text 0" not in path_of(tmp_path / "new", 1).read_bytes()
    with closing(SqliteStore(tmp_path / "new")) as store:
        (room,) = [room for room in store.open().rooms() if room.name == "r"]
        assert (5, first, 9) == (room.generation, room.first, room.head)
        assert [*TEXTS, "cats"][first - 1 :] == kept_texts(store.reader(), "r")


def test_salvage_goes_nowhere_where_something_is(tool: Said, data: Path, tmp_path: Path) -> None:
    """And it needs something to look through."""
    assert 1 == tool.run("salvage", "--data", data, tmp_path)
    assert "choose a new folder" in tool.err[0]
    assert 1 == tool.run("salvage", "--data", tmp_path / "none", tmp_path / "new")
    assert "there is no log in" in tool.err[0]


# --- the command line -------------------------------------------------------
def test_a_wrong_command_line(tool: Said, capsys: pytest.CaptureFixture[str]) -> None:
    """Status 2, and a usage; --help tells of all sub-commands."""
    for words in (["check", "--what"], ["backup"], ["export", "--since", "long ago"]):
        with pytest.raises(SystemExit) as left:
            tool.run(*words)
        assert 2 == left.value.code
        assert f"usage: hubbub-broker {words[0]}" in capsys.readouterr().err
    with pytest.raises(SystemExit) as left:
        tool.run("--help")
    assert 0 == left.value.code
    assert "check, backup, restore, export and salvage" in " ".join(capsys.readouterr().out.split())


@pytest.mark.parametrize("words", [("backup",), ("restore", "--force"), ("salvage",)])
@pytest.mark.parametrize("other", [".", "inside"])
def test_a_copy_and_its_log_are_two_folders(
    tool: Said, data: Path, words: tuple[str, ...], other: str
) -> None:
    """Inside the log it would be lost with it; and a log is not moved aside for itself."""
    before = sorted(data.iterdir())
    if other == "inside" and "restore" in words:
        data = data / other
        shutil.copytree(data.parent, data)
        before, other = sorted(data.iterdir()), ".."
    assert 1 == tool.run(*words, "--data", data, data / other)
    assert "must be two folders" in tool.err[-1]
    assert before == sorted(data.iterdir())
