"""The rules for nicks and rooms, in one place. PROTOCOL.md, "Names". Pure.

Two names are the same when they are equal without regard to case and to compatibility forms
(NFKC and case folding, Unicode Standard Annex 31, R5): "Anna", "ANNA" and fullwidth "Anna".
"""

from __future__ import annotations

import unicodedata

from common.errors import Code, Refused
from common.limits import CLOSED_LETTERS, NAME_MARKS_MAX, NICK_CHARS_MAX, ROOM_CHARS_MAX

PUNCTUATION = "-_."
FOLDS_MAX = 4  # Folding settles after three rounds; the bound is there so that it must.

# Letters and marks by category that show nothing, so that two names could look the same.
INVISIBLE = frozenset(
    chr(point)
    for first, last in (
        (0x034F, 0x034F),
        (0x115F, 0x1160),
        (0x17B4, 0x17B5),
        (0x180B, 0x180F),
        (0x2800, 0x2800),
        (0x3164, 0x3164),
        (0xFE00, 0xFE0F),
        (0xFFA0, 0xFFA0),
        (0x1107F, 0x1107F),
        (0x13441, 0x13442),
        (0x16FE4, 0x16FE4),
        (0xE0100, 0xE01EF),
    )
    for point in range(first, last + 1)
)


CLOSED_SIGNS = ("+", "@")  # Begin the wire names of private rooms, and of talks between two.

HEX_LETTERS = "0123456789abcdef"


def is_closed(room: str) -> bool:
    """Tell whether a room, by its name on the wire, is one that not everybody may enter."""
    return room.startswith(CLOSED_SIGNS)


def is_talk(room: str) -> bool:
    """Tell whether a room, by its name on the wire, is a talk between two."""
    return room.startswith("@")


def is_wire_name(room: str) -> bool:
    """Tell whether this is the name of a closed room as it stands on the wire, not its title."""
    letters = room[1:]
    return is_closed(room) and len(letters) == CLOSED_LETTERS and not letters.strip(HEX_LETTERS)


def fold(name: str) -> str:
    """Return the form under which names are compared."""
    name = unicodedata.normalize("NFD", name)  # Folding separates accents by their order.
    for _ in range(FOLDS_MAX):
        folded = unicodedata.normalize("NFKC", name.casefold())
        if folded == name:
            break
        name = folded
    return name


def check_nick(nick: str) -> str:
    """Return the nick as it will be shown (NFC); raise `Refused(nick_invalid)`."""
    nick = unicodedata.normalize("NFC", nick)
    _check(nick, NICK_CHARS_MAX, Code.NICK_INVALID)
    _check(fold(nick), NICK_CHARS_MAX, Code.NICK_INVALID)
    return nick


def check_room(room: str) -> str:
    """Return the room's only spelling, its folded form; raise `Refused(room_invalid)`."""
    room = fold(room)
    _check(room, ROOM_CHARS_MAX, Code.ROOM_INVALID)
    return room


def check_address(room: str) -> str:
    """Return what a person calls a room by: a room's name, `+title`, `@nick`, or a wire name.

    Raises `Refused(room_invalid)` or, of `@nick`, `Refused(nick_invalid)`.
    """
    if is_wire_name(room):
        return room
    if is_talk(room):
        return f"@{check_nick(room[1:])}"
    if is_closed(room):
        return f"+{check_room(room[1:])}"
    return check_room(room)


def _check(name: str, chars_max: int, code: Code) -> None:
    if not name:
        raise Refused(code, "a name needs at least one character")
    if len(name) > chars_max:
        raise Refused(code, f"a name has at most {chars_max} characters")
    marks_count = 0
    for character in name:
        group = unicodedata.category(character)[0]
        if character in INVISIBLE or (group not in "LMN" and character not in PUNCTUATION):
            raise Refused(code, "a name has letters, digits and - _ . only")
        marks_count = marks_count + 1 if group == "M" else 0
        if marks_count > NAME_MARKS_MAX:
            raise Refused(code, f"a name has at most {NAME_MARKS_MAX} accents in a row")
    if unicodedata.category(name[0])[0] not in "LN":
        raise Refused(code, "a name begins with a letter or a digit")
