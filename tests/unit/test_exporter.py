"""The metrics port: every metric has its place, and nobody can keep it from answering."""

from __future__ import annotations

import select
import socket
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families

from broker.metrics import exporter
from broker.metrics.exporter import ANSWERS_MAX, REQUEST_S_MAX, Exporter
from broker.metrics.figures import METRICS
from broker.metrics.health import FREE_BYTES_MIN, SERVING, Part, Snapshot
from tests.waiting import DEADLINE_S, eventually


@pytest.fixture
def shown(tmp_path: Path) -> Iterator[Exporter]:
    """Yield an exporter that shows a healthy broker."""
    made = Exporter(0, tmp_path, silence_s=60.0)
    made.show(snapshot())
    yield made
    made.close()


def snapshot(age_s: float = 0.0) -> Snapshot:
    now_s = time.monotonic()
    parts = tuple(Part(name, SERVING, 0, 1, now_s) for name in ("history", "live"))
    return Snapshot(now_s - age_s, parts, {"messages": 7}, {"sessions": 3})


def ask(shown: Exporter, path: str, method: str = "GET") -> tuple[int, str]:
    """Return status and text."""
    url = shown.url.replace("/metrics", path)
    request = urllib.request.Request(url, method=method)  # noqa: S310 - loopback
    try:
        with urllib.request.urlopen(request, timeout=DEADLINE_S) as answer:  # noqa: S310
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as refusal:
        with refusal:
            return refusal.code, refusal.read().decode()


def test_every_metric_is_shown_with_its_kind_and_help(shown: Exporter) -> None:
    _, text = ask(shown, "/metrics")
    found = {
        family.name: (family.type, family.documentation)
        for family in text_string_to_metric_families(text)
    }
    assert found == {
        metric.shown.removesuffix("_total"): (metric.kind, metric.help) for metric in METRICS
    }
    assert "hubbub_messages_total 7.0" in text
    assert "hubbub_sessions 3.0" in text


def test_a_supervisor_that_hangs_is_not_alive(shown: Exporter) -> None:
    """The port has threads of its own, so it can say so."""
    assert (200, "ok\n") == ask(shown, "/livez")
    shown.show(snapshot(age_s=100))
    assert (503, "the supervisor has been silent for 100 s\n") == ask(shown, "/livez")


def test_a_full_disk_is_not_ready(shown: Exporter, monkeypatch: pytest.MonkeyPatch) -> None:
    assert (200, "ok\n") == ask(shown, "/readyz")
    monkeypatch.setattr(exporter, "free_bytes", lambda _: FREE_BYTES_MIN - 1)
    assert (503, "the disk is full: 15 MiB left\n") == ask(shown, "/readyz")


def test_a_folder_that_cannot_be_read_leaves_the_rest(tmp_path: Path) -> None:
    made = Exporter(0, tmp_path / "gone", silence_s=60.0)
    made.show(snapshot())
    status, text = ask(made, "/metrics")
    made.close()
    assert 200 == status
    assert "\nhubbub_log_bytes " not in text
    assert "hubbub_messages_total 7.0" in text


def test_other_paths_and_methods_are_refused(shown: Exporter) -> None:
    assert (404, "there is: /metrics /livez /readyz\n") == ask(shown, "/")
    assert (200, "") == ask(shown, "/livez", "HEAD")
    assert 501 == ask(shown, "/livez", "POST")[0]


def test_so_many_are_answered_at_once(shown: Exporter, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever comes on top is hung up on, and nobody else; a place that is free is given again."""
    monkeypatch.setattr(exporter._Handler, "timeout", None)  # So that nobody leaves by himself.
    with ExitStack() as stack:
        idle = [stack.enter_context(silent(shown)) for _ in range(ANSWERS_MAX)]
        with silent(shown) as more:
            assert more.recv(1) == b""
        assert ([], [], []) == select.select(idle, [], [], 0)
        idle[0].close()
        assert (200, "ok\n") == eventually(lambda: answered(shown), "an answer")


def test_those_who_say_nothing_are_hung_up_on(
    shown: Exporter, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After so many seconds, which are fewer here."""
    assert REQUEST_S_MAX == exporter._Handler.timeout
    monkeypatch.setattr(exporter._Handler, "timeout", 0.1)
    with silent(shown) as idle:
        assert idle.recv(1) == b""
    assert (200, "ok\n") == ask(shown, "/livez")


def silent(shown: Exporter) -> socket.socket:
    """Return a connection that says nothing."""
    return socket.create_connection(shown._server.server_address[:2], DEADLINE_S)  # type: ignore[arg-type]


def answered(shown: Exporter) -> tuple[int, str] | None:
    """Ask; return None where that is hung up on."""
    try:
        return ask(shown, "/livez")
    except OSError:
        return None


def test_only_this_machine_can_ask(shown: Exporter) -> None:
    assert "127.0.0.1" == shown._server.server_address[0]
