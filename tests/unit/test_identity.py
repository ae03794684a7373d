"""The owner secret is private and made once; a login name becomes a nick."""

from __future__ import annotations

import stat
import threading
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from client import identity
from common.names import check_nick


def test_the_secret_is_made_once_and_private(tmp_path: Path) -> None:
    home = tmp_path / "deep" / "home"
    first = identity.load_owner(home)
    assert len(first) == 32
    assert identity.load_owner(home) == first
    assert stat.S_IMODE((home / "owner").stat().st_mode) == 0o600
    assert stat.S_IMODE(home.stat().st_mode) == 0o700


def test_a_secret_that_others_can_read_is_made_private(tmp_path: Path) -> None:
    secret = identity.load_owner(tmp_path)
    (tmp_path / "owner").chmod(0o644)
    assert identity.load_owner(tmp_path) == secret
    assert stat.S_IMODE((tmp_path / "owner").stat().st_mode) == 0o600


@pytest.mark.parametrize("content", [b"", b"short", b"x" * 33])
def test_a_damaged_secret_is_not_used(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "owner").write_bytes(content)
    with pytest.raises(ValueError, match="damaged"):
        identity.load_owner(tmp_path)


def test_processes_that_start_at_once_agree(tmp_path: Path) -> None:
    barrier = threading.Barrier(8)
    secrets: list[bytes] = []

    def load() -> None:
        barrier.wait()
        secrets.append(identity.load_owner(tmp_path))

    threads = [threading.Thread(target=load) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(secrets) == 8
    assert len(set(secrets)) == 1
    assert [path.name for path in tmp_path.iterdir()] == ["owner"]


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
