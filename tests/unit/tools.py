"""The sub-commands of `hubbub-broker`, run within a test, and a log for them."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest

from broker.__main__ import main
from tests.unit.logs import SqliteStore, proposal, said, sent

TEXTS = [f"text {number}" for number in range(8)]
SENDER = b"s" * 16


class Said:
    """What a sub-command printed."""

    def __init__(self, capsys: pytest.CaptureFixture[str]) -> None:
        self._capsys = capsys
        self.out: list[str] = []
        self.err: list[str] = []

    def run(self, *words: object) -> int:
        """Run a sub-command; return its exit status."""
        old = os.umask(0o022)
        try:
            status = main([str(word) for word in words])
        finally:
            os.umask(old)
        printed = self._capsys.readouterr()
        self.out, self.err = printed.out.splitlines(), printed.err.splitlines()
        return status


def make_data(tmp_path: Path) -> Path:
    """Return the folder of a log with two rooms, in two runs; the last one was killed."""
    folder = tmp_path / "live"
    folder.mkdir()
    store = SqliteStore(folder, is_quick=True)
    for number, text in enumerate(TEXTS):
        sends = [sent(SENDER, number + 1, (0, 0, number))]
        posts = proposal("r", said(text, ts=number), sends=sends)
        store.open() if number == 5 else None
        (store._log or store.open()).append([posts, proposal("ü", said("x", "y", ts=number))])
    store.opened.append([proposal("r", said("cats", ts=99), topic="cats")])
    data = tmp_path / "data"
    shutil.copytree(folder, data)
    store.close()
    return data


def flip(path: Path, wanted: bytes) -> int:
    """Change a bit where some bytes stand; return where that is."""
    content = bytearray(path.read_bytes())
    offset = content.index(wanted)
    content[offset] ^= 1
    path.write_bytes(content)
    return offset
