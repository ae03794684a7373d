"""The load tool from its command line to its exit status, with made-up works and servers."""

from __future__ import annotations

import contextlib
import io
import json
import os
import signal
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import msgspec
import pytest

from bench import banner
from bench.__main__ import main
from bench.progress import BarWatch, LineWatch, watch_on
from bench.results import Counts, Report, Result
from bench.servers.base import NotInstalled
from bench.target import Target
from bench.works.base import Options, Stopped, Watch
from tests.unit.bench_results import result


class Stage:
    """Servers that only note that they are started, and a work that does as it is told."""

    def __init__(self) -> None:
        self.running: list[Path] = []
        self.started: list[str] = []
        self.missing: set[str] = set()
        self.faults: list[BaseException | Counts] = []
        self.seen: list[tuple[Target, Options]] = []

    def load(self, name: str) -> Server:
        """Return a server, as the registry does."""
        return Server(self, name)

    def run(self, target: Target, options: Options, watch: Watch) -> Result:
        """Be the work."""
        assert self.running
        self.seen.append((target, options))
        watch.begin("fanout", target.name, 2.0, "s")
        for at_s in (1.0, 1.5, 2.0):
            watch.moment(at_s, {"deliveries_per_s": at_s * 1e6})
        found = result(target.name, 1e6 * len(self.seen))
        fault = self.faults.pop(0) if self.faults else None
        if isinstance(fault, BaseException):
            raise fault
        if fault is not None:
            found.counts = fault
        return found


class Server:
    """One made-up server."""

    def __init__(self, stage: Stage, name: str) -> None:
        self._stage = stage
        self.name = name

    @contextlib.contextmanager
    def start(self, folder: Path, text_bytes: int) -> Iterator[Target]:
        """Start it: its folder exists as long as it runs."""
        if self.name in self._stage.missing:
            raise NotInstalled("apt install it")
        assert folder.is_dir()
        assert not list(folder.iterdir())
        self._stage.started.append(self.name)
        self._stage.running.append(folder)
        settings = ["rate raised"] if self.name == "hubbub" else []
        try:
            yield Target(
                self.name, "1.0", self.name == "hubbub", "::1", [1], [], settings, text_bytes
            )
        finally:
            self._stage.running.remove(folder)


@pytest.fixture
def stage(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Stage]:
    stage = Stage()
    registry = SimpleNamespace(servers=lambda: ["hubbub", "nats", "redis_pubsub"], load=stage.load)
    monkeypatch.setitem(sys.modules, "bench.servers.registry", registry)
    monkeypatch.setitem(sys.modules, "bench.works.fanout", SimpleNamespace(run=stage.run))
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    yield stage
    assert [] == stage.running
    assert [] == list(tmp_path.glob("hubbub-bench-*"))


@pytest.fixture(autouse=True)
def _signals_are_put_back() -> Iterator[None]:
    before = signal.getsignal(signal.SIGTERM)
    yield
    assert before == signal.getsignal(signal.SIGTERM)


Captured = pytest.CaptureFixture[str]


# --- one work ---------------------------------------------------------------
def test_numbers_go_to_stdout_and_everything_else_to_stderr(stage: Stage, capsys: Captured) -> None:
    assert 0 == main(["fanout", "--size", "100"])
    streams = capsys.readouterr()
    assert "deliveries_per_s" in streams.out
    assert "fanout on hubbub 1.0, durable" in streams.out
    assert "versions hubbub" not in streams.out
    for word in ("command  python -m bench fanout", "subscribers=50", "versions hubbub ", "libzmq"):
        assert word in streams.err
    assert "server   hubbub 1.0, durable, rate raised" in streams.err
    assert "fanout on hubbub:    1.0 s  50%  deliveries_per_s 1 M" in streams.err
    assert [100] == [target.text_bytes for target, _ in stage.seen]


def test_json_can_be_piped(stage: Stage, capsys: Captured) -> None:
    assert 0 == main(["fanout", "--json", "-", "--repeat", "2"])
    streams = capsys.readouterr()
    report = msgspec.json.decode(streams.out, type=Report)
    assert [1e6, 2e6] == [each.figures["deliveries_per_s"] for each in report.results]
    # What was asked for stands in the result, not what the work made of it.
    assert 2 == report.results[0].parameters["repeat"]
    assert "rate raised" in report.banner["servers"]["hubbub"]["settings"]
    assert "2 runs" in streams.err
    assert ["hubbub", "hubbub"] == stage.started


