"""A child of the supervisor: its process, its pipes, and what it has told."""

from __future__ import annotations

import contextlib
import logging
import os
import signal
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path

from broker.host.notify import VARIABLES
from broker.metrics.figures import Figures, added
from broker.metrics.health import DOWN, SERVING, STARTING, Part

HEARD_BYTES = 64 * 1024
# Of the signals that end a child unasked, with all that libzmq and the kernel say about it.
LIKELY_REASONS = {
    "SIGABRT": "out of memory or descriptors, or a bug",
    "SIGBUS": "its disk is full or broken, or a file of its log was cut",
    "SIGKILL": "by somebody, or by the kernel for want of memory",
    "SIGSEGV": "a bug, or out of memory",
}

logger = logging.getLogger("broker")


class Child:
    """One child process, and when to start it again."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.process: subprocess.Popen[bytes] | None = None
        self.deaths_count = 0
        self.started_s = 0.0
        self.restart_at_s: float | None = None
        self.note = ""
        self.phase = DOWN
        self.heard_s = 0.0  # The last sign of life.
        self.restarts_count = -1  # The first start is none.
        self.is_at_disk = False
        self._started_ms = 0
        self._rest = b""  # A line that has not come whole.
        self._unsaid = b""  # The rest of a line to the child, and the one after it.
        self._next = b""
        self._past: Mapping[str, float] = {}  # What the processes before this one counted.
        self._figures = Figures()

    def tell_note(self) -> None:
        """Log what the child had to say when it began to serve."""
        if self.note:
            logger.info("%s: %s", self.name, self.note)

    def start(self, orders: bytes, lock: int) -> None:
        """Start the process in a session of its own: the terminal's signals are not for it.

        Raises `OSError` when there can be none, and is as before then.
        """
        self.process = subprocess.Popen(
            # -P: a folder called `broker` where the operator happens to be is not ours.
            [sys.executable, "-P", "-m", f"broker.{self.name}"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            pass_fds=(lock,),
            start_new_session=True,
            env=_child_environment(),
        )
        self.started_s = self.heard_s = time.monotonic()
        self._started_ms = time.time_ns() // 1_000_000
        self.restart_at_s = None
        self.restarts_count += 1
        self.phase = STARTING
        self.is_at_disk = False
        self._rest = b""
        assert self.process.stdin is not None
        os.set_blocking(self.process.stdin.fileno(), False)  # It may never read.
        self._unsaid, self._next = orders + b"\n", b""
        self.go_on()

    def tell(self, line: bytes) -> None:
        """Say a line to the child, instead of those that it has not begun to hear."""
        if self.process is not None:
            self._next = line + b"\n"
            self.go_on()

    @property
    def has_unsaid(self) -> bool:
        """Whether there is something that the child has not taken yet."""
        return bool(self._unsaid or self._next)

    def go_on(self) -> bool:
        """Say more of what is to be said; tell whether there is still something left."""
        while self._unsaid or self._next:
            if not self._unsaid:
                self._unsaid, self._next = self._next, b""
            assert self.process is not None
            assert self.process.stdin is not None
            try:
                said = os.write(self.process.stdin.fileno(), self._unsaid)
            except BlockingIOError:
                return True
            except BrokenPipeError:  # Dead already: its output ends, too.
                self._unsaid = self._next = b""
                return False
            self._unsaid = self._unsaid[said:]
        return False

    def tell_to_stop(self) -> None:
        """Close the child's input, which is its word to stop."""
        self._unsaid = self._next = b""
        if self.process is not None and self.process.stdin is not None:
            with contextlib.suppress(BrokenPipeError):
                self.process.stdin.close()

    def hear(self) -> list[bytes] | None:
        """Return the lines that the child has said; None at the end of its output."""
        assert self.process is not None
        assert self.process.stdout is not None
        data = os.read(self.process.stdout.fileno(), HEARD_BYTES)
        if not data:
            return None
        self.heard_s = time.monotonic()
        *lines, self._rest = (self._rest + data).split(b"\n")
        return lines

    def take(self, figures: Figures) -> None:
        """Remember what the child told."""
        self._figures = figures

    def counted(self) -> dict[str, float]:
        """Return what all processes of this name counted, until now."""
        return added(self._past, self._figures.counted)

    def part(self) -> Part:
        """Return what there is to know of it."""
        process = self.process.pid if self.process is not None else 0
        return Part(
            self.name,
            self.phase,
            process,
            self._started_ms if process else 0,
            self.heard_s,
            self.restarts_count,
            self.is_at_disk,
        )

    def now(self) -> dict[str, float]:
        """Return what is the case in the process, as far as it serves."""
        return self._figures.now if self.phase == SERVING else {}

    def kill(self) -> None:
        """End the process now."""
        self.phase = DOWN
        if self.process is not None:
            self.process.kill()

    def reap(self) -> None:
        """Forget the ended process."""
        if self.process is not None:
            self.process.wait()
            self.tell_to_stop()
            if self.process.stdout is not None:
                self.process.stdout.close()
            self.process = None
            self.phase = DOWN
            self._past, self._figures = self.counted(), Figures()


def _child_environment() -> dict[str, str]:
    """Let the children find this very code, wherever the broker was started from."""
    root = str(Path(__file__).resolve().parent.parent)
    path = os.environ.get("PYTHONPATH")
    inherited = {name: value for name, value in os.environ.items() if name not in VARIABLES}
    return inherited | {"PYTHONPATH": root if not path else f"{root}{os.pathsep}{path}"}


def end_of(status: int) -> str:
    """Return how a process ended, in words; status as `subprocess` has it."""
    if status >= 0:
        return f"ended with status {status}"
    try:
        name = signal.Signals(-status).name
    except ValueError:
        name = "unknown"
    reason = LIKELY_REASONS.get(name)
    return f"was killed by signal {-status} ({name}{': ' + reason if reason else ''})"
