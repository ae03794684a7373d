"""The broker as a service of systemd: what it says, and the rights that it has to have.

No test starts it under systemd, which would have to be process 1. Instead its words are read from
the socket that systemd would listen on, systemd-analyze judges the unit file, and strace shows that
the broker does nothing which the unit file forbids.
"""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest

from broker import config
from broker.host.ports import PORTS_COUNT
from common import wire
from tests import saying
from tests.broker_process import ROOT, BrokerProcess
from tests.needs import need_program
from tests.raw_peer import RawPeer
from tests.waiting import DEADLINE_S, eventually

UNIT = ROOT / "contrib" / "hubbub-broker.service"
EXPOSURE_MAX = 15  # Tenths, as systemd counts; 0 is a service that can do nothing at all.


# --- its words --------------------------------------------------------------
class Systemd:
    """The socket that a service speaks to, and what has been heard."""

    def __init__(self, listener: socket.socket) -> None:
        self._listener = listener
        self.heard: list[str] = []

    def has(self, line: str) -> bool:
        """Tell whether a line has been heard."""
        while True:
            try:
                self.heard += self._listener.recv(4_096).decode().splitlines()
            except BlockingIOError:
                return line in self.heard

    def forget(self) -> None:
        """Forget what has been heard."""
        self.has("")
        self.heard.clear()


@contextmanager
def listening(name: str, monkeypatch: pytest.MonkeyPatch, watchdog_s: float) -> Iterator[Systemd]:
    """Yield the socket, whose name brokers get from now on."""
    monkeypatch.setenv("NOTIFY_SOCKET", name)
    monkeypatch.setenv("WATCHDOG_USEC", str(int(watchdog_s * 1_000_000)))
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listener:
        listener.bind(name.replace("@", "\0"))
        listener.setblocking(False)
        yield Systemd(listener)


def test_systemd_hears_how_it_goes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Ready, where it serves, what ails it, signs of life, and the end."""
    with (
        listening(f"@hubbub-{os.getpid()}", monkeypatch, 0.1) as systemd,
        BrokerProcess(tmp_path / "data") as broker,
    ):
        eventually(lambda: systemd.has("READY=1"), "readiness")
        eventually(lambda: systemd.has(f"STATUS=serving on tcp://{broker.address}"), "the status")
        eventually(lambda: systemd.has("WATCHDOG=1"), "a sign of life")
        with broker.index_out_of_reach():
            os.kill(broker.children()["live"], signal.SIGKILL)
            eventually(lambda: systemd.has("STATUS=live is not up"), "what ails it")
            systemd.forget()
            eventually(lambda: systemd.has("WATCHDOG=1"), "a sign of life all the same")
        assert broker.stop() == 0
        assert systemd.has("STOPPING=1")
        assert systemd.has("STATUS=the broker is closing")


def test_children_know_nothing_of_systemd(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Only the main process may speak for the service."""
    with (
        listening(str(tmp_path / "notify"), monkeypatch, 60),
        BrokerProcess(tmp_path / "data") as broker,
    ):
        for child in broker.children().values():
            environ = Path(f"/proc/{child}/environ").read_bytes()
            assert b"NOTIFY_SOCKET" not in environ
            assert b"WATCHDOG_USEC" not in environ


# --- the unit file ----------------------------------------------------------
@pytest.fixture
def unit(tmp_path: Path) -> Path:
    """Return a copy of the unit file whose program is there."""
    copy = tmp_path / UNIT.name
    text = UNIT.read_text()
    assert "/opt/hubbub/.venv/bin/hubbub-broker" in text
    copy.write_text(text.replace("/opt/hubbub/.venv/bin/hubbub-broker", "/bin/true"))
    return copy


def analyze(*words: str) -> subprocess.CompletedProcess[str]:
    """Run systemd-analyze."""
    need_program("systemd-analyze")
    return subprocess.run(
        ["systemd-analyze", "--no-pager", *words],
        capture_output=True,
        text=True,
        timeout=DEADLINE_S,
        check=False,
        env=os.environ | {"SYSTEMD_COLORS": "0"},
    )


def test_systemd_understands_every_line(unit: Path) -> None:
    """An unknown name or value would only be warned of, and not be in force."""
    verified = analyze("verify", "--man=no", str(unit))
    assert (0, "") == (verified.returncode, verified.stderr)


def test_systemd_finds_it_little_exposed(unit: Path) -> None:
    judged = analyze("security", "--offline=true", f"--threshold={EXPOSURE_MAX}", str(unit))
    assert judged.returncode == 0, judged.stdout


