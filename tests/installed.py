"""Peers that Hubbub is measured beside: a test of one needs its program."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from bench.servers.base import NotInstalled, Server
from bench.target import Target
from tests.needs import lack


@contextmanager
def started(server: Server, folder: Path, text_bytes: int = 64) -> Iterator[Target]:
    """Start a server, or skip the test where it is not installed."""
    try:
        with server.start(folder, text_bytes) as target:
            yield target
    except NotInstalled as reason:
        lack(str(reason))
