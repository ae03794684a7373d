"""The client's own CURVE key pair, made once and kept in two files of the user's data folder.

Whoever can read the secret file can pass for its owner, so looser permissions are refused. The
format is that of CZMQ's certificates (ZeroMQ RFC 29 calls them ZPL files).
"""

from __future__ import annotations

import contextlib
import os
import re
import stat
from pathlib import Path
from typing import NamedTuple

import zmq
from zmq.utils import z85

from client.connection import CurveKeys
from common.keys import CURVE_KEY_BYTES, parse_key

PUBLIC_FILE = "client.key"
SECRET_FILE = "client.key_secret"  # noqa: S105 (the name of a file, no secret)
CERTIFICATE_BYTES_MAX = 4_096
READ_RETRIES_MAX = 3  # The file can vanish between two looks; not for ever.
_FIELD = re.compile(r'^\s*(public-key|secret-key)\s*=\s*"([^"\n]*)"\s*$', re.MULTILINE)


class KeyPair(NamedTuple):
    """Both halves of a CURVE key, 32 raw bytes each."""

    public: bytes
    secret: bytes


def new_pair() -> KeyPair:
    """Return a new key pair."""
    public, secret = zmq.curve_keypair()
    return KeyPair(z85.decode(public), z85.decode(secret))


def new_keys(broker_key: bytes | str) -> CurveKeys:
    """Return keys for `connect`: the broker's (32 bytes, hex or Z85), and a new pair of one's own.

    To be known again keep them. Raises `ValueError` when the broker's key cannot be one.
    """
    key = parse_key(broker_key) if isinstance(broker_key, str) else broker_key
    if len(key) != CURVE_KEY_BYTES:
        raise ValueError(f"a key has {CURVE_KEY_BYTES} bytes")
    return CurveKeys(key, *new_pair())


def load_pair(directory: Path) -> KeyPair:
    """Return the user's key pair, made on the first call; raise OSError or ValueError.

    Two processes that start at once get the same one: it is written aside and linked to its
    name, which only one of them can do, and the other reads what the first one linked.
    """
    directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    _check_directory(directory)
    path = directory / SECRET_FILE
    for _ in range(READ_RETRIES_MAX):
        with contextlib.suppress(FileNotFoundError):
            pair = _read(path)
            _keep_public(directory / PUBLIC_FILE, pair)
            return pair
        with contextlib.suppress(FileExistsError):
            _create(path, _certificate(new_pair()))
    message = f"{path} comes and goes"
    raise OSError(message)


def _check_directory(directory: Path) -> None:
    facts = directory.stat()
    if facts.st_uid != os.geteuid():
        message = f"{directory} belongs to somebody else; set HUBBUB_HOME to a folder of your own"
        raise ValueError(message)
    if stat.S_IMODE(facts.st_mode) & 0o022:  # Whoever writes there can put a key of theirs.
        message = f"others can write to {directory}; run: chmod go-w '{directory}'"
        raise ValueError(message)


def _read(path: Path) -> KeyPair:
    # Not blocking, should somebody have put a pipe there.
    with open(os.open(path, os.O_RDONLY | os.O_NONBLOCK), "rb") as file:  # noqa: PTH123 (descriptor)
        facts = os.fstat(file.fileno())
        if not stat.S_ISREG(facts.st_mode):
            message = f"{path} is no file"
            raise ValueError(message)
        if facts.st_uid != os.geteuid():
            message = f"{path} belongs to somebody else; remove it to get a new key"
            raise ValueError(message)
        if stat.S_IMODE(facts.st_mode) & 0o077:
            message = f"others can read {path}; run: chmod 600 '{path}'"
            raise ValueError(message)
        text = file.read(CERTIFICATE_BYTES_MAX + 1)
    try:
        return _parse(text)
    except (KeyError, ValueError) as error:
        message = f"{path} is damaged; remove it to get a new key"
        raise ValueError(message) from error


def _parse(text: bytes) -> KeyPair:
    if len(text) > CERTIFICATE_BYTES_MAX:
        raise ValueError("longer than a certificate")
    fields = dict(_FIELD.findall(text.decode("ascii")))
    pair = KeyPair(parse_key(fields["public-key"]), parse_key(fields["secret-key"]))
    if zmq.curve_public(z85.encode(pair.secret)) != z85.encode(pair.public):
        raise ValueError("halves of two pairs")
    return pair


def _certificate(pair: KeyPair, *, is_secret: bool = True) -> bytes:
    lines = [
        "# ZeroMQ CURVE certificate of hubbub: "
        + ("SECRET, do not give away" if is_secret else "public key"),
        "metadata",
        "curve",
        f'    public-key = "{z85.encode(pair.public).decode()}"',
    ]
    if is_secret:
        lines.append(f'    secret-key = "{z85.encode(pair.secret).decode()}"')
    return ("\n".join(lines) + "\n").encode()


def _keep_public(path: Path, pair: KeyPair) -> None:
    """Write the public half beside the secret one, which alone counts; only where it is missing."""
    with contextlib.suppress(OSError):
        if not path.exists():
            _create(path, _certificate(pair, is_secret=False))


def _create(path: Path, content: bytes) -> None:
    aside = path.with_name(f"{path.name}.{os.getpid()}.{os.urandom(4).hex()}")
    descriptor = os.open(aside, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        os.link(aside, path)
    finally:
        aside.unlink()
