"""How the supervisor and its child processes talk: a line of JSON each way over pipes.

The supervisor writes the child's orders as one line on its standard input. The end of that
input is the order to stop, whether the supervisor closed it or is gone: no child outlives it.
The child writes one line on its standard output when it serves, or why it cannot; from then on
a line with its figures about once a second, which is also its sign of life.
"""

from __future__ import annotations

import contextlib
import io
import logging
import os
import resource
import select
import signal

import msgspec

from broker import logs
from broker.config import Settings
from broker.metrics.figures import Figures

ORDERS_FILE = 0  # Standard input. Readable again after the orders: it has ended.
# Standard output, past Python's buffer: what is left there fails at the exit.
REPORT_FILE = 1
READ_BYTES = 256
_ORDERS = io.FileIO(ORDERS_FILE, closefd=False)  # Unbuffered, so that polls tell the truth.

TELL_EVERY_S = 1.0


class Orders(msgspec.Struct, frozen=True):
    """What a child is told at its start."""

    settings: Settings
    address: str  # Numeric, without brackets.
    commands_port: int
    rooms_port: int
    history_port: int
    restarts: int = 0  # Of this child, until now.


class Report(msgspec.Struct, frozen=True):
    """What a child tells once: that it serves, or the failure."""

    failure: str = ""
    is_port_taken: bool = False
    note: str = ""  # For the operator, once all children serve.


def begin(name: str) -> tuple[Orders, logging.Logger]:
    """Read the orders and set up logging; the terminal's signals are the supervisor's."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    orders = msgspec.json.decode(_ORDERS.readline(), type=Orders)
    logs.set_up(orders.settings.log_level, orders.settings.log_format)
    return orders, logging.getLogger(name)


def report(report: Report) -> None:
    """Tell the supervisor how the start went.

    If it is gone, that is no failure here: the input has ended too, which is the word to stop.
    """
    with contextlib.suppress(BrokenPipeError):
        os.write(REPORT_FILE, msgspec.json.encode(report) + b"\n")


class Teller:
    """Tells the supervisor figures, and never waits for it. Used after `report`, by one thread."""

    def __init__(self, file: int = REPORT_FILE) -> None:
        self._file = file
        os.set_blocking(file, False)
        self._rest = b""  # Of the line before, which the pipe had no room for.

    def tell(self, figures: Figures) -> None:
        """Send a line; while the supervisor doesn't read, lines are left out."""
        if not self._rest:
            self._rest = msgspec.json.encode(figures) + b"\n"
        try:
            self._rest = self._rest[os.write(self._file, self._rest) :]
        except OSError:
            return  # Full, or the supervisor is gone: then the orders have ended, too.


def await_stop(timeout_s: float) -> bool:
    """Wait until the supervisor has closed the orders, or is gone; tell whether it is so."""
    while select.select([_ORDERS], [], [], timeout_s)[0]:
        if not _ORDERS.read(READ_BYTES):
            return True
    return False


def raise_descriptor_limit() -> int:
    """Raise the soft limit of open files to the hard one and return it.

    A listener out of descriptors spins at full speed, so there must be more of them than
    clients that are let in.
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft < hard:
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
        soft = hard
    return soft
