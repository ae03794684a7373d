"""The socket in the data folder through which the broker's own host gives orders.

Whoever may write to its file may give them, so the file is its owner's alone; and the kernel is
asked who knocks. There is no other proof, and none is needed: who can write in the data folder
could as well change the log. ADR 0034.
"""

from __future__ import annotations

import contextlib
import os
import stat
from collections.abc import Iterable, Iterator
from pathlib import Path

import zmq

from broker.host.sockets import bound_socket, receive_message, send_message
from common.endpoints import ADMIN_SOCKET, admin_url
from common.limits import COMMAND_BYTES_MAX

MESSAGES_MAX = 4  # In a turn: whatever administrators do, the chat goes on in between.
ANSWERS_WAITING_MAX = 4  # Of one who does not read them; a table may have megabytes.
MODE = 0o600
ROOT = 0


class AdminRoute(bytes):
    """A route of this socket. A type, because peers of other sockets choose the bytes of theirs."""

    __slots__ = ()


class AdminSocket:
    """Owned by the thread that made it."""

    def __init__(
        self,
        context: zmq.Context[zmq.Socket[bytes]],
        folder: Path,
        users: Iterable[int] | None = None,
    ) -> None:
        """Listen in a folder, in place of what a dead broker left there; raise `OSError`.

        users: whose processes may connect; None: those of this process's user, and root's.
        """
        self._path = folder / ADMIN_SOCKET
        # Never closed: where the path is too long, libzmq reaches the socket through it.
        self._folder = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        self.socket = bound_socket(context, zmq.ROUTER, "", COMMAND_BYTES_MAX)
        try:
            self.socket.setsockopt(zmq.ROUTER_MANDATORY, 1)
            self.socket.setsockopt(zmq.SNDHWM, ANSWERS_WAITING_MAX)
            for user in {os.geteuid(), ROOT} if users is None else set(users):
                self.socket.setsockopt(zmq.IPC_FILTER_UID, user)
            # libzmq removes what is at that name (4.3.5, ipc_listener.cpp).
            self.socket.bind(admin_url(str(folder.absolute()), self._folder))
            self._path.chmod(MODE)
            mode = self._path.stat().st_mode
            if not stat.S_ISSOCK(mode) or stat.S_IMODE(mode) != MODE:
                raise OSError("its file system keeps no modes")
        except (OSError, zmq.ZMQError):
            self.close()
            raise

    def receive(self) -> Iterator[tuple[AdminRoute, list[bytes]]]:
        """Yield the messages that wait, with their routes; a few of them."""
        with contextlib.suppress(zmq.Again):
            for _ in range(MESSAGES_MAX):
                route, frames, _ = receive_message(self.socket)
                yield AdminRoute(route), frames

    def send(self, route: bytes, frames: list[bytes]) -> None:
        """Answer; raise `zmq.ZMQError` as `broker.host.sockets.send_message` does."""
        send_message(self.socket, route, frames)

    def close(self) -> None:
        """Leave, and leave nothing behind."""
        self.socket.close()
        with contextlib.suppress(OSError):
            self._path.unlink()
