"""How entries and events look: one safe line each, or a JSON object. Pure: no I/O, no clock.

What others write must not touch the reader's terminal: nothing here returns a control character
except the newline between the lines of one text, and the colours that this module adds itself.
"""

from __future__ import annotations

import json
import unicodedata
import zlib
from collections.abc import Sequence
from datetime import UTC, datetime, tzinfo
from typing import Any, NamedTuple

from client.events import KIND_REMOVED, Entry, Presence, Removed
from common.names import fold, is_closed
from common.order import MyRoom
from common.wire import RoomInfo

TAB_COLUMNS = 4
NAMES_SHOWN_MAX = 8  # Of a crowd that comes or goes at once; the line gives the number of the rest.
CONTINUATION = " " * 6  # Under the name, so that no text can pass for a line of its own.

JOINERS = "\u200c\u200d"  # They shape emoji and Indic and Persian words, between two letters.
# Other letters, other numbers (control, format, surrogate), line and paragraph separators.
UNSAFE_CATEGORIES = frozenset({"Cc", "Cf", "Cs", "Zl", "Zp"})

REMOVED_MARK = "(removed by an operator)"  # In place of a text.

RESET = "\x1b[0m"
DIM = "\x1b[2m"
WARNING = "\x1b[33m"
# Readable on dark and on light grounds; red is left to warnings.
NICK_COLORS = tuple(f"\x1b[{bold}{color}m" for bold in ("", "1;") for color in (32, 34, 35, 36))


class Look(NamedTuple):
    """How lines are shown on this output."""

    color: bool = False
    is_json: bool = False  # Entries as objects; other lines stay lines.
    zone: tzinfo | None = None  # None: the zone of this machine.


# --- making text safe -------------------------------------------------------
def safe(text: str) -> str:
    r"""Return the text with everything invisible or dangerous as a visible escape, like \x1b.

    Escaped are all control characters, bidirectional controls and other format characters,
    line and paragraph separators and lone surrogates; joiners only where they join nothing.
    """
    if text.isprintable():  # Nearly all text, and one call in C.
        return text
    return "".join(
        character if _is_harmless(text, position) else _escape(character)
        for position, character in enumerate(text)
    )


def safe_lines(text: str) -> list[str]:
    """Split a text into safe lines; tabs become spaces."""
    lines = text.replace("\r\n", "\n").split("\n")
    return [safe(line.expandtabs(TAB_COLUMNS)) for line in lines]


def _is_harmless(text: str, position: int) -> bool:
    character = text[position]
    if character in JOINERS:
        return _is_visible(text, position - 1) and _is_visible(text, position + 1)
    return unicodedata.category(character) not in UNSAFE_CATEGORIES


def _is_visible(text: str, position: int) -> bool:
    return 0 <= position < len(text) and unicodedata.category(text[position])[0] not in "CZ"


def _escape(character: str) -> str:
    return character.encode("unicode_escape").decode("ascii")


# --- lines ------------------------------------------------------------------
def entry_line(entry: Entry, look: Look, room: str = "") -> str:
    """Return an entry as a line (several when its text has several).

    room: a prefix; the room's name, or its title where it has one.
    """
    if look.is_json:
        return json_line(as_json(entry))
    nick = nick_text(entry.nick, look)
    body = f"\n{CONTINUATION}".join(safe_lines(entry.text))
    if entry.kind == "text":
        rest = f"{nick}: {body}"
    elif entry.kind == "action":
        rest = f"* {nick} {body}"
    elif entry.kind == "order":
        rest = f"--- {nick} {body}"
    elif entry.kind == KIND_REMOVED:
        rest = f"{nick}: {REMOVED_MARK}"
    elif entry.kind == "topic" and entry.text:
        rest = f"--- {nick} changed the topic to: {body}"
    elif entry.kind == "topic":
        rest = f"--- {nick} cleared the topic"
    elif not entry.nick:  # Not said by anybody.
        rest = f"--- {body}"
    else:  # A kind from a newer broker: still something that was said.
        rest = f"--- {nick} ({safe(entry.kind)}): {body}"
    return f"{clock_text(entry.ts, look)} {_room_text(room)}{rest}"


def presence_lines(event: Presence, ts: int, look: Look, room: str = "") -> list[str]:
    """Return who came, went and changed names; nothing when only a count changed."""
    lines = []
    users = users_text(event.users)
    if event.joined:
        lines.append(f"--> {names_text(event.joined)} joined ({users} now)")
    if event.left:
        lines.append(f"<-- {names_text(event.left)} left ({users} now)")
    lines += [f"--- {safe(old)} is now {safe(new)}" for old, new in event.renamed]
    clock = clock_text(ts, look)
    return [dim(f"{clock} {_room_text(room)}{line}", look) for line in lines]


