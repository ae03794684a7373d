"""Join lines: what a broker prints, a person pastes, and a stranger may have made up."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from zmq.utils import z85

from common.endpoints import Address
from common.invitations import LINE_CHARS_MAX, Invitation, parse

KEY = bytes(range(100, 132))


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("chat.lan", Invitation(Address("chat.lan"))),
        ("hubbub://chat.lan", Invitation(Address("chat.lan"))),
        ("hubbub://chat.lan:7000/", Invitation(Address("chat.lan", 7000))),
        ("hubbub://chat.lan/Lobby", Invitation(Address("chat.lan"), "lobby")),
        (f"hubbub://c:1/dev?key={KEY.hex()}", Invitation(Address("c", 1), "dev", KEY)),
        (f" hubbub://c:1?key={KEY.hex()}\n", Invitation(Address("c", 1), None, KEY)),
        (f"hubbub://[::1]:7/x?new=1&key={KEY.hex()}", Invitation(Address("::1", 7), "x", KEY)),
        ("hubbub://c/caf%C3%A9", Invitation(Address("c"), "café")),
        ("hubbub://c/%23dev", Invitation(Address("c"), "dev")),
    ],
)
def test_a_join_line_says_where_which_room_and_which_key(text: str, expected: Invitation) -> None:
    assert expected == parse(text)


def test_a_key_in_z85_is_escaped_as_links_are() -> None:
    escaped = "".join(f"%{ord(letter):02X}" for letter in z85.encode(KEY).decode())
    assert KEY == parse(f"hubbub://c/r?key={escaped}").key


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("hubbub://", "host is empty"),
        ("hubbub:///lobby", "host is empty"),
        ("hubbub://a b/lobby", "is not a host name"),
        ("hubbub://c:0/lobby", "is not a port"),
        ("hubbub://c/a%20b", "cannot be a room"),
        ("hubbub://c/a%0Ab", "cannot be a room"),
        ("hubbub://c/lobby?key=", "a key has"),
        ("hubbub://c/lobby?key=12", "a key has"),
        (f"hubbub://c/lobby?key={KEY.hex()}00", "a key has"),
        (f"hubbub://c/{'a' * LINE_CHARS_MAX}", "a join line has at most"),
    ],
)
def test_what_is_wrong_is_told(text: str, says: str) -> None:
    with pytest.raises(ValueError, match=says):
        parse(text)


def test_a_line_as_long_as_allowed_is_read() -> None:
    start = "hubbub://c/r?x="
    assert Invitation(Address("c"), "r") == parse(start.ljust(LINE_CHARS_MAX, "y"))


@given(st.text())
def test_anything_is_read_or_refused(rest: str) -> None:
    try:
        found = parse(f"hubbub://{rest}")
    except ValueError:
        return
    assert found.key is None or len(found.key) == 32
