"""The chat at a terminal, as a person sees it."""

from __future__ import annotations

import re
import signal
from pathlib import Path

import pytest

from tests.broker_process import BrokerProcess
from tests.cli.conftest import NewPerson
from tests.cli.person import Person
from tests.cli.terminal import Terminal

PASTED = [f"pasted line {number}" for number in range(200)]


def test_one_enters_talks_and_leaves(anna: Person, bob: Person, room: str) -> None:
    with anna.chat(room) as terminal:
        terminal.see("Welcome!")
        terminal.see("you are anna")
        terminal.enter("hello there")
        terminal.see(" anna: hello there")
        bob.run("send", "-r", room, "hi anna")
        terminal.see(" bob: hi anna")
        assert terminal.count("hello there") == 1
        terminal.enter("/quit")
        assert terminal.wait_for_end() == 0


def test_a_half_typed_line_survives_a_burst(anna: Person, bob: Person, room: str) -> None:
    with anna.chat(room) as terminal:
        terminal.type("half typed")
        bob.run("send", "-r", room, stdin="".join(f"burst {n}.\n" for n in range(2_000)))
        terminal.see("burst 1999.")
        terminal.wait(lambda: f"#{room}> half typed" in terminal.text(), "the prompt")
        bursts = [int(n) for n in re.findall(r"bob: burst (\d+)\.", terminal.text())]
        assert bursts == list(range(2_000))
        terminal.enter(" and sent")
        terminal.see("anna: half typed and sent")


def test_pasted_lines_are_sent_in_order_whatever_they_say(anna: Person, room: str) -> None:
    with anna.chat(room) as terminal:
        terminal.paste("\r\n".join([*PASTED, "exit", "/usr/bin", "", "rest"]))
        terminal.see("anna: /usr/bin")
        terminal.see(f"#{room}> rest")
        terminal.enter("")
        terminal.see("anna: rest")
    texts = [entry["text"] for entry in anna.objects("history", "-r", room, "-n", "999")]
    assert texts == [*PASTED, "exit", "/usr/bin", "rest"]


def test_lines_pasted_without_marks_are_sent_in_order(anna: Person, room: str) -> None:
    with anna.chat(room) as terminal:
        terminal.type("".join(f"{line}\r" for line in PASTED))
        terminal.see(PASTED[-1])
    texts = [entry["text"] for entry in anna.objects("history", "-r", room, "-n", "999")]
    assert texts == PASTED


def test_a_pasted_command_acts_as_a_typed_one(anna: Person, room: str) -> None:
    with anna.chat(room) as terminal:
        terminal.paste("/topic lunch\n")
        terminal.see("anna changed the topic to: lunch")


@pytest.mark.parametrize("keys", ["\x03", "\x04", "/quit\r", "{quit}\r", "exit\r"])
def test_all_ways_out_end_with_0(anna: Person, room: str, keys: str) -> None:
    with anna.chat(room) as terminal:
        terminal.type(keys)
        assert terminal.wait_for_end() == 0


@pytest.mark.parametrize(
    ("number", "status"), [(signal.SIGINT, 0), (signal.SIGTERM, 143), (signal.SIGHUP, 129)]
)
def test_signals_leave_cleanly(
    anna: Person, bob: Person, room: str, number: int, status: int
) -> None:
    with bob.chat(room) as other, anna.chat(room) as terminal:
        other.see("--> anna joined (2 users now)")
        terminal.process.send_signal(number)
        assert terminal.wait_for_end() == status
        other.see("<-- anna left (1 user now)")


def test_a_closed_window_leaves_the_room(anna: Person, bob: Person, room: str) -> None:
    with bob.chat(room) as other, anna.chat(room) as terminal:
        other.see("--> anna joined")
        terminal.hang_up()
        other.see("<-- anna left")
        terminal.wait_for_end()


