"""The README's examples are run: commands, Python, the screen, `make run`, and a backup.

In documents a ```console block is run by these tests: a line that begins with "$ " is given to the
shell, the lines after it are what it prints. There `...` stands for anything and a time for any
time. A ```python block is run, too. What can't be run stands in a ```sh or ```text block.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from broker.host.ports import free_base_port
from broker.log.writer import FILE_NAME
from client.api import Entry, Joined, Reset, connect
from tests import markdown
from tests.broker_process import BrokerProcess
from tests.cli.person import Person
from tests.markdown import ROOT
from tests.waiting import DEADLINE_S

README = markdown.read("README.md")
SNIPPETS = [
    pytest.param(code, id=f"{path.name}-{number}")
    for path in markdown.documents()
    for number, code in enumerate(markdown.blocks(path.read_text(encoding="utf-8"), "python"))
]
TIME = r"\d\d:\d\d"


def pattern_of(expected: str) -> str:
    """Return the regular expression of what a document shows."""
    pattern = re.escape(expected).replace(re.escape("..."), ".*?")
    return re.sub(TIME, lambda _: TIME, pattern)


def assert_shown(expected: str, real: str) -> None:
    assert re.fullmatch(pattern_of(expected.rstrip()), real.rstrip()), f"{expected}\n---\n{real}"


@pytest.fixture
def broker(tmp_path: Path) -> Iterator[BrokerProcess]:
    with BrokerProcess(tmp_path / "data") as process:
        yield process


@pytest.fixture
def anna(broker: BrokerProcess, tmp_path: Path) -> Person:
    """Give anna a login name, and a PATH with the commands that `make setup` makes."""
    person = Person(tmp_path / "anna", broker.address)
    commands = tmp_path / "bin"
    commands.mkdir()
    for name, package in (("hubbub", "client"), ("hubbub-broker", "broker")):
        command = commands / name
        command.write_text(f"#!/bin/sh\nexec '{sys.executable}' -m {package} \"$@\"\n")
        command.chmod(0o755)
    person.environ["LOGNAME"] = "anna"
    person.environ["PATH"] = f"{commands}{os.pathsep}{person.environ['PATH']}"
    return person


def test_commands_print_what_the_readme_shows(anna: Person, tmp_path: Path) -> None:
    """Every ```console block, in order, with one broker."""
    steps = [
        step.partition("\n")
        for block in markdown.blocks(README, "console")
        for step in re.split(r"^\$ ", block, flags=re.MULTILINE)[1:]
    ]
    assert len(steps) > 5
    for command, _, expected in steps:
        done = subprocess.run(
            ["/bin/sh", "-c", command],
            env=anna.environ,
            cwd=tmp_path,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=DEADLINE_S,
            check=False,
        )
        assert done.returncode == 0, f"{command}\n{done.stdout}"
        assert_shown(expected, done.stdout)


@pytest.mark.parametrize("code", SNIPPETS)
def test_python_runs(code: str, broker: BrokerProcess, anna: Person, tmp_path: Path) -> None:
    """Every ```python block of every document, with the broker's real address."""
    done = subprocess.run(
        [sys.executable, "-c", code.replace("chat.local", broker.address)],
        env=anna.environ,
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=DEADLINE_S,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, ""), done.stderr


def test_the_screen_is_what_people_see(broker: BrokerProcess, anna: Person, tmp_path: Path) -> None:
    """The README's picture is the whole screen after what it shows was typed."""
    bob = Person(tmp_path / "bob", broker.address, "bob")
    with anna.sit_down("run") as screen:
        screen.see("#lobby>")
        with bob.chat() as other:
            screen.see("bob joined")
            other.enter("hi anna, is the printer back?")
            screen.see("printer back?")
            screen.enter("since ten")
            screen.see("anna: since ten")
            screen.enter("/me waves with a warm page")
            screen.see("* anna waves")
            other.enter("/topic printers and other weather")
            screen.see("changed the topic")
            other.enter("/quit")
            assert other.wait_for_end() == 0
        screen.see("bob left")
        screen.enter("/who")
        screen.see("--- #lobby, 1 user now: anna")
        screen.type("see you")
        screen.see("#lobby> see you")
        (expected,) = markdown.blocks(README, "screen")
        pattern = pattern_of(expected.rstrip())
        screen.wait(lambda: bool(re.fullmatch(pattern, screen.text())), f"\n{expected}")


