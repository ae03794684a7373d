"""System calls of a running process that fail on demand: strace(1), "Tampering"."""

from __future__ import annotations

import contextlib
import subprocess
from collections.abc import Iterator
from pathlib import Path

from tests.needs import need, need_program, need_root
from tests.waiting import DEADLINE_S, eventually

PATIENCE_S = 10.0


class Account:
    """What strace did so far."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def injected_count(self) -> int:
        """Return how many calls were made to fail."""
        return self._path.read_text(errors="replace").count("(INJECTED)")


@contextlib.contextmanager
def failing(
    pid: int, folder: Path, *injections: str, path: Path | None = None
) -> Iterator[Account]:
    """Let system calls of a process fail while the block lasts, in all its threads.

    injections: as strace has them, as in "fdatasync:error=EIO:when=1+". path: only calls on this
    file. folder: where strace's account goes.
    """
    need_root()
    need_program("strace")
    account = folder / f"strace-{pid}-{len(list(folder.glob('strace-*')))}"
    calls = ",".join(injection.partition(":")[0] for injection in injections)
    command = ["strace", "-f", "-p", str(pid), "-o", str(account), "-e", f"trace={calls}"]
    for injection in injections:
        command += ["-e", f"inject={injection}"]
    if path is not None:
        command += ["-P", str(path)]
    errors = folder / f"{account.name}.errors"
    with errors.open("wb") as stream:
        tracer = subprocess.Popen(command, stdin=subprocess.DEVNULL, stderr=stream)
    try:
        eventually(
            lambda: tracer.poll() is not None or _is_traced_whole(pid), f"strace to watch {pid}"
        )
        message = errors.read_text(errors="replace").strip()
        need(tracer.poll() is None, f"a strace that may watch processes ({message})")
        yield Account(account)
    finally:
        tracer.terminate()
        try:
            tracer.wait(PATIENCE_S)
        except subprocess.TimeoutExpired:  # It waits for ever for one that was killed meanwhile.
            tracer.kill()
            tracer.wait(DEADLINE_S)


def _is_traced_whole(pid: int) -> bool:
    """Tell whether every thread of the process has its tracer."""
    try:
        states = [path.read_text() for path in Path(f"/proc/{pid}/task").glob("*/status")]
    except OSError:
        return False
    return bool(states) and all("TracerPid:\t0\n" not in state for state in states)
