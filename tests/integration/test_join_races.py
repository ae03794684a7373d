"""Joining while others talk: history and live frames meet without a hole or an overlap."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest

from client.api import Client, connect
from client.events import Entry, Missing
from tests.broker_process import BrokerProcess
from tests.gathering import read_log
from tests.waiting import DEADLINE_S, eventually

TEXTS = 3_000
FLOOD = 6_000
LAST = "the last one"


def read_until_last(client: Client) -> tuple[list[Entry], int]:
    """Return all entries up to the last one, and how many were said to be missing."""
    entries: list[Entry] = []
    missing_count = 0
    for event in client.events(DEADLINE_S):
        if isinstance(event, Missing):
            missing_count += event.count
        if isinstance(event, Entry):
            entries.append(event)
            if event.text == LAST:
                return entries, missing_count
    raise AssertionError(f"the last one never came, after {len(entries)} entries")


def talk(broker: BrokerProcess) -> None:
    """Say everything, with short waits for acknowledgements, so that it lasts."""
    with connect(broker.address, nick="talker") as talker:
        talker.join("lobby", history=0)
        for start in range(0, TEXTS, 10):
            posted = [talker.post("lobby", str(number)) for number in range(start, start + 10)]
            for pending in posted:
                pending.result(DEADLINE_S)
        talker.send("lobby", LAST, timeout_s=DEADLINE_S)


@pytest.mark.parametrize("history", [0, 100, None])
def test_whoever_joins_in_the_middle_has_no_hole(tmp_path: Path, history: int | None) -> None:
    """Each newcomer sees a whole tail of the log, at least as long as was asked for."""
    with BrokerProcess(tmp_path / "data") as broker:
        talking = threading.Thread(target=talk, args=(broker,))
        talking.start()
        newcomers: list[tuple[Client, int]] = []
        try:
            while talking.is_alive() and len(newcomers) < 30:
                newcomer = connect(broker.address, nick=f"n{len(newcomers)}", timeout_s=DEADLINE_S)
                joined_after = broker_head(newcomer)
                newcomer.join("lobby", history=history)
                newcomers.append((newcomer, joined_after))
            seen = [(read_until_last(newcomer), head) for newcomer, head in newcomers]
        finally:
            for newcomer, _ in newcomers:
                newcomer.close()
            talking.join()
        log = read_log(broker.data)["lobby"]
    assert len(log) == TEXTS + 1
    for (entries, missing_count), head in seen:
        assert missing_count == 0
        assert [(entry.seq, entry.text) for entry in entries] == log[-len(entries) :]
        if history is None:
            assert entries[0].seq == 1
        elif history == 0:
            assert entries[0].seq > head, "said before it joined"
        else:
            assert len(entries) >= min(history, head)


def broker_head(client: Client) -> int:
    """Return the last seq of the lobby that this client can know of before it joins."""
    return next((info.head for info in client.rooms() if info.room == "lobby"), 0)


def test_whoever_reads_slower_than_retention_cuts_is_told_how_much_is_gone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What the log no longer has is counted as missing: nothing is guessed or left out."""
    monkeypatch.setattr("client.queues.EVENTS_QUEUE_MAX", 50)
    monkeypatch.setattr("client.queues.EVENTS_QUEUE_LOW", 25)
    monkeypatch.setattr("client.limits.ROOMS_QUEUE_MAX", 4)
    flags = ("--retain-messages", "500", "--publish-queue", "4")
    with (
        BrokerProcess(tmp_path / "data", *flags) as broker,
        connect(broker.address, nick="reader") as reader,
        connect(broker.address, nick="talker") as talker,
    ):
        reader.join("lobby", history=None)
        talker.join("lobby", history=0)
        # More than all queues and the kernel's buffers hold, and all the while unread.
        posted = [talker.post("lobby", f"{number:04000}") for number in range(FLOOD)]
        assert posted[-1].result(DEADLINE_S).seq == FLOOD
        eventually(lambda: talker.history("lobby", after=0, limit=1)[0].seq > FLOOD - 2_000, "cut")
        talker.send("lobby", LAST)
        entries, missing_count = read_until_last(reader)
    seqs = [entry.seq for entry in entries]
    assert seqs == sorted(set(seqs))
    assert missing_count > 0
    assert len(seqs) + missing_count == FLOOD + 1
