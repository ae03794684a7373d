"""The client's own key pair is private, made once, and not used when it may be another's."""

from __future__ import annotations

import os
import stat
import threading
from pathlib import Path

import pytest
import zmq
import zmq.auth
from zmq.utils import z85

from client import keys
from client.connection import CurveKeys
from client.keys import CERTIFICATE_BYTES_MAX, PUBLIC_FILE, SECRET_FILE, KeyPair, load_pair


def names_in(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


def mode_of(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def test_the_pair_is_made_once_and_private(tmp_path: Path) -> None:
    home = tmp_path / "deep" / "home"
    pair = load_pair(home)
    assert (32, 32) == (len(pair.public), len(pair.secret))
    assert pair == load_pair(home)
    assert 0o600 == mode_of(home / SECRET_FILE)
    assert 0o700 == mode_of(home)
    assert {PUBLIC_FILE, SECRET_FILE} == names_in(home)


def test_the_files_are_certificates_that_others_read(tmp_path: Path) -> None:
    """The format is CZMQ's: pyzmq's own reader finds the same keys."""
    pair = load_pair(tmp_path)
    public, secret = zmq.auth.load_certificate(tmp_path / SECRET_FILE)
    assert z85.decode(public) == pair.public
    assert secret is not None
    assert z85.decode(secret) == pair.secret
    assert (public, None) == zmq.auth.load_certificate(tmp_path / PUBLIC_FILE)


def test_the_public_half_comes_back_when_it_was_removed(tmp_path: Path) -> None:
    pair = load_pair(tmp_path)
    (tmp_path / PUBLIC_FILE).unlink()
    assert pair == load_pair(tmp_path)
    assert (tmp_path / PUBLIC_FILE).exists()


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o660, 0o644])
def test_a_secret_that_others_can_read_is_refused(tmp_path: Path, mode: int) -> None:
    load_pair(tmp_path)
    (tmp_path / SECRET_FILE).chmod(mode)
    with pytest.raises(ValueError, match="run: chmod 600"):
        load_pair(tmp_path)
    (tmp_path / SECRET_FILE).chmod(0o600)
    load_pair(tmp_path)


@pytest.mark.parametrize("mode", [0o777, 0o770, 0o702, 0o1777])
def test_a_folder_that_others_can_write_to_is_refused(tmp_path: Path, mode: int) -> None:
    """They could put a key of theirs in place of ours."""
    tmp_path.chmod(mode)
    with pytest.raises(ValueError, match="run: chmod go-w"):
        load_pair(tmp_path)
    tmp_path.chmod(0o700)
    load_pair(tmp_path)


def test_what_belongs_to_somebody_else_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    load_pair(tmp_path)
    other = os.geteuid() + 1
    monkeypatch.setattr(os, "geteuid", lambda: other)
    with pytest.raises(ValueError, match="belongs to somebody else"):
        load_pair(tmp_path)
    with pytest.raises(ValueError, match="remove it to get a new key"):
        keys._read(tmp_path / SECRET_FILE)


def damaged() -> list[bytes]:
    one, other = keys.new_pair(), keys.new_pair()
    whole = keys._certificate(one)
    return [
        b"",
        b"\xff\xfe",
        whole[:-10],
        keys._certificate(one, is_secret=False),
        keys._certificate(KeyPair(one.public, other.secret)),
        whole.replace(b"secret-key", b"public-key"),
        whole.ljust(CERTIFICATE_BYTES_MAX + 1, b"#"),
    ]


@pytest.mark.parametrize("content", damaged())
def test_a_damaged_secret_is_not_used(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / SECRET_FILE
    path.touch(mode=0o600)
    path.write_bytes(content)
    with pytest.raises(ValueError, match="damaged; remove it to get a new key"):
        load_pair(tmp_path)
    assert content == path.read_bytes()


def test_a_certificate_as_long_as_allowed_is_read(tmp_path: Path) -> None:
    pair = keys.new_pair()
    path = tmp_path / SECRET_FILE
    path.touch(mode=0o600)
    path.write_bytes(keys._certificate(pair).ljust(CERTIFICATE_BYTES_MAX, b"#"))
    assert pair == load_pair(tmp_path)


def test_a_pipe_in_place_of_the_secret_does_not_block(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / SECRET_FILE, 0o600)
    with pytest.raises(ValueError, match="is no file"):
        load_pair(tmp_path)


def test_processes_that_start_at_once_agree(tmp_path: Path) -> None:
    barrier = threading.Barrier(8)
    pairs: list[KeyPair] = []

    def load() -> None:
        barrier.wait()
        pairs.append(load_pair(tmp_path))

    threads = [threading.Thread(target=load) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert 8 == len(pairs)
    assert 1 == len(set(pairs))
    assert {PUBLIC_FILE, SECRET_FILE} == names_in(tmp_path)


def test_a_secret_that_comes_and_goes_is_given_up(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Somebody removes it as often as it is made; so many times are enough."""
    tries: list[Path] = []

    def create(path: Path, _: bytes) -> None:
        tries.append(path)

    monkeypatch.setattr(keys, "_create", create)
    with pytest.raises(OSError, match="comes and goes"):
        load_pair(tmp_path)
    assert keys.READ_RETRIES_MAX == len(tries)


def test_keys_for_programs_take_the_brokers_key_in_every_form() -> None:
    broker = keys.new_pair().public
    for form in (broker, broker.hex(), z85.encode(broker).decode()):
        found = keys.new_keys(form)
        assert isinstance(found, CurveKeys)
        assert broker == found.broker
    with pytest.raises(ValueError, match="a key has"):
        keys.new_keys(broker[:-1])
    with pytest.raises(ValueError, match="a key has"):
        keys.new_keys("00")
