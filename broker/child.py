"""How the supervisor and its child processes talk: a line of JSON each way over pipes.

The supervisor writes the child's orders as one line on its standard input, and another line
whenever settings have changed. The end of that input is the order to stop, whether the supervisor
closed it or is gone: no child outlives it.
The child writes one line on its standard output when it serves, or why it cannot; from then on
a line with its figures about once a second, which is also its sign of life.
"""

from __future__ import annotations

import contextlib
import logging
import os
import resource
import select
import signal

import msgspec

from broker import logs
from broker.config import Settings
from broker.metrics.figures import Figures

ORDERS_FILE = 0  # Standard input. Readable again after the orders: a line, or its end.
# Standard output, past Python's buffer: what is left there fails at the exit.
REPORT_FILE = 1
READ_BYTES = 64 * 1024

TELL_EVERY_S = 1.0


class Orders(msgspec.Struct, frozen=True):
    """What a child is told at its start."""

    settings: Settings
    address: str  # Numeric, without brackets.
    commands_port: int
    rooms_port: int
    history_port: int
    restarts: int = 0  # Of this child, until now.
    introduction_port: int = 0
    is_secure: bool = False  # CURVE on all endpoints but that of introductions.
    allowed: tuple[str, ...] | None = None  # Keys in hex that are let in; None: all.


class Reload(msgspec.Struct, frozen=True, tag_field="order", tag="reload"):
    """What a child is told when the settings were read again, or could not be."""

    settings: Settings  # Those that hold from here on.
    allowed: tuple[str, ...] | None = None
    asked: int = 0  # How often this live process had asked for it when the reading began.
    names: tuple[str, ...] = ()  # Of the settings that were read.
    failure: str = ""  # Why everything stays as it was.


class Report(msgspec.Struct, frozen=True):
    """What a child tells once: that it serves, or the failure."""

    failure: str = ""
    is_port_taken: bool = False
    note: str = ""  # For the operator, once all children serve.


class Ear:
    """Hears the supervisor. Used by one thread at a time."""

    def __init__(self, file: int = ORDERS_FILE) -> None:
        self._file = file
        self._rest = b""
        self._lines: list[bytes] = []
        self.is_over = False  # The word to stop.

    def orders(self) -> Orders:
        """Wait for the orders and return them."""
        while not self._lines and not self.is_over:
            self._read()
        if not self._lines:
            raise EOFError("the supervisor ended before its orders")
        return msgspec.json.decode(self._lines.pop(0), type=Orders)

    def hear(self, timeout_s: float) -> Reload | None:
        """Wait so long for a word; return the newest settings if there are any."""
        if (
            not self._lines
            and not self.is_over
            and select.select([self._file], [], [], timeout_s)[0]
        ):
            self._read()
        lines, self._lines = self._lines, []
        return msgspec.json.decode(lines[-1], type=Reload) if lines else None

    def _read(self) -> None:
        """Take what is there; wait where nothing is."""
        data = os.read(self._file, READ_BYTES)
        self.is_over = not data
        *lines, self._rest = (self._rest + data).split(b"\n")
        self._lines += lines


def begin(name: str) -> tuple[Orders, Ear, logging.Logger]:
    """Read the orders and set up logging; the terminal's signals are the supervisor's."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    ear = Ear()
    orders = ear.orders()
    logs.set_up(orders.settings.log_level, orders.settings.log_format)
    return orders, ear, logging.getLogger(name)


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
