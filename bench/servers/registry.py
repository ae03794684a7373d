"""All servers by name, in the order in which tables show them."""

from __future__ import annotations

import importlib
from typing import Final

from bench.servers.base import Server
from bench.target import HUBBUB, HUBBUB_CURVE

_PEERS: Final = (
    "nats",
    "redis_pubsub",
    "ngircd",
    "mosquitto",
    "socketio",
    "threads",
    "proxy",
    "jetstream",
    "redis_streams",
)
_MODULES: Final = {HUBBUB_CURVE: "hubbub_curve"}  # Of names that can't be a module's.


def peers() -> tuple[str, ...]:
    """Return the names of the servers that Hubbub is measured beside."""
    return _PEERS


def servers() -> tuple[str, ...]:
    """Return the names of all servers, Hubbub first."""
    return (HUBBUB, HUBBUB_CURVE, *_PEERS)


def load(name: str) -> Server:
    """Return a server by its name, which must be one of `servers()`."""
    # Imported late: whoever measures one server need not have what the others are made of.
    module = _MODULES.get(name, name)
    found: Server = importlib.import_module(f"bench.servers.{module}").SERVER
    return found
