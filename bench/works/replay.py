"""History: how fast all of a log is read, and how long a newcomer waits for its latest entries.

Hubbub is measured on a log and a broker of this work's own: the log is filled by the broker's own
code, and the broker is started on it as it ships, so the one in `target` only idles. Peers are
filled through their own protocol; see `bench.works.replay_peers`.

What depends on the length of the log is measured in turn on this log and on one of
`SHORT_ENTRIES`, so that each run shows by itself what grows.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

import numpy as np

from bench.dialect import Unexpected
from bench.histogram import Histogram
from bench.results import Counts, Result
from bench.servers.hubbub import end, launch
from bench.target import Target
from bench.text import senders_and_numbers
from bench.works import replay_peers
from bench.works.base import Replay, Watch
from bench.works.filled_log import ROOM, TEXTS_PER_BATCH, Filler, costs_us, file_bytes
from broker.config import BY_NAME
from client.api import connect
from client.events import Entry, Event, Missing, Reset

SHORT_ENTRIES: Final = 1_000
NEWCOMERS: Final = 50
COST_ROUNDS: Final = 200
SILENCE_S_MAX: Final = 30.0  # A reader that hears nothing for so long gives up.
CONNECT_S_MAX: Final = 10.0


class Tally:
    """Counts entries as they come: each seq from `first` to `last` once, and in order."""

    def __init__(self, first: int, last: int, text_bytes: int) -> None:
        self.counts = Counts()
        self._next = first
        self._last = last
        self._text_bytes = text_bytes

    @property
    def is_done(self) -> bool:
        """Whether the last one has come."""
        return self._next > self._last

    def take(self, events: list[Event]) -> None:
        """Count entries; other events are looked at only for what must not be."""
        expected = self._next
        delivered = 0
        for event in events:
            if type(event) is Entry:
                seq = event.seq
                delivered += 1
                if seq == expected:
                    expected += 1
                elif seq > expected:
                    self.counts.lost += seq - expected
                    expected = seq + 1
                else:
                    self.counts.duplicated += 1
            elif isinstance(event, Missing | Reset):
                raise Unexpected(f"the history was told as {event}")
        self.counts.delivered += delivered
        self._next = expected
        if delivered:
            self._check(events)

    def _check(self, events: list[Event]) -> None:
        """Hold one text of each burst to its seq: to read all would measure this tool."""
        entry = next(event for event in reversed(events) if type(event) is Entry)
        number = senders_and_numbers(entry.text.encode(), self._text_bytes)[1][0]
        if number + 1 != entry.seq:
            raise Unexpected(f"entry {entry.seq} has the text of {number + 1}")

    def close(self) -> None:
        """Count what has not come at all."""
        self.counts.lost += max(self._last + 1 - self._next, 0)


def run(target: Target, options: Replay, watch: Watch) -> Result:
    """Fill a log, read all of it, and measure newcomers; on a peer only these two."""
    if target.name != "hubbub":
        return replay_peers.run(target, options, watch)
    with tempfile.TemporaryDirectory(prefix="hubbub-replay-") as folder:
        return _run(target, options, watch, Path(folder))


def _run(target: Target, options: Replay, watch: Watch, root: Path) -> Result:
    result = Result(
        work="replay",
        server=target.name,
        version=target.version,
        is_durable=target.is_durable,
        parameters={"texts_per_batch": TEXTS_PER_BATCH, "newcomers": NEWCOMERS},
        figures={},
        counts=Counts(),
    )
    folders = [root / "log", root / "short"]
    result.figures["fill_entries_per_s"] = _fill(folders[0], options, options.entries, watch)
    _fill(folders[1], options, SHORT_ENTRIES, watch)
    result.figures["log_bytes"] = file_bytes(folders[0])
    retained = max(options.entries, SHORT_ENTRIES)
    flags = []
    if retained > BY_NAME["retain_messages"].default:
        flags = ["--retain-messages", str(retained)]
        result.notes.append(f"the broker was started with {' '.join(flags)}")
    with _broker(folders[0], flags) as address:
        _read_all(address, options, watch, result)
        with _broker(folders[1], []) as short_address:
            _newcomers([address, short_address], options, watch, result)
    _costs(folders, options, watch, result)
    return result


def _fill(folder: Path, options: Replay, entries: int, watch: Watch) -> float:
    """Fill a log and return how many entries a second that took."""
    watch.begin("fill", "hubbub", entries, "entries")
    start_s = told_s = time.monotonic()

    def tell(count: int) -> None:
        nonlocal told_s
        now_s = time.monotonic()
        if now_s >= told_s + 1:
            told_s = now_s
            watch.moment(now_s - start_s, {"entries": float(count)})

    filler = Filler(folder, options.size)
    try:
        filler.fill(entries, tell)
    finally:
        filler.close()
        watch.end()
    return entries / (time.monotonic() - start_s)


@contextmanager
def _broker(folder: Path, flags: list[str]) -> Iterator[str]:
    process, port = launch(folder, 0, *flags)
    try:
        yield f"127.0.0.1:{port}"
    finally:
        end(process)


def _read_all(address: str, options: Replay, watch: Watch, result: Result) -> None:
    """Read the whole log by the client library, as a program of its user would."""
    watch.begin("replay", "hubbub", options.entries, "entries")
    tally = Tally(1, options.entries, options.size)
    with connect(address, nick="reader", timeout_s=CONNECT_S_MAX) as client:
        start_s = time.perf_counter()
        told_s = start_s
        client.join(ROOM, history=None)
        while not tally.is_done:
            events = client.next_burst(SILENCE_S_MAX)
            if not events:
                break  # What is missing counts as lost.
            tally.take(events)
            now_s = time.perf_counter()
            if now_s >= told_s + 1:
                told_s = now_s
                watch.moment(now_s - start_s, {"entries": float(tally.counts.delivered)})
        seconds = time.perf_counter() - start_s
    tally.close()
    watch.end()
    result.counts = tally.counts
    result.counts.sent = options.entries
    result.figures["entries_per_s"] = tally.counts.delivered / seconds
    result.figures["text_bytes_per_s"] = tally.counts.delivered * options.size / seconds


def _newcomers(addresses: list[str], options: Replay, watch: Watch, result: Result) -> None:
    """Let newcomers join, in turn on each broker, until each has the latest entries."""
    watch.begin("newcomers", "hubbub", NEWCOMERS, "newcomers")
    histograms = [Histogram(), Histogram()]
    heads = [options.entries, SHORT_ENTRIES]
    start_s = told_s = time.monotonic()
    for index in range(NEWCOMERS):
        for address, head, histogram in zip(addresses, heads, histograms, strict=True):
            histogram.record(1e6 * _newcomer_s(address, head, options, result.counts))
        now_s = time.monotonic()
        if now_s >= told_s + 1:
            told_s = now_s
            watch.moment(now_s - start_s, {"newcomers": index + 1.0})
    watch.end()
    result.histograms["last"] = histograms[0].encode()
    result.histograms["last_of_short"] = histograms[1].encode()
    medians = [histogram.percentile_us(50) for histogram in histograms]
    result.figures["last_growth"] = medians[0] / medians[1]


def _newcomer_s(address: str, head: int, options: Replay, counts: Counts) -> float:
    """Return how long a client that is connected waits from join() to the newest entry."""
    first = max(head - options.last, 0) + 1
    tally = Tally(first, head, options.size)
    with connect(address, nick="newcomer", timeout_s=CONNECT_S_MAX) as client:
        start_s = time.perf_counter()
        client.join(ROOM, history=options.last)
        while not tally.is_done:
            events = client.next_burst(SILENCE_S_MAX)
            if not events:
                break
            tally.take(events)
        seconds = time.perf_counter() - start_s
    tally.close()
    counts.lost += tally.counts.lost
    counts.duplicated += tally.counts.duplicated
    return seconds


def _costs(folders: list[Path], options: Replay, watch: Watch, result: Result) -> None:
    """Measure one append and one read of the latest entries on both logs, in this process."""
    watch.begin("append and tail read", "hubbub", None, "s")
    appends, reads = costs_us(folders, options.size, options.last, COST_ROUNDS)
    watch.end()
    for name, times in (("append", appends), ("tail_read", reads)):
        long_us, short_us = (float(np.median(each)) for each in times)
        result.figures[f"{name}_us"] = long_us
        result.figures[f"{name}_of_short_us"] = short_us
        result.figures[f"{name}_growth"] = long_us / short_us
    result.notes.append(
        f"growths are ratios to a log of {SHORT_ENTRIES:,} entries, measured in turn"
    )