@pytest.mark.usefixtures("stage")
def test_every_file_is_written(tmp_path: Path, capsys: Captured) -> None:
    flags = [f"--{kind}={tmp_path}/x.{kind}" for kind in ("json", "csv", "hdr")]
    assert 0 == main(["fanout", *flags, f"--plot={tmp_path}/x.png"])
    names = {"x.json", "x.csv", "x.hdr", "x.png"}
    assert names <= {path.name for path in tmp_path.iterdir()}
    assert "deliveries_per_s" in capsys.readouterr().out
    assert "fanout" == json.loads((tmp_path / "x.json").read_text())["results"][0]["work"]


@pytest.mark.parametrize(
    ("expression", "status"), [("p99>20ms", 0), ("p99>1ms", 1), ("nonsense>1", 2)]
)
@pytest.mark.usefixtures("stage")
def test_a_condition_decides_the_status(expression: str, status: int, capsys: Captured) -> None:
    assert status == main(["fanout", "--fail-if", expression])
    streams = capsys.readouterr()
    assert "deliveries_per_s" in streams.out
    assert (status == 1) == ("failed: p99>1ms: p99 is 1.99 ms" in streams.err)
    assert (status == 2) == ("has no 'nonsense'; it has" in streams.err)


def test_a_malformed_condition_starts_nothing(stage: Stage, capsys: Captured) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["fanout", "--fail-if", "p99>20"])
    assert 2 == ended.value.code
    assert [] == stage.started
    assert "needs a unit" in capsys.readouterr().err


def test_a_loss_fails(stage: Stage, capsys: Captured) -> None:
    stage.faults = [Counts(sent=3, lost=2)]
    assert 1 == main(["fanout"])
    assert "not clean: fanout on hubbub lost 2" in capsys.readouterr().err


def test_a_run_that_fails_is_told(stage: Stage, capsys: Captured) -> None:
    stage.faults = [ConnectionResetError("reset by peer")]
    assert 1 == main(["fanout"])
    assert "bench: fanout on hubbub: reset by peer" in capsys.readouterr().err


def test_a_server_that_is_not_there_is_told(stage: Stage, capsys: Captured) -> None:
    stage.missing = {"nats"}
    assert 1 == main(["fanout", "--server", "nats"])
    assert "nats is not installed: apt install it" in capsys.readouterr().err


@pytest.mark.usefixtures("stage")
def test_nobody_answers(capsys: Captured) -> None:
    assert 69 == main(["fanout", "--broker", "127.0.0.1:9"])
    assert "no broker answers at 127.0.0.1:9" in capsys.readouterr().err


# --- ends -------------------------------------------------------------------
def test_an_interrupt_shows_what_was_measured(stage: Stage, capsys: Captured) -> None:
    stage.faults = [Counts(sent=1), KeyboardInterrupt()]
    assert 130 == main(["fanout", "--repeat", "5"])
    streams = capsys.readouterr()
    assert 2 == len(stage.seen)
    assert ["1", "M"] == streams.out.split("deliveries_per_s")[1].split()[:2]
    assert "interrupted" in streams.err


def test_an_interrupted_run_is_shown_when_it_can_tell(stage: Stage, capsys: Captured) -> None:
    stage.faults = [Stopped(result(rate=3e6))]
    assert 130 == main(["fanout", "--json", "-"])
    report = msgspec.json.decode(capsys.readouterr().out, type=Report)
    assert [3e6] == [each.figures["deliveries_per_s"] for each in report.results]
    assert 4_096 == report.results[0].parameters["window"]


def test_sigterm_ends_what_was_started(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    def run(target: Target, options: Options, watch: Watch) -> Result:
        os.kill(os.getpid(), signal.SIGTERM)
        return stage.run(target, options, watch)

    monkeypatch.setattr(sys.modules["bench.works.fanout"], "run", run)
    with pytest.raises(SystemExit) as ended:
        main(["fanout"])
    assert 143 == ended.value.code
    assert ["hubbub"] == stage.started


class GoneReader(io.StringIO):
    """Standard output whose reader went away."""

    def __init__(self, file: int) -> None:
        super().__init__()
        self._file = file

    def fileno(self) -> int:
        """Name a descriptor that `main` may close."""
        return self._file

    def flush(self) -> None:
        """Fail as a pipe does."""
        raise BrokenPipeError


@pytest.mark.usefixtures("stage")
def test_a_reader_that_goes_away_is_no_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Captured
) -> None:
    """As `python -m bench fanout | head -1` does."""
    with (tmp_path / "x").open("wb") as file, monkeypatch.context() as patched:
        patched.setattr(sys, "stdout", GoneReader(file.fileno()))
        assert 141 == main(["fanout"])
    assert "Error" not in capsys.readouterr().err


