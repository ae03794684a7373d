"""How the supervisor and its child processes talk: a line of JSON each way over pipes.

The supervisor writes the child's orders as one line on its standard input. The end of that
input is the order to stop, whether the supervisor closed it or is gone: no child outlives it.
The child writes one line on its standard output when it serves, or why it cannot.
"""

from __future__ import annotations

import io
import logging
import resource
import select
import signal
import sys

import msgspec

from broker.config import Settings

ORDERS_FILE = 0  # Standard input. Readable again after the orders: it has ended.
READ_BYTES = 256
_ORDERS = io.FileIO(ORDERS_FILE, closefd=False)  # Unbuffered, so that polls tell the truth.

LOG_FORMAT = "%(asctime)s %(levelname)-7s %(name)s: %(message)s"


class Orders(msgspec.Struct, frozen=True):
    """What a child is told at its start."""

    settings: Settings
    address: str  # Numeric, without brackets.
    commands_port: int
    rooms_port: int
    history_port: int


class Report(msgspec.Struct, frozen=True):
    """What a child tells once: that it serves, or the failure."""

    failure: str = ""
    is_port_taken: bool = False
    note: str = ""  # For the operator, once all children serve.


def begin(name: str) -> tuple[Orders, logging.Logger]:
    """Read the orders and set up logging; the terminal's signals are the supervisor's."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    orders = msgspec.json.decode(_ORDERS.readline(), type=Orders)
    logging.basicConfig(
        stream=sys.stderr, format=LOG_FORMAT, level=orders.settings.log_level.upper()
    )
    return orders, logging.getLogger(name)


def report(report: Report) -> None:
    """Tell the supervisor how the start went."""
    sys.stdout.buffer.write(msgspec.json.encode(report) + b"\n")
    sys.stdout.buffer.flush()


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
