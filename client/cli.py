"""The command line: reads it, calls what was asked for, turns errors into one line and a status.

Nothing heavy is imported here: a script that says one thing should not wait for the chat's parts.
"""

from __future__ import annotations

import contextlib
import gc
import os
import signal
import sys
from collections.abc import Sequence
from types import FrameType
from typing import Literal, TextIO

from client import arguments as words
from client.arguments import Arguments, UsageError, VersionWanted
from client.login import complain, is_interactive
from common.errors import HubbubError, Refused, Unreachable
from common.limits import PROTOCOL_VERSION
from common.version import VERSION


def run(argv: Sequence[str]) -> int:
    """Do what the command line asks for; return the exit status."""
    _prepare_streams()
    for name in ("SIGTERM", "SIGHUP"):
        if hasattr(signal, name):
            signal.signal(getattr(signal, name), _leave)
    try:
        status = _dispatch(argv)
        sys.stdout.flush()  # A closed pipe shows here, not when the interpreter ends.
    except BrokenPipeError:
        _forget_stdout()
        return words.EXIT_PIPE_CLOSED
    except (
        OSError
    ) as error:  # Also of our output: its disk is full, or it was closed from the start.
        complain(str(error))
        _forget_stdout()
        return words.EXIT_FAILED
    except KeyboardInterrupt:
        status = words.EXIT_INTERRUPTED
    except SystemExit as end:  # --help, or a signal.
        status = int(end.code or 0)
    return status


def _dispatch(argv: Sequence[str]) -> int:
    try:
        return _call(words.parse(argv, os.environ))
    except VersionWanted:
        return _print_version()
    except EOFError:  # No answer to a question: somebody left.
        sys.stdout.write("\n")
        return 0
    except (UsageError, HubbubError, ValueError) as error:
        complain(str(error))
        return _status_of(error)


def _status_of(error: Exception) -> int:
    match error:
        case UsageError():
            return words.EXIT_USAGE
        case Refused():
            return error.exit_status
        case Unreachable():
            return words.EXIT_UNREACHABLE
    return words.EXIT_FAILED


def _call(arguments: Arguments) -> int:
    if arguments.subcommand == "run":
        from client import local

        return local.run(arguments, open_chat)
    if arguments.subcommand == "chat":
        return open_chat(arguments)
    if arguments.subcommand in ("key", "trust"):
        from client import trusting

        return trusting.BY_NAME[arguments.subcommand](arguments)
    if arguments.subcommand == "admin":
        from client import admin

        _end_imports()
        return admin.run(arguments)
    from client import subcommands

    _end_imports()
    return subcommands.BY_NAME[arguments.subcommand](arguments)


def open_chat(arguments: Arguments) -> int:
    """Open the chat: with a prompt between two terminals, by plain lines otherwise."""
    if is_interactive() and not arguments.is_json and os.environ.get("TERM") != "dumb":
        from client import chat as terminal

        _end_imports()
        return terminal.run(arguments)
    from client import plain

    _end_imports()
    return plain.run(arguments)


def _end_imports() -> None:
    """Collect garbage from here on, but never look at the modules: 10 ms at the end of `send`."""
    gc.freeze()
    gc.enable()


def _print_version() -> int:
    import zmq

    lines = (
        f"hubbub {VERSION}",
        f"protocol {PROTOCOL_VERSION}",
        f"pyzmq {zmq.__version__}",
        f"libzmq {zmq.zmq_version()}",
    )
    sys.stdout.write("\n".join(lines) + "\n")
    return 0


def _leave(signal_number: int, _: FrameType | None) -> None:
    """End by an exception, so that sessions are closed and a broker of ours is stopped."""
    raise SystemExit(128 + signal_number)


def _prepare_streams() -> None:
    for name in ("stdin", "stdout", "stderr"):
        if getattr(sys, name) is None:
            setattr(sys, name, _stand_in(name))
    # What the terminal's encoding cannot show is escaped: better than a traceback.
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="backslashreplace")


def _stand_in(name: str) -> TextIO:
    """Return a stream in place of one that the caller has closed, as with `>&-`.

    It also takes the stream's number, which a socket of ours would get otherwise. There is nothing
    to read; writing complaints goes nowhere; writing data fails, because they are lost.
    """
    flags = os.O_WRONLY if name == "stderr" else os.O_RDONLY
    mode: Literal["r", "w"] = "r" if name == "stdin" else "w"
    return open(os.open(os.devnull, flags), mode, encoding="utf-8", closefd=False)


def _forget_stdout() -> None:
    """Let the interpreter flush into nothing when it ends."""
    with contextlib.suppress(OSError, ValueError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