# Sends itself SIGTERM when the chat has just begun to take signals, and has no prompt yet.
EARLY_SIGNAL = """
import os, signal, sys
from client import chat
from client.__main__ import main
take = signal.signal
def take_and_send(number, handler):
    former = take(number, handler)
    if number == chat.LEAVING_SIGNALS[-1]:
        signal.signal = take
        os.kill(os.getpid(), signal.SIGTERM)
    return former
run = chat.Prompt.run
def run_under_fire(prompt):
    signal.signal = take_and_send
    return run(prompt)
chat.Prompt.run = run_under_fire
sys.exit(main([]))
"""


def test_a_signal_before_the_prompt_stands_leaves_too(anna: Person, tmp_path: Path) -> None:
    with Terminal("-c", EARLY_SIGNAL, environ=anna.environ, directory=tmp_path) as terminal:
        assert terminal.wait_for_end() == 143


def test_rooms_are_joined_switched_and_left(anna: Person, bob: Person, room: str) -> None:
    other = f"{room}-b"
    with anna.chat(room) as terminal:
        terminal.enter(f"/join #{other}")
        terminal.see(f"#{other}>")
        bob.run("send", "-r", room, "psst")
        terminal.see(f"#{room} bob: psst")
        terminal.wait(lambda: f"#{room} 1" in terminal.toolbar(), "the unread count")
        terminal.enter("/switch")
        terminal.wait(lambda: f"#{room} 1" not in terminal.toolbar(), "the read room")
        terminal.enter(f"/part {other}")
        terminal.see(f"you left #{other}")
        terminal.enter(f"/switch {other}")
        terminal.see(f"you are not in #{other}; /join {other}")
        terminal.enter("/part")
        terminal.see("no room: /join ROOM")
        terminal.enter("anybody?")
        terminal.see("not sent: anybody? (you are in no room: /join ROOM)")


def test_commands_are_answered(anna: Person, room: str) -> None:
    anna.run("send", "-r", room, stdin="".join(f"old {n}.\n" for n in range(103)))
    with anna.chat(room) as terminal:
        terminal.see("old 102.")
        assert terminal.count("old ") == 100
        terminal.enter("/history 2")
        terminal.see("2 earlier messages")
        terminal.see("old 1.")
        terminal.enter("/history")
        terminal.see("1 earlier message ")
        terminal.enter("/history")
        terminal.see("nothing earlier")
        terminal.enter("/me waves")
        terminal.see("* anna waves")
        terminal.enter("//etc")
        terminal.see("anna: /etc")
        terminal.enter("/topic")
        terminal.see("no topic")
        terminal.enter("/topic lunch")
        terminal.see("changed the topic to: lunch")
        terminal.enter("/rooms")
        terminal.see(f"#{room}  1 user  lunch")
        terminal.enter("/who")
        terminal.see(f"#{room}, 1 user now: anna")
        terminal.enter("/help")
        terminal.see("/switch [ROOM]")
        terminal.enter("/jion")
        terminal.see("there is no /jion")


def test_words_are_completed(anna: Person, bob: Person, room: str) -> None:
    with bob.chat(room), anna.chat(room) as terminal:
        terminal.type("/top\t")
        terminal.see(f"#{room}> /topic")
        terminal.type("lunch\r")
        terminal.see("changed the topic to: lunch")
        terminal.type("bo\t")
        terminal.see(f"#{room}> bob:")
        terminal.type("hi\r")
        terminal.see("anna: bob: hi")


def test_the_arrow_brings_back_what_was_typed(anna: Person, room: str) -> None:
    with anna.chat(room) as terminal:
        terminal.enter("once")
        terminal.see("anna: once")
        terminal.type("\x1b[A")
        terminal.see(f"#{room}> once")


