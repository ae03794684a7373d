"""examples/bot.py as a process, against a real broker, spoken to through the client library."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from client.api import Client, Entry, connect
from tests.broker_process import ROOT, BrokerProcess
from tests.waiting import DEADLINE_S, eventually

BOT = ROOT / "examples" / "bot.py"
ROOM = "games"


@pytest.fixture
def broker(tmp_path: Path) -> Iterator[BrokerProcess]:
    with BrokerProcess(tmp_path / "data") as process:
        yield process


def start_bot(*arguments: str) -> subprocess.Popen[str]:
    """Start the bot with pipes."""
    return subprocess.Popen(
        [sys.executable, str(BOT), *arguments],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


@pytest.fixture
def bot(broker: BrokerProcess) -> Iterator[subprocess.Popen[str]]:
    """Start a bot and wait until it stands in its room."""
    with start_bot(broker.address, ROOM) as process:
        try:
            assert process.stdout is not None
            assert process.stdout.readline() == f"bot is in #{ROOM}\n"
            yield process
        finally:
            process.kill()


def hear(client: Client, nick: str) -> str:
    """Return the next text of somebody."""
    for event in client.events(DEADLINE_S):
        if isinstance(event, Entry) and event.nick == nick:
            return event.text
    pytest.fail(f"{nick} said nothing")


@pytest.mark.usefixtures("bot")
def test_the_bot_answers_what_it_knows_and_nothing_else(broker: BrokerProcess) -> None:
    """Commands are answered in their order; talk, wrong dice and its own words lead to nothing."""
    with connect(broker.address, nick="anna") as anna:
        anna.join(ROOM, history=0)
        for text in ("hello", "!time", "!unknown", "!roll 2d6", "!roll 0d6", "!help"):
            anna.send(ROOM, text)
        assert re.fullmatch(r"anna: it is \d\d:\d\d UTC", hear(anna, "bot"))
        thrown = re.fullmatch(r"anna: ([1-6]) \+ ([1-6]) = (\d+)", hear(anna, "bot"))
        assert thrown
        assert int(thrown[1]) + int(thrown[2]) == int(thrown[3])
        assert hear(anna, "bot") == "anna: 1d2 to 20d1000, please"
        assert hear(anna, "bot").startswith("anna: !time, !roll")
        # An answer to itself would stand before this one.
        anna.send(ROOM, "!roll 1d2")
        assert hear(anna, "bot") in ("anna: 1", "anna: 2")


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_the_bot_leaves_when_it_is_told_to(
    broker: BrokerProcess, bot: subprocess.Popen[str], number: int
) -> None:
    """Either signal ends it with status 0 and without a word, and others see it leave at once."""
    with connect(broker.address, nick="anna") as anna:
        anna.join(ROOM, history=0)
        assert anna.who(ROOM).nicks == ["bot", "anna"]
        bot.send_signal(number)
        assert bot.wait(DEADLINE_S) == 0
        assert bot.stderr is not None
        assert bot.stderr.read() == ""
        eventually(lambda: anna.who(ROOM).nicks == ["anna"], "the bot's leave")


@pytest.mark.usefixtures("bot")
def test_the_bot_survives_a_restart_and_answers_what_it_missed(broker: BrokerProcess) -> None:
    """Killing the broker's live process costs no answer."""
    with connect(broker.address, nick="anna") as anna:
        anna.join(ROOM, history=0)
        broker.kill_child("live")
        anna.send(ROOM, "!roll 1d2")
        assert hear(anna, "bot") in ("anna: 1", "anna: 2")


def test_a_bot_whose_name_is_taken_says_so(broker: BrokerProcess) -> None:
    """It ends with status 1 and one line."""
    with connect(broker.address, nick="BOT"), start_bot(broker.address, ROOM) as bot:
        _, said = bot.communicate(timeout=DEADLINE_S)
        assert (bot.returncode, said) == (1, "bot: somebody else is here as BOT\n")
