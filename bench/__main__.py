"""The command `python -m bench`: the load tool."""

from __future__ import annotations

import importlib
import os
import signal
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import NoReturn

from bench.arguments import (
    EXIT_INTERRUPTED,
    EXIT_PIPE_CLOSED,
    EXIT_TERMINATED,
    EXIT_USAGE,
    parse,
)

OWN_PACKAGES = {"bench", "broker", "client", "common"}


def _terminated(*_: object) -> NoReturn:
    # An exception, so that every server that was started is ended on the way out.
    sys.exit(EXIT_TERMINATED)


@contextmanager
def _term_unwinds() -> Iterator[None]:
    before = signal.signal(signal.SIGTERM, _terminated)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def _run(argv: Sequence[str]) -> int:
    registry = importlib.import_module("bench.servers.registry")
    plan = parse(argv, list(registry.servers()))
    # Late, so that a wrong command line is answered at once.
    from bench.session import Session

    with _term_unwinds():
        status = Session(plan, argv, Path(tempfile.gettempdir())).run()
    sys.stdout.flush()  # Here, where a reader that went away is met quietly.
    return status


def main(argv: Sequence[str] | None = None) -> int:
    """Run the load tool; return the exit status."""
    try:
        return _run(sys.argv[1:] if argv is None else argv)
    except KeyboardInterrupt:
        return EXIT_INTERRUPTED
    except BrokenPipeError:
        # Somebody had enough, as `| head` does: no word at the interpreter's end either.
        with Path(os.devnull).open("wb") as nowhere:
            os.dup2(nowhere.fileno(), sys.stdout.fileno())
        return EXIT_PIPE_CLOSED
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] in OWN_PACKAGES:
            raise
        print(f"bench: {error.name} is missing; make bench installs it", file=sys.stderr)
        return EXIT_USAGE


if __name__ == "__main__":
    sys.exit(main())
