"""The data folder: one broker at a time, and a clear word where it cannot be used."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from broker.log import datadir
from broker.log.datadir import (
    LOCK_NAME,
    DataUnusable,
    check_private,
    hold,
    note_port,
    served_port,
)
from common.private_files import FileUnusable

Hold = Callable[[Path], int]


@pytest.fixture
def held() -> Iterator[Hold]:
    """Hold folders and release them after the test."""
    descriptors: list[int] = []

    def hold_for_the_test(folder: Path) -> int:
        descriptors.append(hold(folder))
        return descriptors[-1]

    yield hold_for_the_test
    for descriptor in descriptors:
        os.close(descriptor)


def test_the_folder_is_made_for_its_owner_alone(tmp_path: Path, held: Hold) -> None:
    """A missing folder is made with its parents, private, and has nothing but the lock in it."""
    folder = tmp_path / "a" / "b"
    held(folder)
    assert 0o700 == folder.stat().st_mode & 0o777
    assert [LOCK_NAME] == [path.name for path in folder.iterdir()]
    assert 0o600 == (folder / LOCK_NAME).stat().st_mode & 0o777


def test_a_second_holder_is_told_who_the_first_is(
    tmp_path: Path, held: Hold, monkeypatch: pytest.MonkeyPatch
) -> None:
    """While a broker runs, another one is refused at once, with the process and the remedy."""
    held(tmp_path)
    monkeypatch.setattr("time.sleep", lambda _: pytest.fail("it waited"))
    with pytest.raises(DataUnusable) as refused:
        hold(tmp_path)
    assert f"another broker (process {os.getpid()}) uses {tmp_path}" in str(refused.value)
    assert "--data" in str(refused.value)


def test_a_released_folder_can_be_held_again(tmp_path: Path, held: Hold) -> None:
    """When the holder is gone, the next one takes over and writes its own number."""
    (tmp_path / LOCK_NAME).write_text("99999999999999999999\n")  # Longer than its successor.
    os.close(hold(tmp_path))
    held(tmp_path)
    assert f"{os.getpid()}\n" == (tmp_path / LOCK_NAME).read_text()


def test_the_lock_lives_in_a_child_that_inherited_it(
    tmp_path: Path, held: Hold, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A child of a dead supervisor keeps the folder until it ends; waiting for that is bounded."""
    monkeypatch.setattr(datadir, "LOCK_WAIT_S", 0.0)
    descriptor = hold(tmp_path)
    with subprocess.Popen(
        [sys.executable, "-c", "input()"], stdin=subprocess.PIPE, pass_fds=[descriptor]
    ) as child:
        os.close(descriptor)
        (tmp_path / LOCK_NAME).write_text("999999999\n")  # No such process.
        with pytest.raises(DataUnusable, match=r"another broker \(process 999999999\)"):
            hold(tmp_path)
        child.communicate(b"\n")
    held(tmp_path)


def test_a_lock_without_a_readable_number_is_a_lock_all_the_same(
    tmp_path: Path, held: Hold, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A holder that has not written its number yet, or rubbish there, only makes it unknown."""
    monkeypatch.setattr(datadir, "LOCK_WAIT_S", 0.0)
    held(tmp_path)
    for content, shown in ((b"", "unknown"), (b"\xff\xfe", "\ufffd\ufffd")):
        (tmp_path / LOCK_NAME).write_bytes(content)
        with pytest.raises(DataUnusable) as refused:
            hold(tmp_path)
        assert f"(process {shown})" in str(refused.value)


def test_a_folder_that_cannot_be_written_gives_one_clear_line(tmp_path: Path) -> None:
    """A file in the folder's place, or a folder where nothing can be made, is told as such."""
    (tmp_path / "file").touch()
    for folder in (tmp_path / "file", tmp_path / "file" / "below", Path("/proc/hubbub")):
        with pytest.raises(DataUnusable) as refused:
            hold(folder)
        assert f"the data folder {folder} cannot be written (" in str(refused.value)
        assert "--data" in str(refused.value)
        assert "\n" not in str(refused.value)


def test_a_failed_hold_leaves_nothing_open(tmp_path: Path) -> None:
    """Refused or not writable: no descriptor stays behind."""
    os.close(hold(tmp_path))
    descriptor = hold(tmp_path)
    before = os.listdir("/proc/self/fd")  # noqa: PTH208 - as short as can be
    for folder in (tmp_path, Path("/proc")):
        with pytest.raises(DataUnusable):
            hold(folder)
    assert before == os.listdir("/proc/self/fd")  # noqa: PTH208 - likewise
    os.close(descriptor)


def test_a_full_disk_is_no_reason_to_hide_the_log(
    tmp_path: Path, held: Hold, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Who holds the lock cannot be noted then; it is held all the same."""

    def fail(*_: object) -> int:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as full:
        full.setattr(os, "pwrite", fail)
        held(tmp_path)
    monkeypatch.setattr(datadir, "LOCK_WAIT_S", 0.0)
    with pytest.raises(DataUnusable, match=r"another broker \(process unknown\)"):
        hold(tmp_path)


def test_the_port_is_known_while_a_broker_serves(tmp_path: Path) -> None:
    """`hubbub-broker key` makes its line with it; a broker that ended serves nowhere."""
    assert served_port(tmp_path) is None
    lock = hold(tmp_path)
    assert served_port(tmp_path) is None, "it has not begun to serve"
    note_port(lock, 7_000)
    assert 7_000 == served_port(tmp_path)
    with pytest.raises(DataUnusable, match=f"another broker .process {os.getpid()}."):
        hold(tmp_path)
    os.close(lock)
    assert served_port(tmp_path) is None


LOG_FILES = ("hubbub.db", "hubbub.db-wal", "hubbub-00000001.segment")


@pytest.mark.parametrize("name", LOG_FILES)
@pytest.mark.parametrize("mode", [0o640, 0o604, 0o666])
def test_a_log_that_others_may_read_is_refused_with_the_remedy(
    tmp_path: Path, name: str, mode: int
) -> None:
    """In a folder that lets them in; the remedy helps, and so do files of one's own alone."""
    folder = tmp_path / "data"
    folder.mkdir()
    folder.chmod(0o755)
    check_private(folder)  # Nothing is in it yet.
    (folder / name).touch()
    (folder / name).chmod(mode)
    with pytest.raises(FileUnusable, match=f"run: chmod 700 {folder}$"):
        check_private(folder)
    folder.chmod(0o700)
    check_private(folder)
    folder.chmod(0o755)
    (folder / name).chmod(0o600)
    check_private(folder)


@pytest.mark.parametrize("mode", [0o775, 0o757, 0o1777])
def test_a_folder_that_others_may_write_is_refused(tmp_path: Path, mode: int) -> None:
    """Who can write there could put another log in place; a link to such a folder is no way in."""
    folder, link = tmp_path / "data", tmp_path / "link"
    folder.mkdir()
    link.symlink_to(folder)
    check_private(link)
    folder.chmod(mode)
    for each in (folder, link):
        with pytest.raises(FileUnusable, match=f"chmod go-w {folder}"):
            check_private(each)


def test_a_folder_that_cannot_be_looked_at_gives_a_clear_line(tmp_path: Path) -> None:
    with pytest.raises(DataUnusable, match="cannot be seen: No such file"):
        check_private(tmp_path / "gone")
