"""Look-alikes: which nicks a person could take for one another, and which not."""
# ruff: noqa: RUF001 - letters that resemble others are the matter here

from __future__ import annotations

import subprocess
import sys
import unicodedata

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from broker.chat import lookalikes
from broker.chat.lookalikes import (
    LOOKS_KEPT_MAX,
    PLAIN,
    ROUNDS,
    Lookalikes,
    comparison,
    key_of,
    looks,
    skeleton,
)
from common.errors import Code, Refused
from common.names import check_nick, fold

plain = st.text("ABIJLMNORVWabijlmnorvw01589-_.", max_size=12)
hard = st.text(
    st.sampled_from("aIiloOmMnNvVwW01rрΝνΗηΡρΙιІіſſßẞİıЅѕᴀɪꜱＡａ𝐚é" + "\u0307\u0301\u0327"),
    min_size=1,
    max_size=6,
)


def are_alike(one: str, other: str) -> bool:
    """Tell whether two nicks have a look in common."""
    return bool(set(looks(one)) & set(looks(other)))


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("paypal", "pаypаl"),  # UTS 39's first example: Cyrillic a.
        ("scope", "ѕсоре"),  # And its whole-script one: all Cyrillic.
        ("toys-r-us", "toys-г-us"),
        ("1iIl", "l1lI"),
        ("rnodern", "modern"),
        ("so̸s", "sо̸s"),
        ("ǉeto", "ljeto"),
        ("ǆep", "džep"),  # Here the list itself needs a second step.
        ("O0", "ОΟ"),
        ("Ａnna", "Anna"),
        ("𝐚nna", "anna"),
    ],
)
def test_skeletons_of_names_that_look_the_same_are_equal(one: str, other: str) -> None:
    """As UTS 39 has it, where case is not looked at: what is equal is what is drawn."""
    if "i" in one + other:  # A small i is its own prototype.
        one, other = one.replace("i", "I"), other.replace("i", "I")
    assert skeleton(one) == skeleton(other)


@pytest.mark.parametrize(
    ("one", "other"), [("paypal", "paypai"), ("Ian", "ian"), ("O", "o"), ("ß", "B"), ("日", "曰月")]
)
def test_skeletons_of_other_names_are_not(one: str, other: str) -> None:
    assert skeleton(one) != skeleton(other)


@given(st.text(max_size=12) | hard)
@settings(max_examples=300)
def test_a_skeleton_is_its_own_skeleton(name: str) -> None:
    """And it does not matter in which normal form the name came."""
    assert skeleton(name) == skeleton(skeleton(name))
    assert skeleton(name) == skeleton(unicodedata.normalize("NFC", name))


def test_the_table_has_the_form_that_is_relied_on() -> None:
    """Thousands of characters, none of them a prototype of another: one step is enough."""
    table = lookalikes._prototypes()
    assert 6_000 < len(table) < 20_000
    sources = {chr(point) for point in table if chr(point).isalnum() and point < 0x80}
    assert {"0", "1", "I", "m"} == sources
    prototypes = set("".join(table.values()))
    assert [] == [hex(point) for point in table if chr(point) in prototypes]


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("Anna", "ANNA"),
        ("Ian", "lan"),  # By the capital.
        ("ian", "lan"),  # Folded, the capital is gone.
        ("ALI", "al1"),
        ("Bob", "B0B"),
        ("modem", "modern"),
        ("savvy", "sawy"),
        ("anna", "аnnа"),  # Cyrillic.
        ("Nick", "Νick"),  # Greek capital nu looks like N,
        ("vick", "νick"),  # small nu like v,
        ("Νick", "νick"),  # and they are one letter.
        ("HAL", "ΗAL"),
        ("anna", "ａｎｎａ"),
        ("anna", "ᴀɴɴᴀ"),  # Small capitals.
        ("sam", "ſam"),  # A long s is an s,
        ("fam", "ſam"),  # and looks like f.
        ("anna", "𝐚𝓷𝖓𝒶"),
        ("izmir", "ızmir"),
        ("izmir", "i̇zmir"),
        ("zoe\u0301", "zoé"),
        ("strasse", "straße"),
        ("operator", "орerаtоr"),
        ("l0l", "ⅠOl"),
    ],
)
def test_who_could_be_taken_for_somebody_is_alike(one: str, other: str) -> None:
    """By case, width, form, script or shape, either way round."""
    assert are_alike(one, other)
    assert are_alike(other, one)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("nick", "vick"),  # Though Greek has a letter that is both.
        ("ann", "anna"),
        ("zoe", "zoë"),
        ("bob", "rob"),
        ("rn", "nr"),
        ("Анна", "Инна"),
        ("Νίκος", "Νίκη"),
        ("日本", "日木"),
        ("a.b", "a_b"),
        ("5", "S"),
    ],
)
def test_other_names_stay_apart(one: str, other: str) -> None:
    assert not are_alike(one, other)


