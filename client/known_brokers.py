"""The keys of brokers that this user trusts, as ssh keeps known_hosts.

The file `known_brokers` has one `HOST:PORT KEY` a line, the key as hex; what begins with `#` and
whatever else stands there is kept. A broker without a line is not known, and may be plain.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import time
from collections.abc import Iterator
from pathlib import Path

from common import private_files
from common.endpoints import Address
from common.private_files import FileUnusable

FILE = "known_brokers"
FILE_BYTES_MAX = 1024 * 1024  # Some ten thousand brokers; a larger one is a mistake.
LINES_MAX = 10_000
LOCK_WAIT_S = 2.0  # A change takes milliseconds.
LOCK_RETRY_S = 0.02


class KnownBrokers:
    """The file in a folder. Each call reads it anew: other processes change it, too."""

    def __init__(self, directory: Path) -> None:
        self.path = directory / FILE

    def get(self, address: Address) -> bytes | None:
        """Return a broker's key (32 bytes), None when it is not known.

        Raises OSError and `FileUnusable` for a file that can't be used: it may hold a key.
        """
        # The last one counts; `set` leaves one.
        found = [line for line in self._lines() if _name_of(line) == name_of(address)]
        return self._key_of(found[-1]) if found else None

    def set(self, address: Address, key: bytes) -> None:
        """Remember a broker's key instead of any other; raise OSError or `FileUnusable`."""
        from common.keys import key_text

        self._replace(address, [f"{name_of(address)} {key_text(key)}"])

    def remove(self, address: Address) -> bool:
        """Forget a broker; tell whether it was known. Raises OSError or `FileUnusable`."""
        return self._replace(address, [])

    def _key_of(self, line: str) -> bytes:
        from common.keys import parse_key

        try:
            return parse_key(line.split(maxsplit=1)[1])
        except (IndexError, ValueError) as error:
            name = _name_of(line)
            message = f"{self.path} has no key in its line for {name}; run: hubbub trust {name}"
            raise FileUnusable(message) from error

    def _lines(self) -> list[str]:
        try:
            content = private_files.read(self.path, FILE_BYTES_MAX, may_be_read=True)
        except (FileNotFoundError, NotADirectoryError):
            return []
        lines = content.decode("utf-8", "surrogateescape").split("\n")
        lines = lines[:-1] if not lines[-1] else lines
        if len(lines) > LINES_MAX:
            message = f"{self.path} has more than {LINES_MAX} lines: remove what is not needed"
            raise FileUnusable(message)
        return lines

    def _replace(self, address: Address, instead: list[str]) -> bool:
        with self._turn():
            lines = self._lines()
            others = [line for line in lines if _name_of(line) != name_of(address)]
            self._write([*others, *instead])
        return len(others) < len(lines)

    def _write(self, lines: list[str]) -> None:
        content = "".join(f"{line}\n" for line in lines).encode("utf-8", "surrogateescape")
        if len(lines) > LINES_MAX or len(content) > FILE_BYTES_MAX:
            raise FileUnusable(f"{self.path} is full: remove what is not needed")
        private_files.replace(self.path, content)

    @contextlib.contextmanager
    def _turn(self) -> Iterator[None]:
        """Let one process change the file at a time, or what another one adds would be lost."""
        self.path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        folder = os.open(self.path.parent, os.O_RDONLY | os.O_DIRECTORY)
        try:
            self._lock(folder)
            yield
        finally:
            os.close(folder)

    def _lock(self, folder: int) -> None:
        """Wait for the turn, but not for ever: whoever has it may be stopped, or be no client."""
        end_s = time.monotonic() + LOCK_WAIT_S
        while True:
            try:
                return fcntl.flock(folder, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError as error:
                if time.monotonic() > end_s:
                    message = f"another program keeps {self.path} locked: try again when it is done"
                    raise FileUnusable(message) from error
            time.sleep(LOCK_RETRY_S)


def name_of(address: Address) -> str:
    """Return what a broker is called in the file, and towards people: `host:port`."""
    return address.url().removeprefix("tcp://").lower()


def _name_of(line: str) -> str:
    """Return whom a line is about; empty for comments and empty lines."""
    name = line.split(maxsplit=1)[0] if line.strip() else ""
    return "" if name.startswith("#") else name.lower()
