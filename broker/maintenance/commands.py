"""The sub-commands of `hubbub-broker` that look after a log: check, backup, restore, ...

Exit status: 0 done; 1 it failed, or the log is not whole; 2 the command line is wrong.
"""

from __future__ import annotations

import argparse
import os
import re
import sys
import time
from collections.abc import Callable, Iterable, Sequence
from datetime import datetime
from pathlib import Path

import msgspec

from broker import config
from broker.log.interface import LogUnusable
from broker.log.segments import numbers
from broker.log.writer import FILE_NAME
from broker.maintenance.backup import backup, restore
from broker.maintenance.checkup import Report, check
from broker.maintenance.export import CLOSED, export
from broker.maintenance.salvage import salvage
from common import flags
from common.errors import HubbubError

SUBCOMMANDS = {
    "check": "read all of a log and tell whether it is what was written",
    "backup": "copy a log, also while its broker runs",
    "restore": "put a backup into a data folder",
    "export": "print a log as JSON Lines, an object for each entry",
    "salvage": "copy what is whole of a damaged log into a new folder",
}
DETAILS = {
    "check": "Only reads. A broker may run meanwhile: then what it had committed is looked at.",
    "backup": "The copy is the log of one moment. It is checked in the end.",
    "restore": "The broker must be stopped. Clients are told that the log is another one.",
    "export": "A broker may run meanwhile. What is damaged is told on standard error. Closed rooms "
    "are left out unless --room asks for them.",
    "salvage": "The broker must be stopped; its folder is only read. Entries keep their numbers, "
    "and clients are told how many are missing where. Then: hubbub-broker restore NEW --force",
}
EPILOG = "Exit status: 0 done; 1 failed, or the log is not whole; 2 wrong command line."
AGE = re.compile(r"([0-9]{1,9})([smhdw])")
AGE_UNITS_S = {"s": 1, "m": 60, "h": 3_600, "d": 86_400, "w": 604_800}


def _since(text: str) -> int:
    """Return milliseconds since 1970 of an age or a time."""
    if match := AGE.fullmatch(text):
        return int((time.time() - int(match[1]) * AGE_UNITS_S[match[2]]) * 1_000)
    try:
        return int(datetime.fromisoformat(text).astimezone().timestamp() * 1_000)
    except ValueError:
        message = f"{text!r} is neither an age like 10m, 2h or 1d, nor a time like 2025-01-31T08:00"
        raise argparse.ArgumentTypeError(message) from None


def _room(text: str) -> str:
    """Return a room's name, or a closed room's name or title, which is as it was given."""
    return text if text.startswith(CLOSED) else flags.room(text)


def parser(name: str) -> argparse.ArgumentParser:
    """Return the parser of a sub-command."""
    made = argparse.ArgumentParser(
        prog=f"hubbub-broker {name}",
        description=f"{SUBCOMMANDS[name].capitalize()}. {DETAILS[name]}",
        epilog=EPILOG,
    )
    made.add_argument("--data", metavar="DIR", help="folder of the log, as the broker's own --data")
    match name:
        case "check":
            made.add_argument("--json", action="store_true", help="print one JSON object")
        case "backup":
            made.add_argument("target", metavar="DIR", type=Path, help="folder, new or empty")
        case "restore":
            made.add_argument("source", metavar="BACKUP", type=Path, help="folder of the backup")
            words = "move a log that is there out of the way, into replaced-N beside it"
            made.add_argument("--force", action="store_true", help=words)
        case "export":
            made.add_argument(
                "--room",
                metavar="R",
                type=_room,
                action="append",
                default=[],
                help="only this one, also a closed one by its name or title; repeatable",
            )
            words = "only entries so young (10m, 2h, 1d) or from a time on (2025-01-31T08:00)"
            made.add_argument("--since", metavar="WHEN", type=_since, default=0, help=words)
            made.add_argument("-o", metavar="FILE", type=Path, help="write there, when it is whole")
        case "salvage":
            made.add_argument("target", metavar="NEW", type=Path, help="folder, new or empty")
    return made


