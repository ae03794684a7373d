"""A running server, as works and generators see it."""

from __future__ import annotations

import msgspec


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
