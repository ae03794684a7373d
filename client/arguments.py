"""The command line's words: which sub-command, which options, from where. No I/O.

Global options are accepted before and after the sub-command. The first word that is neither an
option nor an option's value is the sub-command if it is the name of one, and the broker otherwise;
a host that is called like a sub-command can be given with --broker.
"""

from __future__ import annotations

import argparse
import re
from collections.abc import Mapping, Sequence
from typing import NamedTuple, NoReturn

from client import admin_words
from client.times import seconds_of
from common import flags, invitations
from common.endpoints import Address
from common.errors import Refused
from common.invitations import Invitation
from common.limits import BASE_PORT, HISTORY_DEFAULT
from common.names import check_nick

EXIT_FAILED = 1
EXIT_USAGE = 2
EXIT_UNREACHABLE = 69  # The numbers of sysexits.h: EX_UNAVAILABLE,
EXIT_TRY_AGAIN = 75  # EX_TEMPFAIL,
EXIT_NOT_ALLOWED = 77  # EX_NOPERM.
EXIT_INTERRUPTED = 130  # As the shell counts it: 128 and SIGINT.
EXIT_PIPE_CLOSED = 141  # 128 and SIGPIPE: the reader of our output went away.

DEFAULT_BROKER = "127.0.0.1"
DEFAULT_ROOM = "lobby"
TIMEOUT_S = 2.0
TIMEOUT_S_MAX = 3_600.0
COUNT_MAX = 10**9

SUBCOMMANDS = {
    "send": "say something in a room: TEXT, or each line of standard input",
    "tail": "print what is said in rooms as it comes",
    "history": "print what was said in a room",
    "rooms": "list the rooms",
    "who": "list who is in a room",
    "status": "tell whether a broker is up; its exit status makes it a health check",
    "key": "print your public key, for the operator who lets people in by their keys",
    "trust": "accept the key that a broker has now, or forget the one that is known",
    "run": "start a broker on this machine unless one is there, and open the chat",
    "admin": "do what operators do, such as kick, announce, drop a text or drain the broker",
}
EPILOG = """\
exit status: 0 done, 1 failed, 2 usage, 69 nobody answers, 75 try again, 77 not allowed,
130 interrupted
"""
THE_ROOM = "the room; a join line in place of the broker can tell it instead"


class UsageError(Exception):
    """The command line means nothing; status 2."""


class VersionWanted(Exception):
    """--version was met; whatever else is there does not matter."""


class _Parser(argparse.ArgumentParser):
    """A parser that says what is wrong in one line."""

    needed: tuple[str, ...] = ()  # Options that help shows as required.

    def format_help(self) -> str:
        for action in self._actions:  # Parsing lets a join line say it too.
            action.required |= action.dest in self.needed
        self.formatter_class = argparse.RawDescriptionHelpFormatter
        return super().format_help()

    def error(self, message: str) -> NoReturn:
        text = f"{message} ({self.prog} --help)"
        raise UsageError(text)


class _Version(argparse.Action):
    """An option that ends parsing at once, as --help does."""

    def __call__(self, *_: object) -> NoReturn:
        raise VersionWanted


