"""The broker's own key pair: made once, kept where nobody else reads it. CZMQ's certificate format.

The secret key is read from its file by each process that needs it, and goes nowhere else: not
into orders, arguments, the environment or the log.
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

from common.errors import HubbubError
from common.keys import parse_key

FOLDER_NAME = "keys"  # In the data folder.
PUBLIC_NAME = "broker.key"
SECRET_NAME = "broker.key_secret"  # noqa: S105 - a file's name
FILE_BYTES_MAX = 4_096
READ_RETRIES_MAX = 3  # A file can vanish between two looks; not for ever.
OTHERS = 0o077
# ZPL (ZeroMQ RFC 4), as zcert_save(3) and pyzmq's zmq.auth write it.
PUBLIC_TEXT = """\
#   ZeroMQ CURVE public certificate of a Hubbub broker. Everybody may know it.

metadata
curve
    public-key = "{public}"
"""
OWN_TEXT = """\
#   ZeroMQ CURVE **secret** certificate of a Hubbub broker. Give it to nobody.

metadata
curve
    public-key = "{public}"
    secret-key = "{secret}"
"""
PAIR = re.compile(r'^\s*(public-key|secret-key)\s*=\s*"([^"\n]{40})"\s*$', re.MULTILINE)


class KeysUnusable(HubbubError):
    """The key pair cannot be used, or not safely; the message says what to do."""


class KeyPair(NamedTuple):
    """CURVE keys, 32 raw bytes each."""

    public: bytes
    secret: bytes

    def __repr__(self) -> str:
        """Return the public half: the other one must not get into a log by way of an error."""
        return f"KeyPair(public={self.public.hex()})"


def load_or_make(data: Path) -> KeyPair:
    """Return the key pair of a data folder, made where there is none; raise `KeysUnusable`.

    Two processes that start at once get the same pair: it is written aside and linked to its
    name, which only one of them can do, and the other reads what the first one linked.
    """
    folder = data / FOLDER_NAME
    path = folder / SECRET_NAME
    try:
        if not zmq.has("curve"):
            raise KeysUnusable("this libzmq was built without CURVE, so nothing can be encrypted")
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        for _ in range(READ_RETRIES_MAX):
            with contextlib.suppress(FileNotFoundError):
                pair = load(data)
                _tell_public(folder, pair)
                return pair
            with contextlib.suppress(FileExistsError):
                public, secret = zmq.curve_keypair()
                text = OWN_TEXT.format(public=public.decode(), secret=secret.decode())
                _create(path, text)
    except OSError as error:
        raise KeysUnusable(f"{path} cannot be made or read: {error.strerror}") from error
    raise KeysUnusable(f"{path} comes and goes")


def load(data: Path) -> KeyPair:
    """Return the key pair of a data folder; raise `KeysUnusable`, FileNotFoundError, OSError."""
    folder = data / FOLDER_NAME
    path = folder / SECRET_NAME
    _check(folder, os.lstat(folder), is_folder=True)
    descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    with os.fdopen(descriptor, "rb") as file:
        _check(path, os.fstat(file.fileno()), is_folder=False)
        text = file.read(FILE_BYTES_MAX).decode(errors="replace")
    found = dict(PAIR.findall(text))
    try:
        pair = KeyPair(parse_key(found["public-key"]), parse_key(found["secret-key"]))
        is_pair = parse_key(zmq.curve_public(found["secret-key"].encode()).decode()) == pair.public
    except (KeyError, ValueError):
        is_pair = False  # Without the cause: it could quote the secret.
    if not is_pair:
        raise KeysUnusable(
            f"{path} is damaged; put a copy back, or remove it to get a new key, which every "
            "client will ask its user about"
        )
    return pair


def _check(path: Path, facts: os.stat_result, *, is_folder: bool) -> None:
    """Raise `KeysUnusable` where somebody else could read or change what is there."""
    is_right_kind = (stat.S_ISDIR if is_folder else stat.S_ISREG)(facts.st_mode)
    mode = 0o700 if is_folder else 0o600
    if not is_right_kind:
        kind = "folder" if is_folder else "file"
        raise KeysUnusable(f"{path} is no {kind}: move it out of the way")
    if facts.st_uid != os.geteuid():
        raise KeysUnusable(
            f"{path} belongs to somebody else (user {facts.st_uid}): chown {os.geteuid()} {path}"
        )
    if stat.S_IMODE(facts.st_mode) & OTHERS:
        remedy = f"chmod {mode:o} {path}"
        if not is_folder:
            remedy += f", or, if somebody may have read it, remove {path.parent} for a new key"
        raise KeysUnusable(
            f"{path} is open to others (mode {stat.S_IMODE(facts.st_mode):o}): {remedy}"
        )


def _tell_public(folder: Path, pair: KeyPair) -> None:
    """Have the public half in a file of its own, to be copied by whoever needs it."""
    path = folder / PUBLIC_NAME
    text = PUBLIC_TEXT.format(public=z85.encode(pair.public).decode())
    try:
        if path.read_text() == text:
            return
    except (FileNotFoundError, UnicodeDecodeError):
        pass
    aside = _written_aside(path, text)
    try:
        aside.replace(path)
    except BaseException:
        aside.unlink()
        raise
    _sync(folder)


def _create(path: Path, text: str) -> None:
    """Make a file that was not there; raise FileExistsError."""
    aside = _written_aside(path, text)
    try:
        os.link(aside, path)
    finally:
        aside.unlink()
    _sync(path.parent)


def _written_aside(path: Path, text: str) -> Path:
    """Return a new file beside `path` with this text, on the disk, its owner's alone."""
    aside = path.with_name(f"{path.name}.{os.getpid()}.{os.urandom(4).hex()}")
    descriptor = os.open(aside, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    with os.fdopen(descriptor, "w") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    return aside


def _sync(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
