"""Key pairs in files: made once, read by others' tools, and not used when they are damaged."""

from __future__ import annotations

import traceback
from pathlib import Path

import pytest
import zmq.auth
from zmq.utils import z85

from broker.host import certificates as of_broker
from common import private_files
from common.certificates import (
    FILE_BYTES_MAX,
    KeyPair,
    load,
    load_or_make,
    new_pair,
    secret_path,
    text_of,
)
from common.errors import HubbubError
from common.private_files import FileUnusable


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Return where a public half belongs; nothing is there."""
    return tmp_path / "some.key"


def test_a_pair_is_made_once_and_is_one_that_czmq_reads(path: Path) -> None:
    """The format is CZMQ's: pyzmq's own reader finds the same keys."""
    pair = load_or_make(path)
    assert pair == load_or_make(path) == load(path)
    assert (32, 32) == (len(pair.public), len(pair.secret))
    assert {path, secret_path(path)} == set(path.parent.iterdir())
    expected = (z85.encode(pair.public), z85.encode(pair.secret))
    assert expected == zmq.auth.load_certificate(secret_path(path))
    assert (expected[0], None) == zmq.auth.load_certificate(path)
    assert expected[1] not in path.read_bytes()
    assert pair.secret.hex() not in repr(pair)
    assert repr(pair.secret) not in repr(pair)


def test_a_certificate_of_czmqs_own_tools_is_read(path: Path) -> None:
    public, secret = zmq.auth.create_certificates(path.parent, "some")
    assert (str(path), str(secret_path(path))) == (public, secret)
    secret_path(path).chmod(0o600)
    pair = load(path)
    assert z85.encode(pair.public) in path.read_bytes()


@pytest.mark.parametrize("damage", ["gone", "other", "open"])
def test_the_public_half_comes_back(path: Path, damage: str) -> None:
    """Only the secret file counts; what differs in the other one is put right."""
    pair = load_or_make(path)
    if damage == "gone":
        path.unlink()
    elif damage == "other":
        path.write_bytes(text_of(new_pair(), is_secret=False))
    else:
        path.chmod(0o666)
    assert pair == load_or_make(path)
    assert text_of(pair, is_secret=False) == path.read_bytes()
    assert 0o600 == path.stat().st_mode & 0o777


def test_a_public_half_to_be_read_by_all_is_left_alone(path: Path) -> None:
    load_or_make(path)
    path.chmod(0o644)
    load_or_make(path)
    assert 0o644 == path.stat().st_mode & 0o777


def test_a_public_half_that_cannot_be_written_harms_nobody(path: Path) -> None:
    path.mkdir()
    assert load_or_make(path) == load(path)


def damaged() -> list[bytes]:
    one, other = new_pair(), new_pair()
    whole = text_of(one, is_secret=True)
    return [
        b"",
        b"\xff\xfe",
        whole[:-10],
        text_of(one, is_secret=False),
        text_of(KeyPair(one.public, other.secret), is_secret=True),
        whole.replace(b"secret-key", b"public-key"),
        whole.replace(b"public-key", b"secret-key"),
    ]


@pytest.mark.parametrize("content", damaged())
def test_a_damaged_pair_is_refused_and_not_quoted(path: Path, content: bytes) -> None:
    private_files.make(secret_path(path), content)
    with pytest.raises(FileUnusable, match=r"is damaged: .*remove it to get a new key") as caught:
        load_or_make(path)
    told = "".join(traceback.format_exception(caught.value))
    letters = [line.split(b'"')[1] for line in content.split(b"\n") if line.count(b'"')]
    assert not [each for each in letters if each.decode() in told]
    assert content == secret_path(path).read_bytes()


def test_a_certificate_as_long_as_allowed_is_read_and_no_longer_one(path: Path) -> None:
    pair = new_pair()
    content = text_of(pair, is_secret=True).ljust(FILE_BYTES_MAX, b"#")
    private_files.make(secret_path(path), content)
    assert pair == load(path)
    private_files.replace(secret_path(path), content + b"#")
    with pytest.raises(FileUnusable, match=f"has more than {FILE_BYTES_MAX} bytes"):
        load(path)


# --- the broker's -----------------------------------------------------------
def test_the_brokers_pair_is_in_a_folder_of_its_own(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        of_broker.load(tmp_path)
    pair = of_broker.load_or_make(tmp_path)
    assert pair == of_broker.load(tmp_path)
    folder = tmp_path / "keys"
    assert 0o700 == folder.stat().st_mode & 0o777
    assert {"broker.key", "broker.key_secret"} == {each.name for each in folder.iterdir()}
    folder.chmod(0o750)
    for load_it in (of_broker.load, of_broker.load_or_make):
        with pytest.raises(FileUnusable, match=f"run: chmod 700 {folder}$"):
            load_it(tmp_path)


def test_what_the_system_refuses_is_told_with_the_folder(tmp_path: Path) -> None:
    (tmp_path / "keys").touch()
    with pytest.raises(FileUnusable, match=f"in {tmp_path}/keys cannot be made or read: File ex"):
        of_broker.load_or_make(tmp_path)


def test_without_curve_there_is_no_key(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(zmq, "has", lambda _: False)
    with pytest.raises(HubbubError, match="without CURVE"):
        of_broker.load_or_make(tmp_path)
    assert not list(tmp_path.iterdir())
