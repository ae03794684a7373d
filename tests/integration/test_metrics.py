"""What a real broker tells operators: its figures, whether it lives, and whether it is ready."""

from __future__ import annotations

import json
import os
import resource
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import zmq

from common import wire
from tests import saying
from tests.broker_process import ROOT, BrokerProcess
from tests.raw_peer import RawPeer
from tests.scrape import Scraper
from tests.waiting import DEADLINE_S, eventually


@contextmanager
def watched(folder: Path, *flags: str) -> Iterator[tuple[BrokerProcess, RawPeer, Scraper]]:
    """Yield a broker with metrics, somebody in its lobby, and who asks."""
    with (
        BrokerProcess(folder / "data", "--metrics", "-1", *flags) as broker,
        RawPeer(broker.port) as peer,
    ):
        peer.hello("anna")
        peer.join("lobby")
        yield broker, peer, Scraper(broker)


def test_the_figures_say_what_was_done(tmp_path: Path) -> None:
    """Every number that one can know from outside is the one that is shown."""
    with watched(tmp_path) as (broker, peer, scraper):
        joined = peer.ask(wire.Join(peer.next_id(), "lobby"), wire.Joined)
        peer.ask(saying.send(1, "lobby", ["one", "two", "three"]), wire.Ack)
        peer.ask(saying.send(2, "lobby", ["four"]), wire.Ack)
        peer.ask(wire.Who(peer.next_id(), "elsewhere"), wire.Error)
        for mode, at in ((wire.Mode.AFTER, 0), (wire.Mode.AFTER, 3), (wire.Mode.BEFORE, 4)):
            peer.history(wire.History(1, "lobby", joined.ticket, mode, at, 100))
        peer.history(wire.History(1, "lobby", b"none", wire.Mode.AFTER, 0, 100))
        expected = {
            "hubbub_messages_total": 6,  # HELLO, JOIN twice, SEND twice, WHO.
            "hubbub_entries_total": 4,
            "hubbub_batches_total": 2,
            'hubbub_batch_entries_bucket{le="1"}': 1,
            'hubbub_batch_entries_bucket{le="4"}': 2,
            "hubbub_batch_entries_sum": 4,
            "hubbub_commit_seconds_count": 2,
            "hubbub_drain_messages_count": 6,
            'hubbub_errors_total{code="not_member"}': 1,
            'hubbub_errors_total{code="bad_ticket"}': 1,
            'hubbub_errors_total{code="log_failed"}': 0,
            "hubbub_sessions": 1,
            "hubbub_sessions_max": 4_096,
            "hubbub_users": 1,
            "hubbub_rooms": 1,
            "hubbub_log_failing": 0,
            "hubbub_draining": 0,
            'hubbub_history_questions_total{mode="after"}': 2,
            'hubbub_history_questions_total{mode="before"}': 1,
            'hubbub_history_questions_total{mode="since"}': 0,
            "hubbub_history_pages_total": 3,
            "hubbub_history_entries_total": 4 + 1 + 3,
            "hubbub_history_waiting": 0,
            'hubbub_up{process="live"}': 1,
            'hubbub_restarts_total{process="live"}': 0,
            "hubbub_log_segments": 1,
        }

        def shown() -> dict[str, float | None]:
            figures = scraper.figures()
            return {name: figures.get(name) for name in expected}

        eventually(lambda: shown() == expected, f"{expected}; there is {shown()}")
        figures = scraper.figures()
        assert figures["hubbub_commit_seconds_sum"] > 0
        assert figures["hubbub_publications_total"] >= 2
        assert figures["hubbub_history_bytes_total"] > 0
        assert figures["hubbub_log_bytes"] > 0
        assert figures["hubbub_disk_free_bytes"] > 0
        for name in ("supervisor", "live", "history"):
            assert figures[f'hubbub_memory_bytes{{process="{name}"}}'] > 2**20
            assert figures[f'hubbub_open_files{{process="{name}"}}'] > 3
        assert (200, "ok\n") == scraper.get("/livez")
        assert (200, "ok\n") == scraper.get("/readyz")
        assert 404 == scraper.get("/")[0]
        assert broker.stop() == 0


def test_figures_go_on_over_a_restart_and_are_there_meanwhile(tmp_path: Path) -> None:
    """No counter goes back when live dies, and whoever watches is answered while it is down."""
    with watched(tmp_path) as (broker, peer, scraper):
        peer.ask(saying.send(1, "lobby", ["one"]), wire.Ack)
        eventually(lambda: scraper.figures()["hubbub_entries_total"] == 1, "the figure")
        with broker.index_out_of_reach():
            os.kill(broker.children()["live"], signal.SIGKILL)
            eventually(lambda: scraper.get("/readyz") == (503, "live is not up\n"), "not ready")
            eventually(
                lambda: scraper.figures()['hubbub_restarts_total{process="live"}'] >= 2,
                "a restart in vain",
            )
            figures = scraper.figures()
            assert 1 == figures["hubbub_entries_total"]
            assert "hubbub_sessions" not in figures  # Nobody knows.
            assert (200, "ok\n") == scraper.get("/livez")
        eventually(lambda: scraper.get("/readyz") == (200, "ok\n"), "ready again")
        with RawPeer(broker.port) as other:
            other.hello("bob")
            other.join("lobby")
            other.ask(saying.send(1, "lobby", ["two"]), wire.Ack)
            eventually(lambda: scraper.figures()["hubbub_entries_total"] == 2, "both entries")
            greeting = other.ask(wire.Greet(1), wire.Greeting)
        restarts = scraper.figures()['hubbub_restarts_total{process="live"}']
        assert restarts == greeting.restarts
        assert 1 == greeting.entries  # Of this live process.
        assert 0 == scraper.figures()['hubbub_restarts_total{process="history"}']


