"""A real broker for tests: all its processes, on free ports, in a folder of its own."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Self

from broker.host import certificates
from tests.waiting import DEADLINE_S, eventually

ROOT = Path(__file__).resolve().parent.parent


class BrokerProcess:
    """Starts with the object, ends with the `with` block, and leaves nothing behind."""

    def __init__(
        self,
        data: Path,
        *flags: str,
        port: int = 0,
        host: str = "127.0.0.1",
        prefix: Sequence[str] = (),
    ) -> None:
        """Start a broker and wait until it serves; its log goes beside the data folder.

        prefix: the command that starts it elsewhere, or otherwise.
        """
        self.data = data
        self.host = host
        self.log_path = data.with_name(data.name + ".stderr")
        self._flags = flags
        self._prefix = prefix
        self.start(port)

    def start(self, port: int = 0) -> None:
        """Start the broker's processes and wait for the ready line."""
        self.launch(port)
        assert self.process.stdout is not None
        self.ready_line = self.process.stdout.readline().decode()
        assert self.ready_line.startswith("hubbub broker ready on tcp://"), self.log()
        self.port = int(self.ready_line.rsplit(":", 1)[1])
        self._pids = {self.process.pid, *self.children().values()}

    def launch(self, port: int) -> None:
        """Start the broker's first process, and wait for nothing."""
        command = [sys.executable, "-m", "broker", "--host", self.host, "--port", str(port)]
        with self.log_path.open("ab") as log:
            self.process = subprocess.Popen(
                [*self._prefix, *command, "--data", str(self.data), *self._flags],
                cwd=ROOT,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                start_new_session=True,
            )

    @property
    def address(self) -> str:
        """HOST:PORT, as clients take it."""
        return self.ready_line.split("tcp://")[1].strip()

    @property
    def server_key(self) -> str:
        """Its public key in hex; empty where it does not encrypt."""
        if not (self.data / certificates.FOLDER_NAME).exists():
            return ""
        return certificates.load(self.data).public.hex()

    def log(self) -> str:
        """Return what the broker said on standard error."""
        return self.log_path.read_text(errors="replace")

    def children(self) -> dict[str, int]:
        """Return the process numbers of `live` and `history`, of those that run."""
        found = {}
        for pid in _children(self.process.pid):
            try:
                words = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
            except OSError:
                continue
            for name in ("live", "history"):
                if f"broker.{name}".encode() in words:
                    found[name] = pid
        self._pids = getattr(self, "_pids", set()) | set(found.values())
        return found

    def kill_child(self, name: str) -> int:
        """Kill -9 a child, wait until another has taken its place, and return its number."""
        old = self.children()[name]
        os.kill(old, signal.SIGKILL)
        eventually(lambda: self.children().get(name, old) != old, f"another {name}")
        return self.children()[name]

    def kill_supervisor(self) -> None:
        """Kill -9 the supervisor alone; its children notice by themselves."""
        self.children()
        self.process.kill()
        self.process.wait(DEADLINE_S)
        self._close_pipes()

    def kill_all(self) -> None:
        """Kill -9 the whole broker at once: nobody sees another's end, or says a last word."""
        self.process.send_signal(signal.SIGSTOP)
        pids = [*self.children().values(), self.process.pid]
        for pid in pids:
            os.kill(pid, signal.SIGKILL)
        self._close_pipes()
        self.process.wait(DEADLINE_S)
        for pid in pids[:-1]:
            _await_end(pid)

    def stop(self, number: int = signal.SIGTERM) -> int:
        """End the broker by a signal and return its status."""
        self.process.send_signal(number)
        return self.wait()

    def wait(self) -> int:
        """Wait for the end of the broker and of all that it started; return the status."""
        try:
            status = self.process.wait(DEADLINE_S)
        finally:
            self._close_pipes()
        for pid in self._pids - {self.process.pid}:
            _await_end(pid)
        return status

    @contextmanager
    def index_out_of_reach(self) -> Iterator[None]:
        """Put a folder where the log's index was, so that no process can open it."""
        index, aside = self.data / "hubbub.db", self.data.with_name(self.data.name + ".db")
        index.rename(aside)
        index.mkdir()
        try:
            yield
        finally:
            index.rmdir()
            aside.rename(index)

    def say(self, line: str) -> None:
        """Type a line on the broker's console."""
        assert self.process.stdin is not None
        self.process.stdin.write(line.encode() + b"\n")
        self.process.stdin.flush()

    def _close_pipes(self) -> None:
        for pipe in (self.process.stdin, self.process.stdout):
            if pipe is not None:
                pipe.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self.process.poll() is None:
            self.stop()
        self._close_pipes()
        if error is not None:
            sys.stderr.write(f"--- broker's log ---\n{self.log()}")


def _children(pid: int) -> list[int]:
    try:
        text = Path(f"/proc/{pid}/task/{pid}/children").read_text()
    except OSError:
        return []
    return [int(word) for word in text.split()]


def _await_end(pid: int) -> None:
    eventually(lambda: _is_gone(pid), f"the end of {pid}")


def _is_gone(pid: int) -> bool:
    """Tell whether a process has ended; one that nobody has reaped yet has."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] == "Z"
    except OSError:
        return True
