"""What leads to a broker: an address, or a join line with a room and the broker's key. Pure.

    hubbub://HOST:PORT/ROOM?key=KEY

Room and key may be left out. The key is hex, or Z85 with its signs escaped as links have them.
"""

from __future__ import annotations

from typing import NamedTuple

from common import endpoints
from common.endpoints import Address
from common.errors import Refused
from common.names import check_room

SCHEME = "hubbub://"
LINE_CHARS_MAX = 2_048  # Far above host, room and key; what is longer was not made by a broker.


class Invitation(NamedTuple):
    """Where a broker is, and what a join line says besides."""

    address: Address
    room: str | None = None
    key: bytes | None = None  # The broker's public key, 32 bytes.


def parse(text: str) -> Invitation:
    """Read an address or a join line; raise ValueError with a sentence for people."""
    if not text.strip().startswith(SCHEME):
        return Invitation(endpoints.parse(text))
    if len(text) > LINE_CHARS_MAX:
        message = f"a join line has at most {LINE_CHARS_MAX} characters"
        raise ValueError(message)
    from urllib.parse import unquote  # noqa: PLC0415 (2 ms, which an address does without)

    rest, _, query = text.strip().removeprefix(SCHEME).partition("?")
    place, _, room = rest.partition("/")
    key = None
    for field in filter(None, query.split("&")):
        name, _, value = field.partition("=")
        if name == "key":
            key = _key(unquote(value))
        # What else there is comes from a newer broker.
    room = unquote(room).removeprefix("#")
    return Invitation(endpoints.parse(place), _room(room) if room else None, key)


def _key(text: str) -> bytes:
    from common.keys import parse_key  # noqa: PLC0415 (the same)

    return parse_key(text)


def _room(text: str) -> str:
    try:
        return check_room(text)
    except Refused as error:
        message = f"{text!r} cannot be a room: {error.detail}"
        raise ValueError(message) from error
