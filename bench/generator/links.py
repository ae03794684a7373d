"""Sockets of a generator: many connections, one epoll, one thread."""

from __future__ import annotations

import errno
import os
import select
import socket
from collections import deque
from collections.abc import Callable
from typing import Final

from bench import curve

READ_BYTES: Final = 256 * 1024
EXACT_S_MAX: Final = 0.01
DRAIN_BYTES: Final = 4 * 1024 * 1024
# Of a link that drains: what the kernel gathers before it tells, so that thousands of listeners
# who are not looked at cost little. Well below what a socket's buffer holds.
LOW_WATER_BYTES: Final = 16 * 1024
_SCRATCH: Final = bytearray(DRAIN_BYTES)
_VIEW: Final = memoryview(_SCRATCH)


class Lost(Exception):
    """The server closed a connection."""


class Link:
    """One connection. `take` is called with what comes, until `drain` is.

    `lost` is called from `Net.poll` when the connection has ended or was refused, after it was
    closed. A link without it is one that must not end: `Lost` is raised instead.
    """

    __slots__ = ("_net", "_waiting", "drained_bytes", "fd", "lost", "take", "tcp")

    def __init__(
        self,
        net: Net,
        tcp: socket.socket,
        take: Callable[[bytes], None] | None,
        lost: Callable[[], None] | None = None,
    ) -> None:
        self._net = net
        self.tcp = tcp
        self.fd = tcp.fileno()
        self.take = take
        self.lost = lost
        self.drained_bytes = 0
        self._waiting: deque[bytes] = deque()

    def write(self, data: bytes) -> None:
        """Write now as much as the kernel takes, and the rest when it can."""
        if self._waiting:
            self._waiting.append(data)
            return
        try:
            sent = self.tcp.send(data)
        except BlockingIOError:
            sent = 0
        except OSError as error:
            if self.lost is not None:
                return  # The next poll tells it.
            raise Lost(f"the server closed a connection: {error}") from error
        if sent < len(data):
            self._waiting.append(data[sent:])
            self._net.watch(self, is_writing=True)

    @property
    def is_blocked(self) -> bool:
        """Whether something still waits for the kernel to take it."""
        return bool(self._waiting)

    def drain(self) -> None:
        """From now on have bytes dropped by the kernel, and counted.

        They are counted when there are many (SO_RCVLOWAT, socket(7)), and at each `read_rest`.
        """
        self.take = None
        self.tcp.setsockopt(socket.SOL_SOCKET, socket.SO_RCVLOWAT, LOW_WATER_BYTES)

    @property
    def overhead_bytes(self) -> int:
        """How many bytes were heard beside those that were handed on."""
        return 0

    def read_rest(self) -> None:
        """Count what has come up to now; raise `Lost`."""
        self._read()

    def on_event(self, mask: int) -> None:
        """Read or write what epoll said can be."""
        if mask & select.EPOLLOUT:
            self._write_on()
        if mask & ~select.EPOLLOUT:
            self._read()

    def _write_on(self) -> None:
        while self._waiting:
            data = self._waiting[0]
            try:
                sent = self.tcp.send(data)
            except BlockingIOError:
                return
            except OSError as error:
                raise Lost(f"the server closed a connection: {error}") from error
            if sent < len(data):
                self._waiting[0] = data[sent:]
                return
            self._waiting.popleft()
        self._net.watch(self, is_writing=False)

    def _read(self) -> None:
        try:
            if self.take is None:
                # MSG_TRUNC on TCP: the kernel throws the bytes away without copying them, tcp(7).
                size = self.tcp.recv_into(_SCRATCH, DRAIN_BYTES, socket.MSG_TRUNC)
                self.drained_bytes += size
            else:
                # Not recv(): it would ask the kernel for memory of this size each time.
                size = self.tcp.recv_into(_SCRATCH, READ_BYTES)
                if size:
                    self.take(bytes(_VIEW[:size]))
        except BlockingIOError:
            return
        except OSError as error:
            raise Lost(f"the server closed a connection: {error}") from error
        if not size:
            raise Lost("the server closed a connection")


