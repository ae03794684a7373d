"""Addresses as people write them: HOST, HOST:PORT, [IPv6]:PORT, tcp://... Pure."""

from __future__ import annotations

import re
from typing import NamedTuple

from common.limits import BASE_PORT

PORT_MAX = 65_535
PORT_DIGITS_MAX = 5
# What libzmq takes; anything else it refuses with no more than "Invalid argument".
HOST = re.compile("[0-9A-Za-z:][0-9A-Za-z:._%-]*")
LOOPBACK = frozenset({"localhost", "::1"})
LOOPBACK_V4 = re.compile(r"127(\.[0-9]{1,3}){3}")


ADMIN_SOCKET = "admin.sock"  # In the broker's data folder.
UNIX_PATH_BYTES_MAX = 107  # unix(7), without the NUL at its end.


class Address(NamedTuple):
    """Where a broker is: a host name or IP address without brackets, and the base port."""

    host: str
    port: int = BASE_PORT

    def url(self, port: int | None = None) -> str:
        """Return the ZeroMQ endpoint, for the base port or for another one of this host."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"tcp://{host}:{self.port if port is None else port}"

    @property
    def text(self) -> str:
        """Return "HOST:PORT" or "[IPv6]:PORT", as people write it."""
        return self.url().removeprefix("tcp://")

    @property
    def is_loopback(self) -> bool:
        """Whether what is said never leaves this host."""
        return self.host in LOOPBACK or LOOPBACK_V4.fullmatch(self.host) is not None


def parse(text: str, default_port: int = BASE_PORT) -> Address:
    """Read an address; raise ValueError with a sentence for people."""
    rest = text.strip().removeprefix("tcp://")
    if rest.startswith("["):
        host, bracket, tail = rest[1:].partition("]")
        if not bracket or (tail and not tail.startswith(":")):
            message = f"{text!r} is not an address: write [IPv6]:PORT"
            raise ValueError(message)
        port_text = tail[1:] if tail else str(default_port)
    elif rest.count(":") > 1:  # A bare IPv6 address.
        host, port_text = rest, str(default_port)
    else:
        host, colon, tail = rest.partition(":")
        port_text = tail if colon else str(default_port)
    if not host:
        message = "the broker's host is empty: write HOST or HOST:PORT"
        raise ValueError(message)
    if not HOST.fullmatch(host):
        message = f"{host!r} is not a host name"
        raise ValueError(message)
    is_number = port_text.isascii() and port_text.isdigit() and len(port_text) <= PORT_DIGITS_MAX
    if not (is_number and 1 <= int(port_text) <= PORT_MAX):
        message = f"{port_text!r} is not a port: write a number from 1 to {PORT_MAX}"
        raise ValueError(message)
    return Address(host, int(port_text))


def admin_url(folder: str, descriptor: int) -> str:
    """Return the ZeroMQ endpoint of the broker's own socket in its data folder.

    descriptor: the folder, open. The socket is reached through it where the path is too long for
    one, or cannot be written as text (proc(5), /proc/PID/fd).
    """
    path = f"{folder}/{ADMIN_SOCKET}"
    try:
        is_fit = len(path.encode()) <= UNIX_PATH_BYTES_MAX
    except UnicodeEncodeError:
        is_fit = False
    return f"ipc://{path}" if is_fit else f"ipc:///proc/self/fd/{descriptor}/{ADMIN_SOCKET}"
