"""Starting a child that does not live long."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

from broker.child_process import Child


def test_a_child_that_dies_before_its_orders_does_not_take_the_supervisor_along(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Orders to a dead process are no error: its death is seen like any other."""
    closes_its_input = tmp_path / "dead"
    closes_its_input.write_text("#!/bin/sh\nexec <&-\nsleep 0\n")
    closes_its_input.chmod(0o700)
    monkeypatch.setattr(sys, "executable", str(closes_its_input))
    with (tmp_path / "lock").open("w") as lock:
        child = Child("live")
        child.start(b"x" * 2**20, lock.fileno())  # More than a pipe holds: it sees the end.
        assert child.process is not None
        assert child.process.stdout is not None
        assert os.read(child.process.stdout.fileno(), 1) == b""
        child.reap()
