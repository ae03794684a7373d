"""Who talks in the clear with another host sees so: in the toolbar, and in a line at the start."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from client.api import connect
from tests.broker_process import BrokerProcess
from tests.cli.person import Person
from tests.waiting import DEADLINE_S

WARNING = "hubbub: NOT ENCRYPTED: others on the network can read"


@pytest.fixture(scope="module")
def broker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[BrokerProcess]:
    folder = tmp_path_factory.mktemp("exposed")
    with BrokerProcess(folder / "data", "--grace", "0.5", port=0) as process:
        yield process


@pytest.fixture
def away(broker: BrokerProcess, tmp_path: Path) -> Person:
    """Somebody for whom the broker is on another host: 0.0.0.0 is this one by another name."""
    return Person(tmp_path / "anna", f"0.0.0.0:{broker.port}", "anna")


@pytest.fixture
def here(broker: BrokerProcess, tmp_path: Path) -> Person:
    return Person(tmp_path / "bob", broker.address, "bob")


def test_the_toolbar_warns_as_long_as_the_chat_lasts(away: Person) -> None:
    with away.chat("dev") as terminal:
        terminal.see(WARNING)
        terminal.wait(lambda: "NOT ENCRYPTED" in terminal.toolbar(), "the warning")
        terminal.enter("hello")
        terminal.see("anna: hello")
        terminal.wait(lambda: "online  NOT ENCRYPTED" in terminal.toolbar(), "the warning")


def test_on_one_host_nobody_is_warned(here: Person) -> None:
    with here.chat("dev") as terminal:
        terminal.wait(lambda: "online" in terminal.toolbar(), "the toolbar")
        assert "NOT ENCRYPTED" not in terminal.text()


def test_a_pipe_is_warned_on_standard_error(away: Person, here: Person) -> None:
    done = away.run("-r", "dev", stdin="from a pipe\n")
    assert "anna: from a pipe" in done.stdout
    assert done.stderr.startswith(WARNING)
    assert done.stderr.count("\n") == 1
    assert here.run("-r", "dev", stdin="me too\n").stderr == ""


def test_programs_can_ask(broker: BrokerProcess) -> None:
    with connect(broker.address, nick="carl", timeout_s=DEADLINE_S) as carl:
        assert not carl.is_exposed
    with connect(f"0.0.0.0:{broker.port}", nick="dora", timeout_s=DEADLINE_S) as dora:
        assert dora.is_exposed