def names_text(names: Sequence[str], shown_max: int = NAMES_SHOWN_MAX) -> str:
    """Return "anna, bob, carl", or the first few "and 17 more"."""
    shown = ", ".join(safe(name) for name in names[:shown_max])
    rest_count = len(names) - shown_max
    return f"{shown} and {rest_count} more" if rest_count > 0 else shown


def users_text(count: int) -> str:
    """Return "1 user" or "3 users"."""
    return f"{count} user" if count == 1 else f"{count} users"


def room_text(info: RoomInfo) -> str:
    """Return a line of the list of rooms."""
    topic = f"  {safe(info.topic)}" if info.topic else ""
    return f"{label(info.room)}  {users_text(info.users)}{topic}"


def closed_room_text(room: MyRoom) -> str:
    """Return a line of the list of one's closed rooms."""
    unread_count = max(room.head - room.read, 0)
    unread = f", {unread_count} unread" if unread_count else ""
    invited = ", invited" if room.pending else ""
    return f"{label(room.title or room.room)}  private{invited}{unread}  {room.room}"


def label(room: str) -> str:
    """Return what a room is called in a line, by its name or its title: "#dev", "+plans"."""
    return safe(room) if is_closed(room) else f"#{safe(room)}"


def table_lines(columns: Sequence[str], rows: Sequence[Sequence[str]], look: Look) -> list[str]:
    """Return a table with a head, its columns aligned; cells that are missing are empty."""
    texts = [[safe(cell) for cell in row] for row in (columns, *rows)]
    count = max(map(len, texts), default=0)
    padded = [row + [""] * (count - len(row)) for row in texts]
    widths = [max(map(width_of, cells)) for cells in zip(*padded, strict=True)]
    lines = [
        "  ".join(
            cell + " " * (width - width_of(cell)) for cell, width in zip(row, widths, strict=True)
        ).rstrip()
        for row in padded
    ]
    return [dim(lines[0], look), *lines[1:]]


def width_of(text: str) -> int:
    """Return how many columns of a terminal a text takes (Unicode Standard Annex 11)."""
    if text.isascii():
        return len(text)
    return sum(
        0
        if unicodedata.category(character) in ("Mn", "Me") or character in JOINERS
        else 2
        if unicodedata.east_asian_width(character) in "WF"
        else 1
        for character in text
    )


def clock_text(ts: int, look: Look) -> str:
    """Return HH:MM in the look's zone, of milliseconds since 1970."""
    try:
        text = datetime.fromtimestamp(ts / 1000, look.zone).strftime("%H:%M")
    except (ValueError, OverflowError, OSError):  # A time that no calendar has.
        text = "--:--"
    return dim(text, look)


def nick_text(nick: str, look: Look) -> str:
    """Return a nick in its colour, the same one in every session."""
    if not look.color:
        return safe(nick)
    color = NICK_COLORS[zlib.crc32(fold(nick).encode("utf-8", "replace")) % len(NICK_COLORS)]
    return f"{color}{safe(nick)}{RESET}"


def dim(text: str, look: Look) -> str:
    """Return the text in the background, for what is not somebody's words."""
    # A colour inside would end the dimming: what is inside starts it again.
    return f"{DIM}{text.replace(RESET, RESET + DIM)}{RESET}" if look.color else text


def warning(text: str, look: Look) -> str:
    """Return the text so that it catches the eye."""
    return f"{WARNING}{text}{RESET}" if look.color else text


def _room_text(room: str) -> str:
    return f"{label(room)} " if room else ""


# --- JSON -------------------------------------------------------------------
def as_json(entry: Entry) -> dict[str, Any]:
    """Return an entry as the object that --json prints."""
    return {
        "room": entry.room,
        "seq": entry.seq,
        "ts": rfc3339(entry.ts),
        "kind": entry.kind,
        "nick": entry.nick,
        "text": entry.text,
    }


def removed_as_json(event: Removed) -> dict[str, Any]:
    """Return the removal of a text as the object that --json prints."""
    return {"kind": KIND_REMOVED, "room": event.room, "seq": event.seq}


def json_line(fields: dict[str, Any]) -> str:
    """Return an object on one line, in ASCII: no character of a text can act on a terminal."""
    return json.dumps(fields)


def rfc3339(ts: int) -> str:
    """Return UTC with milliseconds (RFC 3339), of milliseconds since 1970."""
    seconds, milliseconds = divmod(ts, 1000)
    try:
        text = datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%S")
    except (ValueError, OverflowError, OSError):
        return "9999-12-31T23:59:59.999Z" if ts > 0 else "0001-01-01T00:00:00.000Z"
    return f"{text:0>19}.{milliseconds:03d}Z"
