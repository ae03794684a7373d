"""The sub-commands, as scripts use them."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.broker_process import BrokerProcess
from tests.cli.conftest import NewPerson
from tests.cli.person import Person
from tests.waiting import DEADLINE_S, eventually


def finish(process: subprocess.Popen[bytes]) -> tuple[int, str, str]:
    """Wait for a program; return status, output and complaints."""
    out, err = process.communicate(timeout=DEADLINE_S)
    assert b"Traceback" not in err, err.decode()
    return process.returncode, out.decode(), err.decode()


def users(person: Person, room: str) -> int:
    return next((r["users"] for r in person.objects("rooms") if r["room"] == room), 0)


# --- send and history -------------------------------------------------------
def test_what_is_sent_stands_in_the_history(anna: Person, bob: Person, room: str) -> None:
    assert anna.run("send", "-r", room, "hello", "world").stdout == ""
    assert bob.run("history", "-r", room).stdout.endswith(" anna: hello world\n")


def test_each_line_of_standard_input_is_sent_in_order(anna: Person, room: str) -> None:
    texts = [f"line {number}" for number in range(1_000)]
    anna.run("send", "-r", room, stdin="\n".join(texts))
    entries = anna.objects("history", "-r", room, "-n", "5000")
    assert [entry["text"] for entry in entries] == texts


def test_acknowledgements_are_objects(anna: Person, room: str) -> None:
    acks = anna.objects("send", "-r", room, stdin="one\n\ntwo\r\n")
    assert [(ack["seq"], ack["text"]) for ack in acks] == [(1, "one"), (2, "two")]
    assert acks == anna.objects("history", "-r", room)
    assert set(acks[0]) == {"room", "seq", "ts", "kind", "nick", "text"}


def test_lines_that_cannot_be_sent_are_told_and_the_rest_is_sent(anna: Person, room: str) -> None:
    data = b"one\n\xff\n" + b"x" * 5_000 + b"\nzero \0\nlast\n"
    done = anna.run("send", "-r", room, stdin=data, status=1)
    assert len(done.stderr.splitlines()) == 3
    assert "line 2 was not sent: it is not UTF-8" in done.stderr
    texts = [entry["text"] for entry in anna.objects("history", "-r", room)]
    assert texts == ["one", "last"]


def test_history_pages_backwards(anna: Person, room: str) -> None:
    anna.run("send", "-r", room, stdin="".join(f"{n}\n" for n in range(1, 301)))
    last = anna.objects("history", "-r", room)
    assert [entry["seq"] for entry in last] == list(range(201, 301))
    older = anna.objects("history", "-r", room, "-n", "50", "--before", "201")
    assert [entry["seq"] for entry in older] == list(range(151, 201))
    assert anna.objects("history", "-r", room, "--before", "1") == []


def test_a_text_with_lines_stays_one_entry(anna: Person, room: str) -> None:
    anna.run("send", "-r", room, "one\n12:00 bob: two")
    (entry,) = anna.objects("history", "-r", room)
    assert entry["text"] == "one\n12:00 bob: two"
    assert "\n      12:00 bob: two\n" in anna.run("history", "-r", room).stdout


def test_control_characters_never_reach_the_readers_output(anna: Person, room: str) -> None:
    anna.run("send", "-r", room, "a\x1b[2Jb\u202ec\x9bd\x07")
    shown = anna.run("history", "-r", room).stdout
    assert shown.endswith("anna: a\\x1b[2Jb\\u202ec\\x9bd\\x07\n")
    assert anna.run("history", "-r", room, "--json").stdout.isascii()


# --- streams ----------------------------------------------------------------
OUTPUTS = ["send -r {} x --json", "history -r {}", "rooms", "status", "--version", "-r {}"]


@pytest.mark.parametrize("command", OUTPUTS)
@pytest.mark.parametrize("output", [">&-", ">/dev/full"])
def test_an_output_that_takes_nothing_is_1_and_one_line(
    anna: Person, room: str, command: str, output: str
) -> None:
    anna.run("send", "-r", room, "x")
    status, out, err = finish(anna.shell(command.format(room), output))
    assert (status, out, err.count("\n")) == (1, "", 1), err
    assert err.startswith("hubbub: [Errno ")


def test_closed_streams_do_not_matter_where_they_are_not_needed(anna: Person, room: str) -> None:
    assert finish(anna.shell(f"send -r {room} x", "<&- >&- 2>&-")) == (0, "", "")
    assert finish(anna.shell(f"send -r {room}", "<&-")) == (0, "", "")
    assert finish(anna.shell("status --broker 127.0.0.1:1 --timeout 0.1", "<&- 2>&-"))[0] == 69
    assert [entry["text"] for entry in anna.objects("history", "-r", room)] == ["x"]


# --- tail -------------------------------------------------------------------
def test_tail_ends_after_count_entries(anna: Person, room: str) -> None:
    anna.run("send", "-r", room, stdin="a\nb\nc\n")
    for since, texts in (("2", ["b"]), ("all", ["a"]), ("10m", ["a"])):
        entries = anna.objects("tail", "-r", room, "--since", since, "--count", "1")
        assert [entry["text"] for entry in entries] == texts


def test_tail_prints_what_comes_in_several_rooms(anna: Person, bob: Person, room: str) -> None:
    other = f"{room}-other"
    reader = bob.start("tail", "-r", room, "-r", other, "--count", "2")
    eventually(lambda: users(anna, room) and users(anna, other), "the reader")
    anna.run("send", "-r", room, "one")
    anna.run("send", "-r", other, "two")
    status, out, _ = finish(reader)
    assert status == 0
    assert [line[6:] for line in out.splitlines()] == [f"#{room} anna: one", f"#{other} anna: two"]


def test_tail_writes_each_burst_at_once(anna: Person, bob: Person, room: str) -> None:
    with bob.start("tail", "-r", room) as reader:
        assert reader.stdout is not None
        eventually(lambda: users(anna, room), "the reader")
        anna.run("send", "-r", room, "now")
        assert reader.stdout.readline().endswith(b"anna: now\n")
        reader.send_signal(signal.SIGINT)
        assert finish(reader) == (130, "", "")


@pytest.mark.parametrize(("number", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_ends_tail_quietly(anna: Person, room: str, number: int, status: int) -> None:
    reader = anna.start("tail", "-r", room)
    eventually(lambda: users(anna, room), "the reader")
    reader.send_signal(number)
    assert finish(reader) == (status, "", "")
    eventually(lambda: not users(anna, room), "the reader's leave")


def test_tail_ends_when_its_reader_goes(anna: Person, room: str) -> None:
    anna.run("send", "-r", room, stdin="one\ntwo\n")
    # Once while something is printed, once while nothing is.
    for since in ("all", "1"):
        reader = anna.start("tail", "-r", room, "--since", since)
        assert reader.stdout is not None
        reader.stdout.readline()
        reader.stdout.close()
        assert reader.wait(DEADLINE_S) == 141
        assert reader.stderr is not None
        assert reader.stderr.read() == b""
        for pipe in (reader.stdin, reader.stderr):
            assert pipe is not None
            pipe.close()


# --- rooms, who, status -----------------------------------------------------
def test_rooms_and_who_show_people(anna: Person, bob: Person, room: str) -> None:
    with anna.start("-r", room) as chat:
        eventually(lambda: users(bob, room), "anna")
        assert {"room": room, "users": 1, "head": 0, "topic": ""} in bob.objects("rooms")
        assert f"#{room}  1 user\n" in bob.run("rooms").stdout
        assert bob.run("who", "-r", room).stdout == "anna\n"
        assert anna.objects("who", "-r", room) == [{"room": room, "nick": "anna"}]
        finish(chat)


def test_asking_who_is_there_disturbs_nobody(anna: Person, bob: Person, room: str) -> None:
    with anna.start("-r", room) as chat:
        eventually(lambda: users(bob, room), "anna")
        bob.run("who", "-r", room)
        bob.run("send", "-r", room, "after that")
        assert chat.stdout is not None
        seen: list[bytes] = []
        while not seen or b"after that" not in seen[-1]:
            seen.append(chat.stdout.readline())
        assert not [line for line in seen if b"joined" in line or b"left" in line]
        finish(chat)


def test_status_is_a_health_check(anna: Person, broker: BrokerProcess) -> None:
    text = anna.run("status").stdout
    assert broker.address in text
    (facts,) = anna.objects("status")
    assert facts["protocol"] == 1
    assert facts["clients_max"] == 4_096


def test_nobody_there_is_69_and_one_line_within_the_timeout(tmp_path: Path) -> None:
    person = Person(tmp_path, "127.0.0.1:9", "anna")
    for words in (["status"], ["send", "-r", "dev", "hi"], ["rooms"], []):
        begin_s = time.monotonic()
        done = person.run("--timeout", "0.5", *words, status=69)
        assert time.monotonic() - begin_s < 5
        assert done.stderr == "hubbub: no broker answers at 127.0.0.1:9\n"
        assert done.stdout == ""


# --- names ------------------------------------------------------------------
def test_somebody_elses_nick_is_77(anna: Person, new_person: NewPerson, room: str) -> None:
    thief = new_person("thief")
    with anna.start("-r", room) as chat:
        eventually(lambda: users(anna, room), "anna")
        done = thief.run("send", "-r", room, "-n", "ANNA", "hi", status=77)
        assert done.stderr == (
            "hubbub: somebody else has the nick ANNA; choose another with --nick\n"
        )
        done = thief.run("-r", room, "-n", "anna", stdin="hi\n", status=77)
        assert len(done.stderr.splitlines()) == 1
        finish(chat)


def test_one_person_may_use_a_nick_twice(anna: Person, room: str) -> None:
    with anna.start("-r", room) as chat:
        eventually(lambda: users(anna, room), "anna")
        anna.run("send", "-r", room, "from a script")
        assert anna.run("who", "-r", room).stdout == "anna\n"
        finish(chat)


def test_a_reader_without_a_nick_takes_one_that_is_free(
    anna: Person, broker: BrokerProcess, tmp_path: Path, room: str
) -> None:
    reader = Person(tmp_path / "reader", broker.address)
    reader.environ["LOGNAME"] = "anna"
    with anna.start("-r", room) as chat:
        eventually(lambda: users(anna, room), "anna")
        assert reader.run("who", "-r", room).stdout == "anna\n"
        reader.run("send", "-r", room, "hi", status=77)
        finish(chat)


# --- the rest ---------------------------------------------------------------
def test_versions_are_told(anna: Person) -> None:
    words = [line.split()[0] for line in anna.run("--version").stdout.splitlines()]
    assert words == ["hubbub", "protocol", "pyzmq", "libzmq"]


@pytest.mark.parametrize("words", [["send"], ["--nick", "a b"], ["one", "two"], [""]])
def test_a_mistake_is_2_and_one_line(anna: Person, words: list[str]) -> None:
    done = anna.run(*words, status=2)
    assert done.stderr.startswith("hubbub: ")
    assert len(done.stderr.splitlines()) == 1
    assert done.stdout == ""


def test_help_is_data(anna: Person) -> None:
    assert "exit status" in anna.run("--help").stdout
    assert "--since" in anna.run("tail", "--help").stdout


@pytest.mark.parametrize("name", ["send", "tail", "history", "who"])
def test_help_shows_that_a_room_is_needed(anna: Person, name: str) -> None:
    """A join line with a room tells it too: the words beside -r say so."""
    text = anna.run(name, "--help").stdout
    assert "-r ROOM" in text
    assert "[-r ROOM]" not in text
    assert "can tell it instead" in " ".join(text.split())
    anna.run(name, "--timeout", "0.1", status=2)


@pytest.mark.parametrize("columns", [60, 120])
def test_help_is_as_wide_as_the_terminal(anna: Person, columns: int) -> None:
    anna.environ["COLUMNS"] = str(columns)
    lines = anna.run("tail", "--help").stdout.splitlines()
    widest = max(len(line) for line in lines if not line.startswith(("exit status:", "130 ")))
    assert columns - 20 < widest < columns


# Each takes milliseconds to import, or brings what does: hashlib OpenSSL, shutil the compressors.
HEAVY = {"asyncio", "hashlib", "logging", "prompt_toolkit", "secrets", "socket", "subprocess"}


@pytest.mark.parametrize(
    ("words", "not_needed"),
    [
        ("-r {room}", HEAVY | {"shutil"}),
        ("send -r {room} hi", HEAVY | {"shutil"}),
        ("history -r {room}", HEAVY | {"shutil"}),
        ("--help", HEAVY | {"zmq"}),
    ],
)
def test_a_script_waits_for_no_module_that_it_does_not_need(
    anna: Person, room: str, words: str, not_needed: set[str]
) -> None:
    program = (
        "import sys; from client.__main__ import main; status = main(sys.argv[1:]);"
        f"heavy = {not_needed} & {{*sys.modules}}; assert not heavy, heavy; sys.exit(status)"
    )
    run_program(anna, program, words.format(room=room))


def test_garbage_is_collected_once_all_is_imported(anna: Person, room: str) -> None:
    program = (
        "import gc, sys; from client.__main__ import main; status = main(sys.argv[1:]);"
        "assert gc.isenabled() and gc.get_freeze_count(); sys.exit(status)"
    )
    for words in (f"-r {room}", f"send -r {room} hi"):
        run_program(anna, program, words)


def run_program(person: Person, program: str, words: str) -> None:
    """Run a program that runs the command line and then looks round."""
    done = subprocess.run(
        [sys.executable, "-c", program, *words.split()],
        env=person.environ,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        timeout=DEADLINE_S,
        check=False,
    )
    assert done.returncode == 0, done.stderr.decode()