def test_what_others_send_cannot_touch_the_terminal(anna: Person, bob: Person, room: str) -> None:
    with anna.chat(room) as terminal:
        bob.run("send", "-r", room, "a\x1b[2J\x1b]0;owned\x07\x9b1mb\u202ec")
        terminal.see("bob: a\\x1b[2J\\x1b]0;owned\\x07\\x9b1mb\\u202ec")
        assert b"\x1b[2J" not in terminal.output
        assert b"\x1b]0;" not in terminal.output


def test_a_rename_is_told_to_all(anna: Person, bob: Person, room: str) -> None:
    with bob.chat(room) as other, anna.chat(room) as terminal:
        other.see("--> anna joined")
        terminal.enter("/nick BOB")
        terminal.see("somebody else is here as")
        terminal.enter("/nick Ann")
        terminal.see("you are Ann now")
        other.see("anna is now Ann")


def test_a_lost_broker_is_told_and_come_back_to(tmp_path: Path) -> None:
    with (
        BrokerProcess(tmp_path / "data") as broker,
        Person(tmp_path / "anna", broker.address, "anna").chat() as terminal,
    ):
        broker.kill_child("live")
        terminal.see("connection lost, trying again")
        terminal.see("connected again")
        broker.kill_all()
        terminal.wait(lambda: "offline, trying again" in terminal.toolbar(), "the loss")
        terminal.enter("said meanwhile")
        terminal.wait(lambda: "1 not sent yet" in terminal.toolbar(), "the unsent text")
        broker.start(broker.port)
        terminal.see("anna: said meanwhile")
        terminal.wait(lambda: terminal.toolbar().endswith("online"), "the toolbar")


def test_what_was_not_acknowledged_is_told_at_the_end(tmp_path: Path) -> None:
    with (
        BrokerProcess(tmp_path / "data") as broker,
        Person(tmp_path / "anna", broker.address, "anna").chat() as terminal,
    ):
        broker.kill_all()
        terminal.wait(lambda: "offline, trying again" in terminal.toolbar(), "the loss")
        terminal.enter("too late")
        terminal.enter("/quit")
        assert terminal.wait_for_end() == 1
        terminal.see("hubbub: not acknowledged: too late")


# --- names ------------------------------------------------------------------
def test_without_a_name_one_is_asked(broker: BrokerProcess, tmp_path: Path, room: str) -> None:
    person = Person(tmp_path / "home", broker.address)
    person.environ["LOGNAME"] = "login.name"
    with person.sit_down("-r", room) as terminal:
        terminal.see("Your name [login.name]:")
        terminal.enter("two words")
        terminal.see("cannot be a name")
        terminal.enter("")
        terminal.see("you are login.name")


def test_a_taken_name_is_asked_again(anna: Person, new_person: NewPerson, room: str) -> None:
    thief = new_person("thief")
    with anna.chat(room), thief.sit_down("-r", room, "-n", "Anna") as terminal:
        terminal.see("Anna: somebody else is here as anna")
        terminal.see("Your name:")
        terminal.enter("Hanna")
        terminal.see("you are Hanna")


@pytest.mark.parametrize(("key", "status"), [("\x03", 130), ("\x04", 0)])
def test_nobody_must_answer(broker: BrokerProcess, tmp_path: Path, key: str, status: int) -> None:
    person = Person(tmp_path / "home", broker.address)
    with person.sit_down() as terminal:
        terminal.see("Your name")
        terminal.type(key)
        assert terminal.wait_for_end() == status
        assert "Traceback" not in terminal.text()


# --- colours ----------------------------------------------------------------
def test_colors_can_be_turned_off(anna: Person, room: str) -> None:
    colored = re.compile(rb"\x1b\[[0-9;]*3[0-9]m")
    with anna.chat(room) as terminal:
        terminal.enter("hello")
        terminal.see("hello")
        assert colored.search(terminal.output)
    anna.environ["NO_COLOR"] = "1"
    with anna.chat(room) as terminal:
        terminal.see("anna: hello")
        assert not colored.search(terminal.output)
