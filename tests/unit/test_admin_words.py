"""The words of `hubbub admin`, and the tables that come back."""

from __future__ import annotations

import shlex

import pytest

from client.admin_words import VERBS, Order
from client.arguments import UsageError, parse
from client.render import DIM, Look, table_lines, width_of

ROOM_ID = "+" + "0a" * 12


def read(line: str) -> Order:
    order = parse(shlex.split(f"admin {line}"), {}).order
    assert order is not None
    return order


@pytest.mark.parametrize(
    ("line", "order"),
    [
        ("sessions", Order("sessions")),
        ("sanctions", Order("sanctions")),
        ("sanctions -r '#Dev'", Order("sanctions", "dev")),
        ("audit", Order("audit")),
        ("audit -n 5", Order("audit", value=5)),
        ("kick bob", Order("kick", nick="bob")),
        ("kick bob being rude -r dev", Order("kick", "dev", "bob", 0, "being rude")),
        (f"kick -r {ROOM_ID} bob", Order("kick", ROOM_ID, "bob")),
        ("kick -r '#+plans' bob", Order("kick", "+plans", "bob")),
        ("ban bob --for 2h being rude", Order("ban", "", "bob", 7_200, "being rude")),
        ("ban --for 30s bob", Order("ban", "", "bob", 30)),
        ("ban bob being --for 1w rude", Order("ban", "", "bob", 604_800, "being rude")),
        ("mute -r dev bob --for 10m", Order("mute", "dev", "bob", 600)),
        ("slow -r dev 0", Order("slow", "dev", value=0)),
        ("retention -r dev 5 all", Order("retention", "dev", text="5 all")),
        ("drop -r dev 4711", Order("drop", "dev", value=4_711)),
        ("announce lunch is ready", Order("announce", text="lunch is ready")),
        ("announce -- -1 is a number", Order("announce", text="-1 is a number")),
        ("announce", Order("announce", text=None)),
        ("drain", Order("drain", value=1)),
        ("drain on", Order("drain", value=1)),
        ("drain off", Order("drain", value=0)),
        ("drain on off we go", Order("drain", value=1, text="off we go")),
        ("drain on back at nine", Order("drain", value=1, text="back at nine")),
        ("reload --json --timeout 5", Order("reload")),
    ],
)
def test_words_make_an_order(line: str, order: Order) -> None:
    assert order == read(line)


@pytest.mark.parametrize(
    ("line", "complaint"),
    [
        ("", "say what to do"),
        ("fly", "there is no verb 'fly'"),
        ("drain maybe", "write on or off before the text, not 'maybe'"),
        ("drain back at nine", "write on or off before the text, not 'back'"),
        ("sessions -r dev", "there is no -r here"),
        ("kick --for 2h bob", "there is no --for here"),
        ("kick -n 2 bob", "there is no -n here"),
        ("mute bob", "give -r"),
        ("kick", "NICK is missing"),
        ("kick ''", "a nick or key"),
        (f"kick {'x' * 129}", "a nick or key"),
        ("kick bob ' '", "the text is empty"),
        ("announce ''", "the text is empty"),
        ("unban bob carl", "too many words"),
        ("sessions now", "too many words"),
        ("slow -r dev", "SECONDS is missing"),
        ("slow -r dev -5", "not a number"),
        ("slow -r dev five", "not a number"),
        (f"drop -r dev {2**53}", "not a number"),
        ("drop -r dev " + "9" * 5_000, "not a number"),
        ("retention -r dev 5", "DAYS is missing"),
        ("audit -n 0", "not a number from 1"),
        ("ban bob --for 2", "not a time"),
        ("ban bob --for 0s", "not a time"),
        ("ban bob --for 1y", "not a time"),
        ("kick -r 'no room' bob", "cannot be a room"),
        ("sessions --data x --broker y", "without --broker"),
    ],
)
def test_a_mistake_is_one_line(line: str, complaint: str) -> None:
    with pytest.raises(UsageError) as caught:
        read(line)
    assert complaint in str(caught.value)
    assert "\n" not in str(caught.value)


def test_the_help_tells_each_verb(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        parse(["admin", "--help"], {})
    told = capsys.readouterr().out
    assert [] == [
        name for name, verb in VERBS.items() if f"  {name} {verb.usage}".rstrip() not in told
    ]


def test_before_the_word_admin_n_is_a_nick() -> None:
    arguments = parse(["-n", "anna", "admin", "audit", "-n", "5"], {})
    assert arguments.order is not None
    assert ("anna", 5) == (arguments.nick, arguments.order.value)


# --- tables -----------------------------------------------------------------
def test_columns_are_aligned() -> None:
    rows = [["bob", "1", ""], ["\u6771\u4eac", "22", "x"], ["a\u0301", "3", "y"]]
    assert [
        "nick  rooms  why",
        "bob   1",
        "\u6771\u4eac  22     x",
        "a\u0301     3      y",
    ] == table_lines(["nick", "rooms", "why"], rows, Look())
    assert 4 == width_of("\u6771\u4eac")


def test_nothing_in_a_table_acts_on_the_terminal() -> None:
    """Whatever a broker sends: also rows that are too long or too short, and no columns."""
    hostile = ["\x1b[2J", "\u202e", "two\nlines", "\x9b"]
    lines = table_lines(["a\x07"], [hostile, [], ["x"]], Look())
    assert all(line.isprintable() for line in lines)
    assert 4 == len(lines)
    assert [""] == table_lines([], [], Look())
    assert table_lines(["a"], [], Look(color=True))[0].startswith(DIM)
