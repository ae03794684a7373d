"""`hubbub-broker backup`, `restore` and `export`, on logs without a broker."""

from __future__ import annotations

import json
import os
from contextlib import closing
from pathlib import Path

import pytest

from broker.log import compaction as log_compaction
from broker.log import segments
from broker.log.datadir import hold
from broker.log.segments import HighWater, path_of
from broker.log.writer import FILE_NAME
from broker.maintenance import backup, checkup, export
from broker.maintenance.checkup import check
from common.wire import Kind, Post
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


# --- backup and restore -----------------------------------------------------
def test_a_backup_is_restored(tool: Said, data: Path, tmp_path: Path) -> None:
    """With every entry, what was acknowledged to whom, the old keys, and a new epoch."""
    copy, new = tmp_path / "a" / "copy", tmp_path / "new"
    assert 0 == tool.run("backup", "--data", data, copy)
    assert [f"{copy} has 25 entries in 2 rooms, {check(data).bytes} bytes"] == tool.out
    assert {0o600, 0o700} == {path.stat().st_mode & 0o777 for path in (copy, *copy.iterdir())}
    assert ["committed", "hubbub-00000001.segment", FILE_NAME] == sorted(
        path.name for path in copy.iterdir()
    )
    assert 0 == tool.run("restore", "--data", new, copy)
    assert "clients start over" in tool.out[-1]
    with closing(SqliteStore(data)) as old, closing(SqliteStore(new)) as restored:
        before, after = old.open(), restored.open()
        assert before.secret == after.secret
        assert before.epoch != after.epoch
        assert before.rooms() == after.rooms()
        assert [*TEXTS, "cats"] == kept_texts(restored.reader(), "r")
        assert before.recall(SENDER) == after.recall(SENDER)
        assert mark(8, (8, 7)) == after.recall(SENDER)[8]


def test_a_copy_of_a_whole_folder_is_restored_as_another_log(
    tool: Said, data: Path, tmp_path: Path
) -> None:
    """Its note of how far it had got is not taken along: nobody knows what came after it."""
    with closing(SqliteStore(data)) as old:
        epoch = old.open().epoch
    assert (data / "progress").exists()
    assert 0 == tool.run("restore", "--data", tmp_path / "new", data)
    with closing(SqliteStore(tmp_path / "new")) as restored:
        assert epoch != restored.open().epoch


def test_a_backup_goes_nowhere_where_something_is(tool: Said, data: Path, tmp_path: Path) -> None:
    """Neither over files nor over an older backup; an empty folder is taken."""
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "precious").touch()
    for target in ("full", "full/precious"):
        assert 1 == tool.run("backup", "--data", data, tmp_path / target)
        assert "is there already: choose a new folder" in tool.err[0]
    (tmp_path / "empty").mkdir()
    assert 0 == tool.run("backup", "--data", data, tmp_path / "empty")
    assert 1 == tool.run("backup", "--data", tmp_path / "none", tmp_path / "x")
    assert [f"hubbub-broker: there is no log in {tmp_path / 'none'}"] == tool.err


