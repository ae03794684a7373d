"""The words of `hubbub admin`: its verbs, and what each of them takes. Pure."""

from __future__ import annotations

import argparse
import re
from collections.abc import Sequence
from typing import NamedTuple

from common import flags
from common.limits import NUMBER_MAX
from common.names import is_closed

UNITS_S = {"s": 1, "m": 60, "h": 3_600, "d": 86_400, "w": 7 * 86_400}
NAME_CHARS_MAX = 128  # Of a nick or a key; the wire takes no more.


class Verb(NamedTuple):
    """What an operator can do. In brackets stands what may be left out."""

    text: str
    words: tuple[str, ...] = ()
    options: tuple[str, ...] = ()

    @property
    def usage(self) -> str:
        """What stands behind the verb."""
        return " ".join((*self.options, *self.words))


ROOM, MAYBE_ROOM, FOR, MAYBE_N = "-r ROOM", "[-r ROOM]", "[--for 2h]", "[-n N]"
NICK, REASON, TEXT, SWITCH = "NICK", "[REASON]", "[TEXT]", "[on|off]"
NUMBERS = ("SECONDS", "SEQ")
VERBS = {
    "sessions": Verb("list who is connected, with their keys and addresses"),
    "rooms": Verb("list all rooms, closed ones too, and what is kept of each"),
    "sanctions": Verb("list the bans and mutes that hold", (), (MAYBE_ROOM,)),
    "audit": Verb("list who did what to whom, newest first (100 unless told)", (), (MAYBE_N,)),
    "nicks": Verb("list the nicks that belong to somebody"),
    "free": Verb("let a nick belong to nobody", (NICK,)),
    "kick": Verb("end somebody's sessions, or put them out of a room",
                 (NICK, REASON), (MAYBE_ROOM,)),
    "ban": Verb("likewise, and let them in no more", (NICK, REASON), (MAYBE_ROOM, FOR)),
    "unban": Verb("let them in again", (NICK,), (MAYBE_ROOM,)),
    "mute": Verb("let somebody read a room and not write", (NICK, REASON), (ROOM, FOR)),
    "unmute": Verb("let them write again", (NICK,), (ROOM,)),
    "op": Verb("give somebody the role of a moderator in a room", (NICK,), (ROOM,)),
    "deop": Verb("take that role from them", (NICK,), (ROOM,)),
    "slow": Verb("let each write every so many seconds; 0: as fast as they like",
                 ("SECONDS",), (ROOM,)),
    "retention": Verb("keep so much of a room: numbers, all, or default (as everywhere)",
                      ("MESSAGES", "DAYS"), (ROOM,)),
    "drop": Verb("remove the text of an entry, everywhere and for good", ("SEQ",), (ROOM,)),
    "announce": Verb("tell everybody something: TEXT, or standard input", (TEXT,)),
    "drain": Verb("let nobody new in, before the broker is stopped, and say so",
                  (SWITCH, TEXT)),
    "reload": Verb("have the broker read its files again, dropping nobody, and say what was read "
                   "or what is wrong"),
}  # fmt: skip


class Order(NamedTuple):
    """What was asked for."""

    verb: str
    room: str = ""
    nick: str = ""
    value: int = 0
    text: str | None = ""  # None: standard input has it.


class WordsWrongError(Exception):
    """The words make no order; the message says why."""


def listing() -> str:
    """Return the verbs as the help shows them."""
    return "".join(f"{_line(name)}\n      {verb.text}\n" for name, verb in VERBS.items())


def _line(name: str) -> str:
    return f"  {name} {VERBS[name].usage}".rstrip()


def add_to(parser: argparse.ArgumentParser) -> None:
    """Let a parser take the words, to be read by `read`."""
    parser.add_argument("words", nargs="*", metavar="VERB ...", help="what to do, see below")
    parser.add_argument(
        "-r",
        "--room",
        dest="in_room",
        type=_room,
        metavar="ROOM",
        help="as people see it, or by its id",
    )
    parser.add_argument(
        "--for", dest="for_s", type=_time, metavar="TIME", help="30s, 10m, 2h, 1d, 1w"
    )
    parser.add_argument("-n", dest="rows", type=_number, metavar="N", help="so many rows")
    parser.add_argument(
        "--data", metavar="DIR", help="the broker's folder (HUBBUB_DATA; the user's data folder)"
    )


