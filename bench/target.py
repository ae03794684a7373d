"""A running server, as works and generators see it."""

from __future__ import annotations

from typing import Final

import msgspec

HUBBUB: Final = "hubbub"
HUBBUB_CURVE: Final = "hubbub-curve"  # The same, encrypted.


class Target(msgspec.Struct, frozen=True):
    """Where a server is, what it speaks, and which processes are its own."""

    name: str  # Of a module in `bench.servers`: it has the dialect.
    version: str
    is_durable: bool  # An acknowledged message is on the disk, and nobody sees it earlier.
    host: str
    ports: list[int]  # What they are for is the dialect's business.
    pids: list[int]  # Processes whose CPU and memory count; empty where they are out of reach.
    settings: list[str]  # What differs from how the server ships, for the banner.
    text_bytes: int = 64  # The size of every text of the run.
    server_key: str = ""  # Hex, 64 letters: its CURVE key where connections are encrypted.

    @property
    def is_hubbub(self) -> bool:
        """Whether it is the broker of this project."""
        return self.name in {HUBBUB, HUBBUB_CURVE}
