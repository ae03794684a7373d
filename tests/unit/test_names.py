"""Names: which are taken for the same, and which are refused."""
# ruff: noqa: RUF001 - letters that resemble others are the matter here

from __future__ import annotations

import sys
import unicodedata

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from common.errors import Code, Refused
from common.limits import NAME_MARKS_MAX, NICK_CHARS_MAX, ROOM_CHARS_MAX
from common.names import INVISIBLE, PUNCTUATION, check_nick, check_room, fold

ACUTE, YPOGEGRAMMENI = "\N{COMBINING ACUTE ACCENT}", "\N{COMBINING GREEK YPOGEGRAMMENI}"
any_text = st.text(max_size=80)
# Texts that are hard to fold: letters with several forms, and marks in any order.
hard_text = st.text(
    st.sampled_from("aIiKsßſﬁΣσςİıAＡαάᾴᾳᾼΐᾊé①½カｶﾞガ" + ACUTE + YPOGEGRAMMENI + "\u0327\u0307"),
    max_size=8,
)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("Anna", "ANNA"),
        ("Anna", "\uff21\uff4e\uff4e\uff41"),  # Fullwidth.
        ("ﬁsh", "fish"),  # A ligature.
        ("\N{KELVIN SIGN}elvin", "kelvin"),
        ("straße", "STRASSE"),
        ("stra\N{LATIN CAPITAL LETTER SHARP S}e", "strasse"),
        ("İzmir", "i\u0307zmir"),
        ("ΣΊΣΥΦΟΣ", "σίσυφος"),  # Final and other sigma.
        ("Café", "Cafe" + ACUTE),
        ("ſam", "sam"),
        ("①", "1"),
        ("\u2126mega", "ωmega"),  # The ohm sign.
        ("α" + YPOGEGRAMMENI + ACUTE, "α" + ACUTE + YPOGEGRAMMENI),  # Marks in another order.
    ],
)
def test_forms_of_the_same_letters_are_the_same_name(one: str, other: str) -> None:
    """Case, compatibility forms and the order of accents make no difference."""
    assert fold(one) == fold(other)
    assert check_room(one) == check_room(other)


@pytest.mark.parametrize(("one", "other"), [("ı", "i"), ("a", "à"), ("ß", "s"), ("o", "0")])
def test_other_letters_are_another_name(one: str, other: str) -> None:
    """Letters that only resemble each other stay apart."""
    assert fold(one) != fold(other)


@given(any_text | hard_text)
@example("α" + YPOGEGRAMMENI + ACUTE)
@settings(max_examples=300)
def test_folding_is_idempotent_and_blind_to_normal_forms(name: str) -> None:
    """A folded name folds to itself, and canonically equal names fold alike."""
    folded = fold(name)
    assert folded == fold(folded)
    assert folded == fold(unicodedata.normalize("NFC", name))
    assert folded == fold(unicodedata.normalize("NFD", name))


def test_every_character_folds_in_the_rounds_that_there_are() -> None:
    """No character of Unicode needs more rounds of folding than are taken."""
    unsettled = [
        hex(point)
        for point in range(sys.maxunicode + 1)
        if (folded := fold(chr(point))) != chr(point) and fold(folded) != folded
    ]
    assert [] == unsettled


@pytest.mark.parametrize(
    "name",
    [
        "",
        " ",
        "two words",
        "a\tb",
        "a\nb",
        "nul\0",
        "\x1b[31mred",
        "del\x7f",
        "c1\x9b",
        "\u202eevil",  # Bidirectional override.
        "a\u2066b",  # Bidirectional isolate.
        "a\u200fb",  # Right-to-left mark.
        "a\u200bb",  # Zero-width space.
        "a\u200db",  # Zero-width joiner.
        "a\ufeffb",  # Byte-order mark.
        "a\u00adb",  # Soft hyphen.
        "a\u3164b",  # Hangul filler: a letter that shows nothing.
        "a\u034fb",  # Combining grapheme joiner.
        "a\ufe0fb",  # Variation selector.
        "a\U000e0100b",  # Variation selector of the supplement.
        "a\ue000b",  # Private use.
        "a\ud800b",  # Half a surrogate pair.
        "a\U000e0041b",  # Tag character.
        "a\u0378b",  # Not assigned.
        "#lobby",
        "a/b",
        "a:b",
        "you@me",
        "\N{GRINNING FACE}",
        "-dash",
        ".dot",
        "_line",
        "\u0301a",  # A mark without a letter before it.
        "½",  # Folds to 1, a fraction slash and 2.
        "a\u037a",  # Folds to a space and a letter.
        "z\u0335\u0336\u0337algo",  # One mark more than may follow each other.
    ],
)
def test_what_cannot_be_a_name_is_refused_with_its_code(name: str) -> None:
    """Spaces, symbols, and everything invisible or harmful to a terminal is refused."""
    with pytest.raises(Refused) as nick:
        check_nick(name)
    assert Code.NICK_INVALID == nick.value.code
    with pytest.raises(Refused) as room:
        check_room(name)
    assert Code.ROOM_INVALID == room.value.code


