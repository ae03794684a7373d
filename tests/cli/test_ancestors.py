"""Everything that the five ancestors did works at the command line: a test for each point."""

from __future__ import annotations

import signal
import time
from pathlib import Path

import pytest

from tests.broker_process import BrokerProcess
from tests.cli.conftest import NewPerson
from tests.cli.person import Person
from tests.cli.terminal import Terminal


def test_greeting(anna: Person, room: str) -> None:
    with anna.chat(room) as terminal:
        terminal.see("Welcome!")
        terminal.see("you are anna")


def test_user_counts_on_join_and_leave(anna: Person, bob: Person, room: str) -> None:
    with anna.chat(room) as terminal:
        terminal.see(f"you are in #{room}, 1 user now")
        with bob.chat(room):
            terminal.see("--> bob joined (2 users now)")
            terminal.wait(lambda: "2 users" in terminal.toolbar(), "the toolbar")
        terminal.see("<-- bob left (1 user now)")
        terminal.wait(lambda: "1 user " in terminal.toolbar(), "the toolbar")


def test_unique_names(anna: Person, new_person: NewPerson, room: str) -> None:
    with anna.chat(room), new_person("x").sit_down("-n", "ANNA", "-r", room) as terminal:
        terminal.see("somebody else is here as anna")
        terminal.see("Your name:")
        terminal.enter("other")
        terminal.see("you are other")


def test_last_100_for_newcomers(anna: Person, bob: Person, room: str) -> None:
    anna.run("send", "-r", room, stdin="".join(f"message {n}.\n" for n in range(150)))
    with bob.chat(room) as terminal:
        terminal.see("message 149.")
        assert terminal.count("anna: message ") == 100
        assert terminal.count("message 49.") == 0


def test_many_rooms_each_in_its_own_order(anna: Person, bob: Person, room: str) -> None:
    rooms = [f"{room}-{letter}" for letter in "abc"]
    with bob.chat(*rooms) as terminal:
        for name in rooms:
            anna.run("send", "-r", name, stdin="".join(f"{name} {n}.\n" for n in range(50)))
        for name in rooms:
            terminal.see(f"{name} 49.")
            lines = [line for line in terminal.lines() if f"anna: {name} " in line]
            assert [line.rsplit(" ", 1)[1] for line in lines] == [f"{n}." for n in range(50)]


def test_active_users_in_real_time(anna: Person, bob: Person, room: str) -> None:
    with anna.chat(room) as terminal, bob.chat(room):
        terminal.see("bob joined")
        terminal.enter("/who")
        terminal.see(f"#{room}, 2 users now: anna, bob")


def see_each_other(first: Terminal, second: Terminal) -> None:
    """Wait until both hear what is said, and so the broker's last word as well."""
    first.enter("are you there?")
    for terminal in (first, second):
        terminal.see("anna: are you there?")


def test_q_on_the_brokers_console_tells_all_clients(tmp_path: Path) -> None:
    with (
        BrokerProcess(tmp_path / "data") as broker,
        Person(tmp_path / "a", broker.address, "anna").chat() as first,
        Person(tmp_path / "b", broker.address, "bob").chat() as second,
    ):
        see_each_other(first, second)
        broker.say("q")
        assert broker.wait() == 0
        first.see("the broker is closing")
        second.see("the broker is closing")


def test_ctrl_c_on_the_broker_tells_all_clients(tmp_path: Path) -> None:
    with (
        BrokerProcess(tmp_path / "data") as broker,
        Person(tmp_path / "a", broker.address, "anna").chat() as first,
        Person(tmp_path / "b", broker.address, "bob").chat() as second,
    ):
        see_each_other(first, second)
        assert broker.stop(signal.SIGINT) == 0
        first.see("the broker is closing")
        second.see("the broker is closing")


@pytest.mark.parametrize("keys", ["{quit}\r", "exit\r", "\x03"])
def test_quit_exit_and_ctrl_c_leave_cleanly(
    anna: Person, bob: Person, room: str, keys: str
) -> None:
    with bob.chat(room) as other, anna.chat(room) as terminal:
        other.see("anna joined")
        terminal.type(keys)
        assert terminal.wait_for_end() == 0
        other.see("<-- anna left (1 user now)")


def test_two_seconds_time_out_when_nobody_answers(tmp_path: Path) -> None:
    begin_s = time.monotonic()
    done = Person(tmp_path, "127.0.0.1:9", "anna").run(status=69)
    assert 2.0 <= time.monotonic() - begin_s < 6.0
    assert done.stderr == "hubbub: no broker answers at 127.0.0.1:9\n"


def test_an_empty_address_is_refused(anna: Person) -> None:
    done = anna.run("", status=2)
    assert "host is empty" in done.stderr


def test_max_clients(tmp_path: Path) -> None:
    with (
        BrokerProcess(tmp_path / "data", "--max-clients", "1") as broker,
        Person(tmp_path / "a", broker.address, "anna").chat() as first,
    ):
        done = Person(tmp_path / "b", broker.address, "bob").run(status=75)
        assert done.stderr.startswith("hubbub: the broker ")
        assert len(done.stderr.splitlines()) == 1
        first.enter("still here")
        first.see("anna: still here")


def test_a_dead_client_is_dropped_without_hurting_the_rest(
    anna: Person, bob: Person, room: str
) -> None:
    with bob.chat(room) as other, anna.chat(room) as terminal:
        other.see("--> anna joined (2 users now)")
        terminal.process.kill()
        other.see("<-- anna left (1 user now)")
        other.enter("life goes on")
        other.see("bob: life goes on")


def test_a_name_is_asked_for(broker: BrokerProcess, tmp_path: Path, room: str) -> None:
    with Person(tmp_path / "home", broker.address).sit_down("-r", room) as terminal:
        terminal.see("Your name")
        terminal.enter("Zoe")
        terminal.see(f"you are in #{room}, 1 user now: Zoe")


def test_messages_are_never_glued_or_cut(anna: Person, bob: Person, room: str) -> None:
    # The first ancestor read 1024 bytes and took them for a message.
    texts = ["x" * size for size in (1, 1_023, 1_024, 1_025, 4_000)]
    bob.run("send", "-r", room, stdin="\n".join(texts))
    assert [entry["text"] for entry in anna.objects("history", "-r", room)] == texts