# --- types of values --------------------------------------------------------
def _invitation(text: str) -> Invitation:
    try:
        return invitations.parse(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from error


def _key(text: str) -> bytes:
    from common.keys import parse_key

    try:
        return parse_key(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from error


def _nick(text: str) -> str:
    try:
        return check_nick(text)
    except Refused as error:
        message = f"{text!r} cannot be a nick: {error.detail}"
        raise argparse.ArgumentTypeError(message) from error


def _seconds(text: str) -> float:
    try:
        seconds = float(text)
    except ValueError:
        seconds = 0.0
    if not 0 < seconds <= TIMEOUT_S_MAX:
        message = f"{text!r} is not a number of seconds from above 0 to {TIMEOUT_S_MAX:.0f}"
        raise argparse.ArgumentTypeError(message)
    return seconds


def _count(text: str) -> int:
    is_number = text.isascii() and text.isdigit() and len(text) <= len(str(COUNT_MAX))
    if not is_number or not 1 <= int(text) <= COUNT_MAX:
        message = f"{text!r} is not a number from 1 to {COUNT_MAX}"
        raise argparse.ArgumentTypeError(message)
    return int(text)


class Since(NamedTuple):
    """How far back `tail` begins: so many entries, so many seconds, or (both None) everything."""

    entries: int | None = None
    seconds: int | None = None


def _since(text: str) -> Since:
    if text == "all":
        return Since()
    if re.fullmatch(r"[0-9]{1,9}", text):
        return Since(entries=int(text))
    if (seconds := seconds_of(text)) is not None:
        return Since(seconds=seconds)
    message = f"{text!r} is neither a number of entries, nor a time like 30s, 10m, 2h, 1d, nor all"
    raise argparse.ArgumentTypeError(message)


# --- the parsers ------------------------------------------------------------
def _new_parser(name: str, description: str, epilog: str) -> _Parser:
    parser = _Parser(
        prog=f"hubbub {name}".strip(),
        description=description,
        epilog=epilog,
        allow_abbrev=False,
        # One is made for each option. Without a width it imports shutil, with all compressors, to
        # ask the terminal: 3 ms, which only `format_help` needs.
        formatter_class=lambda prog: argparse.HelpFormatter(prog, width=80),
    )
    group = parser.add_argument_group("everywhere")
    group.add_argument(
        "--broker",
        type=_invitation,
        metavar="HOST[:PORT]",
        help=f"where the broker is, or a join line (HUBBUB_BROKER; {DEFAULT_BROKER}:{BASE_PORT})",
    )
    names = ("--nick",) if name in N_IS_A_NUMBER else ("-n", "--nick")
    group.add_argument(*names, type=_nick, help="your name (HUBBUB_NICK; the login name)")
    group.add_argument(
        "--timeout",
        type=_seconds,
        default=TIMEOUT_S,
        metavar="SECONDS",
        help=f"how long to wait for an answer ({TIMEOUT_S:.0f})",
    )
    group.add_argument("--json", action="store_true", help="print one JSON object a line")
    group.add_argument(
        "--color",
        choices=("auto", "always", "never"),
        default="auto",
        help="auto: on a terminal, unless NO_COLOR is set",
    )
    group.add_argument("--version", action=_Version, nargs=0, help="print versions")
    return parser


def _add_rooms(parser: argparse.ArgumentParser, **options: object) -> None:
    parser.add_argument(
        "-r",
        "--room",
        dest="rooms",
        action="append",
        type=flags.room,
        metavar="ROOM",
        **options,  # type: ignore[arg-type]
    )


def _chat_parser() -> argparse.ArgumentParser:
    width = max(map(len, SUBCOMMANDS)) + 2
    listing = "\n".join(f"  {name:<{width}}{text}" for name, text in SUBCOMMANDS.items())
    parser = _new_parser(
        "",
        "Chat with people on your LAN. Without a sub-command: open the chat.",
        f"sub-commands (hubbub NAME --help tells more):\n{listing}\n\n{EPILOG}",
    )
    parser.add_argument(
        "host", nargs="?", type=_invitation, metavar="HOST[:PORT]", help="the same as --broker"
    )
    _add_rooms(parser, help=f"a room to enter, several times for several ({DEFAULT_ROOM})")
    return parser


def _subcommand_parser(name: str) -> argparse.ArgumentParser:
    text = SUBCOMMANDS[name]
    epilog = f"verbs:\n{admin_words.listing()}\n{EPILOG}" if name == "admin" else EPILOG
    parser = _new_parser(name, f"{text[0].upper()}{text[1:]}.", epilog)
    if name in SOME_ROOM:
        parser.needed = ("rooms",)
    if name == "send":
        _add_rooms(parser, help=THE_ROOM)
        parser.add_argument(
            "text", nargs="*", metavar="TEXT", help="left out: each line of standard input"
        )
    elif name == "tail":
        _add_rooms(
            parser, help="a room, several times for several; a join line can tell it instead"
        )
        parser.add_argument(
            "--since",
            type=_since,
            default=Since(entries=0),
            metavar="N|10m|all",
            help="begin N entries back, a time back, or at the beginning",
        )
        parser.add_argument("--count", type=_count, metavar="N", help="end after N entries")
    elif name == "history":
        _add_rooms(parser, help=THE_ROOM)
        parser.add_argument(
            "-n",
            dest="entries",
            type=_count,
            default=HISTORY_DEFAULT,
            metavar="N",
            help=f"so many entries ({HISTORY_DEFAULT})",
        )
        parser.add_argument("--before", type=_count, metavar="SEQ", help="only what is older")
    elif name == "who":
        _add_rooms(parser, help=THE_ROOM)
    elif name == "trust":
        _add_trust(parser)
    elif name == "run":
        _add_rooms(parser, help=f"a room to enter, several times for several ({DEFAULT_ROOM})")
        parser.add_argument(
            "--data", metavar="DIR", help="where a broker that is started keeps its log"
        )
    elif name == "admin":
        admin_words.add_to(parser)
    return parser


def _add_trust(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "host", nargs="?", type=_invitation, metavar="HOST[:PORT]", help="the same as --broker"
    )
    parser.add_argument("--yes", action="store_true", help="do not ask")
    group = parser.add_mutually_exclusive_group()
    group.add_argument(
        "--key", type=_key, metavar="KEY", help="accept this key (hex or Z85), without asking there"
    )
    group.add_argument("--forget", action="store_true", help="forget the key that is known")


# --- reading the words ------------------------------------------------------
class Arguments(NamedTuple):
    """What was asked for: a sub-command ("chat" without one) and its settings."""

    subcommand: str
    broker: Address
    nick: str | None  # None: nobody said.
    timeout_s: float
    is_json: bool
    color: str  # "auto", "always" or "never"
    rooms: list[str]
    text: str | None = None  # send: None means standard input.
    since: Since = Since(entries=0)
    limit: int | None = None  # tail: None means for ever.
    entries: int = HISTORY_DEFAULT  # history
    before: int | None = None  # history
    data: str | None = None  # run, admin
    key: bytes | None = None  # The broker's, from a join line or --key.
    is_sure: bool = False  # trust --yes
    is_forgotten: bool = False  # trust --forget
    order: admin_words.Order | None = None  # admin
    is_remote: bool = False  # admin: through the network, for --broker was given.


OPTIONS_WITH_VALUE = frozenset(
    {
        *("-n", "-r", "--nick", "--room", "--broker", "--timeout", "--color"),
        *("--since", "--count", "--before", "--data", "--key", "--for"),
    }
)
ONE_ROOM = frozenset({"send", "history", "who"})
SOME_ROOM = ONE_ROOM | {"tail"}
N_IS_A_NUMBER = frozenset({"history", "admin"})  # And no nick.


def split(words: Sequence[str]) -> tuple[str, list[str]]:
    """Return the sub-command ("chat" without one) and the other words."""
    position = 0
    while position < len(words) and words[position].startswith("-") and words[position] != "--":
        position += 2 if words[position] in OPTIONS_WITH_VALUE else 1
    if position >= len(words) or words[position] not in SUBCOMMANDS:
        return "chat", list(words)
    name, before = words[position], list(words[:position])
    if name in N_IS_A_NUMBER:  # Before it, -n is still the nick.
        before = [_nick_option(word) for word in before]
    return name, [*before, *words[position + 1 :]]


def _nick_option(word: str) -> str:
    if word == "-n":
        return "--nick"
    return f"--nick={word[2:]}" if word.startswith("-n") else word


def parse(words: Sequence[str], environ: Mapping[str, str]) -> Arguments:
    """Read the command line; raise `UsageError`, `VersionWanted`, or SystemExit after --help."""
    name, rest = split(words)
    parser = _chat_parser() if name == "chat" else _subcommand_parser(name)
    # A reason may stand before and after --for: argparse takes such words only when asked to.
    given = parser.parse_intermixed_args(rest) if name == "admin" else parser.parse_args(rest)
    to = getattr(given, "host", None) or given.broker or _broker_from(environ)
    rooms = list(dict.fromkeys(given.rooms or [])) if "rooms" in given else []
    if "rooms" in given and not rooms and to.room:
        rooms = [to.room]
    if name in SOME_ROOM and not rooms:
        parser.error("the following arguments are required: -r/--room")
    if name in ONE_ROOM and len(rooms) > 1:
        parser.error("give one room")
    if name in ("chat", "run"):
        rooms = rooms or [DEFAULT_ROOM]
    if getattr(given, "host", None) and given.broker:
        parser.error("the broker is given twice")
    text = " ".join(given.text) if getattr(given, "text", None) else None
    if text is not None and not text.strip():
        parser.error("the text is empty")
    return Arguments(
        subcommand=name,
        broker=to.address,
        nick=given.nick or _nick_from(environ),
        timeout_s=given.timeout,
        is_json=given.json,
        color=_color(given.color, environ),
        rooms=rooms,
        text=text,
        since=getattr(given, "since", Since(entries=0)),
        limit=getattr(given, "count", None),
        entries=getattr(given, "entries", HISTORY_DEFAULT),
        before=getattr(given, "before", None),
        data=getattr(given, "data", None),
        key=getattr(given, "key", None) or to.key,
        is_sure=getattr(given, "yes", False),
        is_forgotten=getattr(given, "forget", False),
        order=_order(parser, given) if name == "admin" else None,
        is_remote=given.broker is not None,
    )


def _order(parser: argparse.ArgumentParser, given: argparse.Namespace) -> admin_words.Order:
    if given.broker and given.data:
        parser.error("--data is the folder of a broker on this machine: without --broker")
    try:
        return admin_words.read(given)
    except admin_words.WordsWrongError as error:
        parser.error(str(error))


def _broker_from(environ: Mapping[str, str]) -> Invitation:
    try:
        return invitations.parse(environ.get("HUBBUB_BROKER") or DEFAULT_BROKER)
    except ValueError as error:
        message = f"HUBBUB_BROKER: {error}"
        raise UsageError(message) from error


def _nick_from(environ: Mapping[str, str]) -> str | None:
    nick = environ.get("HUBBUB_NICK")
    try:
        return check_nick(nick) if nick else None
    except Refused as error:
        message = f"HUBBUB_NICK: {nick!r} cannot be a nick: {error.detail}"
        raise UsageError(message) from error


def _color(choice: str, environ: Mapping[str, str]) -> str:
    # NO_COLOR counts when it is set to anything but nothing (no-color.org); a flag outranks it.
    return "never" if choice == "auto" and environ.get("NO_COLOR") else choice
