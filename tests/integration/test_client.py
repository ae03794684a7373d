"""The client library against a real broker: real sockets, real deaths."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from client.api import (
    Client,
    Closed,
    Entry,
    Joined,
    Left,
    Refused,
    State,
    Unreachable,
    ask_status,
    connect,
)
from client.limits import EVENTS_QUEUE_MAX
from tests.broker_process import ROOT, BrokerProcess
from tests.waiting import DEADLINE_S, eventually

WAIT_S = 10.0


@pytest.fixture
def broker(tmp_path: Path) -> Iterator[BrokerProcess]:
    with BrokerProcess(tmp_path / "data", "--rate", "100000", "--burst", "100000") as broker:
        yield broker


def entries(client: Client, count: int) -> list[Entry]:
    """Read events until there are so many entries."""
    found: list[Entry] = []
    for event in client.events(WAIT_S):
        if isinstance(event, Entry):
            found.append(event)
            if len(found) == count:
                break
    assert len(found) == count
    return found


def run_script(broker: BrokerProcess, script: str) -> subprocess.CompletedProcess[str]:
    """Run a program of somebody's own that uses the library."""
    text = f"from client.api import *\nbroker = {broker.address!r}\n{script}"
    return subprocess.run(
        [sys.executable, "-W", "error", "-c", text],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=DEADLINE_S,
        check=False,
    )


def test_two_people_talk(broker: BrokerProcess) -> None:
    with connect(broker.address, nick="anna") as anna, connect(broker.address, nick="bob") as bob:
        assert anna.join("Lobby").room == "lobby"
        first = anna.send("lobby", "hello")
        assert bob.join("lobby").nicks == ["anna", "bob"]
        second = bob.send("lobby", "waves", kind="action")
        seen = [(e.seq, e.nick, e.kind, e.text) for e in entries(anna, 2)]
        assert seen == [
            (first.seq, "anna", "text", "hello"),
            (second.seq, "bob", "action", "waves"),
        ]
        assert [e.seq for e in entries(bob, 2)] == [first.seq, second.seq]
        assert [e.text for e in anna.history("lobby", limit=1)] == ["waves"]
        assert anna.who("lobby").users == 2
        assert [room.room for room in anna.rooms()] == ["lobby"]
        assert anna.status().clients == ask_status(broker.address).clients == 2
        assert anna.rename("annie") == anna.nick == "annie"
        anna.topic("lobby", "greetings")
        anna.part("lobby")
        assert Left("lobby") in anna.events(DEADLINE_S)
        with pytest.raises(Refused) as caught:
            anna.send("lobby", "still there?")
        assert caught.value.code == "not_member"


def test_who_says_no_and_who_does_not_answer(broker: BrokerProcess) -> None:
    with connect(broker.address, nick="anna", owner=b"o" * 16):
        with pytest.raises(Refused) as caught:
            connect(broker.address, nick="Anna")
        assert caught.value.code == "nick_taken"
    with pytest.raises(Unreachable):
        connect("127.0.0.1:1", nick="anna", timeout_s=0.2)
    with pytest.raises(Unreachable):
        ask_status("127.0.0.1:1", timeout_s=0.2)
    with pytest.raises(ValueError, match="host is empty"):
        connect("", nick="anna")
    with pytest.raises(ValueError, match="owner"):
        connect(broker.address, nick="anna", owner=b"short")


def test_texts_for_many_rooms_each_have_their_own_outcome(broker: BrokerProcess) -> None:
    """They travel in few SENDs; each is kept at its place, or refused without the others."""
    rooms = [f"r{index:03}" for index in range(300)]
    with connect(broker.address, nick="anna") as anna:
        for room in rooms:
            anna.join(room)
        posted = {}
        for text in ("one", "two"):
            for room in [*rooms, "foreign"]:
                posted[room, text] = anna.post(room, text)
        for room in rooms:
            places = [posted[room, text].result(WAIT_S) for text in ("one", "two")]
            assert [(place.room, place.seq) for place in places] == [(room, 1), (room, 2)]
        for text in ("one", "two"):
            with pytest.raises(Refused) as caught:
                posted["foreign", text].result(WAIT_S)
            assert caught.value.code == "not_member"
        for room in rooms[:: len(rooms) - 1]:
            assert [entry.text for entry in anna.history(room)] == ["one", "two"]


def test_nothing_is_lost_doubled_or_moved_while_live_is_killed(broker: BrokerProcess) -> None:
    count = 1500
    with connect(broker.address, nick="anna") as anna, connect(broker.address, nick="bob") as bob:
        anna.join("lobby")
        bob.join("lobby")

        pending = []
        for n in range(count):
            if n in (500, 1000):
                live = eventually(lambda: broker.children().get("live"), "a live process")
                assert live
                os.kill(live, signal.SIGKILL)
            pending.append(anna.post("lobby", str(n)))
            if n % 10 == 0:
                pending[-1].result(DEADLINE_S)  # So that some were said before each death.
        places = [p.result(DEADLINE_S).seq for p in pending]
        for client in (anna, bob):
            seen = entries(client, count)
            assert [e.text for e in seen] == [str(n) for n in range(count)]
            assert [e.seq for e in seen] == places


