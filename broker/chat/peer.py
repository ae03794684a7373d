"""Who is at the other end of a connection, as far as its transport tells. Pure."""

from __future__ import annotations

from typing import NamedTuple


class Peer(NamedTuple):
    """One connection's other end."""

    key: bytes = b""  # Its CURVE public key, 32 bytes, proved by the handshake; empty on plain.
    address: str = ""  # Numeric, for limits to floods.
    is_admin: bool = False  # It came through the Unix socket of the broker's own host.


PLAIN = Peer()
