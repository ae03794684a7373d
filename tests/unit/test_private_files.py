"""Files that are their owner's alone: whatever is open to others is refused with a remedy."""

from __future__ import annotations

import contextlib
import os
import shlex
import stat
import subprocess
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from common import private_files
from common.private_files import (
    TRIES_MAX,
    FileUnusable,
    check_folder,
    make,
    make_folder,
    read,
    read_or_make,
    replace,
)
from tests.markdown import ROOT

BYTES_MAX = 100


def mode_of(path: Path) -> int:
    return stat.S_IMODE(path.lstat().st_mode)


def names_in(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Return a file that can be read."""
    make(tmp_path / "file", b"secret")
    return tmp_path / "file"


def test_what_is_made_is_private_whatever_the_umask_is(tmp_path: Path) -> None:
    folder = tmp_path / "deep" / "folder"
    before = os.umask(0)
    try:
        make_folder(folder)
        make(folder / "made", b"1")
        replace(folder / "replaced", b"2")
        replace(folder / "replaced", b"3")
    finally:
        os.umask(before)
    assert [0o700, 0o600, 0o600] == [mode_of(each) for each in (folder, *sorted(folder.iterdir()))]
    assert ["made", "replaced"] == names_in(folder)
    assert [b"1", b"3"] == [read(folder / name, BYTES_MAX) for name in names_in(folder)]


def test_what_is_there_is_not_made_again(path: Path) -> None:
    with pytest.raises(FileExistsError):
        make(path, b"other")
    make_folder(path.parent)
    assert b"secret" == read_or_make(path, BYTES_MAX, bytes)
    assert [path.name] == names_in(path.parent)


def test_what_cannot_be_put_in_place_leaves_nothing(tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    with pytest.raises(IsADirectoryError):
        replace(tmp_path / "folder", b"content")
    assert ["folder"] == names_in(tmp_path)


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o610, 0o660, 0o644, 0o777])
def test_an_open_file_or_folder_is_refused_with_a_remedy(path: Path, mode: int) -> None:
    path.chmod(mode)
    with pytest.raises(FileUnusable, match=rf"\(mode {mode:o}\); run: chmod 600 {path};"):
        read(path, BYTES_MAX)
    folder_mode = mode | 0o700
    path.parent.chmod(folder_mode)
    remedy = rf"\(mode {folder_mode:o}\); run: chmod 700 {path.parent}$"
    with pytest.raises(FileUnusable, match=remedy):
        make_folder(path.parent)


@pytest.mark.parametrize("mode", [0o620, 0o602, 0o666, 0o777])
def test_what_others_may_read_they_may_not_change(path: Path, mode: int) -> None:
    path.chmod(0o644)
    assert b"secret" == read(path, BYTES_MAX, may_be_read=True)
    path.chmod(mode)
    with pytest.raises(FileUnusable, match=f"run: chmod go-w {path};"):
        read(path, BYTES_MAX, may_be_read=True)
    path.parent.chmod(0o755)
    check_folder(path.parent, may_be_read=True)
    path.parent.chmod(mode | 0o1700)
    with pytest.raises(FileUnusable, match=f"run: chmod go-w {path.parent};"):
        check_folder(path.parent, may_be_read=True)


def test_a_remedy_can_be_run(tmp_path: Path) -> None:
    """Also where the path has spaces and quotes."""
    folder = tmp_path / "it's $HOME's; folder"
    folder.mkdir(mode=0o755)
    folder.chmod(0o755)
    with pytest.raises(FileUnusable) as caught:
        check_folder(folder)
    subprocess.run(shlex.split(str(caught.value).partition("run: ")[2]), check=True)
    check_folder(folder)


@pytest.mark.parametrize("may_be_read", [True, False])
def test_what_is_somebody_elses_is_refused(
    path: Path,
    monkeypatch: pytest.MonkeyPatch,
    may_be_read: bool,  # noqa: FBT001 - a row of the table
) -> None:
    stranger = os.geteuid() + 1
    monkeypatch.setattr(os, "geteuid", lambda: stranger)
    with pytest.raises(FileUnusable, match=rf"somebody else .*chown {stranger} .*out of the way"):
        read(path, BYTES_MAX, may_be_read=may_be_read)
    with pytest.raises(FileUnusable, match=rf"somebody else .*chown {stranger} .*of your own"):
        check_folder(path.parent, may_be_read=may_be_read)


def test_what_is_no_file_or_no_folder_is_refused_at_once(path: Path) -> None:
    """A link is not followed, a pipe not waited for."""
    folder = path.parent
    (folder / "link").symlink_to(path)
    (folder / "dangling").symlink_to(folder / "nowhere")
    (folder / "folder-link").symlink_to(folder)
    (folder / "folder").mkdir()
    os.mkfifo(folder / "pipe", 0o600)
    for name in ("link", "dangling", "folder-link", "folder", "pipe"):
        with pytest.raises(FileUnusable, match=f"{name} is no file.*: move it out of the way"):
            read_or_make(folder / name, BYTES_MAX, bytes)
    for name in ("file", "link", "dangling", "folder-link", "pipe"):
        with pytest.raises(FileUnusable, match=f"{name} is no folder: move it out of the way"):
            check_folder(folder / name)


def test_a_file_has_so_many_bytes_and_not_one_more(path: Path) -> None:
    assert b"secret" == read(path, len(b"secret"))
    with pytest.raises(FileUnusable, match="has more than 5 bytes: remove"):
        read(path, len(b"secret") - 1)


def test_a_file_that_comes_and_goes_is_not_waited_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Somebody removes it as often as it is made; so many times are enough."""
    tries: list[Path] = []
    monkeypatch.setattr(private_files, "make", lambda path, _: tries.append(path))
    with pytest.raises(FileUnusable, match="comes and goes"):
        read_or_make(tmp_path / "file", BYTES_MAX, bytes)
    assert [tmp_path / "file"] * TRIES_MAX == tries


def test_threads_that_write_at_once_leave_one_whole_file(path: Path) -> None:
    """Of one process, so what each writes aside needs a name of its own."""
    barrier = threading.Barrier(8)
    contents = [bytes([number]) * BYTES_MAX for number in range(8)]

    def write(content: bytes) -> None:
        barrier.wait()
        for _ in range(20):
            replace(path, content)

    with ThreadPoolExecutor(len(contents)) as pool:
        list(pool.map(write, contents))  # Raises what a thread raised.
    assert read(path, BYTES_MAX) in contents
    assert [path.name] == names_in(path.parent)


# --- processes that start at once -------------------------------------------
PROCESSES, ROUNDS = 4, 10
OLD_OWNER = bytes(range(32))
RACER = """\
import sys
from pathlib import Path
for line in sys.stdin:
    print(repr({}).encode().hex(), flush=True)
"""
LOADERS = {
    "broker": "__import__('broker.host.certificates').host.certificates.load_or_make({})",
    "client": "tuple(__import__('client.keys').keys.load_pair({}))",
    "owner": "__import__('client.identity').identity.load_owner({})",
    "moved": "__import__('client.identity').identity.load_owner({})",
}


@contextlib.contextmanager
def racers(load: str) -> Iterator[list[subprocess.Popen[str]]]:
    """Start processes that each load what is in a folder when they are told its path."""
    command = [sys.executable, "-c", RACER.format(load.format("Path(line.strip())"))]
    with contextlib.ExitStack() as stack:
        started = []
        for _ in range(PROCESSES):
            process = subprocess.Popen(
                command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
            )
            stack.enter_context(process)  # Waits for its end,
            stack.callback(process.kill)  # after this.
            started.append(process)
        yield started


@pytest.mark.parametrize("kind", LOADERS)
def test_processes_that_start_at_once_agree(tmp_path: Path, kind: str) -> None:
    """On one key or secret, and on the one that an earlier version left in the data folder."""
    with racers(LOADERS[kind]) as processes:
        for number in range(ROUNDS):
            folder = tmp_path / str(number)
            folder.mkdir()
            if kind == "moved":
                make(folder / "owner", OLD_OWNER)
            for process in processes:
                assert process.stdin is not None
                process.stdin.write(f"{folder}\n")
                process.stdin.flush()
            told = [process.stdout.readline() for process in processes if process.stdout]
            assert [told[0]] * PROCESSES == told
            assert told[0]
            assert (repr(OLD_OWNER).encode().hex() == told[0].strip()) == (kind == "moved")
            assert ["keys"] == names_in(folder)
            assert len(names_in(folder / "keys")) == (1 if kind in ("owner", "moved") else 2)
