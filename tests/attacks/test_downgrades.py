"""Plain where it should be encrypted, and somebody else in the broker's place."""

from __future__ import annotations

import contextlib
import socket
from pathlib import Path

import pytest

from bench import zmtp
from broker.host import certificates
from common.keys import fingerprint, key_text
from tests.attacks.scene import Honest
from tests.broker_process import BrokerProcess
from tests.cli.person import Person
from tests.waiting import DEADLINE_S

OPENING_BYTES = 12  # Signature and version: so much libzmq wants before it tells the rest.
GREETING_BYTES = 64
KINDS = (b"DEALER", b"SUB", b"REQ")
NULL = zmtp.opening(b"DEALER")
PLAIN = NULL.replace(b"NULL\0", b"PLAIN")


def told_by(port: int, said: bytes) -> tuple[bytes, bytes]:
    """Say bytes; return the greeting, and what is answered after it until the connection ends."""
    told = b""
    with socket.create_connection(("127.0.0.1", port), DEADLINE_S) as link:
        link.sendall(said[:OPENING_BYTES])
        greeting = b""
        while len(greeting) < GREETING_BYTES:
            more = link.recv(GREETING_BYTES - len(greeting))
            assert more, "hung up within the greeting"
            greeting += more
        with contextlib.suppress(ConnectionError):
            link.sendall(said[OPENING_BYTES:])
            while more := link.recv(65_536):
                told += more
    return greeting, told


@pytest.mark.parametrize("offset", [0, 1, 2])
@pytest.mark.parametrize("opening", [NULL, PLAIN], ids=["NULL", "PLAIN"])
def test_another_mechanism(
    broker: BrokerProcess, honest: Honest, offset: int, opening: bytes
) -> None:
    """A client that does not encrypt hears what the broker speaks, and that it hangs up."""
    said = opening.replace(b"DEALER", KINDS[offset])
    said += zmtp.subscribe(b"") + zmtp.message(b"HUB\1\1" + bytes(16), b"\x91\1")
    greeting, told = told_by(broker.port + offset, said)
    assert b"CURVE" in greeting
    assert b"" == told
    honest.are_undisturbed()


@pytest.mark.parametrize("flags", [(), ("--secure",)], ids=["plain", "other key"])
def test_another_broker_in_the_place_of_a_known_one(tmp_path: Path, flags: tuple[str, ...]) -> None:
    """The client says so and ends, and nothing of what it was given goes out."""
    ann = Person(tmp_path / "ann", "", "ann")
    with BrokerProcess(tmp_path / "real", "--secure") as real:
        ann.environ["HUBBUB_BROKER"] = real.address
        ann.run("send", "-r", "lobby", "to the real one")
        port, key = real.port, certificates.load(real.data).public
    with BrokerProcess(tmp_path / "other", *flags, port=port) as other:
        for words in (("send", "-r", "lobby", "our secret"), ("tail", "-r", "lobby"), ("status",)):
            done = ann.run(*words, status=77)
            assert f"hubbub trust {other.address}" in done.stderr
            assert fingerprint(key) in done.stderr
        kept = [path.read_bytes() for path in other.data.rglob("*") if path.is_file()]
        assert not [content for content in kept if b"our secret" in content]
    with BrokerProcess(tmp_path / "real", "--secure", port=port):
        assert "to the real one" in ann.run("history", "-r", "lobby").stdout


def test_a_first_contact_with_a_join_line_of_another_key(
    broker: BrokerProcess, tmp_path: Path
) -> None:
    """Who was given the key is not misled at the first contact either."""
    eve = Person(tmp_path / "home", "", "ann")
    line = f"hubbub://{broker.address}/lobby?key={key_text(bytes(range(32)))}"
    done = eve.run("--broker", line, "send", "-r", "lobby", "hi", status=77)
    assert fingerprint(certificates.load(broker.data).public) in done.stderr
