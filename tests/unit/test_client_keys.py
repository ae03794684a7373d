"""The client's own key pair is private, made once, and kept where earlier versions left it."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from zmq.utils import z85

from client.connection import CurveKeys
from client.identity import KEY_FILE, SECRETS_FOLDER
from client.keys import load_pair, new_keys
from common.certificates import load_or_make, new_pair, secret_path
from common.private_files import FileUnusable


def names_in(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


def test_the_pair_is_made_once_and_private(tmp_path: Path) -> None:
    home = tmp_path / "deep" / "home"
    pair = load_pair(home)
    assert pair == load_pair(home)
    assert {"keys"} == names_in(home)
    assert {"client.key", "client.key_secret"} == names_in(home / "keys")
    assert [0o700, 0o700] == [path.stat().st_mode & 0o777 for path in (home, home / "keys")]


def test_others_may_look_into_the_data_folder_and_not_at_the_keys(tmp_path: Path) -> None:
    """Whoever made the data folder with `mkdir` can use it."""
    tmp_path.chmod(0o755)
    load_pair(tmp_path)
    folder = tmp_path / SECRETS_FOLDER
    assert 0o700 == folder.stat().st_mode & 0o777
    folder.chmod(0o750)
    with pytest.raises(FileUnusable, match=f"run: chmod 700 {folder}$"):
        load_pair(tmp_path)
    folder.chmod(0o700)
    secret = secret_path(folder / KEY_FILE)
    secret.chmod(0o640)
    with pytest.raises(FileUnusable, match=f"run: chmod 600 {secret};"):
        load_pair(tmp_path)


@pytest.mark.parametrize("mode", [0o777, 0o770, 0o702, 0o1777])
def test_a_data_folder_that_others_can_write_to_is_refused(tmp_path: Path, mode: int) -> None:
    """They could put a key of theirs in place of ours."""
    tmp_path.chmod(mode)
    with pytest.raises(FileUnusable, match=f"run: chmod go-w {tmp_path};"):
        load_pair(tmp_path)
    assert not names_in(tmp_path)


def test_a_data_folder_may_be_elsewhere(tmp_path: Path) -> None:
    (tmp_path / "disk").mkdir(mode=0o700)
    (tmp_path / "home").symlink_to(tmp_path / "disk")
    assert load_pair(tmp_path / "home") == load_pair(tmp_path / "disk")


def test_a_pair_of_an_earlier_version_is_taken_over(tmp_path: Path) -> None:
    """It was in the data folder itself; a pair that is in its place already is not replaced."""
    pair = load_or_make(tmp_path / KEY_FILE)
    assert pair == load_pair(tmp_path)
    assert {"keys"} == names_in(tmp_path)
    other = load_or_make(tmp_path / KEY_FILE)
    assert pair == load_pair(tmp_path) != other


def test_a_pair_that_another_process_takes_over_first_is_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It does so between our look and our move."""
    pair = load_or_make(tmp_path / KEY_FILE)
    look = os.path.lexists

    def overtaken(path: Path) -> bool:
        is_there = look(path)
        monkeypatch.undo()
        assert pair == load_pair(tmp_path)
        return is_there

    monkeypatch.setattr(os.path, "lexists", overtaken)
    assert pair == load_pair(tmp_path)
    assert os.path.lexists is look


def test_an_open_secret_of_an_earlier_version_is_refused_in_its_new_place(tmp_path: Path) -> None:
    pair = load_or_make(tmp_path / KEY_FILE)
    secret_path(tmp_path / KEY_FILE).chmod(0o644)
    secret = secret_path(tmp_path / SECRETS_FOLDER / KEY_FILE)
    with pytest.raises(FileUnusable, match=f"run: chmod 600 {secret};"):
        load_pair(tmp_path)
    secret.chmod(0o600)
    assert pair == load_pair(tmp_path)


def test_keys_for_programs_take_the_brokers_key_in_every_form() -> None:
    broker = new_pair().public
    for form in (broker, broker.hex(), z85.encode(broker).decode()):
        found = new_keys(form)
        assert isinstance(found, CurveKeys)
        assert broker == found.broker
    with pytest.raises(ValueError, match="a key has"):
        new_keys(broker[:-1])
    with pytest.raises(ValueError, match="a key has"):
        new_keys("00")
