"""The replay of the peers that keep a history, through the Python clients of their users.

Redis Streams: XRANGE in pages, by redis-py. JetStream: an ordered push
consumer, by nats-py (five times as fast there as a pull consumer with batches of 4,096).
Both are filled through the same clients, many requests under way at once. A fill takes
`FILL_S_MAX` at most; a log that is shorter for that is read as it is, and a note says so.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterable, Iterator
from typing import Any, Final

import nats
import redis
from nats.js.api import ConsumerConfig, DeliverPolicy

from bench.dialect import Unexpected
from bench.histogram import Histogram
from bench.results import Counts, Result
from bench.servers.nats import subject
from bench.target import Target
from bench.text import Maker, senders_and_numbers
from bench.works.base import Replay, Watch

ROOM: Final = "replay"
PAGE_ENTRIES: Final = 4_096  # As in Hubbub's HISTORY.
NEWCOMERS: Final = 50
FILL_S_MAX: Final = 120.0
FILL_ENTRIES: Final = 1_000  # Under way at once.
READ_S_MAX: Final = 600.0

Payloads = list[bytes]
Tell = Callable[[int], None]


class Course:
    """Tells a watch how far a part is, about once a second."""

    def __init__(self, watch: Watch, work: str, server: str, total: int) -> None:
        self._watch = watch
        watch.begin(work, server, total, "entries")
        self._start_s = self._told_s = time.perf_counter()

    @property
    def seconds(self) -> float:
        """Since the begin."""
        return time.perf_counter() - self._start_s

    def tell(self, count: int) -> None:
        """Tell how many entries are done."""
        if self.seconds >= self._told_s - self._start_s + 1:
            self._told_s = time.perf_counter()
            self._watch.moment(self.seconds, {"entries": float(count)})


class Tally:
    """Counts texts as they come: each number from `first` on once, and in order."""

    def __init__(self, counts: Counts, size: int, first: int = 0) -> None:
        self.counts = counts
        self._size = size
        self.next = first

    def take(self, texts: Payloads) -> None:
        """Count a page."""
        self.counts.delivered += len(texts)
        # One text of each page is read, as in Hubbub's replay.
        number = int(senders_and_numbers(texts[-1], self._size)[1][0])
        missing = number + 1 - (self.next + len(texts))
        self.counts.lost += max(missing, 0)
        self.counts.duplicated += max(-missing, 0)
        self.next = number + 1


def run(target: Target, options: Replay, watch: Watch) -> Result:
    """Fill the peer's log, read all of it, then the latest entries again and again."""
    result = Result(
        work="replay",
        server=target.name,
        version=target.version,
        is_durable=target.is_durable,
        parameters={"page_entries": PAGE_ENTRIES, "newcomers": NEWCOMERS},
        figures={},
        counts=Counts(),
    )
    if target.name == "redis_streams":
        _run_redis(target, options, watch, result)
    elif target.name == "jetstream":
        asyncio.run(_run_jetstream(target, options, watch, result))
    else:
        raise Unexpected(f"{target.name} keeps no history; redis_streams and jetstream do")
    counts = result.counts
    counts.lost += max(counts.sent - counts.delivered - counts.lost, 0)
    return result


def _pages(options: Replay, course: Course) -> Iterator[Payloads]:
    """Yield texts to fill with, until there are enough or the time is up."""
    size = options.size
    maker = Maker(0, size, FILL_ENTRIES)
    for number in range(0, options.entries, FILL_ENTRIES):
        if course.seconds > FILL_S_MAX:
            return
        joined = maker.make(number, min(FILL_ENTRIES, options.entries - number))
        yield [joined[start : start + size] for start in range(0, len(joined), size)]


def _filled(options: Replay, course: Course, result: Result) -> None:
    result.figures["fill_entries_per_s"] = result.counts.sent / course.seconds
    if result.counts.sent < options.entries:
        result.notes.append(
            f"filled with {result.counts.sent:,} of {options.entries:,} entries in "
            f"{FILL_S_MAX:.0f} s, and read as far"
        )


def _read(options: Replay, course: Course, result: Result) -> None:
    result.figures["entries_per_s"] = result.counts.delivered / course.seconds
    result.figures["text_bytes_per_s"] = result.figures["entries_per_s"] * options.size


