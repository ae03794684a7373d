"""One load from beginning to end: in, mark, warm up, measure, settle, count."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from typing import Final

import numpy as np

from bench import curve
from bench.dialect import (
    Conversation,
    Dialect,
    Ear,
    Patience,
    PatientVoice,
    Unexpected,
    Voice,
)
from bench.generator.links import Link, Net
from bench.generator.listeners import Drained, Room, Sampled, is_behind, is_level, missing_bytes
from bench.generator.newcomers import Arrived, bring_in, say_all
from bench.generator.orders import Course, Done, Opened, Orders, Span, Spans, Word
from bench.generator.talkers import (
    MARKER,
    AcknowledgedLoop,
    BoundedLoop,
    ClosedLoop,
    Loop,
    OpenLoop,
    Talker,
)
from bench.histogram import Histogram
from bench.meter import Meter
from bench.results import Counts, Moment
from bench.text import make, times_ns

KEEPALIVE_S: Final = 8.0  # Hubbub's broker wants an answer to its PING within 10 s.
COURSE_S: Final = 1.0
LAG_TEXTS_MAX: Final = 4_096  # What was acknowledged and not heard: about one read of a listener.
READS_MAX: Final = 64  # In a row; the server may not have sent it yet.
MARK_S_MAX: Final = 30.0
# How far a drained listener may fall behind the sample, in windows: below what fills a broker's
# queue for it (512 batches). A broker that encrypts works on each listener by itself, on one of a
# few threads; those of a busy one must not be left behind by a window that others move.
BEHIND_WINDOWS_MAX: Final = 8
BEHIND_LOOK_S: Final = 0.01
MARKS_AT_ONCE: Final = 8  # Of one talker: below every protocol's window.


class Load:
    """The state of a run. One thread."""

    def __init__(
        self,
        orders: Orders,
        dialect: Dialect,
        tell: Callable[[Word], None],
        hear: Callable[[], Spans | None] = lambda: None,
    ) -> None:
        """`hear` returns the word to end a load without an end, when it has come."""
        self._hear = hear
        self._spans: Spans | None = None
        self._orders = orders
        self._dialect = dialect
        self._tell = tell
        self._size = orders.target.text_bytes
        self._net = Net(orders.target.host)
        self._meter = Meter(orders.target.pids)
        self._heard = 0  # Texts that every sampled listener of their room has.
        self._rooms = [Room(index, self._moved) for index in range(len(orders.rooms))]
        self._talkers: list[Talker] = []
        self._patients: list[tuple[PatientVoice, list[Link]]] = []
        self._clients: list[Arrived[Ear]] = []
        is_timed = bool(orders.rate) and not orders.unsettled
        self._arrivals: list[tuple[int, bytes]] | None = [] if is_timed else None
        self._mark = make(MARKER, 0, 0, self._size)
        self._keepalive_at_s = time.monotonic() + KEEPALIVE_S
        is_secure = bool(orders.target.server_key)
        is_bounded = is_secure and not (orders.rate or orders.requests)
        self._behind_bytes_max = BEHIND_WINDOWS_MAX * orders.window * self._size * is_bounded
        self._behind_look_s = 0.0  # When the next look is due,
        self._is_behind = False  # and what the last one has found.
        self._ping_bytes = curve.wire_bytes(dialect.ping) if is_secure else len(dialect.ping)

    def _moved(self, count: int) -> None:
        self._heard += count

    def run(self) -> None:
        """Do it all; raises `Unexpected`, `links.Lost`."""
        try:
            self._open()
            if self._orders.idle_s:
                self._idle()
            else:
                self._say_marks()
                self._measure()
        finally:
            self._net.close()

    # --- in -----------------------------------------------------------------
    def _open(self) -> None:
        orders, dialect = self._orders, self._dialect
        before, start_s = self._meter.read(), time.monotonic()
        sampled = set(np.linspace(0, orders.members - 1, orders.sample).astype(int).tolist())
        rooms_count = len(orders.rooms)
        pong = b"".join(say.data for say in dialect.keepalive)

        def joins() -> Iterator[Conversation[Ear]]:
            for place in range(rooms_count * orders.members):
                yield dialect.join(place, orders.rooms[place % rooms_count])

        def settle(place: int, client: Arrived[Ear]) -> None:
            room = self._rooms[place % rooms_count]
            self._clients.append(client)
            if place // rooms_count in sampled or not dialect.is_same_for_all:
                Sampled(
                    room,
                    client.links,
                    client.value,
                    size=self._size,
                    mark=self._mark,
                    arrivals=self._arrivals,
                )
            else:
                link = client.links[client.value.channel]
                Drained(room, link, self._mark, dialect.ping, pong)

        heard_bytes = bring_in(
            self._net,
            orders.target,
            dialect,
            joins(),
            at_once=orders.connecting,
            turn=self._turn,
            settle=settle,
        )
        seconds = time.monotonic() - start_s
        after = self._meter.read()
        speaks = (dialect.speak(index, orders.rooms) for index in range(orders.talkers))
        voices: dict[int, Talker] = {}

        def give_voice(place: int, client: Arrived[Voice]) -> None:
            voices[place] = Talker(
                place,
                client.value,
                client.links,
                rooms_count=rooms_count,
                size=self._size,
                coalesce=orders.coalesce,
            )

        bring_in(
            self._net,
            orders.target,
            dialect,
            speaks,
            at_once=orders.connecting,
            turn=self._turn,
            settle=give_voice,
        )
        self._talkers = [voices[place] for place in sorted(voices)]
        self._patients = [
            (talker.voice, talker.links)
            for talker in self._talkers
            if isinstance(talker.voice, PatientVoice)
        ]
        self._tell(
            Opened(
                len(self._clients),
                seconds,
                heard_bytes,
                after.cpu_s - before.cpu_s,
                after.rss_bytes - before.rss_bytes,
            )
        )

    def _say_marks(self) -> None:
        """Have everybody read one text, so that all are at the same place of their streams."""
        talker = self._talkers[0]
        give_up_s = time.monotonic() + MARK_S_MAX
        waiting: list[Room] = []
        members = self._orders.members
        todo = list(reversed(self._rooms))
        while todo or waiting:
            while todo and len(waiting) < MARKS_AT_ONCE:
                room = todo.pop()
                talker.mark(room.index, self._mark)
                waiting.append(room)
            self._turn(0.1)
            waiting = [room for room in waiting if room.marked < members]
            if time.monotonic() > give_up_s:
                raise Unexpected(f"{len(waiting)} rooms were not heard by all their members")
        while self._dialect.acknowledges and talker.acknowledged < len(self._rooms):
            self._turn(0.1)
            if time.monotonic() > give_up_s:
                raise Unexpected("the mark was not acknowledged")
        talker.acknowledged = 0
        talker.ack_times_ns.clear()

    # --- through ------------------------------------------------------------
    def _turn(self, wait_s: float) -> int:
        """Serve every link that is ready; return how many were."""
        ready_count = self._net.poll(wait_s)
        now_s = time.monotonic()
        # Who idles reads all, and answers as clients do.
        is_drained = bool(self._dialect.keepalive) and not self._orders.idle_s
        if now_s > self._keepalive_at_s and is_drained:
            self._keepalive_at_s = now_s + KEEPALIVE_S
            says = list(self._dialect.keepalive)
            for client in self._clients:
                say_all(says, client.links)
            for talker in self._talkers:
                say_all(says, talker.links)
        if self._patients:
            for voice, links in self._patients:
                say_all(voice.due(now_s), links)
        if self._dialect.acknowledges:
            self._catch_up()
        return ready_count

    def _catch_up(self) -> None:
        """Read what listeners were sent, before more is said than they can be read for.

        With many talkers a turn says and hears acknowledged far more than one read of a listener
        takes, and the server would drop what waits for it.
        """
        samples = [sample for room in self._rooms for sample in room.samples]
        for _ in range(READS_MAX):
            if self._acknowledged() - self._heard < LAG_TEXTS_MAX:
                break
            for sample in samples:
                sample.link.read_rest()

    def _idle(self) -> None:
        """Say nothing but what keeps everybody in."""
        calm_s = time.monotonic() + min(1.0, self._orders.idle_s)  # The last arrivals are told.
        while time.monotonic() < calm_s:
            self._turn(0.05)
        cpu_s, own_s, start_s = self._meter.read().cpu_s, time.process_time(), time.monotonic()
        while time.monotonic() < start_s + self._orders.idle_s:
            self._turn(0.05)
        reading = self._meter.read()
        self._tell(
            Done(
                Counts(),
                time.monotonic() - start_s,
                reading.cpu_s - cpu_s,
                time.process_time() - own_s,
                reading.peak_bytes,
            )
        )

    def _loop(self) -> Loop:
        orders = self._orders
        is_tracked = self._dialect.acknowledges
        if orders.unsettled:
            return BoundedLoop(self._talkers, orders.rate, orders.unsettled, orders.coalesce)
        if orders.rate:
            return OpenLoop(self._talkers, orders.rate, is_tracked=is_tracked)
        if orders.requests:
            return AcknowledgedLoop(self._talkers, orders.requests, orders.coalesce)
        return ClosedLoop(self._talkers, orders.window, orders.coalesce, is_tracked=is_tracked)

    def _measure(self) -> None:
        orders = self._orders
        begun_ns = time.monotonic_ns()
        loop = self._loop()
        start_s = time.monotonic()
        while time.monotonic() < start_s + orders.warmup_s:
            self._top_up(loop)
            self._turn(min(loop.wait_s(), 0.05))
        begin = self._meter.read().cpu_s, time.process_time()
        start_ns = time.monotonic_ns() if orders.warmup_s else begun_ns
        heard_before, said_before = self._heard, loop.said
        acknowledged_before = self._acknowledged()
        end_ns = start_ns + int(orders.duration_s * 1e9)
        course_s = time.monotonic() + COURSE_S
        while self._goes_on(loop, said_before, end_ns):
            self._top_up(loop)
            self._turn(loop.wait_s())
            if time.monotonic() > course_s:
                course_s += COURSE_S
                at_s = (time.monotonic_ns() - start_ns) / 1e9
                rate = (self._heard - heard_before) * orders.members / at_s
                values = {"deliveries_per_s": rate}
                if isinstance(loop, BoundedLoop):
                    values["acknowledged"] = float(self._acknowledged())
                    values["waiting"] = float(loop.waiting)
                self._tell(Course(Moment(at_s, values)))
        said_s = (time.monotonic_ns() - start_ns) / 1e9
        acknowledged_per_s = (self._acknowledged() - acknowledged_before) / said_s
        if isinstance(loop, BoundedLoop):
            self._say_rest(loop)
        last_ns = self._settle(loop)
        cpu_s = self._meter.read().cpu_s - begin[0], time.process_time() - begin[1]
        counts = Counts(
            sent=loop.said - said_before,
            acknowledged=max(0, self._acknowledged() - said_before),
            delivered=(self._heard - heard_before) * orders.members,
        )
        differing = self._count(counts)
        self._tell(
            Done(
                counts,
                (last_ns - start_ns) / 1e9,
                *cpu_s,
                peak_memory_bytes=self._meter.read().peak_bytes,
                latencies=self._latencies(start_ns),
                ack_latencies=self._ack_latencies(start_ns),
                acknowledged_per_s=acknowledged_per_s,
                differing=differing,
                spans=self._spans_latencies(),
                pressure=loop.pressure if isinstance(loop, BoundedLoop) else None,
                patience=self._patience() if self._patients else None,
                late=loop.late if isinstance(loop, OpenLoop) else 0,
            )
        )

    def _top_up(self, loop: Loop) -> None:
        """Say what is due, unless some listener must catch up first."""
        if self._behind_bytes_max and (now_s := time.monotonic()) > self._behind_look_s:
            self._behind_look_s = now_s + BEHIND_LOOK_S
            self._is_behind = any(is_behind(room, self._behind_bytes_max) for room in self._rooms)
        if not self._is_behind:
            loop.top_up(self._heard)

    def _goes_on(self, loop: Loop, said_before: int, end_ns: int) -> bool:
        if self._orders.is_open_ended:
            self._spans = self._hear()
            return self._spans is None
        if self._orders.messages:
            return loop.said - said_before < self._orders.messages
        return time.monotonic_ns() < end_ns

    def _say_rest(self, loop: BoundedLoop) -> None:
        """End the timetable, and let clients say what they hold."""
        loop.stop_offering()
        give_up_s = time.monotonic() + self._orders.settle_s
        while loop.waiting and time.monotonic() < give_up_s:
            loop.top_up(self._heard)
            self._turn(loop.wait_s())

    def _patience(self) -> Patience:
        total = Patience()
        for voice, _ in self._patients:
            each = voice.patience
            total.refusals += each.refusals
            total.untimed += each.untimed
            total.wait_ms_max = max(total.wait_ms_max, each.wait_ms_max)
        return total

    def _acknowledged(self) -> int:
        return sum(talker.acknowledged for talker in self._talkers)

    def _settle(self, loop: Loop) -> int:
        """Wait for what is under way; return when the last text was heard."""
        give_up_s = time.monotonic() + self._orders.settle_s
        ping_bytes = self._ping_bytes
        while time.monotonic() < give_up_s:
            is_heard = self._heard == loop.said
            is_settled = not self._dialect.acknowledges or self._acknowledged() >= loop.said
            if is_heard and is_settled and all(is_level(room, ping_bytes) for room in self._rooms):
                break
            self._turn(0.001)
        return time.monotonic_ns()

    # --- counting -----------------------------------------------------------
    def _count(self, counts: Counts) -> int:
        """Check the sample in full, and everybody's bytes; return how many orders are too many."""
        differing = 0
        for room in self._rooms:
            said = {talker.index: int(talker.said[room.index]) for talker in self._talkers}
            for sample in room.samples:
                sample.book()
                sample.ledger.close(counts, said)
            differing += len({sample.ledger.digest() for sample in room.samples}) - 1
            texts = sum(said.values())
            for listener in room.drained:
                missing = missing_bytes(room, listener, self._ping_bytes)
                text_bytes = max(1.0, room.samples[0].bytes_since_mark / max(1, texts))
                if missing > 0:
                    counts.lost += max(1, round(missing / text_bytes))
                elif missing < 0:
                    counts.duplicated += max(1, round(-missing / text_bytes))
        counts.delivered -= min(counts.lost, counts.delivered)
        return differing

    def _latencies(self, start_ns: int) -> str:
        if not self._arrivals:
            return ""
        histogram = Histogram()
        for arrived_ns, texts in self._arrivals:
            meant_ns = times_ns(texts, self._size)
            histogram.record_many((arrived_ns - meant_ns[meant_ns >= start_ns]) / 1_000)
        return histogram.encode()

    def _spans_latencies(self) -> dict[str, str]:
        found: dict[str, str] = {}
        spans: list[Span] = self._spans.spans if self._spans is not None else []
        for span in spans:
            histogram = Histogram()
            for arrived_ns, texts in self._arrivals or ():
                meant_ns = times_ns(texts, self._size)
                is_in = (meant_ns >= span.begin_ns) & (meant_ns < span.end_ns)
                histogram.record_many((arrived_ns - meant_ns[is_in]) / 1_000)
            found[span.name] = histogram.encode()
        return found

    def _ack_latencies(self, start_ns: int) -> str:
        pairs = [pair for talker in self._talkers for pair in talker.ack_times_ns]
        times = np.array(pairs, np.int64).reshape(-1, 2)
        times = times[times[:, 0] >= start_ns]
        if not len(times):
            return ""
        histogram = Histogram()
        histogram.record_many((times[:, 1] - times[:, 0]) / 1_000)
        return histogram.encode()
