"""The queues between a program's threads and the connection's thread."""

from __future__ import annotations

import select
import socket

from client.queues import Waker


def is_readable(waker: Waker) -> bool:
    return bool(select.select([waker.fileno()], [], [], 0)[0])


class MeddlingEar:
    """An ear during whose every recv somebody else wakes."""

    def __init__(self, waker: Waker, ear: socket.socket) -> None:
        self._waker = waker
        self._ear = ear

    def recv(self, size: int) -> bytes:
        self._waker.wake()
        return self._ear.recv(size)

    def fileno(self) -> int:
        return self._ear.fileno()

    def close(self) -> None:
        self._ear.close()


def test_wakes_before_a_look_are_one_signal() -> None:
    """Many wakes cost one byte, and are over when they were taken."""
    waker = Waker()
    for _ in range(100):
        waker.wake()
    assert is_readable(waker)
    waker.clear()
    assert not is_readable(waker)
    waker.wake()
    assert is_readable(waker)
    waker.close()


def test_a_wake_in_the_middle_of_taking_the_signal_deafens_nobody() -> None:
    """A wake that comes while the signal is being taken does not swallow all later ones."""
    waker = Waker()
    ear = waker._ear
    waker.wake()
    waker._ear = MeddlingEar(waker, ear)  # type: ignore[assignment]
    waker.clear()
    waker._ear = ear
    waker.wake()
    assert is_readable(waker)
    waker.close()
