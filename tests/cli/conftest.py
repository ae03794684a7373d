"""A broker for each module of tests, and people who use it."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.broker_process import BrokerProcess
from tests.cli.person import Person

NewPerson = Callable[[str], Person]
_numbers = itertools.count(1)


@pytest.fixture(scope="module")
def broker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[BrokerProcess]:
    """Start a broker that the tests of a module share: each uses rooms of its own."""
    folder = tmp_path_factory.mktemp("broker")
    with BrokerProcess(folder / "data", "--grace", "0.5", "--motd", "Welcome!") as process:
        yield process


@pytest.fixture
def new_person(broker: BrokerProcess, tmp_path: Path) -> NewPerson:
    """Make people with secrets of their own."""
    return lambda nick: Person(tmp_path / nick, broker.address, nick)


@pytest.fixture
def anna(new_person: NewPerson) -> Person:
    return new_person("anna")


@pytest.fixture
def bob(new_person: NewPerson) -> Person:
    return new_person("bob")


@pytest.fixture
def room() -> str:
    """Name a room that no other test uses."""
    return f"room{next(_numbers)}"
