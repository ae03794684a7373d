"""Looking after the log of a real broker: while it writes, after a kill, and when it is damaged."""

from __future__ import annotations

import json
import sqlite3
import subprocess
import sys
import threading
from contextlib import closing
from pathlib import Path
from typing import Self

from broker.log.segments import path_of
from broker.log.writer import FILE_NAME
from client.api import Client, Entry, Joined, Missing, Reset, connect
from tests.broker_process import ROOT, BrokerProcess
from tests.waiting import DEADLINE_S, eventually

BACKUPS = 3
LINES_MIN = 300
ROOM = "lobby"


def tool(*words: object) -> subprocess.CompletedProcess[str]:
    """Run a sub-command of hubbub-broker."""
    return subprocess.run(
        [sys.executable, "-m", "broker", *map(str, words)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=DEADLINE_S,
        check=False,
    )


def exported(folder: Path) -> list[tuple[int, str]]:
    """Return seq and text of each entry of the room."""
    done = tool("export", "--data", folder, "--room", ROOM)
    assert (0, "") == (done.returncode, done.stderr)
    entries = map(json.loads, done.stdout.splitlines())
    return [(entry["seq"], entry["text"]) for entry in entries]


class Talker:
    """Says a line after the other until it is told to stop; what is acknowledged is its ledger."""

    def __init__(self, client: Client) -> None:
        self.ledger: list[tuple[int, str]] = []
        self._client = client
        self._is_over = threading.Event()
        self._thread = threading.Thread(target=self._talk)

    def _talk(self) -> None:
        number = 0
        while not self._is_over.is_set():
            number += 1
            text = f"line {number}"
            self.ledger.append((self._client.send(ROOM, text).seq, text))

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._is_over.set()
        self._thread.join()


def hear(client: Client, room: str) -> list[Entry | Missing]:
    """Join a room with all of its history; return it."""
    client.join(room, history=None)
    heard: list[Entry | Missing] = []
    for event in client.events(DEADLINE_S):
        if isinstance(event, Entry | Missing) and event.room == room:
            heard.append(event)
        elif isinstance(event, Joined):
            break
    return heard


def test_a_backup_made_while_the_broker_writes_has_all_that_was_acknowledged(
    tmp_path: Path,
) -> None:
    """Check, backup and export see one moment each; a restored one tells clients to start over."""
    data = tmp_path / "data"
    with BrokerProcess(data) as broker, connect(broker.address, nick="ann") as ann:
        port = broker.port
        ann.join(ROOM)
        with Talker(ann) as talker:
            for number in range(1, BACKUPS + 1):
                wanted = number * LINES_MIN // BACKUPS
                eventually(lambda: len(talker.ledger) >= wanted, "lines")  # noqa: B023 - at once
                before = list(talker.ledger)
                copy = tmp_path / f"copy{number}"
                done = tool("backup", "--data", data, copy)
                assert (0, "") == (done.returncode, done.stderr)
                kept = exported(copy)
                assert before == kept[: len(before)]
                done = tool("check", "--data", data)
                assert 0 == done.returncode, done.stdout
                assert "a broker runs: looked at what it had committed" in done.stdout
                assert kept == exported(data)[: len(kept)]
        assert talker.ledger == exported(data)
        epoch = ann.status().epoch
        assert 1 == tool("restore", "--data", data, copy, "--force").returncode
        assert 0 == broker.stop()
        assert 0 == tool("check", "--data", data).returncode
        assert 0 == tool("restore", "--data", data, copy, "--force").returncode
        broker.start(port)
        again: list[tuple[int, str]] = []
        is_reset = False
        for event in ann.events(DEADLINE_S):
            if isinstance(event, Reset):
                is_reset = True
                again = []
            elif isinstance(event, Entry):
                again.append((event.seq, event.text))
            elif isinstance(event, Joined) and is_reset:
                break
        assert epoch != ann.status().epoch
        assert kept[-100:] == again[-100:]
        assert ann.send(ROOM, "on").seq == kept[-1][0] + 1


def test_damage_is_told_where_it_is_and_nothing_else_suffers(tmp_path: Path) -> None:
    """A bit that flips on the disk of a running broker: no altered text, no endless asking."""
    data = tmp_path / "data"
    with BrokerProcess(data) as broker, connect(broker.address, nick="ann") as ann:
        for room in (ROOM, "other"):
            ann.join(room)
            for number in range(10):
                ann.send(room, f"{room} says {number}")
        path = path_of(data, 1)
        content = path.read_bytes()
        with path.open("r+b") as file:
            file.seek(content.index(b"lobby says 4"))
            file.write(b"L")
        texts = [f"lobby says {number}" for number in range(10)]
        for nick in ("bob", "eve", "joe"):
            with connect(broker.address, nick=nick) as reader:
                heard = hear(reader, ROOM)
                assert [*texts[:4], Missing(ROOM, 1), *texts[5:]] == [
                    each.text if isinstance(each, Entry) else each for each in heard
                ]
                asked = reader.history(ROOM)
                assert [*texts[:4], "notice", *texts[5:]] == [
                    each.text if each.nick else each.kind for each in asked
                ]
                assert 10 == len(hear(reader, "other"))
        ann.send(ROOM, "on")
        assert 1 == broker.log().count("#lobby: entries 5 to 5 are damaged")
        done = tool("check", "--data", data)
        assert 1 == done.returncode
        assert "#lobby, entries 5 to 5: not what was written" in done.stdout
        assert 0 == broker.stop()
    assert 0 == tool("salvage", "--data", data, tmp_path / "new").returncode
    with (
        BrokerProcess(tmp_path / "new") as broker,
        connect(broker.address, nick="ann") as ann,
    ):
        heard = hear(ann, ROOM)
        assert Missing(ROOM, 1) == heard[4]
        assert 11 == len(heard)


def test_damage_before_the_end_is_refused_at_the_start(tmp_path: Path) -> None:
    """After a kill of everything: a line with file and offset, and status 1; check tells more."""
    data = tmp_path / "data"
    with BrokerProcess(data) as broker, connect(broker.address, nick="ann") as ann:
        ann.join(ROOM)
        with closing(sqlite3.connect(data / FILE_NAME, isolation_level=None)) as other:
            other.execute("BEGIN IMMEDIATE")  # So that the index learns nothing of it.
            for number in range(3):
                ann.send(ROOM, f"says {number}")
            broker.kill_all()
    path = path_of(data, 1)
    with path.open("r+b") as file:
        file.seek(path.read_bytes().rindex(b"says 1"))
        file.write(b"S")
    done = tool("--data", data, "--port", "0")
    assert 1 == done.returncode
    assert f"{path} is damaged at " in done.stderr
    assert "hubbub-broker check" in done.stderr
    assert 1 == len(done.stderr.strip().splitlines())
    assert 1 == tool("check", "--data", data).returncode


def test_a_lock_of_somebody_else_on_the_index_stops_no_chat(tmp_path: Path) -> None:
    """Somebody's open sqlite3: messages go on, are read, and are in the index when it is over."""
    data = tmp_path / "data"
    with BrokerProcess(data) as broker, connect(broker.address, nick="ann") as ann:
        ann.join(ROOM)
        ann.send(ROOM, "before")
        with closing(sqlite3.connect(data / FILE_NAME, isolation_level=None)) as other:
            other.execute("BEGIN IMMEDIATE")
            for number in range(50):
                ann.send(ROOM, f"{number}")
            eventually(lambda: "cannot be trimmed: database is locked" in broker.log(), "a line")
            with connect(broker.address, nick="bob") as bob:
                assert 51 == len(hear(bob, ROOM))
            ann.send(ROOM, "last")
            assert 1 == broker.log().count("cannot be trimmed")
            other.execute("ROLLBACK")
        assert 0 == broker.stop()
    with closing(sqlite3.connect(data / FILE_NAME)) as db:
        (indexed,) = db.execute("SELECT sum(count) FROM batches").fetchone()
    assert 52 == indexed


def test_an_export_to_a_full_standard_output_says_so(tmp_path: Path) -> None:
    """In one line, as with a file."""
    with BrokerProcess(tmp_path / "data") as broker, connect(broker.address, nick="ann") as ann:
        ann.join(ROOM, history=0)
        ann.send(ROOM, "hello")
    words = ("export", "--data", str(tmp_path / "data"))
    with open("/dev/full", "w") as full:  # noqa: PTH123 - a device
        done = subprocess.run(
            [sys.executable, "-m", "broker", *words],
            cwd=ROOT,
            stdout=full,
            stderr=subprocess.PIPE,
            text=True,
            timeout=DEADLINE_S,
            check=False,
        )
    (line,) = done.stderr.splitlines()
    assert "standard output cannot be written: No space left on device" in line
    assert 1 == done.returncode
