"""The broker's key pair in files: made once, read by others' tools, and refused when it is open."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
import zmq.auth
from zmq.utils import z85

from broker.host import certificates
from broker.host.certificates import FILE_BYTES_MAX, KeysUnusable, load, load_or_make


def secret_path(data: Path) -> Path:
    return data / certificates.FOLDER_NAME / certificates.SECRET_NAME


def test_a_pair_is_made_once_and_is_one_that_czmq_reads(tmp_path: Path) -> None:
    """Whatever the umask is."""
    before = os.umask(0)
    try:
        pair = load_or_make(tmp_path)
    finally:
        os.umask(before)
    assert pair == load_or_make(tmp_path) == load(tmp_path)
    folder = tmp_path / certificates.FOLDER_NAME
    files = sorted(folder.iterdir())
    assert ["broker.key", "broker.key_secret"] == [path.name for path in files]
    assert [0o700, 0o600, 0o600] == [path.stat().st_mode & 0o777 for path in (folder, *files)]
    expected = (z85.encode(pair.public), z85.encode(pair.secret))
    assert expected == zmq.auth.load_certificate(secret_path(tmp_path))
    assert (expected[0], None) == zmq.auth.load_certificate(folder / certificates.PUBLIC_NAME)
    assert expected[1] not in (folder / certificates.PUBLIC_NAME).read_bytes()
    assert pair.secret.hex() not in repr(pair)


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o610, 0o660, 0o777])
def test_an_open_file_or_folder_is_refused_with_a_remedy(tmp_path: Path, mode: int) -> None:
    load_or_make(tmp_path)
    path = secret_path(tmp_path)
    path.chmod(mode)
    with pytest.raises(KeysUnusable, match=f"mode {mode:o}.*chmod 600 {path}"):
        load_or_make(tmp_path)
    path.chmod(0o600)
    path.parent.chmod(mode | 0o700)
    with pytest.raises(KeysUnusable, match=f"chmod 700 {path.parent}$"):
        load_or_make(tmp_path)


def test_somebody_elses_file_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    load_or_make(tmp_path)
    stranger = os.geteuid() + 1
    monkeypatch.setattr(os, "geteuid", lambda: stranger)
    with pytest.raises(KeysUnusable, match=f"belongs to somebody else .*chown {stranger}"):
        load_or_make(tmp_path)


def test_a_link_is_not_followed(tmp_path: Path) -> None:
    load_or_make(tmp_path)
    path = secret_path(tmp_path)
    path.rename(tmp_path / "elsewhere")
    path.symlink_to(tmp_path / "elsewhere")
    with pytest.raises(KeysUnusable, match="cannot be made or read"):
        load_or_make(tmp_path)


@pytest.mark.parametrize("damage", ["empty", "half", "swapped", "long"])
def test_a_damaged_pair_is_refused_and_not_quoted(tmp_path: Path, damage: str) -> None:
    """Beyond FILE_BYTES_MAX nothing is read either."""
    pair = load_or_make(tmp_path)
    path = secret_path(tmp_path)
    text = path.read_text()
    other = z85.encode(z85.decode(zmq.curve_keypair()[0])).decode()
    path.write_text(
        {
            "empty": "",
            "half": text[: len(text) - 20],
            "swapped": text.replace(z85.encode(pair.public).decode(), other),
            "long": "#" * FILE_BYTES_MAX + "\n" + text,
        }[damage]
    )
    with pytest.raises(KeysUnusable, match="is damaged") as caught:
        load_or_make(tmp_path)
    assert z85.encode(pair.secret).decode() not in str(caught.value)


def test_a_file_that_comes_and_goes_is_not_waited_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """READ_RETRIES_MAX looks, then it is told."""
    looks: list[None] = []

    def gone(_: Path) -> None:
        looks.append(None)
        raise FileNotFoundError

    monkeypatch.setattr(certificates, "load", gone)
    with pytest.raises(KeysUnusable, match="comes and goes"):
        load_or_make(tmp_path)
    assert certificates.READ_RETRIES_MAX == len(looks)