def is_set_up() -> bool:
    """Tell whether `make run` would start at once, without setting anything up."""
    command = ["make", "-q", ".venv/.ready-run"]
    return subprocess.run(command, cwd=ROOT, capture_output=True, check=False).returncode == 0


# In CI it must run: there, a missing .venv is a failure and no reason to skip.
@pytest.mark.skipif(
    not is_set_up() and "CI" not in os.environ,
    reason="there is no finished .venv; `make test` makes one",
)
def test_make_run_takes_lines_from_a_pipe(tmp_path: Path) -> None:
    """In a copy of what is committed, a line through a pipe is kept, and the broker stopped."""
    copy = tmp_path / "a copy"
    listed = subprocess.run(
        ["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=True
    )
    for name in filter(None, listed.stdout.split("\0")):
        if (ROOT / name).is_file():
            (copy / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, copy / name)  # With its times: make compares them.
    (copy / ".venv").symlink_to(ROOT / ".venv")
    anna = Person(tmp_path / "home", f"127.0.0.1:{free_base_port('127.0.0.1')}")
    # A make around the tests hands its own flags and variables on, ARGS among them.
    drop = {"PYTHONPATH", "MAKEFLAGS", "MAKELEVEL", "MAKEOVERRIDES", "ARGS", "JOBS"}
    environ = {name: value for name, value in anna.environ.items() if name not in drop}
    environ |= {"LOGNAME": "anna", "HUBBUB_DATA": str(tmp_path / "data")}
    done = subprocess.run(
        ["/bin/sh", "-c", r"printf 'hello\n' | make run"],
        cwd=copy,
        env=environ,
        capture_output=True,
        text=True,
        timeout=DEADLINE_S,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, ""), done.stderr
    assert done.stdout.endswith(" anna: hello\n")
    assert (tmp_path / "data" / FILE_NAME).is_file()


def test_a_restored_backup_is_told_to_clients(anna: Person, tmp_path: Path) -> None:
    """A copy made while the broker ran, put back as the README says: clients start over."""
    data, backup = tmp_path / "log", tmp_path / "copy"

    def tend(*words: object) -> None:
        command = ["hubbub-broker", *map(str, words), "--data", str(data)]
        subprocess.run(command, env=anna.environ, cwd=ROOT, check=True, timeout=DEADLINE_S)

    with BrokerProcess(data) as broker, connect(broker.address, nick="bob") as bob:
        port, epoch = broker.port, bob.status().epoch
        bob.join("lobby")
        bob.send("lobby", "in the backup")
        tend("backup", backup)
        bob.send("lobby", "after it")
        assert 0 == broker.stop()
        tend("restore", "--force", backup)
        broker.start(port)
        events = []
        for event in bob.events(DEADLINE_S):
            events.append(event)
            if isinstance(event, Joined) and Reset("lobby") in events:
                break
        assert epoch != bob.status().epoch
    after = events[events.index(Reset("lobby")) :]
    assert ["in the backup"] == [event.text for event in after if isinstance(event, Entry)]


def test_copying_the_whole_stopped_folder_keeps_everything(tmp_path: Path) -> None:
    """As the README says: all files of the folder together are a backup."""
    with BrokerProcess(tmp_path / "data") as broker:
        with connect(broker.address, nick="bob") as bob:
            bob.join("lobby")
            bob.send("lobby", "kept")
        assert broker.stop() == 0
    shutil.copytree(tmp_path / "data", tmp_path / "copy")
    with (
        BrokerProcess(tmp_path / "copy") as broker,
        connect(broker.address, nick="bob") as bob,
    ):
        bob.join("lobby")
        assert [entry.text for entry in bob.history("lobby")] == ["kept"]
