"""A thread-per-client chat server, as chat servers are first written: `... threads_server PORT`.

A line is a message. A client's first line is its nick; it is greeted, and from then on everybody
hears each of its lines as `nick: line`. There are no rooms.
"""

from __future__ import annotations

import socket
import sys
import threading
from typing import Final

BACKLOG: Final = 4_096
LINE_BYTES_MAX: Final = 65_536


class ChatServer:
    """Sends what anybody says to everybody. The list of clients is under a lock."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._clients: list[socket.socket] = []

    def serve(self, host: str, port: int) -> None:
        """Accept clients for ever, each into a thread of its own."""
        with socket.create_server((host, port), backlog=BACKLOG) as listener:
            while True:
                client, _ = listener.accept()
                threading.Thread(target=self._hear, args=(client,), daemon=True).start()

    def _hear(self, client: socket.socket) -> None:
        try:
            with client, client.makefile("rb") as lines:
                nick = lines.readline(LINE_BYTES_MAX).rstrip(b"\n")
                with self._lock:
                    client.sendall(b"welcome " + nick + b"\n")
                    self._clients.append(client)
                try:
                    while line := lines.readline(LINE_BYTES_MAX):
                        self._broadcast(nick + b": " + line)
                finally:
                    with self._lock:
                        self._clients.remove(client)
        except OSError:  # Its connection is gone: so is the client.
            return

    def _broadcast(self, line: bytes) -> None:
        with self._lock:
            for client in self._clients:
                try:
                    client.sendall(line)
                except OSError:  # Its own thread takes it off the list.
                    continue


if __name__ == "__main__":
    ChatServer().serve("127.0.0.1", int(sys.argv[1]))
