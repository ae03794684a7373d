"""Who sent a message, as far as the transport knows. Pure."""

from __future__ import annotations

from typing import NamedTuple


class Peer(NamedTuple):
    """The other end of a connection."""

    key: bytes = b""  # Its CURVE public key, 32 bytes; empty on a plain endpoint.
    address: str = ""  # Numeric; empty where that is not known.
    is_admin: bool = False  # Came in through the Unix socket of the data folder.


PLAIN = Peer()


def is_loopback(address: str) -> bool:
    """Tell whether a numeric address is one of the machine itself."""
    return address.startswith("127.") or address in ("::1", "::ffff:127.0.0.1")
