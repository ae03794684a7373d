"""One broker that encrypts for each file of attacks, with honest people who talk meanwhile."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest

from tests.attacks.scene import Honest
from tests.broker_process import BrokerProcess


@pytest.fixture(name="broker", scope="module")
def secured_broker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[BrokerProcess]:
    """Start a broker that encrypts, for the tests of one file."""
    data = tmp_path_factory.mktemp("attacked") / "data"
    with BrokerProcess(data, "--secure") as made:
        yield made


@pytest.fixture(autouse=True)
def honest(broker: BrokerProcess) -> Iterator[Honest]:
    """Let two people talk beside each attack; each test ends with a look whether they can."""
    with Honest(broker, f"calm-{os.urandom(4).hex()}") as people:
        people.are_undisturbed(1)
        yield people