def settings_of(name: str) -> list[str]:
    """Return the values of a setting of the unit file, in their order."""
    return re.findall(rf"^{name}=(.*)$", UNIT.read_text(), re.MULTILINE)


def test_the_unit_starts_the_broker_with_flags_that_it_has(tmp_path: Path) -> None:
    (line,) = settings_of("ExecStart")
    words = line.replace("${STATE_DIRECTORY}", str(tmp_path)).split()[1:]
    settings = config.load(words, {})
    ports = {*range(settings.port, settings.port + PORTS_COUNT), settings.metrics}
    allowed = set()
    for value in settings_of("SocketBindAllow"):
        first, _, last = value.removeprefix("tcp:").partition("-")
        allowed |= set(range(int(first), int(last or first) + 1))
    assert ports == allowed
    (watchdog_s,) = settings_of("WatchdogSec")
    assert int(watchdog_s) > 2 * settings.silence
    (files,) = settings_of("LimitNOFILE")
    assert int(files) > 2 * settings.max_clients + 64


# --- what it does, beside what it may do ------------------------------------
def calls_of(group: str) -> set[str]:
    """Return the system calls of a group of systemd's, with those of the groups in it; or one."""
    if not group.startswith("@"):
        return {group}
    listed = analyze("syscall-filter", group).stdout
    words = re.findall(r"^    ([@\w]\S*)$", listed, re.MULTILINE)
    assert words, group
    return set[str]().union(*map(calls_of, words))


def allowed_calls() -> set[str]:
    """Return the system calls that the unit file allows."""
    allowed: set[str] = set()
    for value in settings_of("SystemCallFilter"):
        named = set().union(*(calls_of(group) for group in value.removeprefix("~").split()))
        allowed = allowed - named if value.startswith("~") else allowed | named
    return allowed


def traced(folder: Path) -> str:
    """Run a broker through its life, and return all system calls of all its processes."""
    need_program("strace")
    trace = folder / "trace"
    command = [
        *("strace", "-f", "-qq", "-o", str(trace), sys.executable, "-m", "broker"),
        *("--port", "0", "--data", str(folder / "data"), "--metrics", "-1", "--retain-messages=5"),
    ]
    log = folder / "stderr"
    with log.open("wb") as errors:
        process = subprocess.Popen(
            command, cwd=ROOT, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=errors
        )
    assert process.stdout is not None
    with process:
        port = int(process.stdout.readline().rsplit(b":", 1)[1])
        with RawPeer(port) as peer:
            peer.hello("anna")
            joined = peer.join("lobby")
            for number in range(1, 20):
                peer.ask(saying.send(number, "lobby", ["a text"]), wire.Ack)
            peer.history(wire.History(1, "lobby", joined.ticket, wire.Mode.AFTER, 0, 10))
        (url,) = re.findall(r"http://\S+", log.read_text())
        for path in (url, url.replace("/metrics", "/readyz")):
            with closing(urllib.request.urlopen(path, timeout=DEADLINE_S)) as answer:  # noqa: S310 - loopback
                assert answer.read()
        children = [
            int(words[0])
            for words in map(str.split, trace.read_text().splitlines())
            if 'broker.live"' in " ".join(words) and words[1].startswith("execve(")
        ]
        os.kill(children[0], signal.SIGKILL)
        eventually(lambda: "live is back" in log.read_text(), "live")
        supervisor = int(trace.read_text().split(None, 1)[0])
        os.kill(supervisor, signal.SIGTERM)
        assert process.wait(DEADLINE_S) == 0
    return trace.read_text()


def test_the_broker_does_nothing_that_its_unit_forbids(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """System calls, kinds of sockets, and memory that is both written and run."""
    allowed = allowed_calls()
    with listening(str(tmp_path / "notify"), monkeypatch, 1):
        trace = traced(tmp_path)
    used = set(re.findall(r"^\d+ +(\w+)\(", trace, re.MULTILINE))
    assert {"sendmsg", "fdatasync", "pwrite64"} & used
    # SQLite gives its files to the owner of their folder when it is root, and only then.
    assert set() == used - allowed - ({"fchown"} if os.geteuid() == 0 else set())
    (families,) = settings_of("RestrictAddressFamilies")
    opened = set(re.findall(r"socket\((AF_\w+)", trace))
    assert {"AF_UNIX", "AF_INET"} <= opened <= set(families.split())
    (is_denied,) = settings_of("MemoryDenyWriteExecute")
    assert "yes" == is_denied
    assert [] == re.findall(r"mmap\(.*PROT_WRITE\|PROT_EXEC.*|mprotect\(.*PROT_EXEC.*", trace)