@pytest.mark.parametrize("name", ["live", "history"])
def test_a_part_that_hangs_is_restarted(tmp_path: Path, name: str) -> None:
    """And the other part goes on. Eight seconds: a busy machine is not to be taken for hung."""
    with watched(tmp_path, "--silence", "8") as (broker, _, scraper):
        before = broker.children()
        os.kill(before[name], signal.SIGSTOP)
        eventually(lambda: broker.children().get(name, before[name]) != before[name], "a restart")
        eventually(lambda: scraper.get("/readyz") == (200, "ok\n"), "ready again")
        assert f"{name} has given no sign of life for" in broker.log()
        assert 1 == scraper.figures()[f'hubbub_restarts_total{{process="{name}"}}']
        (other,) = set(before) - {name}
        assert before[other] == broker.children()[other]


def test_a_part_that_pauses_is_not_ready_and_not_restarted(tmp_path: Path) -> None:
    """Silence is seen long before anything is done about it."""
    with watched(tmp_path) as (broker, _, scraper):
        live = broker.children()["live"]
        os.kill(live, signal.SIGSTOP)
        eventually(
            lambda: scraper.get("/readyz")[1].startswith("live has been silent for "), "not ready"
        )
        assert 503 == scraper.get("/readyz")[0]
        os.kill(live, signal.SIGCONT)
        eventually(lambda: scraper.get("/readyz") == (200, "ok\n"), "ready again")
        assert live == broker.children()["live"]


def test_a_queue_that_fills_is_counted(tmp_path: Path) -> None:
    """A reader who stops reading costs what the bound says; the others miss nothing."""
    with watched(tmp_path, "--publish-queue", "2") as (broker, peer, scraper):
        joined = peer.ask(wire.Join(peer.next_id(), "lobby"), wire.Joined)
        context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
        with context, context.socket(zmq.SUB) as slow:
            slow.setsockopt(zmq.RCVHWM, 1)
            slow.setsockopt(zmq.RCVBUF, 4_096)
            slow.connect(f"tcp://127.0.0.1:{broker.port + 1}")
            slow.subscribe(joined.subscription)
            assert slow.recv()  # The head: it is served. From now on it does not read.
            text = "x" * 4_000
            number = 0

            def is_full() -> bool:
                nonlocal number
                for _ in range(20):
                    number += 1
                    peer.ask(saying.send(number, "lobby", [text] * 15), wire.Ack)
                    peer.await_texts(*[text] * 15)
                return scraper.figures()["hubbub_publish_queue_full_total"] > 0

            eventually(is_full, "a full queue")
            slow.setsockopt(zmq.LINGER, 0)
        figures = scraper.figures()
        # Once, however much was dropped since: at most as often as the reader was let in again.
        assert figures["hubbub_publish_queue_full_total"] < number / 2


def test_a_log_that_cannot_be_written_is_seen(tmp_path: Path) -> None:
    """Not ready from the failure until a commit succeeds; the failures are counted."""
    with watched(tmp_path) as (broker, peer, scraper):
        live = broker.children()["live"]
        _, hard = resource.prlimit(live, resource.RLIMIT_FSIZE)
        resource.prlimit(live, resource.RLIMIT_FSIZE, (1, hard))
        refusal = peer.ask(saying.send(1, "lobby", ["in vain"]), wire.Error)
        assert "log_failed" == refusal.code
        eventually(
            lambda: scraper.get("/readyz") == (503, "the log cannot be written\n"), "not ready"
        )
        figures = scraper.figures()
        assert 1 == figures['hubbub_log_failures_total{operation="append"}']
        assert 1 == figures['hubbub_errors_total{code="log_failed"}']
        assert (200, "ok\n") == scraper.get("/livez")
        resource.prlimit(live, resource.RLIMIT_FSIZE, (hard, hard))
        peer.ask(saying.send(2, "lobby", ["kept"]), wire.Ack)
        eventually(lambda: scraper.get("/readyz") == (200, "ok\n"), "ready again")
        status = [sys.executable, "-m", "client", "--broker", broker.address, "status", "--json"]
        told = json.loads(subprocess.check_output(status, cwd=ROOT, timeout=DEADLINE_S))
        main = {"clients": 1, "rooms": 1, "entries": 1, "refused": 1, "log_failures": 1}
        assert {**main, "restarts": 0} == {name: told[name] for name in [*main, "restarts"]}


def test_a_port_in_use_is_named(tmp_path: Path) -> None:
    with socket.socket() as holder:
        holder.bind(("127.0.0.1", 0))
        holder.listen()
        port = holder.getsockname()[1]
        ended = subprocess.run(
            [
                *(sys.executable, "-m", "broker", "--port", "0"),
                *("--metrics", str(port), "--data", str(tmp_path / "data")),
            ],
            cwd=ROOT,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=DEADLINE_S,
            check=False,
        )
    assert 1 == ended.returncode
    assert ended.stderr == (
        f"hubbub-broker: cannot serve metrics on port {port} of 127.0.0.1: "
        "Address already in use; choose another --metrics\n"
    )


def test_without_metrics_nothing_of_it_is_loaded() -> None:
    """Prometheus' package and an HTTP server would cost every broker memory and start."""
    code = (
        "import sys; from broker import config, supervisor, lookout;"
        "lookout.Lookout(config.load([], {}));"
        "sys.exit('http.server' in sys.modules or 'prometheus_client' in sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True, timeout=DEADLINE_S)
