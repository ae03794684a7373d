"""Tells Prometheus and whoever watches how the broker does: HTTP on 127.0.0.1.

/metrics has the figures of `broker.metrics.figures`, /livez whether anything hangs, /readyz whether
the broker serves (`broker.metrics.health`): 200, or 503 with a line for each trouble. It has
threads of its own in the supervisor, and answers from snapshots that never change: also while live
is being restarted, and when the supervisor itself hangs. What is read from /proc and the data
folder is read when somebody asks.
"""

from __future__ import annotations

import os
import platform
import threading
import time
from collections.abc import Callable, Iterator
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from importlib.metadata import version
from pathlib import Path
from typing import Any

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    InfoMetricFamily,
)
from prometheus_client.exposition import CONTENT_TYPE_LATEST
from prometheus_client.registry import Collector

from broker.host import processes
from broker.log.writer import FILE_NAME
from broker.metrics.figures import COUNTER, HISTOGRAM, METRICS, SUM, Metric, cumulated, of_label
from broker.metrics.health import SERVING, Snapshot, what_fails, what_hangs
from common.limits import PROTOCOL_VERSION
from common.version import VERSION

ADDRESS = "127.0.0.1"
ANSWERS_MAX = 8  # At once; whoever comes on top is hung up on.
REQUEST_S_MAX = 5.0
TEXT_TYPE = "text/plain; charset=utf-8"

Family = CounterMetricFamily | GaugeMetricFamily | HistogramMetricFamily | InfoMetricFamily
Answer = tuple[HTTPStatus, str, bytes]  # Status, content type, body.


def free_bytes(folder: Path) -> int | None:
    """Return the room on the disk for this user; None when it cannot be told."""
    try:
        found = os.statvfs(folder)
    except OSError:
        return None
    return found.f_bavail * found.f_frsize


def folder_figures(folder: Path) -> dict[str, float]:
    """Return what the data folder takes; what cannot be read is left out."""
    segments_count, segments_bytes = 0, 0
    sizes: dict[str, int] = {}
    try:
        with os.scandir(folder) as entries:
            for entry in entries:
                size_bytes = entry.stat().st_size
                if entry.name.endswith(".segment"):
                    segments_count += 1
                    segments_bytes += size_bytes
                else:
                    sizes[entry.name] = size_bytes
    except OSError:  # A segment that was dropped meanwhile, or the disk: next time.
        return {}
    free = free_bytes(folder)
    return {
        "log_bytes": segments_bytes,
        "log_segments": segments_count,
        "log_index_bytes": sizes.get(FILE_NAME, 0),
        "log_wal_bytes": sizes.get(f"{FILE_NAME}-wal", 0),
        **({} if free is None else {"disk_free_bytes": free}),
    }


class Exporter(Collector):
    """The HTTP server and what it shows. `show` belongs to the supervisor's thread."""

    def __init__(self, port: int, folder: Path, silence_s: float) -> None:
        """Listen, on a free port for 0; answer from the first `show` on. Raises `OSError`."""
        self._folder = folder
        self._silence_s = silence_s
        self._started_ms = time.time_ns() // 1_000_000
        self._snapshot: Snapshot
        self._registry = CollectorRegistry(auto_describe=False)
        self._answers = {"/metrics": self._metrics, "/livez": self._livez, "/readyz": self._readyz}
        self._server = _Server((ADDRESS, port), self._answers)
        self._thread: threading.Thread | None = None

    @property
    def url(self) -> str:
        """Where the metrics are."""
        return f"http://{ADDRESS}:{self._server.server_address[1]}/metrics"

    def show(self, snapshot: Snapshot) -> None:
        """Answer from this snapshot from now on."""
        self._snapshot = snapshot
        if self._thread is None:
            self._registry.register(self)
            self._thread = threading.Thread(
                target=self._server.serve_forever, name="exporter", daemon=True
            )
            self._thread.start()

    def close(self) -> None:
        """Hang up."""
        if self._thread is not None:
            self._server.shutdown()
            self._thread.join()
        self._server.server_close()

    # --- answers ------------------------------------------------------------
    def _metrics(self) -> Answer:
        return HTTPStatus.OK, CONTENT_TYPE_LATEST, generate_latest(self._registry)

    def _livez(self) -> Answer:
        return _verdict(what_hangs(self._snapshot, time.monotonic(), self._silence_s))

    def _readyz(self) -> Answer:
        free = free_bytes(self._folder)
        return _verdict(what_fails(self._snapshot, time.monotonic(), free))

    def collect(self) -> Iterator[Family]:
        """Yield every metric that has a value now."""
        snapshot = self._snapshot
        figures = {
            **snapshot.counted,
            **snapshot.now,
            **self._processes(snapshot),
            **folder_figures(self._folder),
        }
        for metric in METRICS:
            if metric.name == "build_info":
                yield _build_info(metric)
            elif metric.kind == HISTOGRAM:
                yield HistogramMetricFamily(
                    metric.shown,
                    metric.help,
                    buckets=cumulated(metric, figures),
                    sum_value=figures.get(f"{metric.name}:{SUM}", 0),
                )
            else:
                yield _family(metric, figures)

    def _processes(self, snapshot: Snapshot) -> dict[str, float]:
        """Return the figures of each process."""
        now_s = time.monotonic()
        figures: dict[str, float] = {
            "up:supervisor": 1,
            "silence_seconds:supervisor": now_s - snapshot.at_s,
            "start_time_seconds:supervisor": self._started_ms / 1_000,
            **_of_process("supervisor", os.getpid()),
        }
        for part in snapshot.parts:
            figures[f"up:{part.name}"] = int(part.phase == SERVING)
            figures[f"restarts:{part.name}"] = part.restarts_count
            if part.process:
                figures[f"silence_seconds:{part.name}"] = now_s - part.heard_s
                figures[f"start_time_seconds:{part.name}"] = part.started_ms / 1_000
                figures.update(_of_process(part.name, part.process))
        return figures


