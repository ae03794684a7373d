"""Addresses as people write them, and the table of errors."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from common.endpoints import PORT_MAX, Address, parse
from common.errors import MEANINGS, UNKNOWN, Code, Refused
from common.limits import BASE_PORT


@pytest.mark.parametrize(
    ("text", "address"),
    [
        ("host", Address("host", BASE_PORT)),
        ("host:1", Address("host", 1)),
        (" host:65535 ", Address("host", PORT_MAX)),
        ("tcp://host:7000", Address("host", 7000)),
        ("10.0.0.1", Address("10.0.0.1", BASE_PORT)),
        ("::1", Address("::1", BASE_PORT)),
        ("[::1]", Address("::1", BASE_PORT)),
        ("[fe80::1%eth0]:7000", Address("fe80::1%eth0", 7000)),
        ("tcp://[::1]:7000", Address("::1", 7000)),
    ],
)
def test_an_address_is_read_as_people_write_it(text: str, address: Address) -> None:
    """Host, port, IPv6 in brackets or bare, and the URL form are all understood."""
    assert address == parse(text)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "host is empty"),
        ("  ", "host is empty"),
        (":5555", "host is empty"),
        ("[]:5555", "host is empty"),
        ("tcp://", "host is empty"),
        ("[::1", "is not an address"),
        ("[::1]5555", "is not an address"),
        ("a b", "is not a host name"),
        ("http://host", "is not a port"),
        ("ftp/host", "is not a host name"),
        ("a\0b", "is not a host name"),
        ("[a[b]", "is not a host name"),
        ("-", "is not a host name"),
        (".local", "is not a host name"),
        ("*", "is not a host name"),
        ("b\xfcro", "is not a host name"),
        ("a\udcff", "is not a host name"),  # A byte that is not UTF-8, as Python reads it.
        ("a\x1b[2J:1", "is not a host name"),
        ("host:", "is not a port"),
        ("host:0", "is not a port"),
        ("host:65536", "is not a port"),
        ("host:-1", "is not a port"),
        ("host:+1", "is not a port"),
        ("host:x", "is not a port"),
        ("host:\N{ARABIC-INDIC DIGIT ONE}", "is not a port"),  # A digit, but not an ASCII one.
        ("host:" + "9" * 5_000, "is not a port"),
    ],
)
def test_what_is_no_address_is_refused_in_a_sentence(text: str, says: str) -> None:
    """Each mistake is a ValueError whose message a person understands."""
    with pytest.raises(ValueError, match=says):
        parse(text)


@given(st.text(max_size=30) | st.from_regex(r"\A(tcp://)?\[?[a-z:.]{0,5}\]?(:[0-9]{0,6})?\Z"))
def test_no_text_raises_anything_else(text: str) -> None:
    """Whatever is typed, it is an address or a ValueError; and an address reads back."""
    try:
        address = parse(text)
    except ValueError:
        return
    assert address == parse(address.url())
    assert 1 <= address.port <= PORT_MAX


def test_a_url_names_any_port_of_the_host() -> None:
    """The other endpoints are on the same host, which is bracketed where it is IPv6."""
    assert "tcp://[::1]:9" == Address("::1", 7).url(9)
    assert "tcp://h:7" == Address("h", 7).url()


def test_every_code_has_a_meaning() -> None:
    """A refusal tells code, sentence, exit status, and whether the session survives."""
    for code in Code:
        refusal = Refused(code)
        assert str(code) == refusal.code
        assert MEANINGS[code].text == refusal.detail == str(refusal)
        assert MEANINGS[code].exit_status == refusal.exit_status
        assert MEANINGS[code].session_survives == refusal.session_survives


def test_a_code_of_a_later_version_is_still_a_refusal() -> None:
    """An unknown code is taken as it is, with a meaning for all unknown ones."""
    refusal = Refused("from_the_future", value=3)
    assert ("from_the_future", UNKNOWN.text, 3) == (refusal.code, refusal.detail, refusal.value)