def test_a_backup_that_fails_leaves_nothing(
    tool: Said, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A full disk, or a log without one of its segments: one line, and no half copy."""

    def full(_file: int) -> None:
        raise OSError(28, os.strerror(28))

    with monkeypatch.context() as failing:
        failing.setattr(os, "fsync", full)
        assert 1 == tool.run("backup", "--data", data, tmp_path / "copy")
    assert ["hubbub-broker: no backup was made: [Errno 28] No space left on device"] == tool.err
    path_of(data, 1).unlink()
    assert 1 == tool.run("backup", "--data", data, tmp_path / "copy")
    assert "lacks its segments 1" in tool.err[0]
    assert not list(tmp_path.glob("copy*"))


@pytest.mark.usefixtures("small_segments")
def test_a_backup_has_what_the_index_does_not_know_and_no_more(tool: Said, tmp_path: Path) -> None:
    """All segments up to the high-water mark, and nothing of the space behind it."""
    data, copy = tmp_path / "data", tmp_path / "copy"
    data.mkdir()
    texts = [f"{number}".rjust(100, ".") for number in range(30)]
    with closing(SqliteStore(data, is_quick=True)) as store:
        log = store.open()
        for text in texts:
            log.append([proposal("r", said(text))])
        assert 0 == tool.run("backup", "--data", data, copy)
        growing = path_of(copy, log._segments.segment)
        assert log._segments.end & segments.OFFSET_MASK == growing.stat().st_size
        with closing(HighWater(copy, is_writer=False)) as high_water:
            assert log._segments.end == high_water.get()
    with closing(SqliteStore(copy)) as restored:
        restored.open()
        assert texts == kept_texts(restored.reader(), "r")


@pytest.mark.usefixtures("small_segments")
def test_backup_and_check_while_retention_drops_segments(
    tool: Said, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A segment that goes between two looks is neither a reason to fail nor damage."""
    data = tmp_path / "data"
    data.mkdir()
    lock = hold(data)
    with closing(SqliteStore(data, is_quick=True)) as store:
        log = store.open(retain_messages=5)

        def go_on() -> None:
            for _ in range(12):
                log.append([proposal("r", said("." * 100, ts=1))])
            for _ in range(9):
                log.trim(0)

        def go_on_after(name: str, patch: pytest.MonkeyPatch) -> None:
            real = getattr(backup, name)

            calls: list[str] = []

            def busy(*words: object) -> object:
                done = real(*words)
                calls.append(name)
                if len(calls) == 1:
                    go_on()
                return done

            patch.setattr(backup, name, busy)

        go_on()
        with monkeypatch.context() as patch:
            go_on_after("_copy_index", patch)
            go_on_after("_copy_file", patch)
            assert 0 == tool.run("backup", "--data", data, tmp_path / "copy"), tool.err
        look = checkup._Checkup._look_at_records
        looks: list[int] = []

        def look_late(self: checkup._Checkup, there: list[int]) -> None:
            looks.append(1)
            if len(looks) == 1:
                go_on()
            look(self, there)

        monkeypatch.setattr(checkup._Checkup, "_look_at_records", look_late)
        assert 0 == tool.run("check", "--data", data), tool.out
        assert 2 == len(looks)
    os.close(lock)


def test_copies_are_on_the_disk_before_they_count(
    tool: Said, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A power cut leaves no backup with a name that lacks something, and no shorter log."""
    steps: list[tuple[str, str]] = []
    sync, replace = os.fsync, Path.replace

    def noted_sync(file: int) -> None:
        steps.append(("sync", str(Path(f"/proc/self/fd/{file}").readlink())))
        sync(file)

    def noted_replace(path: Path, target: Path) -> Path:
        steps.append(("name", target.name))
        return replace(path, target)

    monkeypatch.setattr(os, "fsync", noted_sync)
    monkeypatch.setattr(Path, "replace", noted_replace)
    names = [HighWater.NAME, "hubbub-00000001.segment", FILE_NAME]
    copy, new = tmp_path / "copy", tmp_path / "new"
    for words, folder, named in (
        (("backup", "--data", data, copy), tmp_path / "copy.partial", [copy.name]),
        (("restore", "--data", new, copy), new / "restoring", names),
    ):
        steps.clear()
        assert 0 == tool.run(*words)
        begin = steps.index(("name", named[0]))
        files = {("sync", str(path)) for path in (*(folder / name for name in names), folder)}
        assert files <= set(steps[:begin])
        assert sorted(named) == sorted(name for kind, name in steps[begin:] if kind == "name")
        assert ("sync", str(folder.parent)) == steps[-1]
    lines = tmp_path / "lines"
    steps.clear()
    assert 0 == tool.run("export", "--data", data, "-o", lines)
    assert [("sync", f"{lines}.partial"), ("name", lines.name)] == steps


@pytest.mark.parametrize("outrun_count", [backup.TRIES_MAX - 1, backup.TRIES_MAX])
def test_a_copy_is_tried_so_often(
    tool: Said,
    data: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    outrun_count: int,
) -> None:
    """Each time a segment went that the copied index needs; after the last try that is told."""
    copy_index = backup._copy_index
    tries: list[int] = []

    def outrun(source: Path, target: Path) -> tuple[set[int], int]:
        needed, indexed = copy_index(source, target)
        tries.append(1)
        return needed | {99} if len(tries) <= outrun_count else needed, indexed

    monkeypatch.setattr(backup, "_copy_index", outrun)
    status = tool.run("backup", "--data", data, tmp_path / "copy")
    assert backup.TRIES_MAX == len(tries)
    if outrun_count < backup.TRIES_MAX:
        assert 0 == status
    else:
        assert 1 == status
        words = f"no backup was made: the log in {data} lacks its segments 99"
        assert [f"hubbub-broker: {words}"] == tool.err


def test_a_backup_of_a_damaged_log_says_so(tool: Said, data: Path, tmp_path: Path) -> None:
    """It is better than none, but nobody may take it for whole; it cannot be restored as it is."""
    flip(path_of(data, 1), b"text 3")
    assert 1 == tool.run("backup", "--data", data, tmp_path / "copy")
    assert "the copy, as the log, is damaged: hubbub-00000001.segment at" in tool.err[0]
    assert 1 == tool.run("restore", "--data", tmp_path / "new", tmp_path / "copy")
    assert "is not whole" in tool.err[0]
    assert not (tmp_path / "new").exists()


def test_restore_takes_nothing_away(tool: Said, data: Path, tmp_path: Path) -> None:
    """Without --force a log stays; with it, it is moved and can be moved back."""
    copy = tmp_path / "copy"
    tool.run("backup", "--data", data, copy)
    with closing(SqliteStore(data)) as store:
        store.open().append([proposal("r", said("newer", ts=100))])
        epoch = store.opened.epoch
    assert 1 == tool.run("restore", "--data", data, copy)
    assert "--force moves it out of the way" in tool.err[0]
    for number in (1, 2):
        assert 0 == tool.run("restore", "--data", data, copy, "--force")
        assert f"what was in {data} is in {data / f'replaced-{number}'}" == tool.out[0]
    with closing(SqliteStore(data)) as store:
        assert epoch != store.open().epoch
        assert "cats" == kept_texts(store.reader(), "r")[-1]
    with closing(SqliteStore(data / "replaced-1")) as store:
        assert epoch == store.open().epoch
        assert "newer" == kept_texts(store.reader(), "r")[-1]


def test_restore_waits_for_no_broker(tool: Said, data: Path, tmp_path: Path) -> None:
    """A folder in use is refused, whatever --force says; so is one as the source."""
    tool.run("backup", "--data", data, tmp_path / "copy")
    lock = hold(data)
    try:
        assert 1 == tool.run("restore", "--data", data, tmp_path / "copy", "--force")
        assert "another broker" in tool.err[0]
        assert 1 == tool.run("restore", "--data", tmp_path / "new", data)
        assert "a broker uses" in tool.err[0]
        assert 1 == tool.run("salvage", "--data", data, tmp_path / "new")
        assert "a broker uses" in tool.err[0]
    finally:
        os.close(lock)


# --- export -----------------------------------------------------------------
def test_export_tells_every_entry(
    tool: Said, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In the form of the clients' --json, page by page; rooms and time narrow it."""
    monkeypatch.setattr(export, "HISTORY_ENTRIES_MAX", 3)
    assert 0 == tool.run("export", "--data", data)
    lines = [json.loads(line) for line in tool.out]
    expected = {"room": "r", "seq": 4, "ts": "1970-01-01T00:00:00.003Z", "kind": "text"}
    assert expected | {"nick": "ann", "text": "text 3"} == lines[3]
    assert list(expected | {"nick": "ann", "text": "text 3"}) == list(lines[3])
    assert [*range(1, 10), *range(1, 17)] == [line["seq"] for line in lines]
    assert 0 == tool.run("export", "--data", data, "--room", "ü", "-o", tmp_path / "ü.jsonl")
    assert [] == tool.out
    written = (tmp_path / "ü.jsonl").read_text().splitlines()
    assert ["x", "y"] * 8 == [json.loads(line)["text"] for line in written]
    since = "1970-01-01T00:00:00.006Z"
    assert 0 == tool.run("export", "--data", data, "--room", "r", "--since", since)
    assert ["text 6", "text 7", "cats"] == [json.loads(line)["text"] for line in tool.out]
    assert 0 == tool.run("export", "--data", data, "--since", "1d")
    assert [] == tool.out


def test_export_names_each_kind(tool: Said, data: Path) -> None:
    """Also what a later version says, as the clients do."""
    with closing(SqliteStore(data)) as store:
        posts = [Post(1_000, "ann", kind, ["x"]) for kind in (*Kind, max(Kind) + 1)]
        store.open().append([proposal("r", *posts)])
    assert 0 == tool.run("export", "--data", data, "--since", "1970-01-01T00:00:01Z")
    kinds = [kind.name.lower() for kind in Kind]
    assert [*kinds, "notice"] == [json.loads(line)["kind"] for line in tool.out]


def test_export_begins_in_the_middle_of_a_batch(tool: Said, data: Path) -> None:
    """A batch has posts of several times."""
    with closing(SqliteStore(data)) as store:
        store.open().append([proposal("r", said("old", ts=1_000), said("new", ts=2_000))])
    since = "1970-01-01T00:00:02Z"
    assert 0 == tool.run("export", "--data", data, "--since", since)
    assert [(11, "new")] == [(json.loads(x)["seq"], json.loads(x)["text"]) for x in tool.out]


def test_export_says_what_it_cannot(tool: Said, data: Path, tmp_path: Path) -> None:
    """Damage, an unknown room, no log, a file that cannot be made."""
    assert 1 == tool.run("export", "--data", data, "--room", "none")
    assert [f"hubbub-broker: there is no room none in {data}"] == tool.err
    assert 1 == tool.run("export", "--data", data, "-o", tmp_path / "no" / "file")
    assert "cannot be written: No such file or directory" in tool.err[0]
    flip(path_of(data, 1), b"text 3")
    assert 1 == tool.run("export", "--data", data)
    assert 24 == len(tool.out)
    assert "#r: entries 4 to 4 are damaged" in tool.err[0]
    (data / HighWater.NAME).unlink()
    assert 1 == tool.run("export", "--data", data)
    assert f"{data} lacks committed" in tool.err[0]
    assert 1 == tool.run("export", "--data", tmp_path / "none")
    assert 1 == len(tool.err)
