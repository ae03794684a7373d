"""What a line typed into the chat means: a table of commands, and the parser. Pure.

The table drives parsing, the help text and completion, so that the three cannot differ.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import NamedTuple

from msgspec import Struct

from client import orders
from common.errors import Refused
from common.limits import HISTORY_DEFAULT, HISTORY_ENTRIES_MAX
from common.names import check_address, check_nick
from common.order import Action

LEAVING_WORDS = frozenset({"exit", "{quit}"})  # As in the programs that Hubbub grew out of.


# --- what a line can mean ---------------------------------------------------
class Say(Struct, frozen=True):
    """A text for the current room; `kind` is "text" or "action"."""

    text: str
    kind: str = "text"


class JoinRoom(Struct, frozen=True):
    """Enter a room and make it the current one."""

    room: str


class PartRoom(Struct, frozen=True):
    """Leave a room; None is the current one."""

    room: str | None


class SwitchRoom(Struct, frozen=True):
    """Make a joined room the current one; None is the next one with something unread."""

    room: str | None


class ChangeNick(Struct, frozen=True):
    """Take another nick."""

    nick: str


class ShowUsers(Struct, frozen=True):
    """List the users of a room; None is the current one."""

    room: str | None


class ShowRooms(Struct, frozen=True):
    """List all rooms."""


class ShowHistory(Struct, frozen=True):
    """Show so many entries from before those that were shown."""

    count: int


class ChangeTopic(Struct, frozen=True):
    """Set the current room's topic; None shows it."""

    text: str | None


class ShowHelp(Struct, frozen=True):
    """List the commands."""


class Quit(Struct, frozen=True):
    """Leave the chat."""


class Wrong(Struct, frozen=True):
    """A line that means nothing; `message` says what would."""

    message: str


Meaning = (
    Say
    | JoinRoom
    | PartRoom
    | SwitchRoom
    | ChangeNick
    | ShowUsers
    | ShowRooms
    | ShowHistory
    | ChangeTopic
    | ShowHelp
    | Quit
    | Wrong
    | orders.Order
)


# --- the table --------------------------------------------------------------
class Command(NamedTuple):
    """One slash command: how it is written, what it does, and what its argument becomes."""

    name: str
    argument: str  # As help shows it: "" takes none, "[X]" may be left out, "X" is needed.
    help: str
    parse: Callable[[str], Meaning | None]  # None: it is not written so.
    completes: str = ""  # What completion offers: "room" (any), "joined" (rooms).

    @property
    def usage(self) -> str:
        """Return how the command is written."""
        return f"{self.name} {self.argument}".strip()


def _room(text: str) -> str:
    return check_address(text.removeprefix("#"))


def _optional_room(text: str) -> str | None:
    return _room(text) if text else None


def _history(text: str) -> Meaning:
    if not text:
        return ShowHistory(HISTORY_DEFAULT)
    is_short = len(text) <= len(str(HISTORY_ENTRIES_MAX))
    if is_short and text.isascii() and text.isdigit() and 1 <= int(text) <= HISTORY_ENTRIES_MAX:
        return ShowHistory(int(text))
    return Wrong(f"/history takes a number from 1 to {HISTORY_ENTRIES_MAX}")


