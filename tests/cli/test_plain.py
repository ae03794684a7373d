"""The chat without a terminal: lines in, lines out."""

from __future__ import annotations

import json
import signal

import pytest

from tests.broker_process import BrokerProcess
from tests.cli.person import Person
from tests.waiting import DEADLINE_S, eventually


def users(person: Person, room: str) -> int:
    return next((r["users"] for r in person.objects("rooms") if r["room"] == room), 0)


def test_lines_are_sent_and_the_conversation_is_printed(anna: Person, room: str) -> None:
    anna.run("send", "-r", room, "from before")
    done = anna.run("-r", room, stdin="hello\nsecond\n/me waves\n//etc\n")
    lines = done.stdout.splitlines()
    assert lines[:2] == ["--- Welcome!", "--- you are anna; /help lists commands"]
    said = [line[6:] for line in lines if not line.startswith("---")]
    assert said == [
        "anna: from before",
        "anna: hello",
        "anna: second",
        "* anna waves",
        "anna: /etc",
    ]
    assert done.stderr == ""


def test_ten_thousand_lines_are_acknowledged_before_the_end(anna: Person, room: str) -> None:
    texts = [f"line {number}" for number in range(10_000)]
    anna.run("-r", room, stdin="\n".join(texts))
    entries = anna.objects("history", "-r", room, "-n", "20000")
    assert [entry["text"] for entry in entries] == texts


def test_json_prints_entries_and_nothing_else(anna: Person, room: str) -> None:
    done = anna.run("-r", room, "--json", stdin="hello\n/who\n/nix\n", status=1)
    assert [json.loads(line)["text"] for line in done.stdout.splitlines()] == ["hello"]
    assert done.stderr.startswith("hubbub: there is no /nix")


@pytest.mark.parametrize("word", ["exit", "{quit}", "/quit"])
def test_a_word_leaves_before_the_input_ends(anna: Person, room: str, word: str) -> None:
    done = anna.run("-r", room, stdin=f"said\n{word}\nnot said\n")
    assert "anna: said" in done.stdout
    assert "not said" not in done.stdout


def test_what_cannot_be_sent_is_told_and_ends_with_1(anna: Person, room: str) -> None:
    done = anna.run("-r", room, stdin=b"one\n\xff\ntwo\n", status=1)
    assert "anna: two" in done.stdout
    assert done.stderr == "hubbub: line 2 was not sent: it is not UTF-8\n"


@pytest.mark.parametrize(
    ("line", "complaint"),
    [
        ("/msg nobody-here hi", "nobody called nobody-here is known here"),
        ("/msg", "write /msg NICK TEXT"),
        ("/kick nobody-here", "nobody called nobody-here is known here"),
        ("/invite nobody-here", "nobody called nobody-here is known here"),
        ("/room slow never", "write /room [WHAT]"),
        ("/part elsewhere", "you are not in #elsewhere; /join elsewhere"),
        ("/switch", "there is no other room; /join ROOM"),
        ("/switch elsewhere", "you are not in #elsewhere; /join elsewhere"),
        ("/unignore bob", "you do not ignore bob"),
        ("/bogus", "there is no /bogus"),
    ],
)
def test_what_was_refused_ends_with_1(anna: Person, room: str, line: str, complaint: str) -> None:
    """So that a script notices; the rest is done all the same."""
    done = anna.run("-r", room, stdin=f"{line}\nand this\n", status=1)
    assert done.stderr.startswith(f"hubbub: {complaint}")
    assert "anna: and this" in done.stdout


def test_several_rooms_are_told_apart(anna: Person, room: str) -> None:
    done = anna.run("-r", room, "-r", f"{room}-b", stdin=f"here\n/switch {room}-b\nthere\n")
    assert " anna: here\n" in done.stdout
    assert " anna: there\n" in done.stdout


@pytest.mark.parametrize(("number", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_signals_leave_the_room(
    anna: Person, bob: Person, room: str, number: int, status: int
) -> None:
    with anna.start("-r", room) as chat:
        eventually(lambda: users(bob, room), "anna")
        chat.send_signal(number)
        _, err = chat.communicate(timeout=DEADLINE_S)
        assert (chat.returncode, err) == (status, b"")
        assert users(bob, room) == 0


def test_a_reader_that_goes_away_ends_it_quietly(anna: Person, room: str) -> None:
    with anna.start("-r", room) as chat:
        assert chat.stdout is not None
        assert chat.stdin is not None
        chat.stdout.readline()
        chat.stdout.close()
        chat.stdin.write(b"one\ntwo\n")
        chat.stdin.close()
        assert chat.wait(DEADLINE_S) == 141
        assert chat.stderr is not None
        assert chat.stderr.read() == b""


def test_a_restart_of_the_broker_loses_no_line(
    anna: Person, broker: BrokerProcess, room: str
) -> None:
    with anna.start("-r", room) as chat:
        assert chat.stdin is not None
        chat.stdin.write(b"before\n")
        chat.stdin.flush()
        eventually(lambda: users(anna, room), "anna")
        broker.kill_child("live")
        out, _ = chat.communicate(b"after\n", timeout=DEADLINE_S)
        assert chat.returncode == 0
        said = [line[6:] for line in out.decode().splitlines() if not line.startswith("---")]
        assert said == ["anna: before", "anna: after"]