def _room(text: str) -> str:
    bare = text.removeprefix("#")
    return bare if is_closed(bare) else flags.room(bare)


def _time(text: str) -> int:
    match = re.fullmatch(r"([0-9]{1,9})([smhdw])", text)
    if match is None or not int(match[1]):
        message = f"{text!r} is not a time like 30s, 10m, 2h, 1d or 1w"
        raise argparse.ArgumentTypeError(message)
    return int(match[1]) * UNITS_S[match[2]]


def _number(text: str) -> int:
    try:
        return _count(text, lowest=1)
    except WordsWrongError as error:
        raise argparse.ArgumentTypeError(str(error)) from error


def _count(text: str, *, lowest: int = 0) -> int:
    is_number = text.isascii() and text.isdigit() and len(text) <= len(str(NUMBER_MAX))
    if not is_number or not lowest <= int(text) <= NUMBER_MAX:
        message = f"{text!r} is not a number from {lowest} to {NUMBER_MAX}"
        raise WordsWrongError(message)
    return int(text)


def read(given: argparse.Namespace) -> Order:
    """Return what a command line asks for; raise `WordsWrongError`."""
    name, *words = given.words or [""]
    verb = VERBS.get(name)
    if verb is None:
        message = f"there is no verb {name!r}" if name else "say what to do"
        raise WordsWrongError(f"{message}: {', '.join(VERBS)}")
    usage = f"{name} {verb.usage}".strip()
    wanted = [option.split()[0] for option in verb.options]
    for option, value in (("-r", given.in_room), ("--for", given.for_s), ("-n", given.rows)):
        if value is not None and option not in wanted and f"[{option}" not in wanted:
            message = f"there is no {option} here: {usage}"
            raise WordsWrongError(message)
        if value is None and option in wanted:
            message = f"give {option}: {usage}"
            raise WordsWrongError(message)
    value = given.for_s or given.rows or 0
    return _filled(Order(name, room=given.in_room or "", value=value), verb, words, usage)


def _filled(order: Order, verb: Verb, words: Sequence[str], usage: str) -> Order:
    """Give each word its place."""
    left = list(words)
    for place in verb.words:
        if place in (REASON, TEXT):
            text = " ".join(left)
            is_told = bool(text.strip())
            is_awaited = place == TEXT and SWITCH not in verb.words
            if words and left and not is_told:
                message = f"the text is empty: {usage}"
                raise WordsWrongError(message)
            order = order._replace(text=text if is_told or not is_awaited else None)
            left = []
        elif place == SWITCH:
            switch = left.pop(0) if left else "on"
            if switch not in ("on", "off"):  # Not a text: it would be done, and told to all.
                message = f"write on or off before the text, not {switch!r}: {usage}"
                raise WordsWrongError(message)
            order = order._replace(value=int(switch == "on"))
        elif not left:
            message = f"{place} is missing: {usage}"
            raise WordsWrongError(message)
        elif place == NICK:
            order = order._replace(nick=_nick(left.pop(0)))
        elif place in NUMBERS:
            order = order._replace(value=_count(left.pop(0)))
        else:
            order = order._replace(text=f"{order.text} {left.pop(0)}".strip())
    if left:
        message = f"too many words, from {left[0]!r} on: {usage}"
        raise WordsWrongError(message)
    return order


def _nick(word: str) -> str:
    """Return a nick, or a key in hexadecimal digits; the broker knows which."""
    if not word or len(word) > NAME_CHARS_MAX:
        message = f"a nick or key has 1 to {NAME_CHARS_MAX} characters"
        raise WordsWrongError(message)
    return word