COMMANDS = (
    Command(
        "/join", "ROOM", "enter a room, or make one", lambda text: JoinRoom(_room(text)), "room"
    ),
    Command(
        "/part",
        "[ROOM]",
        "leave this room or another one",
        lambda text: PartRoom(_optional_room(text)),
        "joined",
    ),
    Command(
        "/switch",
        "[ROOM]",
        "go to a joined room; alone: to the next unread one",
        lambda text: SwitchRoom(_optional_room(text)),
        "joined",
    ),
    Command("/nick", "NAME", "take another name", lambda text: ChangeNick(check_nick(text))),
    Command("/me", "TEXT", "say what you do: * anna waves", lambda text: Say(text, "action")),
    Command(
        "/who",
        "[ROOM]",
        "list who is in the room",
        lambda text: ShowUsers(_optional_room(text)),
        "joined",
    ),
    Command("/rooms", "", "list all rooms", lambda _: ShowRooms()),
    Command(
        "/history", "[COUNT]", f"show earlier messages ({HISTORY_DEFAULT} unless told)", _history
    ),
    Command("/topic", "[TEXT]", "show or change the topic", lambda text: ChangeTopic(text or None)),
    Command("/msg", "NICK TEXT", "say something to one person only", orders.tell),
    Command("/query", "NICK", "go to the talk with one person", orders.talk),
    Command(
        "/room",
        "[WHAT]",
        "show this room's rules; set: private, public [NAME], slow SECONDS, topic WHO, owner NICK",
        orders.room,
    ),
    Command(
        "/invite",
        "NICK",
        "let somebody into this private room",
        partial(orders.about_nick, Action.INVITE),
    ),
    Command(
        "/uninvite",
        "NICK",
        "take the invitation back; your own name: leave for good",
        partial(orders.about_nick, Action.UNINVITE),
    ),
    Command(
        "/kick",
        "NICK [REASON]",
        "send somebody out of the room",
        partial(orders.with_reason, Action.KICK),
    ),
    Command(
        "/ban",
        "NICK [TIME] [REASON]",
        "send somebody out and keep them out; TIME: 10m, 2h, 1d, else for ever",
        partial(orders.with_time, Action.BAN),
    ),
    Command("/unban", "NICK", "end a ban", partial(orders.about_nick, Action.UNBAN)),
    Command(
        "/mute",
        "NICK [TIME] [REASON]",
        "let somebody only read here",
        partial(orders.with_time, Action.MUTE),
    ),
    Command("/unmute", "NICK", "end a mute", partial(orders.about_nick, Action.UNMUTE)),
    Command("/op", "NICK", "let somebody keep order here", partial(orders.about_nick, Action.OP)),
    Command("/deop", "NICK", "take that back", partial(orders.about_nick, Action.DEOP)),
    Command("/slow", "SECONDS", "let each person say one text in that time; 0: any", orders.slow),
    Command(
        "/report", "NICK REASON", "tell the moderators and the operators about it", orders.report
    ),
    Command(
        "/ignore", "[NICK]", "show nothing of somebody; alone: list whom you ignore", orders.ignore
    ),
    Command("/unignore", "NICK", "show somebody again", orders.unignore),
    Command("/help", "", "show this list", lambda _: ShowHelp()),
    Command("/quit", "", "leave; so do {quit}, exit, Ctrl+C and Ctrl+D", lambda _: Quit()),
)
BY_NAME = {command.name: command for command in COMMANDS}


def parse(line: str) -> Meaning | None:
    """Return what a typed line means; None for a blank one."""
    line = line.rstrip("\r\n")
    word = line.strip()
    if not word:
        return None
    if word in LEAVING_WORDS:
        return Quit()
    if line.startswith("//"):
        return Say(line[1:])
    if not line.startswith("/"):
        return Say(line)
    name, _, argument = word.partition(" ")
    command = BY_NAME.get(name.lower())
    if command is None:
        return Wrong(f"there is no {name}; /help lists the commands, // begins a text with a slash")
    return _parse_argument(command, argument.strip())


def _parse_argument(command: Command, argument: str) -> Meaning:
    is_needed = bool(command.argument) and not command.argument.startswith("[")
    if (argument and not command.argument) or (is_needed and not argument):
        return Wrong(f"write {command.usage}")
    try:
        return command.parse(argument) or Wrong(f"write {command.usage}")
    except Refused as error:
        return Wrong(f"{argument}: {error.detail}")


def help_lines() -> list[str]:
    """Return the commands, a line each."""
    width = max(len(command.usage) for command in COMMANDS)
    lines = [f"{command.usage:<{width}}  {command.help}" for command in COMMANDS]
    return [*lines, f"{'//TEXT':<{width}}  say a text that begins with a slash"]
