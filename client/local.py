"""`hubbub run`: the chat with a broker of its own, unless one is there already.

The broker is a child in a session of its own, so that Ctrl+C reaches the chat alone; when the
chat ends, the broker is asked to stop, and made to if it does not.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import select
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from client import identity
from client.arguments import EXIT_FAILED, Arguments
from client.login import complain, invitation, str_of
from common.endpoints import Address
from common.errors import Unreachable

READY_S_MAX = 15.0  # An old log on a slow disk is opened within this.
STOP_S_MAX = 6.0  # The broker promises five seconds.
PROBE_S = 1.0
LOG_BYTES_SHOWN_MAX = 4_096  # The end of the broker's log, for its last line.
LOG_BYTES_MAX = 1024 * 1024  # A larger log is started anew with the next broker.
READY = "hubbub broker ready on "
LOOPBACK = ("127.0.0.1", "localhost", "::1")


class NotStartedError(Exception):
    """The broker ended, or said nothing; `args[0]` tells why."""


def run(arguments: Arguments, open_chat: Callable[[Arguments], int]) -> int:
    """Open the chat with the broker at the address, started here if nobody is there."""
    started: list[subprocess.Popen[bytes]] = []
    try:
        try:
            with _turn():
                if not _is_broker_there(arguments):
                    _start(arguments, started)
        except NotStartedError as error:
            # Somebody else may have started one at the same moment.
            if not _is_broker_there(arguments):
                complain(f"the broker did not start: {error}")
                return EXIT_FAILED
        return open_chat(arguments)
    finally:  # Whenever a signal comes, no broker of ours stays behind.
        for broker in started:
            _stop(broker)


@contextlib.contextmanager
def _turn() -> Iterator[None]:
    """Let one look and start at a time: the second one finds what the first one started."""
    directory = identity.data_dir()
    directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    with (directory / "run.lock").open("ab") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # Held for READY_S_MAX at most.
        yield


def _is_broker_there(arguments: Arguments) -> bool:
    """Tell whether a broker answers; raise `Unreachable` where none can come to be."""
    if _is_listening(arguments.broker):
        _check_broker(arguments)
        return True
    if arguments.broker.host not in LOOPBACK:
        message = f"nobody answers at {str_of(arguments)}; `run` starts brokers on 127.0.0.1 only"
        raise Unreachable(message)
    return False


def _is_listening(address: Address) -> bool:
    """Tell whether something accepts connections; a refusal is known at once, unlike silence."""
    try:
        socket.create_connection((address.host, address.port), PROBE_S).close()
    except OSError:
        return False
    return True


def _check_broker(arguments: Arguments) -> None:
    from client import api

    try:
        api.ask_status(invitation(arguments), arguments.timeout_s, tell=complain)
    except Unreachable as error:
        message = (
            f"something that is no broker listens at {str_of(arguments)}; "
            "choose another port with --broker 127.0.0.1:PORT"
        )
        raise Unreachable(message) from error


def _start(arguments: Arguments, started: list[subprocess.Popen[bytes]]) -> None:
    """Start a broker, noted in `started`, and wait until it serves; raise `NotStartedError`."""
    log_path = identity.data_dir() / "broker.log"
    with log_path.open("ab") as log:
        if log.tell() > LOG_BYTES_MAX:
            log.truncate(0)
        started.append(
            subprocess.Popen(
                _command(arguments),
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=log,
                env=_environment(),
                start_new_session=True,
            )
        )
    _wait_until_ready(started[-1], log_path)


def _command(arguments: Arguments) -> list[str]:
    # -P: a folder called `broker` where the person happens to be is not our broker.
    command = [sys.executable, "-P", "-m", "broker", "--host", arguments.broker.host]
    command += ["--port", str(arguments.broker.port)]
    return command + (["--data", arguments.data] if arguments.data else [])


def _environment() -> dict[str, str]:
    here = str(Path(__file__).resolve().parent.parent)
    path = os.environ.get("PYTHONPATH")
    return {**os.environ, "PYTHONPATH": f"{here}{os.pathsep}{path}" if path else here}


def _wait_until_ready(broker: subprocess.Popen[bytes], log_path: Path) -> None:
    assert broker.stdout is not None
    descriptor, said = broker.stdout.fileno(), b""
    deadline = time.monotonic() + READY_S_MAX
    while b"\n" not in said:
        wait_s = deadline - time.monotonic()
        if wait_s <= 0 or not select.select([descriptor], [], [], wait_s)[0]:
            message = f"it is not ready after {READY_S_MAX:.0f} s; see {log_path}"
            raise NotStartedError(message)
        piece = os.read(descriptor, 4_096)
        if not piece:
            raise NotStartedError(
                _last_line(log_path).removeprefix("hubbub-broker: ") or f"see {log_path}"
            )
        said += piece
    if not said.decode("utf-8", "replace").startswith(READY):
        message = f"it says {said[:80]!r}"
        raise NotStartedError(message)


def _last_line(log_path: Path) -> str:
    with log_path.open("rb") as log:
        log.seek(0, os.SEEK_END)
        log.seek(max(0, log.tell() - LOG_BYTES_SHOWN_MAX))
        lines = log.read().decode("utf-8", "replace").split("\n")
    return next((line.strip() for line in reversed(lines) if line.strip()), "")


def _stop(broker: subprocess.Popen[bytes]) -> None:
    broker.terminate()
    try:
        broker.wait(STOP_S_MAX)
    except subprocess.TimeoutExpired:
        broker.kill()  # Its children see the end of their orders, and leave.
        broker.wait()
    finally:
        if broker.stdout is not None:
            broker.stdout.close()
