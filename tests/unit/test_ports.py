"""Choosing an address and ports, without serving on them."""

from __future__ import annotations

import random
import socket
from pathlib import Path

import pytest

from broker.host import ports
from broker.host.ports import PORTS_COUNT, AddressUnusable, free_base_port, resolve


@pytest.mark.parametrize(
    ("host", "address"),
    [("127.0.0.1", "127.0.0.1"), ("0.0.0.0", "0.0.0.0"), ("::1", "::1"), ("[::1]", "::1")],  # noqa: S104
)
def test_a_numeric_host_is_its_own_address(host: str, address: str) -> None:
    """Numbers are taken as they are, IPv6 with or without brackets."""
    assert address == resolve(host)


def test_ipv4_comes_first_where_a_name_has_both(monkeypatch: pytest.MonkeyPatch) -> None:
    """Clients try IPv4 first, so that is what is served on."""
    found = [
        (socket.AF_INET6, socket.SOCK_STREAM, 6, "", ("::1", 0, 0, 0)),
        (socket.AF_INET, socket.SOCK_STREAM, 6, "", ("127.0.0.1", 0)),
    ]
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: list(found))
    assert "127.0.0.1" == resolve("both")


@pytest.mark.parametrize("host", ["256.256.256.256", "a\0b", "a..b", "\ud800", "x" * 300, "a b"])
def test_what_is_no_host_is_refused_in_a_sentence(host: str) -> None:
    """No spelling of a host gets past as anything but AddressUnusable."""
    with pytest.raises(AddressUnusable, match="is not an address of this machine"):
        resolve(host)


def test_free_ports_lie_below_the_clients_range(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No port is chosen that the kernel could give to a client, however low its range begins."""
    ephemeral = tmp_path / "range"
    monkeypatch.setattr(ports, "EPHEMERAL_RANGE", ephemeral)
    for text, lowest, highest in (
        ("32768\t60999\n", 10_240, 32_768),
        ("9000\t65535\n", 1_024, 9_000),
        ("rubbish", 10_240, 32_768),
        ("", 10_240, 32_768),
    ):
        ephemeral.write_text(text)
        base = free_base_port("127.0.0.1")
        assert lowest <= base
        assert base + PORTS_COUNT <= highest


def test_a_port_in_use_is_not_chosen(monkeypatch: pytest.MonkeyPatch) -> None:
    """All three ports must be free, and the search ends where none are."""
    monkeypatch.setattr(random, "randrange", lambda low, _high: low + 5_000)
    base = free_base_port("127.0.0.1")
    for index in range(PORTS_COUNT):
        with socket.socket() as taken:
            taken.bind(("127.0.0.1", base + index))
            taken.listen()
            with pytest.raises(AddressUnusable, match="--port"):
                free_base_port("127.0.0.1")
