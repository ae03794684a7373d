"""Whom somebody does not want to read: a small file of nicks, one a line."""

from __future__ import annotations

import contextlib
from pathlib import Path

from client.limits import IGNORED_MAX
from common import private_files
from common.errors import Code, Refused
from common.limits import NICK_CHARS_MAX
from common.names import fold

FILE = "ignored"
BYTES_MAX = IGNORED_MAX * (4 * NICK_CHARS_MAX + 1)


class Ignored:
    """The nicks, folded. Without a folder they are kept in memory only."""

    def __init__(self, directory: Path | None = None) -> None:
        """Read the file, if it is there; raise OSError or ValueError when it cannot be read."""
        self._path = directory / FILE if directory is not None else None
        self.nicks: set[str] = set()
        if self._path is not None:
            with contextlib.suppress(FileNotFoundError), self._path.open("rb") as file:
                text = file.read(BYTES_MAX).decode("utf-8")
                self.nicks = {fold(line) for line in text.splitlines()[:IGNORED_MAX] if line}

    def __contains__(self, nick: object) -> bool:
        """Tell whether somebody is ignored."""
        return bool(self.nicks) and isinstance(nick, str) and fold(nick) in self.nicks

    def add(self, nick: str) -> None:
        """Ignore somebody from here on; raise `Refused(too_many)` or OSError."""
        if len(self.nicks) >= IGNORED_MAX:
            raise Refused(Code.TOO_MANY, f"you ignore {IGNORED_MAX} already: /unignore somebody")
        self.nicks.add(fold(nick))
        self._save()

    def remove(self, nick: str) -> bool:
        """Show somebody again; tell whether they were ignored. Raises OSError."""
        is_known = nick in self
        self.nicks.discard(fold(nick))
        self._save()
        return is_known

    def _save(self) -> None:
        if self._path is None:
            return
        self._path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        content = "".join(f"{nick}\n" for nick in sorted(self.nicks))
        private_files.replace(self._path, content.encode())
