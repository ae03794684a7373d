"""A disk that is full or read-only, under the running broker and at its start."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from client.api import connect
from tests.broker_process import ROOT, BrokerProcess
from tests.faults.small_disk import small_disk
from tests.faults.talkers import Talkers
from tests.waiting import DEADLINE_S, eventually

DISK_MIB = 96
ROOM = "talker-room0"
LONG = 3_000  # Characters of a text: the space that was taken ahead is used up soon.


def run(module: str, *arguments: str, text: str = "") -> subprocess.CompletedProcess[str]:
    """Run one of the programs to its end."""
    return subprocess.run(
        [sys.executable, "-m", module, *arguments],
        cwd=ROOT,
        input=text,
        capture_output=True,
        text=True,
        check=False,
        timeout=DEADLINE_S,
    )


def test_a_full_disk_is_told_and_survived(tmp_path: Path) -> None:
    """Senders hear log_failed, nothing refused is kept, readers go on, and room heals it."""
    with (
        small_disk(tmp_path, DISK_MIB) as disk,
        BrokerProcess(disk.data) as broker,
        Talkers(broker.address, text_chars=LONG) as talkers,
    ):
        children = broker.children()
        for _ in range(2):
            talkers.await_kept(200)
            disk.fill()
            talkers.await_refused(200)
            with connect(broker.address, nick="reader", timeout_s=DEADLINE_S) as reader:
                reader.join(ROOM, history=0, timeout_s=DEADLINE_S)
                assert len(reader.history(ROOM, limit=50, timeout_s=DEADLINE_S)) == 50
            disk.free()
            talkers.await_kept(200)
        talkers.stop()
        assert set(talkers.check(disk.data)) == {"log_failed"}
        assert broker.children() == children, "a process died of it"
        assert "No space left on device; senders are told that nothing is kept" in broker.log()
        assert broker.log().count("ERROR") < 50, "the log of the broker is flooded"


def test_people_are_told_that_nothing_was_kept(tmp_path: Path) -> None:
    """The command line says which text, and why, and fails."""
    with small_disk(tmp_path, DISK_MIB) as disk, BrokerProcess(disk.data) as broker:
        with Talkers(broker.address, text_chars=LONG) as talkers:
            disk.fill()
            talkers.await_refused(1)
            talkers.stop()
        disk.fill()
        send = ("send", "--broker", broker.address, "-n", "anna", "-r", "lobby")
        # More than can be left of the space that was taken ahead.
        refused = run("client", *send, text="\n".join(["x" * LONG] * 300))
        assert refused.returncode == 1
        reason = "(the broker could not write its log; nothing was kept)"
        assert reason in refused.stderr
        assert refused.stderr.startswith("hubbub: not sent: xxx")
        disk.free()
        assert run("client", *send, "now").returncode == 0


def test_restarts_on_a_full_disk_lose_nothing(tmp_path: Path) -> None:
    """A killed live comes back, and so does a broker: for readers at once, whole with room."""
    with (
        small_disk(tmp_path, DISK_MIB) as disk,
        BrokerProcess(disk.data) as broker,
        Talkers(broker.address, text_chars=LONG) as talkers,
    ):
        port = broker.port
        talkers.await_kept(200)
        disk.fill()
        talkers.await_refused(200)
        broker.kill_child("live")
        eventually(lambda: "live is back" in broker.log(), "live on a full disk")
        disk.fill()  # What it had taken ahead it has given back.
        talkers.await_refused(200)
        broker.kill_all()
        broker.start(port)
        disk.fill()
        talkers.await_refused(200)
        disk.free()
        talkers.await_kept(200)
        talkers.stop()
        assert set(talkers.check(disk.data)) == {"log_failed"}


def test_a_first_start_without_room_says_so(tmp_path: Path) -> None:
    """One line, status 1; and the same folder serves when there is room."""
    with small_disk(tmp_path, DISK_MIB) as disk:
        disk.fill()
        started = run("broker", "--port", "0", "--data", str(disk.data))
        assert started.returncode == 1
        (line,) = started.stderr.splitlines()
        assert "full" in line or "No space" in line
        assert "make room" in line
        disk.free()
        with BrokerProcess(disk.data) as broker:
            assert broker.stop() == 0


def test_a_read_only_disk_is_named_at_the_start(tmp_path: Path) -> None:
    """One line with the folder and the reason; a log that is there is not touched."""
    with small_disk(tmp_path, DISK_MIB) as disk:
        with BrokerProcess(disk.data) as broker, connect(broker.address, nick="anna") as anna:
            anna.join("lobby", history=0)
            anna.send("lobby", "kept", timeout_s=DEADLINE_S)
        disk.remount("ro")
        started = run("broker", "--port", "0", "--data", str(disk.data))
        assert started.returncode == 1
        (line,) = started.stderr.splitlines()
        assert f"{disk.data} cannot be written (Read-only file system)" in line
        disk.remount("rw")
        with BrokerProcess(disk.data) as broker, connect(broker.address, nick="anna") as anna:
            anna.join("lobby", history=0)
            (entry,) = anna.history("lobby", limit=9, timeout_s=DEADLINE_S)
            assert entry.text == "kept"
