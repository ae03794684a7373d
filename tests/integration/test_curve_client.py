"""Client and broker, both real, encrypted: people notice nothing but the first contact."""

from __future__ import annotations

import os
import shutil
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from client.api import Client, Entry, Refused, State, connect
from client.keys import load_pair, new_keys
from client.known_brokers import KnownBrokers
from common.endpoints import Address
from common.errors import Code
from tests.broker_process import BrokerProcess
from tests.cli.person import Person
from tests.waiting import DEADLINE_S, eventually


@pytest.fixture
def broker(tmp_path: Path) -> Iterator[BrokerProcess]:
    with BrokerProcess(tmp_path / "data", "--secure", "--grace", "0.5") as process:
        yield process


@pytest.fixture
def anna(tmp_path: Path, broker: BrokerProcess) -> Person:
    return Person(tmp_path / "anna", broker.address, "anna")


def states(client: Client, last: str) -> list[State]:
    """Return what the client says until it says this."""
    found: list[State] = []

    def is_over() -> bool:
        event = client.next_event(0.1)
        if isinstance(event, State):
            found.append(event)
        return bool(found) and found[-1].state == last

    eventually(is_over, f"the state {last}")
    return found


def test_people_talk_encrypted_after_one_line(anna: Person, tmp_path: Path) -> None:
    done = anna.run("send", "-r", "lobby", "hello")
    assert done.stderr.startswith("hubbub: first contact with ")
    assert done.stderr.count("\n") == 1
    bob = Person(tmp_path / "bob", anna.environ["HUBBUB_BROKER"], "bob")
    bob.run("trust", "--yes")
    with bob.chat("lobby") as terminal:
        terminal.see("anna: hello")
        done = anna.run("send", "-r", "lobby", "again")
        assert done.stderr == ""
        terminal.see("anna: again")
        assert "NOT ENCRYPTED" not in terminal.text()
    assert "anna: hello" in bob.run("history", "-r", "lobby").stdout


def test_the_brokers_join_line_is_all_that_one_needs(
    broker: BrokerProcess, anna: Person, tmp_path: Path
) -> None:
    KnownBrokers(anna.home)  # Nothing is known.
    key = _key_of(broker, anna)
    other = Person(tmp_path / "carl", f"hubbub://{broker.address}/dev?key={key.hex()}", "carl")
    assert other.run("send", "by the join line").stderr == ""
    assert "carl: by the join line" in other.run("history").stdout


def _key_of(broker: BrokerProcess, person: Person) -> bytes:
    person.run("trust", broker.address, "--yes")
    key = KnownBrokers(person.home).get(Address(broker.host, broker.port))
    assert key is not None
    return key


def test_a_client_heals_when_the_broker_comes_back(broker: BrokerProcess, anna: Person) -> None:
    keys = new_keys(_key_of(broker, anna))
    with connect(broker.address, nick="bob", timeout_s=DEADLINE_S, curve=keys) as bob:
        bob.join("lobby")
        bob.send("lobby", "one")
        states(bob, "online")
        os.kill(broker.children()["live"], signal.SIGKILL)
        states(bob, "online")
        bob.send("lobby", "two", timeout_s=DEADLINE_S)
        assert ["one", "two"] == [entry.text for entry in bob.history("lobby")]
        events = bob.events(DEADLINE_S)
        assert "two" in (event.text for event in events if isinstance(event, Entry))


def test_a_broker_with_another_key_is_told_to_those_who_are_in(
    broker: BrokerProcess, anna: Person
) -> None:
    keys = new_keys(_key_of(broker, anna))
    with connect(broker.address, nick="bob", timeout_s=DEADLINE_S, curve=keys) as bob:
        states(bob, "online")
        port = broker.port
        assert broker.stop() == 0
        shutil.rmtree(broker.data / "keys")
        broker.start(port)
        assert "another key" in states(bob, "refused")[-1].detail


def test_only_listed_keys_are_let_in_and_a_removed_one_is_out(tmp_path: Path) -> None:
    anna = Person(tmp_path / "anna", "127.0.0.1:1", "anna")
    line = anna.run("key").stdout
    listed = tmp_path / "allowed"
    listed.write_text(f"# anna\n{line}")
    with BrokerProcess(tmp_path / "data", "--secure", "--allow", str(listed)) as broker:
        anna.environ["HUBBUB_BROKER"] = broker.address
        anna.run("send", "-r", "lobby", "let in")
        bob = Person(tmp_path / "bob", broker.address, "bob")
        done = bob.run("send", "-r", "lobby", "not let in", status=77)
        assert "does not allow your key; give its operator" in done.stderr
        key = _key_of(broker, anna)
        keys = new_keys(key)._replace(**load_pair(anna.home)._asdict())
        with connect(broker.address, nick="ann", timeout_s=DEADLINE_S, curve=keys) as client:
            client.join("lobby")
            states(client, "online")
            listed.write_text("# nobody\n")
            os.kill(broker.process.pid, signal.SIGHUP)
            refused = states(client, "refused")[-1]
            assert refused.detail
        with pytest.raises(Refused) as caught:
            connect(broker.address, nick="ann", timeout_s=DEADLINE_S, curve=keys)
        assert Code.NOT_ALLOWED == caught.value.code


def test_no_owner_secret_is_told_or_made_where_the_key_is_who_one_is(
    broker: BrokerProcess, anna: Person, tmp_path: Path
) -> None:
    """Not at a first contact either, which begins in the clear; a plain broker makes one of it."""
    asked: list[bytes] = []

    def owner() -> bytes:
        asked.append(b"o" * 16)
        return asked[-1]

    anna.run("send", "-r", "lobby", "hello")
    with anna.chat() as screen:
        screen.see("hello")
    names = {path.name for path in anna.home.rglob("*")}
    assert {"client.key", "client.key_secret", "known_brokers"} <= names
    assert "owner" not in names
    keys = new_keys(_key_of(broker, anna))
    with connect(broker.address, nick="bob", owner=owner, timeout_s=DEADLINE_S, curve=keys) as bob:
        assert bob._session._owner() == bytes(16)
    assert asked == []
    with BrokerProcess(tmp_path / "plain") as plain:
        with connect(plain.address, nick="bob", owner=owner) as bob:
            states(bob, "online")
            plain.kill_child("live")
            states(bob, "online")
            with connect(plain.address, nick="bob", owner=b"o" * 16):
                pass
        assert len(asked) == 1, "it is the same secret each time"
        anna.environ["HUBBUB_BROKER"] = plain.address
        anna.run("send", "-r", "lobby", "hello")
    assert (anna.home / "keys" / "owner").exists()
