"""Choosing an address and four consecutive ports."""

from __future__ import annotations

import random
import socket
from pathlib import Path

from common.errors import HubbubError

PORTS_COUNT = 4  # Commands, rooms, history, introductions.
TRIES_MAX = 200
LOWEST_PORT = 10_240
EPHEMERAL_RANGE = Path("/proc/sys/net/ipv4/ip_local_port_range")
EPHEMERAL_DEFAULT = 32_768


class AddressUnusable(HubbubError):
    """The host or the ports cannot be served on; the message says why and what to do."""


def resolve(host: str) -> str:
    """Return the numeric address of a host to serve on; raise `AddressUnusable`."""
    try:
        found = socket.getaddrinfo(
            host.strip("[]"), None, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )
    except (OSError, ValueError) as error:  # ValueError: it can't be encoded, or has a NUL.
        message = f"the host {host!r} is not an address of this machine: {error}"
        raise AddressUnusable(message) from error
    # Where a name has both, IPv4 is what clients will try first.
    found.sort(key=lambda entry: entry[0] != socket.AF_INET)
    return str(found[0][4][0])


def free_base_port(address: str) -> int:
    """Return a base port of four consecutive free ones; raise `AddressUnusable`.

    They lie below the range that the kernel draws clients' ports from. There, a client that
    keeps trying a port of a broker that is being restarted could be given that very port,
    connect to itself (simultaneous open, RFC 9293, 3.5), and keep the broker out.
    """
    try:
        highest = int(EPHEMERAL_RANGE.read_text().split()[0])
    except (OSError, ValueError, IndexError):
        highest = EPHEMERAL_DEFAULT
    lowest = LOWEST_PORT if highest - LOWEST_PORT > TRIES_MAX else 1_024
    for _ in range(TRIES_MAX):
        base = random.randrange(lowest, highest - PORTS_COUNT)  # noqa: S311 - not a secret
        if all(_is_free(address, base + index) for index in range(PORTS_COUNT)):
            return base
    raise AddressUnusable("no four consecutive free ports were found: give one with --port")


def _is_free(address: str, port: int) -> bool:
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((address, port))
        except OSError:
            return False
    return True
