"""PROTOCOL.md's table of ADMIN's verbs, beside what broker and command line make of them."""

from __future__ import annotations

import pytest

from broker.chat.peer import Peer as Transport
from client.admin_words import NICK, NUMBERS, REASON, SWITCH, TEXT, VERBS
from common import wire
from common.order import Admin, Table
from tests.protocol_document import table_with
from tests.unit.bench import Bench
from tests.unit.operator_orders import HERE, ROUTE, new_bench, order_frames

FIELDS = ("room", "nick", "value", "text")
ROWS = {row[0].strip("`"): row[1:] for row in table_with("verb", *FIELDS, "columns")}
# Something that can be done in `stage`, for each verb that takes arguments.
DEEDS = {
    "announce": Admin(1, "announce", text="lunch"),
    "ban": Admin(1, "ban", nick="bob"),
    "deop": Admin(1, "deop", "r", "mod"),
    "drain": Admin(1, "drain", value=1),
    "drop": Admin(1, "drop", "r", value=1),
    "free": Admin(1, "free", nick="keyed"),
    "kick": Admin(1, "kick", nick="bob"),
    "mute": Admin(1, "mute", "r", "bob"),
    "op": Admin(1, "op", "r", "bob"),
    "retention": Admin(1, "retention", "r", text="1000 default"),
    "slow": Admin(1, "slow", "r", value=5),
    "unban": Admin(1, "unban", nick="banned"),
    "unmute": Admin(1, "unmute", "r", "mute"),
}


def stage() -> Bench:
    """Return a broker with something to do for each verb."""
    bench = new_bench()
    bench.peer("ann", "r").send("r", "hello")
    for nick in ("bob", "mod", "banned", "mute"):
        bench.peer(nick, "r")
    hello = wire.Hello(1, "keyed", b"o" * 16, 1, 1)
    bench.core.receive(b"keyed", wire.command_frames(b"t" * 16, hello), Transport(key=b"x" * 32))
    for command in (
        Admin(1, "op", "r", "mod"),
        Admin(1, "mute", "r", "mute"),
        Admin(1, "ban", "r", "banned"),
        Admin(1, "ban", nick="banned"),
    ):
        assert isinstance(answer(bench, command), Table)
    return bench


def answer(bench: Bench, command: Admin) -> wire.Payload:
    """Give an order; where it is answered later, let the settings have been read."""
    bench.set_clock()
    bench.core.receive(ROUTE, order_frames(command), HERE)
    if bench.core.reloads.take_question():
        bench.core.reloads.answered(1, ("motd",), "all", "")
    bench.drain()
    (told,) = bench.replies.pop(ROUTE)
    return told


def needs(verb: str) -> dict[str, str]:
    """Return what the command line makes of a verb's words: "must", "may" or nothing, by field."""
    found = dict.fromkeys(FIELDS, "")
    words, options = VERBS[verb].words, VERBS[verb].options
    for option in options:
        field = "room" if "-r" in option else "value"
        found[field] = "must" if option == "-r ROOM" else "may"
    for word in words:
        if word == NICK:
            found["nick"] = "must"
        elif word in (*NUMBERS, SWITCH):
            found["value"] = "must"
        else:
            is_optional = word == REASON or (word == TEXT and SWITCH in words)
            found["text"] = "may" if is_optional else "must"
    return found


def test_the_verbs_are_those_of_broker_and_command_line() -> None:
    assert list(ROWS) == stage().core._admin.verbs
    assert set(ROWS) == set(VERBS)


@pytest.mark.parametrize("verb", ROWS)
def test_what_a_verb_takes_is_what_the_command_line_gives(verb: str) -> None:
    cells = dict(zip(FIELDS, ROWS[verb], strict=False))
    assert needs(verb) == {name: cell.partition(":")[0].strip() for name, cell in cells.items()}


@pytest.mark.parametrize("verb", ROWS)
def test_the_columns_are_those_of_the_answer(verb: str) -> None:
    """And, where there is such an answer, those of it in one room alone."""
    everywhere, _, in_a_room = ROWS[verb][-1].partition("; in a room: ")
    command = DEEDS.get(verb, Admin(1, verb))
    told = answer(stage(), command)
    assert isinstance(told, Table), told
    assert told.columns == everywhere.split(", ")
    if needs(verb)["room"] == "may":
        told = answer(stage(), Admin(1, verb, "r", command.nick))
        assert isinstance(told, Table), told
        assert told.columns == (in_a_room or everywhere).split(", ")


@pytest.mark.parametrize(
    ("verb", "field"),
    [
        (verb, field)
        for verb in ROWS
        for field, need in needs(verb).items()
        if need == "must" and field != "value"  # Where 0 is a value, too.
    ],
)
def test_what_a_verb_must_have_is_missed(verb: str, field: str) -> None:
    given = DEEDS[verb]
    left = {name: getattr(given, name) for name in FIELDS if name != field}
    assert isinstance(answer(stage(), Admin(1, verb, **left)), wire.Error)