# Default_Ignorable_Code_Point of Unicode 15.1, DerivedCoreProperties.txt.
DEFAULT_IGNORABLE = (
    (0xAD, 0xAD),
    (0x34F, 0x34F),
    (0x61C, 0x61C),
    (0x115F, 0x1160),
    (0x17B4, 0x17B5),
    (0x180B, 0x180F),
    (0x200B, 0x200F),
    (0x202A, 0x202E),
    (0x2060, 0x206F),
    (0x3164, 0x3164),
    (0xFE00, 0xFE0F),
    (0xFEFF, 0xFEFF),
    (0xFFA0, 0xFFA0),
    (0xFFF0, 0xFFF8),
    (0x1BCA0, 0x1BCA3),
    (0x1D173, 0x1D17A),
    (0xE0000, 0xE0FFF),
)
# Letters and marks that are not in that list and show nothing all the same.
BLANK = {0x2800, 0x1107F, 0x13441, 0x13442, 0x16FE4}
DIRECTIONS = {"LRE", "LRO", "RLE", "RLO", "PDF", "LRI", "RLI", "FSI", "PDI", "BN", "WS", "S", "B"}


def is_taken(name: str) -> bool:
    """Tell whether somebody may be called so."""
    try:
        check_nick(name)
    except Refused:
        return False
    return True


def test_no_character_that_shows_nothing_or_turns_the_text_is_taken() -> None:
    """Over all of Unicode: what is ignorable, blank, a control, a space or without a meaning."""
    hidden = {
        *(point for first, last in DEFAULT_IGNORABLE for point in range(first, last + 1)),
        *BLANK,
        *(
            point
            for point in range(sys.maxunicode + 1)
            if unicodedata.category(chr(point))[0] in "CZ"
            or unicodedata.bidirectional(chr(point)) in DIRECTIONS
        ),
    }
    assert len(hidden) > 900_000  # Most of Unicode is not assigned.
    assert [] == [hex(point) for point in sorted(hidden) if is_taken(f"a{chr(point)}b")]


@pytest.mark.parametrize(
    "name", ["a", "7", "Anna-Maria_2.0", "Łódź", "नमस्ते", "日本", "שלום", "a" * 32]
)
def test_ordinary_names_of_many_scripts_are_taken(name: str) -> None:
    """Letters and digits of any script, with inner punctuation, make a name."""
    assert name == check_nick(name)
    assert fold(name) == check_room(name)


def test_a_nick_keeps_its_spelling_and_a_room_has_one() -> None:
    """A nick is shown composed but as written; a room's name is the folded one."""
    assert "Andrée" == check_nick("Andre" + ACUTE + "e")
    assert "dev-ops" == check_room("Dev-OPS")


@pytest.mark.parametrize(
    "check_and_max", [(check_nick, NICK_CHARS_MAX), (check_room, ROOM_CHARS_MAX)]
)
def test_length_counts_before_and_after_folding(check_and_max: tuple[object, int]) -> None:
    """A name that only becomes too long by folding is too long, too."""
    check, chars_max = check_and_max
    assert callable(check)
    check("a" * chars_max)
    for name in ("a" * (chars_max + 1), "\N{LATIN SMALL LIGATURE FFI}" * (chars_max // 3 + 1)):
        with pytest.raises(Refused, match=f"at most {chars_max} characters"):
            check(name)


def test_as_many_accents_as_allowed_are_taken() -> None:
    """The limit on accents in a row is the one in the table of limits."""
    marks = "\u0335\u0336\u0337"[:NAME_MARKS_MAX]
    assert "z" + marks == check_nick("z" + marks)
    assert ("z" + marks) * 3 == check_nick(("z" + marks) * 3)


@given(any_text | hard_text)
@settings(max_examples=300)
def test_a_check_returns_a_clean_name_or_refuses(name: str) -> None:
    """Whatever the text, nothing but Refused is raised, and what is let through is harmless."""
    for check, chars_max in ((check_nick, NICK_CHARS_MAX), (check_room, ROOM_CHARS_MAX)):
        try:
            checked = check(name)
        except Refused:
            continue
        assert checked == check(checked)
        assert 1 <= len(checked) <= chars_max
        assert not INVISIBLE.intersection(checked)
        groups = {unicodedata.category(c)[0] for c in checked if c not in PUNCTUATION}
        assert groups <= set("LMN")
