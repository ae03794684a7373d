"""Running a server's program: found, started, given time to answer, and ended by its id."""

from __future__ import annotations

import os
import re
import resource
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

import msgspec

from bench.dialect import Unexpected
from bench.servers.base import NotInstalled, Server
from bench.servers.reach import converse
from bench.target import Target
from broker.host.ports import free_base_port

HOST: Final = "127.0.0.1"
ANSWER_S_MAX: Final = 30.0
END_S_MAX: Final = 10.0
PAUSE_S: Final = 0.02
FILES_MAX: Final = 65_536  # Enough for every work; some programs make tables of this size.
OUTPUT_BYTES_MAX: Final = 4_000
# Nobody else's index, so that a name that a server frees late is in nobody's way.
PROBE_INDEX: Final = 0xFFF_FFFF
REPOSITORY: Final = Path(__file__).resolve().parent.parent.parent
# Raises the soft limit for the program alone; `exec` keeps the process id.
_RAISE_AND_RUN: Final = 'ulimit -S -n "$1" && shift && exec "$@"'


class StartFailed(Exception):
    """A server did not come up; the message has what it said."""


class Process:
    """One running program, whose output goes to `<folder>/output`."""

    def __init__(self, command: list[str], folder: Path) -> None:
        self._output = folder / "output"
        hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
        files = FILES_MAX if hard == resource.RLIM_INFINITY else min(hard, FILES_MAX)
        with self._output.open("wb") as output:
            self._process = subprocess.Popen(
                tied(["/bin/sh", "-c", _RAISE_AND_RUN, "sh", str(files), *command]),
                cwd=folder,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                # Control-C is for the load tool, which ends the server when it has its figures.
                start_new_session=True,
            )

    def pids(self) -> list[int]:
        """Return the process and all its descendants."""
        return descendants(self._process.pid)

    def fail_if_ended(self) -> None:
        """Raise `StartFailed` when the program has ended by itself."""
        if (status := self._process.poll()) is not None:
            raise StartFailed(f"it ended with status {status}, saying:\n{self.said()}")

    def said(self) -> str:
        """Return the end of the program's output."""
        return self._output.read_bytes()[-OUTPUT_BYTES_MAX:].decode(errors="replace")

    def end(self) -> None:
        """End the program, with force if it takes too long."""
        self._process.terminate()
        try:
            self._process.wait(END_S_MAX)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()


@contextmanager
def running(command: list[str], folder: Path) -> Iterator[Process]:
    """Run a program in `folder` until the context ends."""
    folder.mkdir(parents=True, exist_ok=True)
    process = Process(command, folder)
    try:
        yield process
    finally:
        process.end()


@contextmanager
def serving(server: Server, command: list[str], folder: Path, target: Target) -> Iterator[Target]:
    """Run a server and yield the target, with its processes, once a talker gets through to it.

    Raises `StartFailed`.
    """
    try:
        with running(command, folder) as process:
            _wait_until_it_answers(process, server, target)
            yield msgspec.structs.replace(target, pids=process.pids())
    except StartFailed as error:
        raise StartFailed(f"{server.name}: {error}") from error


def local_target(
    server: Server, ports: list[int], text_bytes: int, *, version: str, settings: list[str]
) -> Target:
    """Return the target of a server that is about to be started on this machine."""
    return Target(
        name=server.name,
        version=version,
        is_durable=server.is_durable,
        host=HOST,
        ports=ports,
        pids=[],
        settings=settings,
        text_bytes=text_bytes,
    )


def tied(command: list[str]) -> list[str]:
    """Return a command that gets SIGTERM when the thread that runs it ends, even by kill -9.

    By setpriv of util-linux, prctl(2); where there is none, only an orderly end ends servers.
    """
    setpriv = shutil.which("setpriv")
    return command if setpriv is None else [setpriv, "--pdeathsig", "TERM", *command]


def free_port() -> int:
    """Return a free port of `HOST`, of which the next one is free as well."""
    return free_base_port(HOST)


def _wait_until_it_answers(process: Process, server: Server, target: Target) -> None:
    end_s = time.monotonic() + ANSWER_S_MAX
    while True:
        process.fail_if_ended()
        dialect = server.dialect(target)
        try:
            converse(target, dialect, dialect.speak(PROBE_INDEX, ["probe"]))
        except (OSError, Unexpected) as error:
            if time.monotonic() > end_s:
                raise StartFailed(f"no answer ({error!r}); it said:\n{process.said()}") from error
            time.sleep(PAUSE_S)
        else:
            # Somebody else's server may have taken the port and answered instead of ours.
            process.fail_if_ended()
            return


def descendants(pid: int) -> list[int]:
    """Return a process and what it has started, and so on; without those that are gone."""
    found = [pid]
    for parent in found:  # Grows while it is gone through.
        for children in Path(f"/proc/{parent}/task").glob("*/children"):
            try:
                found += map(int, children.read_text().split())
            except OSError:  # The thread has ended in between.
                continue
    return found


def program(name: str) -> str:
    """Return a server program's path; raise `NotInstalled`."""
    # Beside Python first, where pip puts programs; and Debian keeps servers off people's PATH.
    places = [str(Path(sys.executable).parent), os.environ.get("PATH", os.defpath), "/usr/sbin"]
    path = shutil.which(name, path=os.pathsep.join(places))
    if path is None:
        raise NotInstalled(f"{name} is not installed: `make peers` does it")
    return path


def version(path: str, *flags: str) -> str:
    """Return the version that a program tells of itself."""
    # Some tell it as part of their help and end with an error.
    done = subprocess.run(
        [path, *flags],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        check=False,
        text=True,
        timeout=ANSWER_S_MAX,
    )
    found = re.search(r"\d+\.\d+[.\d]*", done.stdout + done.stderr)
    return found[0] if found else "unknown"


def module_command(module: str, *arguments: str) -> list[str]:
    """Return the command that runs a module of this repository, from whatever folder."""
    path = os.pathsep.join(filter(None, [str(REPOSITORY), os.environ.get("PYTHONPATH")]))
    return ["env", f"PYTHONPATH={path}", sys.executable, "-m", module, *arguments]
