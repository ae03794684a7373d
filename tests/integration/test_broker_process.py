"""The broker as its operator meets it: starting, stopping, refusing to start, going on."""

from __future__ import annotations

import contextlib
import os
import pty
import signal
import socket
import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest
import zmq

from common import wire
from tests import saying
from tests.broker_process import ROOT, BrokerProcess
from tests.raw_peer import RawPeer
from tests.waiting import DEADLINE_S, eventually

Start = tuple[list[str], str]


def run_broker(*flags: str) -> subprocess.CompletedProcess[str]:
    """Run a broker that is expected to end by itself."""
    return subprocess.run(
        [sys.executable, "-m", "broker", *flags],
        cwd=ROOT,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=DEADLINE_S,
        check=False,
    )


def test_ready_line_is_the_only_output(tmp_path: Path) -> None:
    """Standard output has exactly the ready line; logs go to standard error."""
    with BrokerProcess(tmp_path / "data") as broker:
        assert broker.ready_line == f"hubbub broker ready on tcp://127.0.0.1:{broker.port}\n"
        broker.process.send_signal(signal.SIGTERM)
        assert broker.process.stdout is not None
        assert broker.process.stdout.read() == b""
        assert broker.wait() == 0
        assert "room for 4096 clients" in broker.log()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_signals_tell_every_client_and_end_with_status_0(tmp_path: Path, number: int) -> None:
    """Ancestor 4: Ctrl+C on the server tells every client that it is closing."""
    with BrokerProcess(tmp_path / "data") as broker, RawPeer(broker.port) as peer:
        peer.hello("anna")
        peer.join("lobby")
        with RawPeer(broker.port) as roomless:
            roomless.hello("bob")
            roomless.await_inbox()
            assert broker.stop(number) == 0
            for each in (peer, roomless):
                each.await_publication(wire.Notice, lambda notice: notice.code == "closing")


def test_q_and_enter_on_the_console_stops_the_broker(tmp_path: Path) -> None:
    """Ancestor 1: `q` on the server's console stops it and closes everyone; other words don't."""
    with BrokerProcess(tmp_path / "data") as broker, RawPeer(broker.port) as peer:
        peer.hello("anna")
        peer.await_inbox()
        broker.say("what is this")
        peer.ask(wire.Rooms(peer.next_id()), wire.RoomList)
        broker.say("q")
        assert broker.wait() == 0
        peer.await_publication(wire.Notice, lambda notice: notice.code == "closing")