def _of_process(name: str, process: int) -> dict[str, float]:
    return {
        f"memory_bytes:{name}": processes.memory_bytes(process),
        f"open_files:{name}": processes.open_files(process),
        f"open_files_max:{name}": processes.open_files_max(process),
    }


def _family(metric: Metric, figures: dict[str, float]) -> Family:
    kind = CounterMetricFamily if metric.kind == COUNTER else GaugeMetricFamily
    if metric.label:
        family = kind(metric.shown, metric.help, labels=[metric.label])
        values = dict.fromkeys(metric.values, 0.0) | of_label(metric.name, figures)
        for label, value in sorted(values.items()):
            family.add_metric([label], value)
        return family
    family = kind(metric.shown, metric.help)
    # A counter begins with 0; what is not the case now, since live is down, has no value.
    if metric.name in figures or metric.kind == COUNTER:
        family.add_metric([], figures.get(metric.name, 0))
    return family


def _build_info(metric: Metric) -> Family:
    return InfoMetricFamily(
        metric.shown.removesuffix("_info"),
        metric.help,
        value={
            "version": VERSION,
            "protocol": str(PROTOCOL_VERSION),
            "python": platform.python_version(),
            "pyzmq": version("pyzmq"),
        },
    )


def _verdict(troubles: list[str]) -> Answer:
    status = HTTPStatus.SERVICE_UNAVAILABLE if troubles else HTTPStatus.OK
    return status, TEXT_TYPE, "".join(f"{line}\n" for line in troubles or ["ok"]).encode()


class _Server(ThreadingHTTPServer):
    """Answers a bounded number of requests at once, each in a thread of its own."""

    daemon_threads = True
    block_on_close = False  # Whoever is slow to read is not waited for.

    def __init__(self, address: tuple[str, int], answers: dict[str, Callable[[], Answer]]) -> None:
        super().__init__(address, _Handler)
        self.answers = answers
        self._room = threading.BoundedSemaphore(ANSWERS_MAX)

    def process_request(self, request: Any, client_address: Any) -> None:  # noqa: ANN401 - as there
        """Answer, or hang up when too many are being answered."""
        if self._room.acquire(blocking=False):
            super().process_request(request, client_address)
        else:
            self.shutdown_request(request)

    def process_request_thread(self, request: Any, client_address: Any) -> None:  # noqa: ANN401 - as there
        """Answer one request."""
        try:
            super().process_request_thread(request, client_address)
        finally:
            self._room.release()

    def handle_error(self, request: Any, client_address: Any) -> None:  # noqa: ANN401 - as there
        """Say nothing: somebody on this machine has hung up."""


class _Handler(BaseHTTPRequestHandler):
    """One request: GET or HEAD of a known path."""

    server: _Server
    timeout = REQUEST_S_MAX
    server_version, sys_version = "hubbub", ""

    def do_GET(self) -> None:
        """Answer."""
        answer = self.server.answers.get(self.path.partition("?")[0])
        if answer is None:
            paths = " ".join(self.server.answers)
            status, kind, body = HTTPStatus.NOT_FOUND, TEXT_TYPE, f"there is: {paths}\n".encode()
        else:
            status, kind, body = answer()
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    do_HEAD = do_GET  # noqa: N815 - the base class looks for this name

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - as there
        """Say nothing: a scraper asks every few seconds."""