def _last(result: Result, histogram: Histogram) -> None:
    result.histograms["last"] = histogram.encode()
    result.notes.append("a newcomer's wait is one question on a connection that stands")


# --- Redis Streams ----------------------------------------------------------
def _texts(found: Iterable[Any]) -> Payloads:
    return [fields[b"t"] for _, fields in found]


def _run_redis(target: Target, options: Replay, watch: Watch, result: Result) -> None:
    client: Any = redis.Redis(target.host, target.ports[0])
    try:
        course = Course(watch, "fill", target.name, options.entries)
        for texts in _pages(options, course):
            pipeline = client.pipeline(transaction=False)
            for text in texts:
                pipeline.xadd(ROOM, {"t": text})
            result.counts.acknowledged += len(pipeline.execute())
            result.counts.sent += len(texts)
            course.tell(result.counts.sent)
        _filled(options, course, result)
        watch.end()
        tally = Tally(result.counts, options.size)
        course = Course(watch, "replay", target.name, result.counts.sent)
        last = b""
        while found := client.xrange(ROOM, b"(" + last if last else "-", "+", count=PAGE_ENTRIES):
            tally.take(_texts(found))
            last = found[-1][0]
            course.tell(result.counts.delivered)
        _read(options, course, result)
        watch.end()
        histogram = Histogram()
        wanted = min(options.last, result.counts.sent)
        for _ in range(NEWCOMERS):
            start_s = time.perf_counter()
            count = len(client.xrevrange(ROOM, count=options.last))
            histogram.record(1e6 * (time.perf_counter() - start_s))
            result.counts.lost += wanted - count
        _last(result, histogram)
    finally:
        client.close()


# --- JetStream --------------------------------------------------------------
async def _run_jetstream(target: Target, options: Replay, watch: Watch, result: Result) -> None:
    client = await nats.connect(f"nats://{target.host}:{target.ports[0]}")
    try:
        stream = client.jetstream(publish_async_max_pending=2 * FILL_ENTRIES)
        course = Course(watch, "fill", target.name, options.entries)
        for texts in _pages(options, course):
            waiting = [await stream.publish_async(subject(ROOM), text) for text in texts]
            result.counts.acknowledged += len(await asyncio.gather(*waiting))
            result.counts.sent += len(texts)
            course.tell(result.counts.sent)
        _filled(options, course, result)
        watch.end()
        tally = Tally(result.counts, options.size)
        course = Course(watch, "replay", target.name, result.counts.sent)

        def take(texts: Payloads) -> None:
            tally.take(texts)
            course.tell(result.counts.delivered)

        await _ordered(stream, 1, result.counts.sent, take)
        _read(options, course, result)
        watch.end()
        histogram = Histogram()
        wanted = min(options.last, result.counts.sent)
        for _ in range(NEWCOMERS):
            latest = Tally(Counts(), options.size, result.counts.sent - wanted)
            start_s = time.perf_counter()
            await _ordered(stream, latest.next + 1, wanted, latest.take)
            histogram.record(1e6 * (time.perf_counter() - start_s))
            result.counts.lost += latest.counts.lost
            result.counts.duplicated += latest.counts.duplicated
        _last(result, histogram)
    finally:
        await client.close()


async def _ordered(stream: Any, first: int, count: int, take: Callable[[Payloads], None]) -> None:  # noqa: ANN401 - nats-py's types
    """Have `count` texts from the stream's number `first` on taken, some at a time."""
    done = asyncio.Event()
    texts: Payloads = []
    left = count

    async def hear(message: Any) -> None:  # noqa: ANN401 - nats-py wants a coroutine
        nonlocal left
        texts.append(message.data)
        left -= 1
        if len(texts) == PAGE_ENTRIES or left == 0:
            take(texts)
            texts.clear()
        if left == 0:
            done.set()

    config = ConsumerConfig(deliver_policy=DeliverPolicy.BY_START_SEQUENCE, opt_start_seq=first)
    heard = await stream.subscribe(subject(ROOM), ordered_consumer=True, config=config, cb=hear)
    try:
        await asyncio.wait_for(done.wait(), READ_S_MAX)
    finally:
        await heard.unsubscribe()
