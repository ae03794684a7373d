"""`hubbub run`, which is `make run`: the chat with a broker of its own."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.broker_process import BrokerProcess
from tests.cli.person import Person
from tests.waiting import DEADLINE_S, eventually

PORTS = range(20_000, 28_000, 3)  # Below those that the system gives out by itself.


def is_free(port: int) -> bool:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
        return True


def find_port(seed: int) -> int:
    """Return the first of three free ports, another one for each seed as far as may be."""
    start = seed % len(PORTS)
    candidates: list[int] = [*PORTS[start:], *PORTS[:start]]
    return next(port for port in candidates if all(is_free(port + i) for i in range(3)))


@pytest.fixture
def person(tmp_path: Path) -> Iterator[Person]:
    """Sit somebody down where no broker is; what they start must be gone in the end."""
    port = find_port(hash(str(tmp_path)))
    somebody = Person(tmp_path / "home", f"127.0.0.1:{port}")
    somebody.environ |= {"LOGNAME": "carl", "HUBBUB_DATA": str(tmp_path / "data")}
    yield somebody
    assert is_free(port)


def test_lines_through_a_pipe_are_acknowledged_and_it_ends(person: Person) -> None:
    done = person.run("run", stdin="hello\n")
    assert "--- you are in #lobby, 1 user now: carl" in done.stdout
    assert done.stdout.endswith(" carl: hello\n")
    assert done.stderr == ""
    # Kept, and the nick is nobody else's now.
    assert " carl: hello\n" in person.run("run", stdin="").stdout


def test_at_a_terminal_it_asks_nothing_and_stops_its_broker(person: Person) -> None:
    with person.sit_down("run") as terminal:
        terminal.see("you are in #lobby")
        terminal.see("#lobby>")
        person.run("status")
        terminal.enter("hi")
        terminal.see("carl: hi")
        terminal.type("\x03")
        assert terminal.wait_for_end() == 0
    person.run("--timeout", "0.2", "status", status=69)


def test_it_joins_a_broker_that_is_there_and_leaves_it_running(tmp_path: Path) -> None:
    with BrokerProcess(tmp_path / "data") as broker:
        person = Person(tmp_path / "home", broker.address, "dora")
        person.run("run", "-r", "dev", stdin="hello\n")
        assert " dora: hello\n" in person.run("history", "-r", "dev").stdout
        assert broker.process.poll() is None


def test_two_that_start_at_once_talk_to_one_broker(person: Person) -> None:
    first, second = person.start("run", "-n", "one"), person.start("run", "-n", "two")
    with first, second:
        eventually(
            lambda: person.run("who", "-r", "lobby", status=None).stdout == "one\ntwo\n", "both"
        )
        # The broker belongs to one of the two: the other one is done first, or rides it out.
        for chat in (first, second):
            chat.communicate(timeout=DEADLINE_S)


def test_a_broker_that_cannot_start_is_told_in_its_own_words(
    person: Person, tmp_path: Path
) -> None:
    (tmp_path / "file").write_text("")
    done = person.run("run", "--data", str(tmp_path / "file"), status=1)
    assert done.stderr.startswith("hubbub: the broker did not start: ")
    assert "cannot be written" in done.stderr
    assert len(done.stderr.splitlines()) == 1


def test_something_else_on_the_port_is_named(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        address = f"127.0.0.1:{other.getsockname()[1]}"
        done = Person(tmp_path, address, "carl").run("--timeout", "0.3", "run", status=69)
        assert f"something that is no broker listens at {address}" in done.stderr


def test_a_folder_called_broker_is_not_run(person: Person, tmp_path: Path) -> None:
    (tmp_path / "broker").mkdir()
    (tmp_path / "broker" / "__main__.py").write_text("raise SystemExit('not me')\n")
    with person.sit_down("run", directory=tmp_path) as terminal:
        terminal.see("you are in #lobby")


def test_a_signal_stops_the_broker_too(person: Person) -> None:
    with person.start("run") as chat:
        eventually(lambda: person.run("status", status=None).returncode == 0, "the broker")
        chat.terminate()
        chat.communicate(timeout=DEADLINE_S)
        assert chat.returncode == 143
    person.run("--timeout", "0.2", "status", status=69)
