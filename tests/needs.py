"""What some tests need of the machine: without it they are skipped, but not in CI."""

from __future__ import annotations

import os
import shutil
from typing import NoReturn

import pytest


def lack(what: str) -> NoReturn:
    """Skip the test; fail in CI, where everything must be there, or it would show nothing ever."""
    if os.environ.get("CI"):
        pytest.fail(f"in CI this test must run, but: {what}")
    pytest.skip(what)


def need(is_there: bool, what: str) -> None:  # noqa: FBT001 - reads as a sentence
    """Skip the test where something is missing."""
    if not is_there:
        lack(f"it needs {what}")


def need_root() -> None:
    """Only root may mount, and watch the system calls of any process."""
    need(os.geteuid() == 0, "root")


def need_program(name: str) -> None:
    """Another program does part of the work."""
    need(shutil.which(name) is not None, f"the program {name}")