def test_q_on_a_terminal_stops_the_broker(tmp_path: Path) -> None:
    """The console may be a real terminal."""
    controller, terminal = pty.openpty()
    process = subprocess.Popen(
        [sys.executable, "-m", "broker", "--port", "0", "--data", str(tmp_path / "data")],
        cwd=ROOT,
        stdin=terminal,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    assert process.stdout is not None
    with process.stdout:
        assert process.stdout.readline().startswith(b"hubbub broker ready")
        os.write(controller, b"q\n")
        assert process.wait(DEADLINE_S) == 0
    os.close(controller)
    os.close(terminal)


def test_end_of_input_stops_nothing(tmp_path: Path) -> None:
    """A daemon has no console: the end of standard input is no order."""
    with BrokerProcess(tmp_path / "data") as broker, RawPeer(broker.port) as peer:
        assert broker.process.stdin is not None
        broker.process.stdin.close()
        peer.hello("anna")
        peer.join("lobby")
        assert peer.ask(wire.Greet(peer.next_id()), wire.Greeting).clients == 1
        assert broker.process.poll() is None


def test_a_second_signal_hurries(tmp_path: Path) -> None:
    """Whoever presses Ctrl+C twice does not wait for a child that hangs."""
    with BrokerProcess(tmp_path / "data") as broker:
        live = broker.children()["live"]
        os.kill(live, signal.SIGSTOP)
        broker.process.send_signal(signal.SIGINT)
        eventually(lambda: "closing" in broker.log(), "the first signal's effect")
        broker.process.send_signal(signal.SIGINT)
        assert broker.wait() == 0


def test_a_hanging_child_is_ended_all_the_same(tmp_path: Path) -> None:
    """A broker that is told to stop leaves, with status 1 when it had to kill."""
    with BrokerProcess(tmp_path / "data") as broker:
        os.kill(broker.children()["live"], signal.SIGSTOP)
        assert broker.stop() == 1


def test_a_signal_while_a_child_starts_is_not_taken_for_two(tmp_path: Path) -> None:
    """A broker that is told to stop while it restarts history still tells every client."""
    with BrokerProcess(tmp_path / "data") as broker, RawPeer(broker.port) as peer:
        peer.hello("anna")
        peer.await_inbox()
        live, starting = broker.children()["live"], broker.kill_child("history")
        for child in (live, starting):
            os.kill(child, signal.SIGSTOP)
        broker.process.send_signal(signal.SIGTERM)
        with pytest.raises(subprocess.TimeoutExpired):
            broker.process.wait(0.5)  # It gives them time to end.
        for child in (live, starting):
            os.kill(child, signal.SIGCONT)
        peer.await_publication(wire.Notice, lambda notice: notice.code == "closing")
        assert broker.wait() == 0


def test_children_do_not_outlive_a_killed_supervisor(tmp_path: Path) -> None:
    """After kill -9 of the supervisor a new broker on the same folder and port serves at once."""
    with BrokerProcess(tmp_path / "data") as broker:
        port = broker.port
        children = broker.children()
        broker.kill_supervisor()
        broker.start(port)
        assert broker.port == port
        assert not set(children.values()) & set(broker.children().values())


@pytest.mark.parametrize("name", ["live", "history"])
def test_a_dead_child_is_restarted(tmp_path: Path, name: str) -> None:
    """A child that dies comes back on its port, and both channels work again."""
    with BrokerProcess(tmp_path / "data") as broker:
        with RawPeer(broker.port) as peer:
            peer.hello("anna")
            peer.join("lobby")
            peer.ask(saying.send(1, "lobby", ["kept"]), wire.Ack)
        broker.kill_child(name)
        with RawPeer(broker.port) as peer:
            peer.hello("anna2")
            joined = peer.join("lobby")
            assert joined.head == 1
            request = wire.History(1, "lobby", joined.ticket, wire.Mode.AFTER, 0, 10)
            page, batches = peer.history(request)
            assert isinstance(page, wire.Page)
            assert [post.texts for batch in batches for post in batch.posts] == [["kept"]]


def test_memory_beyond_the_bound_restarts_live(tmp_path: Path) -> None:
    """A flood of foreign subscriptions cannot grow the broker without end; chat goes on."""
    with (
        BrokerProcess(tmp_path / "data", "--memory-mib", "96") as broker,
        RawPeer(broker.port) as flooder,
    ):
        flooder.sub.setsockopt(zmq.SNDHWM, 0)
        live = broker.children()["live"]
        flood = iter(range(10**6))

        def is_restarted() -> bool:
            for _ in range(500):
                flooder.sub.subscribe(f"{next(flood):x}-".encode() * 32)
            flooder.sub.poll(0)  # Lets libzmq send them.
            return broker.children().get("live") not in (None, live)

        eventually(is_restarted, "a restart")
        assert "more than 96: restarting it" in broker.log()
        flooder.close()
        with RawPeer(broker.port) as peer:
            peer.hello("anna")
            peer.join("lobby")
            peer.ask(saying.send(1, "lobby", ["still here"]), wire.Ack)


def test_half_messages_on_the_history_endpoint_are_bounded(tmp_path: Path) -> None:
    """A message that never ends restarts history before it has the machine's memory."""
    with (
        BrokerProcess(tmp_path / "data", "--memory-mib", "96") as broker,
        socket.create_connection(("127.0.0.1", broker.port + 2)) as endless,
    ):
        history = broker.children()["history"]
        # ZMTP 3.1: greeting with mechanism NULL, READY of a DEALER, then frames with MORE. Each
        # waits for the other side's, or libzmq may hang up.
        endless.sendall(b"\xff" + bytes(8) + b"\x7f\3\0NULL" + bytes(16 + 32))
        greeting = b""
        while len(greeting) < 64:
            greeting += endless.recv(64 - len(greeting))
        endless.sendall(b"\x04\x1c\x05READY\x0bSocket-Type\0\0\0\x06DEALER")
        assert b"READY" in endless.recv(256)
        frames = (b"\1\xff" + bytes(255)) * 4_096

        def is_restarted() -> bool:
            with contextlib.suppress(ConnectionError):
                endless.sendall(frames)
            return broker.children().get("history") not in (None, history)

        eventually(is_restarted, "a restart")
        assert "history holds" in broker.log()


def test_the_limit_of_open_files_is_raised_and_bounds_the_clients(tmp_path: Path) -> None:
    """The soft limit goes up to the hard one, and no more clients are let in than fit."""
    limited = ["sh", "-c", 'ulimit -Sn 100 && ulimit -Hn 200 && exec "$@"', "sh"]
    process = subprocess.Popen(
        [*limited, sys.executable, "-m", "broker", "--port", "0", "--data", str(tmp_path / "d")],
        cwd=ROOT,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    assert process.stdout is not None
    port = int(process.stdout.readline().rsplit(b":", 1)[1])
    with RawPeer(port) as peer:
        greeting = peer.ask(wire.Greet(1), wire.Greeting)
    process.terminate()
    _, told = process.communicate(timeout=DEADLINE_S)
    assert process.returncode == 0
    assert greeting.clients_max == 68
    assert b"room for 68 clients (asked for 4096; 200 open files)" in told


def test_one_broker_per_data_folder(tmp_path: Path) -> None:
    """The second broker on a folder says who has it, in one line."""
    with BrokerProcess(tmp_path / "data") as broker:
        second = run_broker("--port", "0", "--data", str(tmp_path / "data"))
        assert second.returncode == 1
        assert second.stdout == ""
        assert second.stderr == (
            f"hubbub-broker: another broker (process {broker.process.pid}) uses "
            f"{tmp_path / 'data'}: stop it or choose another folder with --data\n"
        )


@pytest.mark.parametrize("offset", [0, 1, 2])
def test_a_port_in_use_is_named(tmp_path: Path, offset: int) -> None:
    """Each of the three ports, when taken, is one line and status 1."""
    with BrokerProcess(tmp_path / "probe") as probe:
        base = probe.port
    with socket.socket() as holder:
        holder.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        holder.bind(("127.0.0.1", base + offset))
        holder.listen()
        ended = run_broker("--port", str(base), "--data", str(tmp_path / "data"))
    assert ended.returncode == 1
    assert ended.stderr.count("\n") == 1, ended.stderr
    assert f"tcp://127.0.0.1:{base + offset}" in ended.stderr
    assert "choose another --port" in ended.stderr


def test_a_folder_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    """A data folder that cannot be made is one line and status 1."""
    (tmp_path / "file").write_text("not a folder")
    ended = run_broker("--port", "0", "--data", str(tmp_path / "file" / "data"))
    assert ended.returncode == 1
    assert ended.stderr.startswith(f"hubbub-broker: the data folder {tmp_path / 'file' / 'data'}")
    assert ended.stderr.count("\n") == 1


def test_a_log_of_a_newer_version_is_refused(tmp_path: Path) -> None:
    """A log that a newer Hubbub made is left alone, with one line and status 1."""
    with BrokerProcess(tmp_path / "data") as broker:
        assert broker.stop() == 0
    with sqlite3.connect(tmp_path / "data" / "hubbub.db") as database:
        database.execute("PRAGMA user_version = 99")
    database.close()
    ended = run_broker("--port", "0", "--data", str(tmp_path / "data"))
    assert ended.returncode == 1
    assert "made by a newer Hubbub" in ended.stderr
    assert ended.stderr.count("\n") == 1


@pytest.mark.parametrize(
    ("flags", "status", "words"),
    [
        (["--port", "70000"], 1, "--port: 70000 is not between 0 and 65532"),
        (["--host", "no.such.host.invalid"], 1, "is not an address of this machine"),
        (["--config", "/nowhere.toml"], 1, "/nowhere.toml cannot be read"),
        (["--frobnicate"], 2, "unrecognized arguments: --frobnicate"),
    ],
)
def test_wrong_settings_are_one_clear_line(flags: list[str], status: int, words: str) -> None:
    """A wrong flag or value says what is wrong and never shows a traceback."""
    ended = run_broker(*flags)
    assert ended.returncode == status
    assert words in ended.stderr
    assert "Traceback" not in ended.stderr


def test_ipv6(tmp_path: Path) -> None:
    """The broker serves on IPv6 and says so in brackets."""
    with BrokerProcess(tmp_path / "data", host="::1") as broker:
        assert broker.ready_line == f"hubbub broker ready on tcp://[::1]:{broker.port}\n"
        with RawPeer(broker.port, "::1") as peer:
            peer.hello("anna")
            joined = peer.join("lobby")
            peer.ask(saying.send(1, "lobby", ["six"]), wire.Ack)
            request = wire.History(1, "lobby", joined.ticket, wire.Mode.BEFORE, 99, 10)
            page, batches = peer.history(request)
            assert isinstance(page, wire.Page)
            assert [post.texts for batch in batches for post in batch.posts] == [["six"]]


def test_a_clean_stop_leaves_no_loose_ends(tmp_path: Path) -> None:
    """SQLite's write-ahead log is folded into its file, and no segment has unused space."""
    with BrokerProcess(tmp_path / "data") as broker, RawPeer(broker.port) as peer:
        peer.hello("anna")
        peer.join("lobby")
        peer.ask(saying.send(1, "lobby", ["kept"]), wire.Ack)
        assert broker.stop() == 0
    assert not (tmp_path / "data" / "hubbub.db-wal").exists()
    (segment,) = (tmp_path / "data").glob("*.segment")
    assert 0 < segment.stat().st_size < 1_000
