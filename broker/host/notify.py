"""Tells systemd how the service is: ready, stopping, alive. Nothing where no systemd listens.

The protocol is a datagram of NAME=value lines to the socket that NOTIFY_SOCKET names.
https://www.freedesktop.org/software/systemd/man/latest/sd_notify.html
"""

from __future__ import annotations

import contextlib
import os
import socket
from collections.abc import Mapping

# Not for the children: only the main process may speak.
VARIABLES = ("NOTIFY_SOCKET", "WATCHDOG_USEC", "WATCHDOG_PID")


class Notifier:
    """One service's word to systemd. Never waits and never raises: a service comes first."""

    def __init__(self, environ: Mapping[str, str]) -> None:
        address = environ.get("NOTIFY_SOCKET", "")
        # An @ stands for the NUL of a name in the abstract namespace.
        self._address = "\0" + address[1:] if address.startswith("@") else address
        self.watchdog_every_s = _watchdog_s(environ) / 2 if address else 0.0  # 0: nobody watches.

    def tell(self, **fields: str) -> None:
        """Send fields, such as READY="1" or STATUS="serving"."""
        if not self._address:
            return
        lines = "\n".join(f"{name}={value}" for name, value in fields.items())
        with contextlib.suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as wire:
            wire.setblocking(False)
            wire.sendto(lines.encode(), self._address)


def _watchdog_s(environ: Mapping[str, str]) -> float:
    """Return within what time systemd wants a sign of life from this process; 0 for never."""
    try:
        is_for_us = int(environ.get("WATCHDOG_PID", os.getpid())) == os.getpid()
        return int(environ.get("WATCHDOG_USEC", 0)) / 1_000_000 if is_for_us else 0.0
    except ValueError:
        return 0.0
