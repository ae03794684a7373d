"""Who somebody is on this machine: the owner secret in a file, and a nick to begin with.

The secret lets a person's sessions share a nick: whoever can read the file can pass for its
owner, so it is in a folder with the client's keys (`client.keys`), for its owner alone.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Mapping
from pathlib import Path

from common import private_files
from common.errors import Refused
from common.limits import NICK_CHARS_MAX
from common.names import check_nick
from common.private_files import FileUnusable

OWNER_BYTES = 32
OWNER_FILE = "owner"
KEY_FILE = "client.key"
SECRETS_FOLDER = "keys"  # In the data folder.
GUEST_DIGITS = 4


def data_dir(environ: Mapping[str, str] = os.environ) -> Path:
    """Return where the client keeps its files: HUBBUB_HOME, or what the system provides."""
    if home := environ.get("HUBBUB_HOME"):
        return Path(home)
    from platformdirs import user_data_path  # Here, so that HUBBUB_HOME saves its import.

    return user_data_path("hubbub", appauthor=False)


def secrets_folder(directory: Path) -> Path:
    """Return the folder for keys and secret, made where it is missing; OSError, `FileUnusable`.

    It is a folder of its own, as the broker's: people choose the data folder, and others may look
    into that one, but not change it (ADR 0035).
    """
    directory.mkdir(mode=private_files.FOLDER_MODE, parents=True, exist_ok=True)
    private_files.check_folder(directory.resolve(), may_be_read=True)
    folder = directory / SECRETS_FOLDER
    private_files.make_folder(folder)
    for name in (f"{KEY_FILE}_secret", KEY_FILE, OWNER_FILE):
        # Where earlier versions had them. Of two processes that start at once one moves it.
        if not os.path.lexists(folder / name):
            with contextlib.suppress(FileNotFoundError):
                (directory / name).rename(folder / name)
    return folder


def load_owner(directory: Path) -> bytes:
    """Return the owner secret, made on the first call; raise OSError or `FileUnusable`."""
    path = secrets_folder(directory) / OWNER_FILE
    # One byte more than it has: what is too long is damaged, as what is too short.
    secret = private_files.read_or_make(path, OWNER_BYTES + 1, lambda: os.urandom(OWNER_BYTES))
    if len(secret) != OWNER_BYTES:
        raise FileUnusable(f"{path} is damaged: remove it to get a new one")
    return secret


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
