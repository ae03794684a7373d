"""The file of keys that are let in, `--allow`. Read by the supervisor, also on SIGHUP."""

from __future__ import annotations

from pathlib import Path

from broker.config import ConfigInvalid
from common.keys import key_text, parse_key

KEYS_MAX = 50_000  # As many clients as a broker can be told to take.
FILE_BYTES_MAX = 8 * 1024 * 1024
LINE_SHOWN_CHARS = 80


def read(path: Path) -> tuple[str, ...]:
    """Return the keys in a file, in hex; raise `ConfigInvalid`, which names the line.

    One key a line, of 64 letters of hex or 40 of Z85; what follows a space is a remark, and so is
    a line that begins with #.
    """
    try:
        with path.open("rb") as file:
            data = file.read(FILE_BYTES_MAX + 1)
    except OSError as error:
        message = f"{path}: the keys that are let in cannot be read: {error.strerror}"
        raise ConfigInvalid(message) from error
    if len(data) > FILE_BYTES_MAX:
        message = f"{path}: a list of keys has at most {FILE_BYTES_MAX} bytes"
        raise ConfigInvalid(message)
    keys: dict[str, None] = {}
    for number, line in enumerate(data.decode(errors="replace").splitlines(), 1):
        word, *_ = [*line.split(maxsplit=1), ""]
        # A key in Z85 can begin with #, too.
        if not word or (line.lstrip().startswith("#") and not _is_key(word)):
            continue
        if not _is_key(word):
            message = f"{path}: line {number}: {word[:LINE_SHOWN_CHARS]!r} is no key"
            raise ConfigInvalid(message)
        keys[key_text(parse_key(word))] = None
    if len(keys) > KEYS_MAX:
        message = f"{path}: {len(keys)} keys are more than {KEYS_MAX}"
        raise ConfigInvalid(message)
    return tuple(keys)


def _is_key(word: str) -> bool:
    try:
        parse_key(word)
    except ValueError:
        return False
    return True