# --- comparisons ------------------------------------------------------------
def test_a_comparison_takes_who_is_there(stage: Stage, capsys: Captured) -> None:
    stage.missing = {"redis_pubsub"}
    line = "compare --work fanout-50 --repeat 2 --duration 1 --markdown -"
    assert 0 == main(line.split())
    streams = capsys.readouterr()
    assert ["hubbub", "nats", "nats", "hubbub"] == stage.started
    assert 1 == streams.err.count("redis_pubsub is not installed")
    rows = [line for line in streams.out.splitlines() if line.startswith("| fanout-50 | ")]
    assert ["hubbub 1.0", "nats 1.0"] == [row.split("|")[2].strip() for row in rows]
    assert all(1.0 == options.duration_s for _, options in stage.seen)


def test_one_failed_run_does_not_end_a_comparison(stage: Stage, capsys: Captured) -> None:
    stage.faults = [TimeoutError("no answer")]
    assert 1 == main(
        ["compare", "--work", "fanout-50", "--repeat", "2", "--servers", "hubbub,nats"]
    )
    streams = capsys.readouterr()
    assert 4 == len(stage.seen)
    assert "fanout on hubbub: no answer" in streams.err
    assert "fanout-50 on nats" in streams.out


# --- banner -----------------------------------------------------------------
def test_the_file_system_is_that_of_the_deepest_mount(tmp_path: Path) -> None:
    mounts = f"/dev/a / ext4 rw 0 0\ntmpfs {tmp_path} tmpfs rw 0 0\nb {tmp_path}x xfs rw 0 0\n"
    assert "tmpfs" == banner.file_system(tmp_path / "deep", mounts)
    assert "ext4" == banner.file_system(tmp_path.parent, mounts)
    assert "" == banner.file_system(tmp_path, "")


def test_memory_in_place_of_a_disk_is_warned_of() -> None:
    box = {"cores": 2, "cpu": "x", "memory_bytes": 2**30, "kernel": "Linux", "file_system": "tmpfs"}
    fields = {"command": [], "parameters": [], "versions": {}, "commit": "", "date": ""}
    assert "a sync costs nothing" in banner.lines({"machine": box, **fields})[-1]


def test_the_commit_is_told_with_its_changes(tmp_path: Path) -> None:
    assert "" == banner.commit(tmp_path)


# --- progress ---------------------------------------------------------------
def test_one_plain_line_a_second() -> None:
    lines: list[str] = []
    watch = LineWatch(lines.append)
    watch.begin("ingest", "nats", 1_000.0, "messages")
    for tenth in range(31):
        watch.moment(tenth / 10, {"messages": tenth * 10.0})
    watch.end()
    watch.end()
    assert "ingest on nats: begins, 1,000 messages" == lines[0]
    assert "ingest on nats:    0.9 s   9%  messages 90" == lines[2]
    assert ["0.0", "0.9", "1.8", "2.7"] == [line.split()[3] for line in lines[1:-1]]
    assert "ingest on nats: done" == lines[-1]


def test_a_terminal_gets_a_bar(monkeypatch: pytest.MonkeyPatch) -> None:
    stream = io.StringIO()
    monkeypatch.setattr(stream, "isatty", lambda: True)
    monkeypatch.setenv("TERM", "xterm-256color")
    watch = watch_on(stream)
    assert isinstance(watch, BarWatch)
    watch.begin("fanout", "hubbub", 10.0, "s")
    watch.moment(5.0, {"deliveries_per_s": 2e6})
    watch.end()
    watch.end()
    drawn = stream.getvalue()
    assert "fanout on hubbub" in drawn
    assert "50%" in drawn
    assert "deliveries_per_s 2 M" in drawn


def test_what_is_no_terminal_gets_lines() -> None:
    stream = io.StringIO()
    watch_on(stream).begin("fanout", "hubbub", None, "s")
    assert "fanout on hubbub: begins\n" == stream.getvalue()
