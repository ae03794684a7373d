"""Who somebody is on this machine: the owner secret in a file, and a nick to begin with.

The secret lets a person's sessions share a nick: whoever can read the file can pass for its
owner, so it is readable by its owner alone.
"""

from __future__ import annotations

import contextlib
import os
import stat
from collections.abc import Mapping
from pathlib import Path

from common.errors import Refused
from common.limits import NICK_CHARS_MAX
from common.names import check_nick

OWNER_BYTES = 32
OWNER_FILE = "owner"
GUEST_DIGITS = 4
READ_RETRIES_MAX = 3  # The file can vanish between two looks; not for ever.


def data_dir(environ: Mapping[str, str] = os.environ) -> Path:
    """Return where the client keeps its files: HUBBUB_HOME, or what the system provides."""
    if home := environ.get("HUBBUB_HOME"):
        return Path(home)
    from platformdirs import user_data_path  # Here, so that HUBBUB_HOME saves its import.

    return user_data_path("hubbub", appauthor=False)


def load_owner(directory: Path) -> bytes:
    """Return the owner secret, made on the first call; raise OSError or ValueError.

    Two processes that start at once get the same secret: it is written aside and linked to its
    name, which only one of them can do, and the other reads what the first one linked.
    """
    directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    path = directory / OWNER_FILE
    for _ in range(READ_RETRIES_MAX):
        with contextlib.suppress(FileNotFoundError):
            return _read(path)
        with contextlib.suppress(FileExistsError):
            _create(path, os.urandom(OWNER_BYTES))
    message = f"{path} comes and goes"
    raise OSError(message)


def _read(path: Path) -> bytes:
    with path.open("rb") as file:
        facts = os.fstat(file.fileno())
        if facts.st_uid != os.geteuid():
            message = f"{path} belongs to somebody else"
            raise ValueError(message)
        if stat.S_IMODE(facts.st_mode) & 0o077:
            os.fchmod(file.fileno(), 0o600)
        secret = file.read(OWNER_BYTES + 1)
    if len(secret) != OWNER_BYTES:
        message = f"{path} is damaged; remove it to get a new one"
        raise ValueError(message)
    return secret


def _create(path: Path, secret: bytes) -> None:
    aside = path.with_name(f"{path.name}.{os.getpid()}.{secret[:4].hex()}")
    descriptor = os.open(aside, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(secret)
            file.flush()
            os.fsync(file.fileno())
        os.link(aside, path)
    finally:
        aside.unlink()


# --- the nick to begin with -------------------------------------------------
def login_name() -> str:
    """Return the name of the user of this process; empty when there is none."""
    import getpass  # Rarely needed where --nick or HUBBUB_NICK is given.

    try:
        return getpass.getuser()
    except (KeyError, OSError, ImportError):  # No such user, as in a container.
        return ""


def nick_from(login: str, chance: int) -> str:
    """Return a valid nick close to a login name, or a guest's with digits from `chance`."""
    kept = "".join(character for character in login if _is_nick(f"a{character}"))
    for candidate in (login, kept[:NICK_CHARS_MAX], kept.lstrip("-_.")[:NICK_CHARS_MAX]):
        if _is_nick(candidate):
            return check_nick(candidate)
    return f"guest{chance % 10**GUEST_DIGITS:0{GUEST_DIGITS}d}"


def nick_beside(nick: str, chance: int) -> str:
    """Return another nick, for a reader who does not mind what it is called."""
    digits = f"{chance % 10**GUEST_DIGITS:0{GUEST_DIGITS}d}"
    return f"{nick[: NICK_CHARS_MAX - len(digits) - 1]}-{digits}"


def _is_nick(text: str) -> bool:
    try:
        check_nick(text)
    except Refused:
        return False
    return True
