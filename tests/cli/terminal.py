"""A person's terminal: a program under a pseudo-terminal, with the screen that it draws."""

from __future__ import annotations

import errno
import fcntl
import os
import select
import struct
import subprocess
import sys
import termios
import time
from collections.abc import Callable
from pathlib import Path
from typing import Self

import pyte

from tests.waiting import DEADLINE_S

COLUMNS = 100
LINES = 30
SCROLLBACK_LINES = 20_000
POLL_S = 0.05
# The pseudo-terminal becomes the program's controlling one, as in a login: Ctrl+C acts, and
# closing the window hangs up.
WRAPPER = (
    "import fcntl, os, sys, termios; fcntl.ioctl(0, termios.TIOCSCTTY, 0);"
    "os.execv(sys.executable, [sys.executable, *sys.argv[1:]])"
)


class Terminal:
    """Runs `python ARGUMENTS...` on a screen; ends it with the `with` block."""

    def __init__(self, *arguments: str, environ: dict[str, str], directory: Path) -> None:
        self.screen = pyte.HistoryScreen(COLUMNS, LINES, history=SCROLLBACK_LINES, ratio=0.5)
        self._stream = pyte.ByteStream(self.screen)
        self.output = b""  # Everything that was ever written.
        self._master, slave = os.openpty()
        fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", LINES, COLUMNS, 0, 0))
        self.process = subprocess.Popen(
            [sys.executable, "-c", WRAPPER, *arguments],
            stdin=slave,
            stdout=slave,
            stderr=slave,
            cwd=directory,
            env={**environ, "TERM": "xterm-256color"},
            start_new_session=True,
        )
        os.close(slave)

    # --- what the person does -----------------------------------------------
    def type(self, text: str) -> None:
        """Press keys."""
        os.write(self._master, text.encode())

    def enter(self, line: str) -> None:
        """Type a line and press Enter."""
        self.type(f"{line}\r")

    def paste(self, text: str) -> None:
        """Paste as terminals do that mark pasted text (bracketed paste)."""
        self.type(f"\x1b[200~{text}\x1b[201~")

    def hang_up(self) -> None:
        """Close the window."""
        os.close(self._master)
        self._master = -1

    # --- what the person sees -----------------------------------------------
    def lines(self) -> list[str]:
        """Return the scrollback and the screen."""
        history = [
            "".join(line[column].data for column in range(self.screen.columns))
            for line in self.screen.history.top
        ]
        return [line.rstrip() for line in [*history, *self.screen.display]]

    def text(self) -> str:
        """Return the scrollback and the screen as one text."""
        return "\n".join(self.lines()).rstrip()

    def count(self, text: str) -> int:
        """Return in how many lines a text stands."""
        return sum(text in line for line in self.lines())

    def toolbar(self) -> str:
        """Return the lowest line that is not empty."""
        return next((line for line in reversed(self.lines()) if line), "")

    def see(self, text: str) -> None:
        """Wait until a text stands somewhere."""
        self.wait(lambda: text in self.text(), repr(text))

    def wait(self, condition: Callable[[], bool], what: str) -> None:
        """Read what the program writes until a condition holds; fail after the deadline."""
        end_s = time.monotonic() + DEADLINE_S
        while True:
            self._read(0)
            if condition():
                return
            assert time.monotonic() < end_s, f"waited in vain for {what}; seen:\n{self.text()}"
            self._read(POLL_S)

    def wait_for_end(self) -> int:
        """Wait for the end of the program; return its status."""
        self.wait(lambda: self.process.poll() is not None, "the end")
        self._read(0)
        return self.process.returncode

    def _read(self, wait_s: float) -> None:
        while self._master >= 0 and select.select([self._master], [], [], wait_s)[0]:
            try:
                data = os.read(self._master, 65_536)
            except OSError as error:  # Linux says so when the other side was closed.
                if error.errno != errno.EIO:
                    raise
                data = b""
            if not data:
                self._stop_reading(wait_s)
                return
            self.output += data
            self._stream.feed(data)
            wait_s = 0

    def _stop_reading(self, wait_s: float) -> None:
        """Nothing more comes: let the program end meanwhile."""
        try:
            self.process.wait(wait_s or POLL_S)
        except subprocess.TimeoutExpired:
            return

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self.process.poll() is None:
            self.process.terminate()
            try:
                self.process.wait(DEADLINE_S)
            finally:
                self.process.kill()
                self.process.wait()
        if self._master >= 0:
            os.close(self._master)
