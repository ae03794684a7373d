"""CURVE key pairs in files, as CZMQ's certificates: ZPL (ZeroMQ RFC 4), as zcert_save(3) writes it.

A pair is two files, `NAME_secret` with both halves, which alone counts, and `NAME` with the public
one, to be copied by whoever needs it.
"""

from __future__ import annotations

import contextlib
import re
from pathlib import Path
from typing import NamedTuple

import zmq
from zmq.utils import z85

from common import private_files
from common.keys import parse_key
from common.private_files import FileUnusable

SECRET_SUFFIX = "_secret"  # noqa: S105 (of a file's name)
FILE_BYTES_MAX = 4_096
_FIELD = re.compile(r'^\s*(public-key|secret-key)\s*=\s*"([^"\n]*)"\s*$', re.MULTILINE)


class KeyPair(NamedTuple):
    """CURVE keys, 32 raw bytes each."""

    public: bytes
    secret: bytes

    def __repr__(self) -> str:
        """Return the public half: the other one must not get into a log by way of an error."""
        return f"KeyPair(public={self.public.hex()})"


def new_pair() -> KeyPair:
    """Return a new key pair."""
    public, secret = zmq.curve_keypair()
    return KeyPair(z85.decode(public), z85.decode(secret))


def load(public_path: Path) -> KeyPair:
    """Return the pair kept beside this path; raise `FileUnusable`, FileNotFoundError or OSError."""
    path = secret_path(public_path)
    return _parse(path, private_files.read(path, FILE_BYTES_MAX))


def load_or_make(public_path: Path) -> KeyPair:
    """Return the pair, made where there is none; raise `FileUnusable` or OSError."""
    path = secret_path(public_path)
    text = private_files.read_or_make(
        path, FILE_BYTES_MAX, lambda: text_of(new_pair(), is_secret=True)
    )
    pair = _parse(path, text)
    _tell_public(public_path, text_of(pair, is_secret=False))
    return pair


def secret_path(public_path: Path) -> Path:
    """Return where both halves are."""
    return public_path.with_name(public_path.name + SECRET_SUFFIX)


def text_of(pair: KeyPair, *, is_secret: bool) -> bytes:
    """Return a pair's certificate: of both halves, or of the public one."""
    title = "public certificate of Hubbub. Everybody may know it."
    if is_secret:
        title = "**secret** certificate of Hubbub. Give it to nobody."
    text = f"#   ZeroMQ CURVE {title}\n\nmetadata\ncurve\n"
    for name, key in (pair._asdict() if is_secret else {"public": pair.public}).items():
        text += f'    {name}-key = "{z85.encode(key).decode()}"\n'
    return text.encode()


def _parse(path: Path, text: bytes) -> KeyPair:
    found = dict(_FIELD.findall(text.decode("utf-8", "replace")))
    with contextlib.suppress(KeyError, ValueError):  # Not told: it could quote the secret.
        pair = KeyPair(parse_key(found["public-key"]), parse_key(found["secret-key"]))
        if zmq.curve_public(z85.encode(pair.secret)) == z85.encode(pair.public):
            return pair
    raise FileUnusable(
        f"{path} is damaged: put a copy back, or remove it to get a new key, which nobody knows yet"
    )


def _tell_public(path: Path, text: bytes) -> None:
    """Have the public half in its file; nothing depends on it, so it may fail."""
    with contextlib.suppress(OSError, FileUnusable):
        if private_files.read(path, FILE_BYTES_MAX, may_be_read=True) == text:
            return
    with contextlib.suppress(OSError):
        private_files.replace(path, text)
