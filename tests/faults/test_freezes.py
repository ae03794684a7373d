"""Processes that are stopped for longer than anybody has patience, and then go on."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.broker_process import BrokerProcess
from tests.torture.__main__ import text_of
from tests.torture.stage import Stage
from tests.waiting import eventually

# A freeze is no absence: with the clients' silence it must not be told as one.
FLAGS = ("--grace", "600", "--heartbeat", "0.5")


@pytest.fixture
def stage(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Stage]:
    flags = getattr(request, "param", FLAGS)
    with (
        BrokerProcess(tmp_path / "data", *flags) as broker,
        Stage(broker, tmp_path, members=4) as made,
    ):
        made.add()
        made.await_joined()
        made.add()
        made.await_joined()
        made.await_progress()
        yield made


def assert_clean(stage: Stage) -> None:
    report = stage.finish()
    assert report.is_clean, text_of(report)


def test_live_that_sleeps_longer_than_the_clients_patience(stage: Stage) -> None:
    """Who waits for an answer gives it up and tries again; what is sent twice is stored once.

    Only they: who has all answers has nothing to lose patience with. A group says its next round
    when the last one is answered, so that in each group somebody waits.
    """
    with stage.frozen("live"):
        for group in stage.groups:
            eventually(
                lambda group=group: "offline" in [state for _, state in group.booked("state")],  # type: ignore[misc]
                "somebody of each group to lose patience",
            )
    stage.await_progress()
    assert_clean(stage)
    assert not stage.gone()


def test_chat_goes_on_without_the_supervisor(stage: Stage) -> None:
    """Asleep it serves nobody and misses nothing: a child that dies meanwhile comes back."""
    with stage.frozen("supervisor"):
        stage.await_progress()
        killed = stage.child("live")
        os.kill(killed, signal.SIGKILL)
    stage.await_progress()
    assert killed != stage.child("live")
    assert_clean(stage)


@pytest.mark.parametrize("stage", [("--grace", "0.3", "--heartbeat", "0.5")], indirect=True)
def test_clients_that_sleep_past_the_grace_become_whole(stage: Stage) -> None:
    """They have left for the others, and come back with what they had not sent yet."""
    awake, asleep = stage.groups
    with stage.frozen("clients", chance=0.5):
        eventually(
            lambda: {nick for _, _, nick in awake.booked("left")} >= set(asleep.members),
            "the sleepers to be gone",
        )
    stage.await_progress()
    assert_clean(stage)


def test_history_that_sleeps_delays_nobody(stage: Stage) -> None:
    """Who must ask it waits, also newcomers; all others talk on."""
    with stage.frozen("history"):
        newcomers = stage.add()
        for group in stage.groups[:2]:
            goal = group.kept() + 20
            eventually(lambda group=group, goal=goal: group.kept() >= goal, "progress")  # type: ignore[misc]
        newcomers.await_joined()
    stage.await_progress()
    assert_clean(stage)
