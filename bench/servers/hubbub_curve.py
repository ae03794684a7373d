"""Hubbub with encryption: the same broker, which wants CURVE of everybody who comes."""

from __future__ import annotations

from pathlib import Path
from typing import Final

from zmq.auth import load_certificate
from zmq.utils import z85

from bench.servers.hubbub import Hubbub
from bench.target import HUBBUB_CURVE

SECURE: Final = "--secure"


def server_key(data: Path) -> str:
    """Return the public key that a broker has made for itself in its data folder, in hex."""
    public, _ = load_certificate(data / "keys" / "broker.key")
    return z85.decode(public).hex()


class HubbubCurve(Hubbub):
    """The broker of this checkout, encrypted on loopback too."""

    name = HUBBUB_CURVE
    switches = (SECURE,)

    def server_key(self, data: Path) -> str:
        """Return the broker's public key in hex."""
        return server_key(data)


SERVER = HubbubCurve()
