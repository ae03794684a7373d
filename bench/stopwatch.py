"""Runs programs to their end, or to a word on their terminal, and times them: a process of its own.

Standard library only, and small: Linux counts a parent's memory in the peak of its children, and a
large parent forks slowly. Orders come as JSON on standard input; each measurement is a JSON line.
"""

from __future__ import annotations

import contextlib
import errno
import json
import os
import select
import subprocess
import sys
import time
from typing import Any, Final

WAIT_S_MAX: Final = 30.0
READ_BYTES: Final = 65_536
SAID_BYTES_MAX: Final = 2_000


class Failed(Exception):
    """A program did not do what it should; the message says what it said."""


def run_to_end(command: list[str], text: str) -> tuple[float, int]:
    """Run a program with `text` in its input pipe; return seconds, and its peak in bytes."""
    start_s = time.perf_counter()
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE
    ) as process:
        assert process.stdin is not None
        assert process.stderr is not None
        with contextlib.suppress(BrokenPipeError):
            process.stdin.write(text.encode())
            process.stdin.close()
        said = process.stderr.read()
        _, status, usage = os.wait4(process.pid, 0)
        seconds = time.perf_counter() - start_s
        process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise Failed(f"status {process.returncode}: {said[-SAID_BYTES_MAX:].decode()}")
    return seconds, usage.ru_maxrss * 1_024


def run_to_word(command: list[str], word: str) -> tuple[float, int]:
    """Run a program on a pseudo-terminal until it has written `word`; then end it."""
    master, slave = os.openpty()
    start_s = time.perf_counter()
    process = subprocess.Popen(
        command, stdin=slave, stdout=slave, stderr=slave, start_new_session=True
    )
    os.close(slave)
    try:
        _read_to(master, word.encode())
        seconds = time.perf_counter() - start_s
        return seconds, peak_bytes(process.pid)
    finally:
        process.kill()
        process.wait()
        os.close(master)


def _read_to(master: int, word: bytes) -> None:
    said = b""
    give_up_s = time.monotonic() + WAIT_S_MAX
    while word not in said:
        data = b""
        if select.select([master], [], [], max(0.0, give_up_s - time.monotonic()))[0]:
            try:
                data = os.read(master, READ_BYTES)
            except OSError as error:
                if error.errno != errno.EIO:  # Linux says so when the program has ended.
                    raise
        if not data:
            raise Failed(f"{word!r} never came; it said {said[-SAID_BYTES_MAX:]!r}")
        said += data


def peak_bytes(pid: int) -> int:
    """Return the most memory that a running process has had resident."""
    with open(f"/proc/{pid}/status", encoding="ascii", errors="replace") as file:  # noqa: PTH123
        for line in file:
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) * 1_024
    raise Failed("it has no memory")


def main() -> int:
    """Go through the programs, `rounds` times, and tell each measurement."""
    orders: dict[str, Any] = json.loads(sys.stdin.readline())
    for _ in range(orders["rounds"]):
        for program in orders["programs"]:
            command = program["command"]
            try:
                if program["word"]:
                    seconds, peak = run_to_word(command, program["word"])
                else:
                    seconds, peak = run_to_end(command, program["text"])
            except (Failed, OSError) as error:
                told = {"name": program["name"], "failure": str(error)}
            else:
                told = {"name": program["name"], "us": seconds * 1e6, "peak_bytes": peak}
            sys.stdout.write(json.dumps(told) + "\n")
            sys.stdout.flush()
            if "failure" in told:
                return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
