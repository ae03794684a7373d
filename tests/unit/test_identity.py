"""The owner secret is private and made once; a login name becomes a nick."""

from __future__ import annotations

import stat
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from client import identity
from common import private_files
from common.names import check_nick
from common.private_files import FileUnusable


def test_the_secret_is_made_once_and_private(tmp_path: Path) -> None:
    home = tmp_path / "deep" / "home"
    first = identity.load_owner(home)
    assert len(first) == 32
    assert identity.load_owner(home) == first
    path = home / "keys" / "owner"
    modes = [stat.S_IMODE(each.stat().st_mode) for each in (home, path.parent, path)]
    assert modes == [0o700, 0o700, 0o600]


def test_a_secret_that_others_can_read_is_not_used(tmp_path: Path) -> None:
    """It may be known by now, so it is not quietly made private."""
    secret = identity.load_owner(tmp_path)
    path = tmp_path / "keys" / "owner"
    path.chmod(0o644)
    with pytest.raises(FileUnusable, match=f"run: chmod 600 {path}; .*remove it instead"):
        identity.load_owner(tmp_path)
    path.chmod(0o600)
    assert identity.load_owner(tmp_path) == secret


def test_a_secret_of_an_earlier_version_is_taken_over(tmp_path: Path) -> None:
    private_files.make(tmp_path / "owner", b"x" * 32)
    assert identity.load_owner(tmp_path) == b"x" * 32
    assert [path.name for path in tmp_path.iterdir()] == ["keys"]


@pytest.mark.parametrize("content", [b"", b"short", b"x" * 31, b"x" * 33])
def test_a_damaged_secret_is_not_used(tmp_path: Path, content: bytes) -> None:
    private_files.make(tmp_path / "owner", content)
    with pytest.raises(FileUnusable, match="damaged: remove it to get a new one"):
        identity.load_owner(tmp_path)


def test_hubbub_home_outranks_the_systems_folder(tmp_path: Path) -> None:
    assert identity.data_dir({"HUBBUB_HOME": str(tmp_path)}) == tmp_path
    assert identity.data_dir({}).name == "hubbub"


@pytest.mark.parametrize(
    ("login", "nick"),
    [
        ("anna", "anna"),
        ("Anna.B", "Anna.B"),
        ("DOMAIN\\anna b", "DOMAINannab"),
        ("_daemon", "daemon"),
        ("x" * 40, "x" * 32),
        ("", "guest0042"),
        ("\u202e!", "guest0042"),
    ],
)
def test_a_login_name_becomes_a_nick(login: str, nick: str) -> None:
    assert identity.nick_from(login, chance=10_042) == nick


@given(st.text(), st.integers(min_value=0))
def test_every_login_name_gives_valid_nicks(login: str, chance: int) -> None:
    nick = identity.nick_from(login, chance)
    assert check_nick(nick)
    assert check_nick(identity.nick_beside(nick, chance))
