"""What others write is shown whole, and can't touch the reader's terminal."""

from __future__ import annotations

import json
import re
import unicodedata
from datetime import UTC

import pytest
from hypothesis import given
from hypothesis import strategies as st

from client import render
from client.events import Entry, Presence
from client.render import Look

PLAIN = Look(zone=UTC)
COLORED = Look(color=True, zone=UTC)
NOON = 12 * 3_600_000
BIDI = "\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069\u200e\u200f\u061c"
SEPARATORS = "\u2028\u2029\x85"
OWN_COLORS = re.compile(r"\x1b\[(?:[0-9]{1,2};)*[0-9]{1,2}m")


def entry(text: str, kind: str = "text", nick: str = "anna", ts: int = NOON) -> Entry:
    return Entry("dev", 7, ts, kind, nick, text)


def dangers(text: str) -> list[str]:
    """Return the characters of a text that could act on a terminal."""
    return [
        c
        for c in text
        if (unicodedata.category(c) in ("Cc", "Cs", "Zl", "Zp") and c != "\n") or c in BIDI
    ]


def test_a_text_has_time_nick_and_words() -> None:
    assert render.entry_line(entry("hello"), PLAIN) == "12:00 anna: hello"


def test_an_action_reads_as_a_sentence() -> None:
    assert render.entry_line(entry("waves", "action"), PLAIN) == "12:00 * anna waves"


def test_a_topic_change_is_told() -> None:
    line = render.entry_line(entry("lunch", "topic"), PLAIN)
    assert line == "12:00 --- anna changed the topic to: lunch"


def test_an_emptied_topic_is_told() -> None:
    assert render.entry_line(entry("", "topic"), PLAIN) == "12:00 --- anna cleared the topic"


def test_a_kind_from_a_newer_broker_is_still_shown() -> None:
    assert "hello" in render.entry_line(entry("hello", "notice"), PLAIN)


def test_another_rooms_entry_names_its_room() -> None:
    assert render.entry_line(entry("hi"), PLAIN, "dev") == "12:00 #dev anna: hi"


def test_a_second_line_is_indented_so_that_it_cannot_pass_for_an_entry() -> None:
    line = render.entry_line(entry("one\n12:00 bob: I quit\r\nthree"), PLAIN)
    assert line == "12:00 anna: one\n      12:00 bob: I quit\n      three"


def test_tabs_become_spaces() -> None:
    assert render.entry_line(entry("a\tb"), PLAIN) == "12:00 anna: a   b"


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("\x1b[2J", "\\x1b[2J"),  # Clears the screen.
        ("\x1b]0;title\x07", "\\x1b]0;title\\x07"),  # Sets the window's title.
        ("\x9b31m", "\\x9b31m"),  # The same as ESC [ for many terminals.
        ("a\x08b", "a\\x08b"),
        ("a\rb", "a\\rb"),
        ("a\x7fb", "a\\x7fb"),
        ("abc\u202edcba", "abc\\u202edcba"),
        ("a\u2028b", "a\\u2028b"),
        ("a\u200bb", "a\\u200bb"),
        ("a\ufeffb", "a\\ufeffb"),
        ("a\U000e0041b", "a\\U000e0041b"),  # A tag: text that nobody sees.
        ("\ud800", "\\ud800"),
    ],
)
def test_a_dangerous_character_is_shown_as_an_escape(text: str, shown: str) -> None:
    assert render.safe(text) == shown


@pytest.mark.parametrize(
    "text",
    [
        "Grüße, Привет, 你好, שלום, مرحبا",
        "👩\u200d💻 and 👨\u200d👩\u200d👧",  # Joined emoji.
        "\u0645\u06cc\u200c\u062e\u0648\u0627\u0647\u0645",  # Persian, a ZWNJ within a word.
        "क्\u200dष",
        "日本\u3000語",
        "10\u00a0km",
        "❤\ufe0f",
    ],
)
def test_what_people_write_stays_as_it_is(text: str) -> None:
    assert render.safe(text) == text


@pytest.mark.parametrize("text", ["\u200d", "a \u200db", "a\u200d", "a\u200d\u200db"])
def test_a_joiner_that_joins_nothing_is_escaped(text: str) -> None:
    assert "\\u200d" in render.safe(text)


@given(st.text(st.characters(codec=None) | st.sampled_from(f"{BIDI}{SEPARATORS}\x1b\x9b\r\t\n")))
def test_no_control_or_bidi_character_ever_gets_through(text: str) -> None:
    for kind in ("text", "action", "topic", "notice", text):
        hostile = Entry(text, 1, NOON, kind, text, text)
        assert dangers(render.entry_line(hostile, PLAIN, room=text)) == []
        colored = OWN_COLORS.sub("", render.entry_line(hostile, COLORED, room=text))
        assert dangers(colored) == []
    event = Presence("dev", 3, [text], [text], [(text, text)])
    for line in render.presence_lines(event, NOON, PLAIN, room=text):
        assert dangers(line) == []
        assert "\n" not in line


@given(st.text(), st.integers())
def test_a_json_line_holds_the_entry_and_only_ascii(text: str, ts: int) -> None:
    line = render.entry_line(entry(text, ts=ts), Look(is_json=True))
    assert line.isascii()
    assert line.isprintable()
    assert json.loads(line)["text"] == text


def test_json_has_the_fields_that_programs_rely_on() -> None:
    assert render.as_json(entry("hello", ts=1_700_000_000_123)) == {
        "room": "dev",
        "seq": 7,
        "ts": "2023-11-14T22:13:20.123Z",
        "kind": "text",
        "nick": "anna",
        "text": "hello",
    }


@pytest.mark.parametrize(
    ("ts", "shown"),
    [
        (0, "1970-01-01T00:00:00.000Z"),
        (-1, "1969-12-31T23:59:59.999Z"),
        (10**18, "9999-12-31T23:59:59.999Z"),
        (-(10**18), "0001-01-01T00:00:00.000Z"),
    ],
)
def test_any_time_has_a_form(ts: int, shown: str) -> None:
    assert render.rfc3339(ts) == shown


def test_an_impossible_time_is_dashes() -> None:
    assert render.clock_text(10**30, PLAIN) == "--:--"


def test_a_nick_has_one_color_in_every_session_and_spelling() -> None:
    colors = {render.nick_text(nick, COLORED)[:5] for nick in ("anna", "ANNA", "\uff21nna")}
    assert len(colors) == 1
    assert render.nick_text("anna", COLORED) == "\x1b[1;36manna\x1b[0m"


def test_without_color_there_is_no_escape_sequence() -> None:
    assert "\x1b" not in render.entry_line(entry("hello"), PLAIN)


def test_joins_and_leaves_tell_the_number_of_users_now() -> None:
    event = Presence("dev", 3, ["anna", "bob"], ["carl"], [("dora", "Dora2")])
    assert render.presence_lines(event, NOON, PLAIN) == [
        "12:00 --> anna, bob joined (3 users now)",
        "12:00 <-- carl left (3 users now)",
        "12:00 --- dora is now Dora2",
    ]


def test_one_user_is_not_users() -> None:
    event = Presence("dev", 1, [], ["carl"], [])
    assert render.presence_lines(event, NOON, PLAIN) == ["12:00 <-- carl left (1 user now)"]


def test_a_crowd_is_named_in_part() -> None:
    names = render.names_text([f"n{i}" for i in range(20)])
    assert names == "n0, n1, n2, n3, n4, n5, n6, n7 and 12 more"


def test_a_count_alone_is_no_line() -> None:
    assert render.presence_lines(Presence("dev", 300, [], [], []), NOON, PLAIN) == []
