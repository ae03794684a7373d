"""What the broker counts about itself, and what each number means. Pure.

Live and history count in plain integers, each in the one thread that it happens in, and tell
them to the supervisor about once a second; it adds up what ended processes had counted, so that
no counter goes back. `METRICS` is the only place that knows the names: docs/METRICS.md is
compared with it, and `broker/metrics/exporter.py` shows what is in it.

A number is told under a metric's name, or under `name:label`. A histogram is told as one number a
bucket, `name:0` and so on, and `name:sum`.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from msgspec import Struct

from common.errors import Code

COUNTER, GAUGE, HISTOGRAM = "counter", "gauge", "histogram"
SUM = "sum"
BAD_SUBSCRIPTION = "bad_subscription"  # Refused without an answer, so it has no code.

COUNTS = (1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1_024, 2_048, 4_096)
# From a disk with a battery behind it to one that should be replaced.
COMMIT_S = (0.0002, 0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10)


class Metric(NamedTuple):
    """One family of numbers."""

    name: str  # Without the prefix and, of a counter, without `_total`.
    kind: str
    help: str
    label: str = ""
    values: Sequence[str] = ()  # Of the label, those that are known: they are shown as 0, too.
    bounds: Sequence[float] = ()

    @property
    def shown(self) -> str:
        """The name that Prometheus sees."""
        return f"hubbub_{self.name}{'_total' if self.kind == COUNTER else ''}"


METRICS = (
    # --- live, counted ---
    Metric("messages", COUNTER, "Commands taken from clients."),
    Metric("entries", COUNTER, "Texts, actions and topics committed to the log."),
    Metric("batches", COUNTER, "Batches committed: consecutive entries of one room."),
    Metric("batch_entries", HISTOGRAM, "Entries of a batch.", bounds=COUNTS),
    Metric(
        "commit_seconds",
        HISTOGRAM,
        "Time of a commit to the log, with its fsync; failed ones are not in it.",
        bounds=COMMIT_S,
    ),
    Metric(
        "drain_messages",
        HISTOGRAM,
        "Commands taken in one turn of the worker, of turns that took any; up to 2000.",
        bounds=COUNTS,
    ),
    Metric(
        "publications",
        COUNTER,
        "Frames published to rooms and inboxes: batches, presence, heads, notices.",
    ),
    Metric(
        "publish_queue_full",
        COUNTER,
        "Publications that found the queue of at least one slow reader newly full. libzmq drops "
        "this one and the next ones for that reader until it has read on, and tells nobody how "
        "many; the reader asks history for them.",
    ),
    Metric(
        "replies_lost", COUNTER, "Replies that a client was too slow or too far gone to be sent."
    ),
    Metric(
        "log_failures",
        COUNTER,
        "Commits (append), clean-ups (trim) and reads (read) of the log that failed.",
        "operation",
        ("append", "read", "trim"),
    ),
    # --- live and history, counted ---
    Metric(
        "errors",
        COUNTER,
        "Commands, subscriptions (bad_subscription) and questions refused.",
        "code",
        (*sorted(Code), BAD_SUBSCRIPTION),
    ),
    # --- live, now ---
    Metric("sessions", GAUGE, "Clients that have a session; those in grace count."),
    Metric("sessions_max", GAUGE, "Clients that are let in at most."),
    Metric("users", GAUGE, "Different names among the sessions."),
    Metric("rooms", GAUGE, "Rooms in use, or with entries in the log."),
    Metric(
        "log_failing",
        GAUGE,
        "1 while the last commit failed, for up to 30 s after it was tried; 0 otherwise.",
    ),
    Metric(
        "draining",
        GAUGE,
        "1 while an operator has the broker take nobody new, because it is to be stopped.",
    ),
    # --- history, counted ---
    Metric(
        "history_questions",
        COUNTER,
        "Questions to history. `after`: a client asks for what it missed by a drop, a reconnect or "
        "a restart (repairs), or reads on; `before` and `since`: it asks for earlier entries.",
        "mode",
        ("after", "before", "since"),
    ),
    Metric("history_pages", COUNTER, "Pages that history answered with."),
    Metric("history_entries", COUNTER, "Entries in these pages."),
    Metric("history_bytes", COUNTER, "Bytes of batches in these pages."),
    # --- history, now ---
    Metric("history_waiting", GAUGE, "Questions taken and not answered yet; more wait in libzmq."),
    # --- the supervisor ---
    Metric("up", GAUGE, "1 for a process that serves, 0 for one that does not.", "process"),
    Metric("restarts", COUNTER, "Times that a process was started again.", "process"),
    Metric(
        "silence_seconds", GAUGE, "Time since a process gave a sign of life; at most about 1.",
        "process",
    ),
    Metric("start_time_seconds", GAUGE, "When a process was started, since 1970.", "process"),
    Metric("memory_bytes", GAUGE, "Resident memory of a process.", "process"),
    Metric("open_files", GAUGE, "Open descriptors of a process.", "process"),
    Metric("open_files_max", GAUGE, "Descriptors that a process may open.", "process"),
    Metric("log_bytes", GAUGE, "Bytes in the segments, with space taken ahead."),
    Metric("log_segments", GAUGE, "Files of the log that hold entries."),
    Metric("log_index_bytes", GAUGE, "Bytes of the index, hubbub.db."),
    Metric("log_wal_bytes", GAUGE, "Bytes of the index's write-ahead log."),
    Metric("disk_free_bytes", GAUGE, "Room left on the disk of the data folder, for this user."),
    Metric("build_info", GAUGE, "Always 1; the labels tell the versions.", "version"),
)  # fmt: skip
BY_NAME = {metric.name: metric for metric in METRICS}


class Figures(Struct, frozen=True):
    """What a child tells about once a second; also its sign of life."""

    counted: dict[str, float] = {}  # Since the child's start; never less than before.
    now: dict[str, float] = {}


class Histogram:
    """Counts values by size. Belongs to one thread."""

    __slots__ = ("_bounds", "_name", "counts", "total")

    def __init__(self, name: str) -> None:
        self._name = name
        self._bounds = BY_NAME[name].bounds
        self.counts = [0] * (len(self._bounds) + 1)  # The last one has what exceeds all bounds.
        self.total: float = 0

    def add(self, value: float) -> None:
        """Count one value."""
        self.counts[bisect_left(self._bounds, value)] += 1
        self.total += value

    def told(self) -> dict[str, float]:
        """Return what to tell of it."""
        counts = {f"{self._name}:{index}": count for index, count in enumerate(self.counts)}
        return {**counts, f"{self._name}:{SUM}": self.total}


def added(*told: Mapping[str, float]) -> dict[str, float]:
    """Return the sums of what was counted, by name."""
    sums: dict[str, float] = {}
    for counted in told:
        for name, value in counted.items():
            sums[name] = sums.get(name, 0) + value
    return sums


def of_label(name: str, figures: Mapping[str, float]) -> dict[str, float]:
    """Return the figures told under a name with a label, by label."""
    start = name + ":"
    return {
        key.removeprefix(start): value for key, value in figures.items() if key.startswith(start)
    }


def labelled(name: str, counts: Mapping[str, int]) -> dict[str, float]:
    """Return counts by label as they are told."""
    return {f"{name}:{label}": count for label, count in counts.items()}


def cumulated(metric: Metric, figures: Mapping[str, float]) -> list[tuple[str, float]]:
    """Return a histogram's buckets as Prometheus has them: bound, and how many are at or below."""
    bounds = [*(f"{bound:g}" for bound in metric.bounds), "+Inf"]
    buckets: list[tuple[str, float]] = []
    count: float = 0
    for index, bound in enumerate(bounds):
        count += figures.get(f"{metric.name}:{index}", 0)
        buckets.append((bound, count))
    return buckets