@given(plain)
@settings(max_examples=300)
def test_the_short_way_of_plain_names_leads_where_the_long_one_does(name: str) -> None:
    """A name of ASCII has the look that the packages would have given it, and only that one."""
    assert PLAIN.fullmatch(name)
    assert looks(name) == (lookalikes._settled(fold(name)),) == (lookalikes._settled(name),)
    if name:
        assert comparison(name) == lookalikes._profile().enforce(name)


def test_every_plain_character_takes_the_short_way_rightly() -> None:
    """Each of them, alone and beside each other: rn, vv and the like."""
    characters = [chr(point) for point in range(0x80) if PLAIN.fullmatch(chr(point))]
    assert 26 + 26 + 10 + 3 == len(characters)
    for one in characters:
        for other in characters:
            assert looks(one + other) == (lookalikes._settled(one + other),)


@given(plain | hard)
@settings(max_examples=300)
def test_a_look_does_not_depend_on_case_or_form(name: str) -> None:
    """The first look is the same for whatever RFC 8266 or folding takes for the same nick."""
    try:
        check_nick(name)
        key = key_of(name)
    except Refused:
        return
    assert key == lookalikes._settled(key)
    assert key == key_of(comparison(name)) == key_of(unicodedata.normalize("NFD", name))
    if comparison(name.upper()) == comparison(name):  # Not so for a long s, or a dotless i.
        assert key == key_of(name.upper())


def test_every_character_of_a_name_settles_in_the_rounds_that_there_are() -> None:
    """And nicks with it are the same by RFC 8266 only where they have the same first look."""
    unsettled = []
    for point in range(sys.maxunicode + 1):
        if unicodedata.category(chr(point))[0] not in "LMN":
            continue
        for name in (chr(point), fold(chr(point))):
            settled = lookalikes._settled(name)
            if lookalikes._settled(settled) != settled:
                unsettled.append(hex(point))
    assert [] == unsettled
    assert ROUNDS > 3


@pytest.mark.parametrize("name", ["a\u0640b", "\u1100a", "a\u302e"])
def test_what_rfc_8266_disallows_is_refused(name: str) -> None:
    """A stretched Arabic line, old jamo, a tone mark: such a nick is nobody's."""
    check_nick(name)  # Our own rules would let it through.
    with pytest.raises(Refused, match="RFC 8266") as refused:
        looks(name)
    assert Code.NICK_INVALID == refused.value.code


def test_the_rules_of_rfc_8266() -> None:
    """Table 1 of its section 3, of which names have no spaces: case, forms, Greek sigma."""
    assert "foo" == comparison("Foo") == comparison("foo")
    assert "σ" == comparison("Σ") == comparison("σ")
    assert "ς" == comparison("ς")
    assert "♚" == comparison("♚")
    assert "iv" == comparison("Ⅳ")
    assert "foo bar" == comparison("  Foo   Bar ")


def test_so_many_looks_are_kept() -> None:
    """More nicks than that take no more memory, and still have their looks."""
    looks.cache_clear()
    for index in range(LOOKS_KEPT_MAX + 10):
        looks(f"user{index}")
    assert LOOKS_KEPT_MAX == looks.cache_info().currsize
    assert ("usero",) == looks("user0")


def test_plain_names_need_no_packages() -> None:
    """A broker whose people have plain names never loads them."""
    code = """
import sys
from broker.chat.nicks import Register
from broker.chat.sessions import Sessions
Register().claim("Anna-Maria_2.0", bytes(32), 0)
assert not {"precis_i18n", "confusable_homoglyphs"} & {*sys.modules}
Register().claim("Zoé", bytes(32), 0)
assert "precis_i18n" in sys.modules
"""
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)


def test_holders_are_found_by_every_look() -> None:
    """One holder may have several nicks, and several holders the same look."""
    known: Lookalikes[str] = Lookalikes()
    known.add("Νick", "greek")
    known.add("NICK", "latin")
    assert ["greek", "latin"] == list(known.alike("nick"))
    assert ["greek"] == list(known.alike("vick"))
    assert ["greek", "greek", "latin"] == list(known.alike("Νick"))
    known.discard("Νick", "greek")
    assert ["latin"] == list(known.alike("n1ck"))
    assert [] == list(known.alike("vick"))
    known.discard("NICK", "latin")
    assert {} == known._by_look