def test_a_whole_restart_is_told_and_survived(broker: BrokerProcess) -> None:
    with connect(broker.address, nick="anna") as anna:
        anna.join("lobby")
        anna.send("lobby", "heard")
        states: list[str] = []
        for event in anna.events(DEADLINE_S):
            if isinstance(event, State):
                states.append(event.state)
            if isinstance(event, Entry):  # So the rooms' socket is connected, as well.
                break
        port = broker.port
        broker.stop()
        eventually(lambda: anna.state == "offline")
        pending = anna.post("lobby", "meanwhile")
        broker.start(port)
        assert pending.result(DEADLINE_S).seq == 2
        states += [event.state for event in anna.events(0.5) if isinstance(event, State)]
        # The word of closing comes by another socket than the end itself, and may lose the race.
        assert states in (
            ["connecting", "online", "closing", "offline", "online"],
            ["connecting", "online", "offline", "closing", "offline", "online"],
        )


def test_who_never_reads_can_still_talk_and_catches_up(broker: BrokerProcess) -> None:
    """Back-pressure stops the reading of rooms, never acknowledgements or history."""
    count = 3 * EVENTS_QUEUE_MAX
    with connect(broker.address, nick="anna") as anna:
        anna.join("lobby")
        for pending in [anna.post("lobby", str(n)) for n in range(count)]:
            pending.result(DEADLINE_S)
        assert anna.send("lobby", "last").seq == count + 1
        assert anna.history("lobby", limit=1)[0].text == "last"
        assert [e.seq for e in entries(anna, count + 1)] == list(range(1, count + 2))


@pytest.mark.parametrize(
    ("wanted", "expected"),
    [
        ({"history": 0}, 0),
        ({"history": 3}, 3),
        ({"history": 5000}, 5000),
        ({"history": None}, 9000),
        ({"since_ms": 0}, 9000),
    ],
)
def test_a_newcomer_gets_what_was_asked_for(
    broker: BrokerProcess, wanted: dict[str, int | None], expected: int
) -> None:
    with connect(broker.address, nick="anna") as anna, connect(broker.address, nick="bob") as bob:
        anna.join("lobby", history=0)
        for pending in [anna.post("lobby", str(n)) for n in range(9000)]:
            pending.result(DEADLINE_S)
        bob.join("lobby", **wanted)
        events = []
        for event in bob.events(WAIT_S):
            events.append(event)
            if isinstance(event, Joined):
                break
        seqs = [event.seq for event in events if isinstance(event, Entry)]
        assert seqs == list(range(9001 - expected, 9001))


def test_close_ends_everything_and_can_be_repeated(broker: BrokerProcess) -> None:
    anna = connect(broker.address, nick="anna")
    anna.join("lobby")
    pending = anna.post("lobby", "last words")
    anna.close()
    anna.close()
    assert pending.result(0).seq == 1
    assert isinstance(list(anna.events())[-1], Entry | Joined)
    assert anna.next_event() is None
    for call in (anna.rooms, lambda: anna.post("lobby", "x"), lambda: anna.join("lobby")):
        with pytest.raises(Closed):
            call()


@pytest.mark.parametrize(
    ("script", "status"),
    [
        ("connect(broker, nick='a').join('lobby')", 0),
        ("c = connect(broker, nick='a'); c.join('lobby'); c.post('lobby', 'x')", 0),
        ("c = connect(broker, nick='a'); 1 / 0", 1),
    ],
)
def test_a_program_that_forgets_close_ends_all_the_same(
    broker: BrokerProcess, script: str, status: int
) -> None:
    ended = run_script(broker, script)
    assert ended.returncode == status
    assert "Exception ignored" not in ended.stderr


def test_after_fork_the_child_has_no_part_in_the_session(broker: BrokerProcess) -> None:
    script = """
import os, sys
c = connect(broker, nick="anna")
c.join("lobby")
pid = os.fork()
if pid == 0:
    try:
        c.send("lobby", "from the child")
    except Closed:
        c.close()
        with connect(broker, nick="child") as own:
            own.join("lobby")
            own.send("lobby", "hello")
        os._exit(7)
assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 7
assert c.send("lobby", "from the parent").seq == 2
c.close()
"""
    ended = run_script(broker, script)
    assert (ended.returncode, ended.stderr) == (0, "")


def test_the_library_imports_little(broker: BrokerProcess) -> None:
    """A command that says one line should not wait for what it does not use."""
    ended = run_script(
        broker,
        "import sys; print(*{'asyncio', 'logging', 'dataclasses', 'concurrent.futures',"
        " 'prompt_toolkit', 'platformdirs'} & {*sys.modules})",
    )
    assert ended.stdout.strip() == ""