class SecureLink(Link):
    """One whose peer wants CURVE: what is written and taken is plain, what travels is not.

    While it drains, the kernel drops what nobody has decrypted.
    """

    __slots__ = ("_heard", "_tunnel")

    def __init__(
        self,
        net: Net,
        tcp: socket.socket,
        take: Callable[[bytes], None] | None,
        lost: Callable[[], None] | None,
        tunnel: curve.Tunnel,
    ) -> None:
        self._tunnel = tunnel
        self._heard: Callable[[bytes], None] | None = None
        super().__init__(net, tcp, take, lost)

    @property
    def take(self) -> Callable[[bytes], None] | None:
        """What `Link` calls with what comes; it calls whoever was put in this place."""
        return self._decrypt if self._heard is not None else None

    @take.setter
    def take(self, heard: Callable[[bytes], None] | None) -> None:
        self._heard = heard

    def write(self, data: bytes) -> None:
        """Write whole frames, encrypted."""
        super().write(self._tunnel.say(data))

    def drain(self) -> None:
        """From now on have bytes dropped by the kernel, and counted."""
        super().drain()
        self.drained_bytes += self._tunnel.unread_bytes

    @property
    def overhead_bytes(self) -> int:
        """How many bytes were heard beside those that were handed on."""
        return self._tunnel.overhead_bytes

    def on_event(self, mask: int) -> None:
        """Read or write what epoll said can be."""
        try:
            super().on_event(mask)
        except Lost as lost:
            if self._tunnel.is_ready:
                raise
            # All that libzmq does about a HELLO for another key, or about one it does not want.
            message = f"{lost}, before it was encrypted: another key, or a server without CURVE?"
            raise Lost(message) from lost

    def _decrypt(self, data: bytes) -> None:
        tunnel = self._tunnel
        tunnel.feed(data)
        # A frame may make whoever takes it hand the place on, or drain.
        while self._heard is not None and (frame := tunnel.next_frame()) is not None:
            self._heard(frame)
        answer = tunnel.take_answer()
        if answer:
            super().write(answer)


class Net:
    """All links of a process."""

    def __init__(self, host: str) -> None:
        self._host = host
        self._epoll = select.epoll()
        self._links: dict[int, Link] = {}

    def open(
        self,
        port: int,
        take: Callable[[bytes], None] | None,
        lost: Callable[[], None] | None = None,
        keys: curve.Keys | None = None,
    ) -> Link:
        """Begin to connect; what is written before the server accepts waits for it.

        With `keys` what travels is encrypted.

        A server whose listen queue is full drops who comes, and TCP tries again after a second:
        nobody else shall wait for that. Raises `Lost`.
        """
        family = socket.AF_INET6 if ":" in self._host else socket.AF_INET
        tcp = socket.socket(family, socket.SOCK_STREAM)
        tcp.setblocking(False)
        try:
            tcp.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            error_number = tcp.connect_ex((self._host, port))
            if error_number not in {0, errno.EINPROGRESS}:
                raise OSError(error_number, os.strerror(error_number))
        except OSError as error:
            tcp.close()
            raise Lost(f"no connection to port {port}: {error}") from error
        if keys is None:
            link = Link(self, tcp, take, lost)
        else:
            link = SecureLink(self, tcp, take, lost, curve.Tunnel(keys))
        self._links[link.fd] = link
        self._epoll.register(link.fd, select.EPOLLIN)
        return link

    def watch(self, link: Link, *, is_writing: bool) -> None:
        """Say whether the link waits to write."""
        self._epoll.modify(link.fd, select.EPOLLIN | (select.EPOLLOUT if is_writing else 0))

    def wake_for(self, other: Net) -> None:
        """Let `poll` return when a link of another one is ready, too; that one serves it."""
        self._epoll.register(other._epoll.fileno(), select.EPOLLIN)

    def poll(self, timeout_s: float, links_max: int = 0) -> int:
        """Serve every link that is ready, once; return how many were. Raises `Lost`.

        With `links_max` it serves so many at most; the others come first the next time.
        """
        links = self._links
        if 0 < timeout_s < EXACT_S_MAX:
            # epoll rounds up to milliseconds; asking it again and again takes a core.
            select.select((self._epoll,), (), (), timeout_s)
            timeout_s = 0
        events = self._epoll.poll(timeout_s, links_max or len(links) or 1)
        for fd, mask in events:
            link = links.get(fd)
            if link is not None:
                self._serve(link, mask)
        return len(events)

    def _serve(self, link: Link, mask: int) -> None:
        try:
            link.on_event(mask)
        except Lost:
            self.close_link(link)
            if link.lost is None:
                raise
            link.lost()

    def close_link(self, link: Link) -> None:
        """Close one connection without a word."""
        if self._links.pop(link.fd, None) is not None:
            link.tcp.close()

    def close(self) -> None:
        """Close everything."""
        for link in self._links.values():
            link.tcp.close()
        self._links.clear()
        self._epoll.close()
