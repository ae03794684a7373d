"""Runs: a server is started or found, its work is called, and nothing of it stays behind."""

from __future__ import annotations

import importlib
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

import msgspec

from bench.dialect import Unexpected
from bench.meter import listeners
from bench.plan import Run
from bench.results import Result
from bench.servers.base import NotInstalled
from bench.target import HUBBUB, Target
from bench.works.base import Stopped, Watch
from client.api import ask_status
from common.endpoints import Address
from common.errors import HubbubError, Unreachable

WorkFunction = Callable[[Target, Any, Watch], Result]
FOLDER_PREFIX: Final = "hubbub-bench-"
LOOPBACK: Final = ("127.", "localhost", "::1")


class RunFailed(Exception):
    """A run came to nothing; the message says which and why."""


class NobodyAnswers(RunFailed):
    """There is no broker at --broker."""


class ServerMissing(RunFailed):
    """The server's program is not installed here; the message says what installs it."""


def load_work(name: str) -> WorkFunction:
    """Return a work's function. Imported late: a work may need what others don't."""
    function: WorkFunction = importlib.import_module(f"bench.works.{name}").run
    return function


def attach(address: Address, text_bytes: int) -> Target:
    """Return the running Hubbub at an address; raise `Unreachable` or `Refused` if there is none.

    Its processes are found when they are of this machine and this user; otherwise there are no
    figures of CPU and memory.
    """
    greeting = ask_status(address.url())
    ports = [address.port, greeting.rooms_port, greeting.history_port]
    is_here = address.host.startswith(LOOPBACK)
    return Target(
        name=HUBBUB,
        version=greeting.program,
        is_durable=True,
        host=address.host,
        ports=ports,
        pids=listeners(ports) if is_here else [],
        settings=["a running broker, with settings of its own"],
        text_bytes=text_bytes,
    )


@contextmanager
def _target(run: Run, broker: Address | None, root: Path) -> Iterator[Target]:
    if broker is not None:
        try:
            target = attach(broker, run.options.size)
        except Unreachable as error:
            raise NobodyAnswers(str(error)) from error
        yield target
        return
    server = importlib.import_module("bench.servers.registry").load(run.server)
    settings = run.options.broker_settings
    if settings and not server.is_peer:
        server = type(server)(settings)
    with (
        tempfile.TemporaryDirectory(prefix=FOLDER_PREFIX, dir=root) as folder,
        server.start(Path(folder), run.options.size) as target,
    ):
        yield target


def measure(
    run: Run,
    watch: Watch,
    *,
    root: Path,
    broker: Address | None = None,
    started: Callable[[Target], object] = lambda _: None,
) -> Result:
    """Do one run in a fresh folder below `root`, or at a running broker; return what it found.

    `started` is told the server before the work begins. Raises `RunFailed`; at Ctrl+C `Stopped`
    or KeyboardInterrupt, after everything that was started has ended.
    """
    work = load_work(run.work)
    try:
        with _target(run, broker, root) as target:
            started(target)
            result = work(target, run.options, watch)
    except Stopped as stopped:
        stopped.result.parameters = run_parameters(run)
        raise
    except NotInstalled as error:
        raise ServerMissing(f"{run.server} is not installed: {error}") from error
    except (Unexpected, HubbubError, OSError) as error:
        raise RunFailed(
            f"{run.work} on {run.server}: {str(error) or type(error).__name__}"
        ) from error
    finally:
        watch.end()
    result.parameters = run_parameters(run)
    return result


def run_parameters(run: Run) -> dict[str, Any]:
    """Return the parameters of a run as plain data; equal ones are repeats of each other."""
    scenario = {"scenario": run.scenario} if run.scenario else {}
    return {**scenario, **msgspec.to_builtins(run.options)}
