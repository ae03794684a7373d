"""How the supervisor says that a child ended."""

from __future__ import annotations

import signal

import pytest

from broker.child_process import end_of


@pytest.mark.parametrize(
    ("status", "words"),
    [
        (1, "ended with status 1"),
        (0, "ended with status 0"),
        (
            -signal.SIGABRT,
            "was killed by signal 6 (SIGABRT: out of memory or descriptors, or a bug)",
        ),
        (-signal.SIGTERM, "was killed by signal 15 (SIGTERM)"),
        (-signal.SIGRTMIN - 1, "was killed by signal 35 (unknown)"),
    ],
)
def test_an_end_is_told_in_words(status: int, words: str) -> None:
    """A signal by its name, with the likely reason where there is one."""
    assert end_of(status) == words
