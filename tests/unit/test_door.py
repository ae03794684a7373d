"""Who knocks while no descriptor is left: what the door reads of it, and who turns them away."""

from __future__ import annotations

import errno
import logging
import os
import resource
import signal
import socket
import sys
from collections import deque
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from unittest.mock import Mock

import pytest
import zmq

import tests
from broker.host.bouncer import DESCRIPTORS_MAX, LISTENER
from broker.host.door import BOUNCER_AGAIN_S, CALM_S, EVENTS_MAX, Door
from tests.waiting import DEADLINE_S

ROOT = Path(tests.__file__).parent.parent
# As `broker.host.door` runs it, but for longer than a second: so nothing here depends on time.
BOUNCER = """
import sys
sys.path.insert(0, sys.argv[1])
from broker.host import bouncer
bouncer.BOUNCE_S = 600.0
bouncer.main()
"""


class Events:
    """What libzmq tells of a listener: so many failures to accept."""

    def __init__(self, failures_count: int, error: int = errno.EMFILE) -> None:
        event = zmq.EVENT_ACCEPT_FAILED.to_bytes(2, sys.byteorder)
        message = [event + error.to_bytes(4, sys.byteorder), b"tcp://127.0.0.1:1"]
        self.waiting = deque([message] * failures_count)

    def recv_multipart(self, _flags: int) -> list[bytes]:
        """Return the next event."""
        if not self.waiting:
            raise zmq.Again
        return self.waiting.popleft()


def test_so_many_events_are_read_at_once() -> None:
    """A listener that fails makes them faster than they are read; others wait for their turn."""
    with zmq.Context() as context, context.socket(zmq.ROUTER) as router:
        door = Door(context, router, "tcp://127.0.0.1:0", logging.getLogger("door"))
        door.close()
        bounced = Mock()
        door._bounce = bounced  # type: ignore[method-assign]
        door.events = events = Events(EVENTS_MAX + 1)  # type: ignore[assignment]
        door._listener = 0
        door.look(0.0)
        assert 1 == len(events.waiting)
        door.look(0.0)
        assert not events.waiting
        assert 2 == bounced.call_count
        door.look(0.0)
        assert 2 == bounced.call_count


@pytest.mark.parametrize("reason", [errno.EAGAIN, errno.ENOMEM, errno.ENFILE, errno.EMFILE])
def test_a_bouncer_that_cannot_be_started_is_told_and_tried_again(
    reason: int, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """The chat goes on for those who are in; and nobody asks for a process at every event."""
    spawn = Mock(side_effect=OSError(reason, os.strerror(reason)))
    monkeypatch.setattr(os, "posix_spawn", spawn)
    with zmq.Context() as context, context.socket(zmq.ROUTER) as router:
        door = Door(context, router, "tcp://127.0.0.1:0", logging.getLogger("door"))
        door.close()
        door._listener = 0
        for now_s in (0.0, BOUNCER_AGAIN_S / 2):
            door.events = Events(1, errno.ENFILE)  # type: ignore[assignment]
            door.look(now_s)
        assert 1 == spawn.call_count
        assert [os.strerror(reason) in line for line in caplog.messages] == [True]
        door.events = Events(1)  # type: ignore[assignment]
        door.look(BOUNCER_AGAIN_S)
        assert 2 == spawn.call_count
        assert BOUNCER_AGAIN_S + CALM_S == door.deadline_s
        caplog.clear()
        door.look(door.deadline_s)
        assert ["let in again" in line for line in caplog.messages] == [True]
        spawn.side_effect = None
        spawn.return_value = 1
        door.events = Events(1)  # type: ignore[assignment]
        door.look(60.0)
        assert 1 == door._bouncer


@pytest.fixture
def most_descriptors() -> Iterator[int]:
    """Let this process have as many descriptors as it may; return how many."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    yield min(hard, DESCRIPTORS_MAX)
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def test_the_bouncer_keeps_nothing_that_it_inherits(most_descriptors: int) -> None:
    """Not even the highest descriptor; and it turns away whoever knocks."""
    reader, writer = os.pipe()
    highest = os.dup2(writer, most_descriptors - 1)
    os.close(writer)
    with closing(socket.create_server(("127.0.0.1", 0))) as listener:
        bouncer = os.posix_spawn(
            sys.executable,
            [sys.executable, "-I", "-S", "-c", BOUNCER, str(ROOT)],
            {},
            file_actions=[(os.POSIX_SPAWN_DUP2, listener.fileno(), LISTENER)],
        )
        os.close(highest)
        try:
            assert b"" == os.read(reader, 1), "its copy of the writing end is closed"
            with (
                pytest.raises(ConnectionResetError),
                socket.create_connection(listener.getsockname(), DEADLINE_S) as knocking,
            ):
                knocking.recv(1)
        finally:
            os.kill(bouncer, signal.SIGKILL)
            os.waitpid(bouncer, 0)
            os.close(reader)
