"""Which nicks a person could take for one another. Pure, but for reading a package's table once.

Two nicks are the same for RFC 8266 (PRECIS, profile NicknameCaseMapped): `comparison`. Two nicks
look alike when their skeletons are equal (Unicode Technical Standard 39, section 4): `skeleton`.
Neither is enough: `ian` is no look-alike of `lan`, but `Ian` is, and case makes no other nick. So
each nick has *looks*, and two nicks are alike when they have a look in common. ADR 0027.

A name of plain ASCII has one look, found without the packages; they are loaded by the first name
that has any other letter.
"""

from __future__ import annotations

import pkgutil
import re
import unicodedata
from collections.abc import Iterator
from functools import cache, lru_cache
from typing import TYPE_CHECKING, Generic, TypeVar

import msgspec

from common.errors import Code, Refused
from common.names import fold

if TYPE_CHECKING:
    from precis_i18n.profile import Profile

LOOKS_KEPT_MAX = 4_096  # Nicks whose looks are remembered: as many as clients by default.
ROUNDS = 6  # Looks settle after so many rounds at most; a test over all of Unicode needs three.

PLAIN = re.compile(r"[A-Za-z0-9._-]*")
# What skeletons leave apart: a capital I is an l, and case makes no other nick, so i is one, too;
# vv is w in most founts; and a small capital is a capital. Small capital x is not in Unicode.
ALSO_ALIKE = str.maketrans(
    {
        **{
            unicodedata.lookup(f"LATIN LETTER SMALL CAPITAL {letter}"): letter.lower()
            for letter in "ABCDEFGHIJKLMNOPQRSTUVWYZ"
        },
        "i": "l",
        "w": "vv",
    }
)
PLAIN_LOOKS = str.maketrans({"i": "l", "1": "l", "0": "o", "m": "rn", "w": "vv"})
DOTTED_TWICE = re.compile("([ij])\N{COMBINING DOT ABOVE}")  # Shown with one dot as any other.
DIRECTION = "\N{LEFT-TO-RIGHT MARK}"  # Around letters in the table that are written leftwards.

T = TypeVar("T")


class _Homoglyph(msgspec.Struct):
    c: str


def comparison(nick: str) -> str:
    """Return the nick as RFC 8266 compares it; raise `Refused(nick_invalid)` if it allows none."""
    if PLAIN.fullmatch(nick):
        return nick.lower()
    try:
        return _profile().enforce(nick)
    except ValueError:  # UnicodeEncodeError is one: it names the character, which may be hostile.
        detail = "a name has no character that RFC 8266 disallows"
        raise Refused(Code.NICK_INVALID, detail) from None


def skeleton(nick: str) -> str:
    """Return what UTS 39 makes of a name; equal for names that look the same as written.

    Only equality counts. Where the table does not tell which of two characters is the prototype,
    the lower code point stands for both, so the letters themselves may differ from UTS 39's.
    """
    prototypes = unicodedata.normalize("NFD", nick).translate(_prototypes())
    return unicodedata.normalize("NFD", prototypes)


def key_of(nick: str) -> str:
    """Return the nick's first look: the same for all forms of a nick and their look-alikes.

    Raises `Refused(nick_invalid)`.
    """
    return looks(nick)[0]


@lru_cache(LOOKS_KEPT_MAX)
def looks(nick: str) -> tuple[str, ...]:
    """Return one look or two: of the folded nick and, where it is another, of it as written.

    Greek shows why there are two: capital nu is an N to the eye, small nu a v, and both are one
    letter. Were they one look, N and v would be. Raises `Refused(nick_invalid)`.
    """
    if PLAIN.fullmatch(nick):
        return (nick.lower().translate(PLAIN_LOOKS),)
    folded, written = _settled(fold(comparison(nick))), _settled(nick)
    return (folded,) if folded == written else (folded, written)


def _settled(name: str) -> str:
    for _ in range(ROUNDS):
        alike = unicodedata.normalize("NFD", fold(skeleton(name)))
        alike = DOTTED_TWICE.sub(r"\1", alike).translate(ALSO_ALIKE)
        if alike == name:
            break
        name = alike
    return name


class Lookalikes(Generic[T]):
    """Holders of nicks, to be found by every nick that is alike. A holder may have several."""

    def __init__(self) -> None:
        self._by_look: dict[str, list[T]] = {}

    def add(self, nick: str, holder: T) -> None:
        """Note that the holder has the nick."""
        for look in looks(nick):
            self._by_look.setdefault(look, []).append(holder)

    def discard(self, nick: str, holder: T) -> None:
        """Forget that the holder has the nick, which was added."""
        for look in looks(nick):
            holders = self._by_look[look]
            holders.remove(holder)
            if not holders:
                del self._by_look[look]

    def alike(self, nick: str) -> Iterator[T]:
        """Go through those whose nick is alike; one may come twice. Raises `Refused`."""
        for look in looks(nick):
            yield from self._by_look.get(look, ())


@cache
def _profile() -> Profile:
    from precis_i18n import get_profile  # noqa: PLC0415 - not for names of plain ASCII

    return get_profile("NicknameCaseMapped")


@cache
def _prototypes() -> dict[int, str]:
    """Return the prototype of each character that has another one, for `str.translate`.

    The package lists for each character and each sequence what it is confusable with, both ways:
    a prototype knows all its sources, and a source its prototype alone. So the prototype is the
    sequence, or whoever knows several; of two that know only each other either will do.
    """
    table = pkgutil.get_data("confusable_homoglyphs", "confusables.json")
    assert table is not None  # Our own installation; a lock file says which.
    listed = {
        name.strip(DIRECTION): [each.c.strip(DIRECTION) for each in homoglyphs]
        for name, homoglyphs in msgspec.json.decode(table, type=dict[str, list[_Homoglyph]]).items()
    }
    found: dict[int, str] = {}
    for name, others in listed.items():
        if len(name) > 1 or len(others) > 1:
            continue
        other = others[0]
        if len(other) > 1 or len(listed[other]) > 1 or _comes_first(other, name):
            found[ord(name)] = other
    return {point: _reduced(other, found) for point, other in found.items()}


def _reduced(prototype: str, found: dict[int, str]) -> str:
    """Return the prototype of a prototype: a sequence may hold what is confusable itself."""
    for _ in range(ROUNDS):
        further = unicodedata.normalize("NFD", prototype.translate(found))
        if further == prototype:
            break
        prototype = further
    return prototype


def _comes_first(one: str, other: str) -> bool:
    """Tell which of two characters stands for both: one that NFD leaves as it is, if any."""
    is_stable = [unicodedata.is_normalized("NFD", each) for each in (one, other)]
    return is_stable[0] > is_stable[1] or (is_stable[0] == is_stable[1] and one < other)
