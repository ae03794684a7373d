"""What every server's module offers, and what starting one needs."""

from __future__ import annotations

from contextlib import AbstractContextManager
from pathlib import Path
from typing import Protocol

from bench.dialect import Dialect
from bench.target import Target


class NotInstalled(Exception):
    """The server's program is missing; the message says what installs it."""


class Server(Protocol):
    """One server: `bench.servers.<name>.SERVER`."""

    name: str
    is_durable: bool
    is_peer: bool  # False for Hubbub itself.
    has_rooms: bool  # False where everybody hears everything.

    def start(self, folder: Path, text_bytes: int) -> AbstractContextManager[Target]:
        """Start it on free loopback ports with its data in `folder`, and wait until it answers.

        Ends with the context: no process, port or file outside `folder` stays behind. Raises
        `NotInstalled`.
        """

    def dialect(self, target: Target) -> Dialect:
        """Return what it speaks."""
