"""Keys on the command line: what is said, what it ends with, and what a person does about it."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from client.keys import load_pair
from client.known_brokers import FILE
from common.certificates import new_pair
from common.keys import fingerprint
from tests.cli.person import Person
from tests.stand_in import StandIn

FIRST = "hubbub: first contact with "


@pytest.fixture
def anna(tmp_path: Path) -> Person:
    return Person(tmp_path / "anna", "127.0.0.1:1", "anna")


def known(person: Person) -> str:
    return (person.home / FILE).read_text()


def one_line(text: str) -> str:
    """Return what stands on standard error: one line, which begins as ours do."""
    assert text.startswith("hubbub: ")
    assert text.count("\n") == 1
    return text


def test_the_first_contact_is_told_once(anna: Person) -> None:
    pair = new_pair()
    with StandIn(pair) as broker:
        done = anna.run("--broker", broker.address, "status")
        assert done.stdout.startswith(f"up       {broker.address}")
        line = one_line(done.stderr)
        assert line.startswith(f"{FIRST}{broker.address}, its key is {fingerprint(pair.public)};")
        assert f"{broker.address} {pair.public.hex()}\n" == known(anna)
        assert anna.run("--broker", broker.address, "status").stderr == ""


@pytest.mark.parametrize("place", ["option", "environment", "positional"])
def test_a_join_line_goes_wherever_a_broker_does(anna: Person, place: str) -> None:
    pair = new_pair()
    with StandIn(pair) as broker:
        line = f"hubbub://{broker.address}/dev?key={pair.public.hex()}"
        if place == "environment":
            anna.environ["HUBBUB_BROKER"] = line
            done = anna.run("status")
        elif place == "option":
            done = anna.run("status", "--broker", line)
        else:
            done = anna.run("trust", line)
        assert done.stderr == ""
        assert f"{broker.address} {pair.public.hex()}\n" == known(anna)


def test_a_changed_key_is_refused_until_it_is_accepted(anna: Person) -> None:
    """With both fingerprints, and the command that accepts the new one."""
    old, new = new_pair(), new_pair()
    with StandIn(new) as broker:
        anna.run("trust", broker.address, "--key", old.public.hex())
        for arguments in (("status",), ("send", "-r", "lobby", "hi"), ("tail", "-r", "lobby")):
            done = anna.run("--broker", broker.address, *arguments, status=77)
            line = one_line(done.stderr)
            assert f"{fingerprint(old.public)}, there is {fingerprint(new.public)}" in line
            assert line.endswith(f": hubbub trust {broker.address}\n")
        assert (0, []) == (broker.greets_count, broker.hellos)
        done = anna.run("trust", broker.address, status=2)
        assert "give --yes or --key KEY" in one_line(done.stderr)
        assert old.public.hex() in known(anna)
        done = anna.run("trust", broker.address, "--yes")
        assert (
            f"{broker.address}: known key {fingerprint(old.public)}, "
            f"now {fingerprint(new.public)}\n"
        ) == done.stdout
        assert anna.run("--broker", broker.address, "status").stderr == ""


@pytest.mark.parametrize(("answer", "status"), [("y", 0), ("yes", 0), ("n", 1), ("", 1)])
def test_at_a_terminal_one_is_asked(anna: Person, answer: str, status: int) -> None:
    old, new = new_pair(), new_pair()
    with StandIn(new) as broker:
        anna.run("trust", broker.address, "--key", old.public.hex())
        with anna.sit_down("trust", broker.address) as terminal:
            terminal.see(fingerprint(old.public))
            terminal.see(fingerprint(new.public))
            terminal.see("[y/N]")
            terminal.enter(answer)
            assert status == terminal.wait_for_end()
    kept = new if status == 0 else old
    assert kept.public.hex() in known(anna)


def test_a_known_broker_that_turns_plain_is_refused_until_that_is_accepted(anna: Person) -> None:
    pair = new_pair()
    with StandIn(None) as broker:
        anna.run("trust", broker.address, "--key", pair.public.hex())
        done = anna.run("--broker", broker.address, "status", status=77)
        line = one_line(done.stderr)
        assert "does not encrypt" in line
        assert line.endswith(f": hubbub trust {broker.address}\n")
        done = anna.run("trust", broker.address, "--yes")
        assert f"known key {fingerprint(pair.public)}, now none\n" in done.stdout
        assert anna.run("--broker", broker.address, "status").stderr == ""


def test_a_key_is_forgotten(anna: Person) -> None:
    pair = new_pair()
    anna.run("trust", "there", "--key", pair.public.hex())
    (told,) = anna.objects("trust", "there", "--forget")
    assert {"broker": "there:5555", "before": fingerprint(pair.public), "now": None} == told
    assert known(anna) == ""


def test_who_is_not_allowed_and_who_does_not_answer(anna: Person) -> None:
    with StandIn(new_pair(), denies="400") as broker:
        line = f"hubbub://{broker.address}?key={broker._told.hex()}"
        done = anna.run("--broker", line, "send", "-r", "lobby", "hi", status=77)
        assert "give its operator what `hubbub key` prints" in one_line(done.stderr)
    done = anna.run("--timeout", "0.3", "status", status=69)
    assert "hubbub: no broker answers at 127.0.0.1:1\n" == done.stderr
    done = anna.run("--timeout", "0.3", "trust", status=69)
    assert "hubbub: no broker answers at 127.0.0.1:1\n" == done.stderr


def test_ones_own_key_is_printed(anna: Person) -> None:
    done = anna.run("key")
    public = load_pair(anna.home).public
    assert f"{public.hex()}\n" == done.stdout
    assert fingerprint(public) in one_line(done.stderr)
    (told,) = anna.objects("key")
    assert {"key": public.hex(), "fingerprint": fingerprint(public)} == told
    (anna.home / "keys" / "client.key_secret").chmod(0o644)
    assert "run: chmod 600" in one_line(anna.run("key", status=1).stderr)


def test_no_secret_is_in_what_is_printed_or_passed_on(anna: Person) -> None:
    secret = load_pair(anna.home).secret.hex()
    with StandIn(new_pair()) as broker:
        for arguments in (("key",), ("--broker", broker.address, "status")):
            done = anna.run(*arguments)
            assert secret not in done.stdout + done.stderr


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("trust", "c", "--key", "12"), "a key has"),
        (("trust", "c", "--key", "0" * 64, "--forget"), "not allowed with"),
        (("--broker", "hubbub://c?key=1", "status"), "a key has"),
        (("--broker", "hubbub://c", "send", "hi"), "required: -r/--room"),
    ],
)
def test_mistakes_are_told(anna: Person, arguments: tuple[str, ...], says: str) -> None:
    done = anna.run(*arguments, status=2)
    assert says in one_line(done.stderr)
    assert not (anna.home / FILE).exists()


def test_others_cannot_read_what_is_made(anna: Person) -> None:
    """Also for somebody whose new files are open to all."""
    former = os.umask(0)
    try:
        anna.run("trust", "there", "--key", "0" * 64)
        anna.run("key")
    finally:
        os.umask(former)
    modes = {path.name: path.stat().st_mode & 0o777 for path in anna.home.rglob("*")}
    keys = {"keys": 0o700, "client.key": 0o600, "client.key_secret": 0o600}
    assert {FILE: 0o600, **keys} == modes
    assert 0o700 == anna.home.stat().st_mode & 0o777
    assert json.loads(anna.run("key", "--json").stdout)