def main(argv: Sequence[str]) -> int:
    """Run the sub-command that `argv` begins with; return the exit status.

    Raises `HubbubError`, SystemExit(2) for a wrong command line.
    """
    name, *rest = argv
    given = parser(name).parse_args(rest)
    words = [] if given.data is None else ["--data", given.data]
    folder = Path(config.load(words).data)
    _need_log(given.source if name == "restore" else folder)
    os.umask(0o077)  # Copies are the operator's alone, as the log is.
    try:
        return BY_NAME[name](folder, given)
    except BrokenPipeError:  # Whoever read the output had enough.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1


def _need_log(folder: Path) -> None:
    if not (folder / FILE_NAME).exists() and not numbers(folder):
        message = f"there is no log in {folder}"
        raise LogUnusable(message)


def _need_outside(folder: Path, other: Path) -> None:
    """Whoever moves or removes a folder must not lose the other with it."""
    inner, outer = other.resolve(), folder.resolve()
    if outer == inner or outer in inner.parents:
        message = f"{other} and {folder} must be two folders, and the one not inside the other"
        raise HubbubError(message)


def _say(line: str) -> None:
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


def _complain(line: str) -> None:
    sys.stderr.write(f"hubbub-broker: {line}\n")


def _summary(report: Report) -> str:
    return f"{report.entries} entries in {report.rooms} rooms, {report.bytes} bytes"


def _check(folder: Path, given: argparse.Namespace) -> int:
    report = check(folder)
    _say(msgspec.json.encode(report).decode() if given.json else "\n".join(report.lines()))
    return 1 if report.problems else 0


def _backup(folder: Path, given: argparse.Namespace) -> int:
    _need_outside(folder, given.target)
    report = backup(folder, given.target)
    for problem in report.problems:
        _complain(f"the copy, as the log, is damaged: {problem.line()}")
    _say(f"{given.target} has {_summary(report)}")
    return 1 if report.problems else 0


def _restore(folder: Path, given: argparse.Namespace) -> int:
    _need_outside(folder, given.source)
    _need_outside(given.source, folder)
    report, aside = restore(given.source, folder, is_forced=given.force)
    if aside is not None:
        _say(f"what was in {folder} is in {aside}")
    _say(f"{folder} has {_summary(report)}; when the broker starts, clients start over")
    return 0


def _export(folder: Path, given: argparse.Namespace) -> int:
    damaged: list[str] = []

    def tell(line: str) -> None:
        damaged.append(line)
        _complain(line)

    lines = export(folder, given.room, given.since, tell, _complain)
    if given.o is None:
        try:
            _write(lines, sys.stdout.write)
            sys.stdout.flush()
        except BrokenPipeError:
            raise
        except OSError as error:
            # What is still to be written would fail once more at the end of the program.
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            message = f"standard output cannot be written: {error.strerror}"
            raise HubbubError(message) from error
    else:
        partial = given.o.with_name(f"{given.o.name}.partial")
        try:
            with partial.open("w", encoding="ascii") as file:
                _write(lines, file.write)
                file.flush()
                os.fsync(file.fileno())
            partial.replace(given.o)
        except OSError as error:
            raise HubbubError(f"{given.o} cannot be written: {error.strerror}") from error
        finally:
            partial.unlink(missing_ok=True)
    return 1 if damaged else 0


def _write(lines: Iterable[str], write: Callable[[str], object]) -> None:
    for line in lines:
        write(line + "\n")


def _salvage(folder: Path, given: argparse.Namespace) -> int:
    _need_outside(folder, given.target)
    salvaged = salvage(folder, given.target, _complain)
    for room, first, last in salvaged.lost:
        _say(f"missing: #{room}, entries {first} to {last}")
    lost_count = sum(last - first + 1 for _, first, last in salvaged.lost)
    _say(f"{given.target} has {salvaged.entries} entries; {lost_count} are missing")
    return 0


BY_NAME: dict[str, Callable[[Path, argparse.Namespace], int]] = {
    "check": _check,
    "backup": _backup,
    "restore": _restore,
    "export": _export,
    "salvage": _salvage,
}
assert BY_NAME.keys() == SUBCOMMANDS.keys()
