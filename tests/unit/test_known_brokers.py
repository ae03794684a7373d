"""The file `known_brokers`: read, changed and bounded, and nothing of a person's own is lost."""

from __future__ import annotations

import fcntl
import math
import os
import stat
import threading
from pathlib import Path

import pytest

from client import known_brokers
from client.known_brokers import FILE, KnownBrokers
from common.endpoints import Address
from common.private_files import FileUnusable

HERE, THERE = Address("chat.lan"), Address("::1", 7000)
KEY, OTHER = bytes(range(32)), bytes(32)


def test_what_is_remembered_is_known_and_what_is_forgotten_is_not(tmp_path: Path) -> None:
    brokers = KnownBrokers(tmp_path / "home")
    assert brokers.get(HERE) is None
    brokers.set(HERE, KEY)
    brokers.set(THERE, OTHER)
    assert [KEY, OTHER] == [brokers.get(HERE), brokers.get(THERE)]
    assert brokers.get(Address("CHAT.lan")) == KEY  # Names of hosts have no case,
    assert brokers.get(Address("chat.lan", 5556)) is None  # and each port is another broker.
    brokers.set(HERE, OTHER)
    assert brokers.get(HERE) == OTHER
    assert brokers.remove(HERE)
    assert not brokers.remove(HERE)
    assert [None, OTHER] == [brokers.get(HERE), brokers.get(THERE)]
    assert f"[::1]:7000 {OTHER.hex()}\n" == brokers.path.read_text()
    assert 0o600 == stat.S_IMODE(brokers.path.stat().st_mode)
    assert [FILE] == [path.name for path in (tmp_path / "home").iterdir()]


def test_comments_and_what_else_stands_there_are_kept(tmp_path: Path) -> None:
    text = f"# the office\n\nchat.lan:5555 {KEY.hex()}  \nwhat is this?\n# caf\udce9\n"
    (tmp_path / FILE).write_text(text, errors="surrogateescape")
    brokers = KnownBrokers(tmp_path)
    assert KEY == brokers.get(HERE)
    brokers.set(THERE, OTHER)
    assert brokers.path.read_text(errors="surrogateescape") == f"{text}[::1]:7000 {OTHER.hex()}\n"
    brokers.remove(HERE)
    kept = "# the office\n\nwhat is this?\n# caf\udce9\n"
    assert brokers.path.read_text(errors="surrogateescape").startswith(kept)


@pytest.mark.parametrize(
    "rest", ["", " ", " xyz", " " + KEY.hex()[:-1], f" {KEY.hex()} {KEY.hex()}"]
)
def test_a_damaged_line_is_no_unknown_broker(tmp_path: Path, rest: str) -> None:
    """It may have been a key: to go on as if there were none would be a downgrade."""
    (tmp_path / FILE).write_text(f"chat.lan:5555{rest}\n")
    brokers = KnownBrokers(tmp_path)
    with pytest.raises(ValueError, match=r"run: hubbub trust chat\.lan:5555"):
        brokers.get(HERE)
    assert brokers.get(THERE) is None
    brokers.set(HERE, KEY)
    assert KEY == brokers.get(HERE)


@pytest.mark.parametrize("mode", [0o666, 0o620, 0o602])
def test_a_file_that_others_can_change_is_not_believed(tmp_path: Path, mode: int) -> None:
    brokers = KnownBrokers(tmp_path)
    brokers.set(HERE, KEY)
    brokers.path.chmod(mode)
    with pytest.raises(ValueError, match="run: chmod go-w"):
        brokers.get(HERE)
    with pytest.raises(ValueError, match="run: chmod go-w"):
        brokers.set(HERE, OTHER)
    brokers.path.chmod(0o644)  # Keys of brokers are no secret.
    assert KEY == brokers.get(HERE)


def test_a_file_of_somebody_else_is_not_believed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    brokers = KnownBrokers(tmp_path)
    brokers.set(HERE, KEY)
    other = os.geteuid() + 1
    monkeypatch.setattr(os, "geteuid", lambda: other)
    with pytest.raises(ValueError, match="belongs to somebody else"):
        brokers.get(HERE)


def test_so_many_lines_and_bytes_and_not_one_more(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    brokers = KnownBrokers(tmp_path)
    monkeypatch.setattr(known_brokers, "LINES_MAX", 2)
    brokers.set(HERE, KEY)
    brokers.set(THERE, KEY)
    before = brokers.path.read_bytes()
    with pytest.raises(ValueError, match="is full"):
        brokers.set(Address("third"), KEY)
    assert before == brokers.path.read_bytes()
    brokers.set(HERE, OTHER)  # Instead of another line there is room for it.
    monkeypatch.setattr(known_brokers, "LINES_MAX", 1)
    with pytest.raises(ValueError, match="more than 1 lines"):
        brokers.get(HERE)
    monkeypatch.undo()
    monkeypatch.setattr(known_brokers, "FILE_BYTES_MAX", len(before))
    assert OTHER == brokers.get(HERE)
    with pytest.raises(ValueError, match="is full"):
        brokers.set(Address("third"), KEY)
    monkeypatch.setattr(known_brokers, "FILE_BYTES_MAX", len(before) - 1)
    with pytest.raises(ValueError, match="bytes: remove what"):
        brokers.get(HERE)
    assert [FILE] == [path.name for path in tmp_path.iterdir()]


def test_who_writes_at_once_loses_nothing(tmp_path: Path) -> None:
    barrier = threading.Barrier(8)

    def remember(number: int) -> None:
        barrier.wait()
        KnownBrokers(tmp_path).set(Address("host", number), KEY)

    threads = [threading.Thread(target=remember, args=(number,)) for number in range(1, 9)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    brokers = KnownBrokers(tmp_path)
    assert [KEY] * 8 == [brokers.get(Address("host", number)) for number in range(1, 9)]


def test_a_lock_that_somebody_keeps_is_not_waited_for_without_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A client that was stopped while it had its turn, say; what is known stays."""
    brokers = KnownBrokers(tmp_path)
    brokers.set(HERE, KEY)
    folder = os.open(tmp_path, os.O_RDONLY)
    now_s = 0.0

    def sleep(seconds: float) -> None:
        nonlocal now_s
        now_s += seconds
        if now_s == wait_s:
            os.close(folder)

    monkeypatch.setattr("time.monotonic", lambda: now_s)
    monkeypatch.setattr("time.sleep", sleep)
    wait_s = math.inf
    fcntl.flock(folder, fcntl.LOCK_EX)
    for change in (lambda: brokers.set(HERE, OTHER), lambda: brokers.remove(HERE)):
        with pytest.raises(FileUnusable, match=r"another program keeps .*known_brokers locked"):
            change()
    assert KEY == brokers.get(HERE)
    now_s, wait_s = 0.0, known_brokers.LOCK_RETRY_S
    brokers.set(HERE, OTHER)  # Let go in time.
    assert OTHER == brokers.get(HERE)


def test_a_home_that_cannot_be_means_nobody_is_known(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    assert KnownBrokers(tmp_path / "file").get(HERE) is None
    assert KnownBrokers(tmp_path / "nowhere").get(HERE) is None
    assert not (tmp_path / "nowhere").exists()  # Who only looks makes no folder.
