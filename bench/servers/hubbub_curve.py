"""Hubbub with encryption: the same broker, which wants CURVE of everybody who comes."""

from __future__ import annotations

from pathlib import Path

from zmq.auth import load_certificate
from zmq.utils import z85

from bench.servers.hubbub import Hubbub
from bench.target import HUBBUB_CURVE


class HubbubCurve(Hubbub):
    """The broker of this checkout, encrypted on loopback too."""

    name = HUBBUB_CURVE
    switches = ("--secure",)

    def server_key(self, data: Path) -> str:
        """Return the public key that the broker has made for itself, in hex."""
        public, _ = load_certificate(data / "keys" / "broker.key")
        return z85.decode(public).hex()


SERVER = HubbubCurve()
