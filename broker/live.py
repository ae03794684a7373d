"""The live process: one worker thread owns ROUTER, XPUB and the log's write side.

Drain, decide, commit, publish, acknowledge. Decisions are `broker.core`; here is only what
touches sockets, the log and the clock. Run by the supervisor as `python -m broker.live`.
"""

from __future__ import annotations

import contextlib
import gc
import logging
import os
import sqlite3
import sys
import threading
import time
from pathlib import Path

import zmq

from broker.child import (
    ORDERS_FILE,
    TELL_EVERY_S,
    Orders,
    Report,
    Teller,
    begin,
    raise_descriptor_limit,
    report,
)
from broker.config import nicks_of
from broker.core import Core, Facts, Rules
from broker.door import Door
from broker.headroom import LOOK_EVERY_S, Headroom
from broker.log import LogFailed, LogUnusable, Proposal
from broker.log_sqlite import FILE_NAME, SqliteLog
from broker.logs import fields
from broker.memory import CALM_S, Keeper
from broker.retention_clock import RetentionClock
from broker.sessions import Rate
from broker.sockets import bound_socket, discard_rest, receive_message, send_message
from broker.tally import Tally
from broker.trouble import Trouble
from common.endpoints import Address
from common.errors import HubbubError
from common.limits import (
    COMMAND_BYTES_MAX,
    KEY_BYTES,
    ROOM_CHARS_MAX,
    ROOMS_PER_SESSION_MAX,
)
from common.version import VERSION

# libzmq looks for a timer to cancel by walking all timers of its I/O thread, and every client has
# two (heartbeats): a few threads divide that, and let fan-out use every core. ADR 0014.
IO_THREADS = 4
DRAIN_MESSAGES_MAX = 2_000  # Then it is time to commit: bounds memory and everybody's wait.
DRAIN_TEXTS_MAX = 16_384  # Likewise: a SEND has up to 256, and a commit waits for all.
DRAIN_ANSWERS_BYTES_MAX = 1024 * 1024  # A thousand who ask for everybody's nicks.
SUBSCRIPTIONS_MAX = 2_000  # Likewise, of subscriptions.
REFUSED_SUBSCRIPTIONS_MAX = 200  # A flood of wrong ones: what is said must not wait for more.
SUBSCRIPTION_BYTES_MAX = 4 * ROOM_CHARS_MAX + 1 + KEY_BYTES + 16
DESCRIPTORS_PER_CLIENT = 2
DESCRIPTORS_RESERVED = 64  # Listeners, log, threads, and refusals being told.
# Answers that wait for one client; whatever is beyond is lost, and asked for again. A client
# that joins all its rooms in one go must not lose any.
REPLIES_WAITING_MAX = 2 * ROOMS_PER_SESSION_MAX
# A client that leaves a PING unanswered for two intervals, or for so long, is taken for dead.
HEARTBEAT_ANSWER_S_MAX = 10.0
TRIM_EVERY_S = 1.0
TRIM_ON_S = 0.1  # After a trim that found something: a busy room grows faster than one drops.
TRIM_IDLE_S = 5.0  # While nobody says anything: time alone makes few entries too old.
REFUSALS_EVERY_S = 60.0
# Python looks for cycles after so many new objects that are still alive. There are none to find;
# with its 700 the look took a fifth of the worker's time when SENDs have many posts.
GC_OBJECTS = 100_000
NO_MEMORY = "no memory is left (ulimit -v): ending, to begin anew with what is in the log"
FAREWELL_S_MAX = 2.0  # Longer than the sockets' linger, shorter than the supervisor's patience.


class Subscriptions:
    """Judges the subscriptions that peers ask of XPUB. Belongs to the thread that owns XPUB.

    In manual mode libzmq keeps beside its queue of frames a queue of the pipes that asked, but
    puts no pipe there for a frame that is data. From such a frame on, until its queue is empty,
    each subscription would be admitted for another peer than the one that asked (4.3.5,
    xpub.cpp, xrecv). Until then nobody is admitted; a client asks again when no beacon comes.
    """

    def __init__(self, xpub: zmq.Socket[bytes], core: Core) -> None:
        self._xpub = xpub
        self._core = core
        self._is_paired = True  # The frame heard last belongs to the pipe that libzmq takes.

    def drain(self) -> None:
        """Take what has arrived, a bounded number of frames."""
        xpub, core = self._xpub, self._core
        refused_max = core.refusals["bad_subscription"] + REFUSED_SUBSCRIPTIONS_MAX
        try:
            for _ in range(SUBSCRIPTIONS_MAX):
                if core.refusals["bad_subscription"] >= refused_max:
                    break
                heard = xpub.recv(zmq.NOBLOCK, copy=False)
                frame = heard.bytes
                if heard.more or frame[:1] not in (b"\0", b"\1"):
                    discard_rest(xpub, heard)
                    core.refusals["bad_subscription"] += 1
                    self._is_paired = False
                elif frame[0]:
                    greetings = core.subscribed(frame[1:])
                    if greetings is not None and self._is_paired:
                        xpub.setsockopt(zmq.SUBSCRIBE, frame[1:])  # For the pipe just heard.
                        for greeting in greetings:
                            self._tell_last(greeting)
                else:
                    if self._is_paired:
                        xpub.setsockopt(zmq.UNSUBSCRIBE, frame[1:])
                    core.unsubscribed(frame[1:])
        except zmq.Again:
            self._is_paired = True

    def _tell_last(self, publication: bytes) -> None:
        """Publish to the pipe just heard alone, so that a newcomer costs nobody else anything.

        Before anything else is published the mode is as it was: it lasts until a message goes,
        and would hide the next one from everybody else. xpub.cpp, xsend.
        """
        xpub = self._xpub
        xpub.setsockopt(zmq.XPUB_MANUAL_LAST_VALUE, 1)
        with contextlib.suppress(zmq.Again):  # Its queue is full: it asks again when it has read.
            xpub.send(publication, zmq.NOBLOCK)
        xpub.setsockopt(zmq.XPUB_MANUAL_LAST_VALUE, 0)  # Ends the manual mode too.
        xpub.setsockopt(zmq.XPUB_MANUAL, 1)


class Worker:
    """Owns, from its own thread: ROUTER, XPUB and the log."""

    def __init__(self, orders: Orders, context: zmq.Context[zmq.Socket[bytes]]) -> None:
        """Only remember; sockets and log are made by the thread that uses them."""
        self._orders = orders
        self._context = context
        self._logger = logging.getLogger("live")
        self._retention_clock = RetentionClock(time.monotonic())
        self._trim_at_s = 0.0
        self._refusals_at_s = 0.0
        self._refusals_told = 0
        self._doors: list[Door] = []
        self._headroom = Headroom()
        self._memory_trouble = Trouble()
        self._append_trouble = Trouble()
        self._trim_trouble = Trouble()
        self._tally = Tally()
        self._tell_at_s = 0.0

    def run(self) -> None:
        """Serve until the word to stop comes."""
        settings = self._orders.settings
        try:
            self._log = SqliteLog(
                Path(settings.data) / FILE_NAME,
                retain_messages=settings.retain_messages,
                retain_days=settings.retain_days,
            )
        except (sqlite3.Error, OSError) as error:
            message = f"the log in {settings.data} cannot be opened: {error}"
            raise LogUnusable(message) from error
        try:
            clients_max, capacity = self._clients_max()
            self._core = Core(
                Rules(
                    clients_max=clients_max,
                    rooms_max=settings.max_rooms,
                    grace_s=settings.grace,
                    rate=Rate(settings.rate, settings.burst, nicks_of(settings.unlimited)),
                    motd=settings.motd,
                ),
                Facts(
                    program=VERSION,
                    rooms_port=self._orders.rooms_port,
                    history_port=self._orders.history_port,
                    pyzmq=zmq.__version__,
                    libzmq=zmq.zmq_version(),
                    restarts=self._orders.restarts,
                ),
                self._log.rooms(),
                secret=self._log.secret,
                epoch=self._log.epoch,
                recall=self._log.recall,
                now_ms=time.time_ns() // 1_000_000,
                now_s=time.monotonic(),
            )
            self._bind()
            self._tally.sessions_max = clients_max
            report(Report(note=capacity))
            self._serve()
        finally:
            self._log.close()

    def _clients_max(self) -> tuple[int, str]:
        """Return how many clients are let in, and the words about it for the operator."""
        asked = self._orders.settings.max_clients
        descriptors = raise_descriptor_limit()
        capacity = (descriptors - DESCRIPTORS_RESERVED) // DESCRIPTORS_PER_CLIENT
        clients_max = max(1, min(asked, capacity))
        words = f"room for {clients_max} clients (asked for {asked}; {descriptors} open files)"
        return clients_max, words

    def _bind(self) -> None:
        orders, settings = self._orders, self._orders.settings
        self._router = bound_socket(self._context, zmq.ROUTER, orders.address, COMMAND_BYTES_MAX)
        self._router.setsockopt(zmq.ROUTER_MANDATORY, 1)
        self._router.setsockopt(zmq.SNDHWM, REPLIES_WAITING_MAX)
        self._xpub = bound_socket(self._context, zmq.XPUB, orders.address, SUBSCRIPTION_BYTES_MAX)
        self._xpub.setsockopt(zmq.XPUB_MANUAL, 1)
        self._xpub.setsockopt(zmq.XPUB_NODROP, 1)  # To hear of a full queue: see _publish.
        self._xpub.setsockopt(zmq.SNDHWM, settings.publish_queue)
        answer_s = min(2 * settings.heartbeat, HEARTBEAT_ANSWER_S_MAX)
        self._xpub.setsockopt(zmq.HEARTBEAT_IVL, int(settings.heartbeat * 1_000))
        self._xpub.setsockopt(zmq.HEARTBEAT_TIMEOUT, int(answer_s * 1_000))
        for socket, port in ((self._router, orders.commands_port), (self._xpub, orders.rooms_port)):
            endpoint = Address(orders.address, port).url()
            try:
                self._doors.append(Door(self._context, socket, endpoint, self._logger))
            except zmq.ZMQError as error:
                is_taken = error.errno == zmq.EADDRINUSE
                report(Report(f"{endpoint}: {error.strerror}", is_port_taken=is_taken))
                raise SystemExit(1) from error

    def _serve(self) -> None:
        core, log, tally = self._core, self._log, self._tally
        teller = Teller()
        subscriptions = Subscriptions(self._xpub, core)
        poller = zmq.Poller()
        doors = self._doors
        for source in (ORDERS_FILE, self._xpub, self._router, *(door.events for door in doors)):
            poller.register(source, zmq.POLLIN)  # XPUB with POLLOUT would always be ready.
        is_stopping = False
        while not is_stopping:
            ready = dict(poller.poll(self._wait_ms()))
            core.clock(time.time_ns() // 1_000_000, time.monotonic())
            self._watch_memory()
            if self._xpub in ready:
                subscriptions.drain()
            if self._router in ready:
                self._drain_commands()
            core.tick()
            if ORDERS_FILE in ready:
                core.close()
                is_stopping = True
            proposals = core.take_proposals()
            if proposals:
                self._trim_at_s = min(self._trim_at_s, time.monotonic() + TRIM_EVERY_S)
                self._append(proposals)
            committed = log.follow()
            core.committed(committed)
            tally.committed(committed)
            self._carry_out()
            self._keep_house()
            now_s = time.monotonic()
            if now_s >= self._tell_at_s:
                self._tell_at_s = now_s + TELL_EVERY_S
                teller.tell(tally.figures(core, now_s))
            for door in doors:
                if door.events in ready or door.deadline_s <= now_s:
                    door.look(now_s)
        for door in doors:
            door.close()
        self._router.close()
        self._xpub.close()

    def _watch_memory(self) -> None:
        """Have everybody wait while memory is short; raise `MemoryError` when it stays so."""
        headroom, now_s = self._headroom, time.monotonic()
        headroom.look(now_s)
        self._core.sessions.is_short_of_memory = headroom.is_short
        if headroom.is_short:
            self._tell(
                self._memory_trouble,
                f"short of memory ({headroom.limit_bytes / 2**20:.0f} MiB may be taken): "
                "newcomers are refused, and all others told to wait",
            )
            if headroom.is_hopeless(now_s):
                raise MemoryError
        elif self._memory_trouble.succeeded():
            self._logger.warning("there is enough memory again")

    def _append(self, proposals: list[Proposal]) -> None:
        """Commit, or tell the senders that nothing is kept."""
        begun_s = time.monotonic()
        try:
            self._log.append(proposals)
        except LogFailed as error:
            self._core.failed(proposals)
            self._tally.append_failed(time.monotonic())
            self._tell(self._append_trouble, f"{error}; senders are told that nothing is kept")
        else:
            self._tally.appended(time.monotonic() - begun_s)
            count = self._append_trouble.succeeded()
            if count:
                self._logger.warning("the log is written again, after %d failures", count)

    def _tell(self, trouble: Trouble, reason: str) -> None:
        told = trouble.failed(reason, time.monotonic())
        if told:
            self._logger.error("%s", told)

    def _wait_ms(self) -> int:
        deadlines_s = [self._core.next_deadline_s(), self._trim_at_s, self._tell_at_s]
        deadlines_s += [door.deadline_s for door in self._doors]
        if self._headroom.is_short:
            deadlines_s.append(time.monotonic() + LOOK_EVERY_S)
        wait_s = min(deadlines_s) - time.monotonic()
        return max(0, int(wait_s * 1_000) + 1)

    def _drain_commands(self) -> None:
        router, core, handle = self._router, self._core, self._core.receive
        taken = 0
        try:
            for taken in range(1, DRAIN_MESSAGES_MAX + 1):  # noqa: B007 - read below
                handle(*receive_message(router))
                if (
                    core.texts_count >= DRAIN_TEXTS_MAX
                    or core.answered_bytes > DRAIN_ANSWERS_BYTES_MAX
                ):
                    break
        except zmq.Again:
            taken -= 1
        self._tally.drained(taken)

    def _publish(self, publications: list[bytes]) -> None:
        """Publish, and count what finds a reader's queue full.

        libzmq drops silently. With NODROP it refuses instead while the queue of any reader who is
        still being served is full; what is sent without NODROP then leaves that reader out until
        it has read on, and serves the others. So each time that a queue fills is seen once.
        """
        xpub = self._xpub
        for publication in publications:
            try:
                xpub.send(publication, zmq.NOBLOCK)
            except zmq.Again:
                self._tally.queue_full_count += 1
                xpub.setsockopt(zmq.XPUB_NODROP, 0)
                xpub.send(publication, zmq.NOBLOCK)
                xpub.setsockopt(zmq.XPUB_NODROP, 1)
        self._tally.publications_count += len(publications)

    def _carry_out(self) -> None:
        effects = self._core.take_effects()
        self._publish(effects.publications)
        router = self._router
        for route, frames in effects.replies:
            try:
                send_message(router, route, frames)
            except zmq.ZMQError as error:
                # Gone, or too slow to be told: it will resume and hear it again.
                if error.errno not in (zmq.EAGAIN, zmq.EHOSTUNREACH):
                    raise
                self._tally.replies_lost_count += 1
        for sender in effects.forgotten:
            self._log.forget(sender)

    def _keep_house(self) -> None:
        now_s = time.monotonic()
        if now_s >= self._trim_at_s:
            self._trim_at_s = now_s + TRIM_IDLE_S
            try:
                now_ms = self._retention_clock.now_ms(time.time_ns() // 1_000_000, now_s)
                firsts = self._log.trim(now_ms)
                self._core.trimmed(firsts)
                if firsts:
                    self._trim_at_s = now_s + TRIM_ON_S
                self._trim_trouble.succeeded()
            except LogFailed as error:
                self._tell(self._trim_trouble, str(error))
                self._tally.trim_failures_count += 1
        refusals = self._core.refusals
        if now_s >= self._refusals_at_s and refusals.total() != self._refusals_told:
            self._refusals_at_s = now_s + REFUSALS_EVERY_S
            self._refusals_told = refusals.total()
            told = ", ".join(f"{code} {count}" for code, count in refusals.most_common())
            lost_count = self._tally.replies_lost_count
            self._logger.info(
                "refused so far: %s; replies lost: %d",
                told,
                lost_count,
                extra=fields(refused=dict(refusals), replies_lost=lost_count),
            )


def main() -> int:
    """Run the worker on a thread of its own until the supervisor says stop."""
    orders, logger = begin("live")
    gc.set_threshold(GC_OBJECTS)
    context: zmq.Context[zmq.Socket[bytes]] = zmq.Context(IO_THREADS)
    failures: list[BaseException] = []

    def work() -> None:
        try:
            Worker(orders, context).run()
        except BaseException as error:  # Any failure ends the process.
            failures.append(error)
            if isinstance(error, MemoryError):
                logger.critical("%s", NO_MEMORY)
            elif isinstance(error, HubbubError):
                logger.critical("%s", error)  # Our own words: they say what to do.
            elif not isinstance(error, SystemExit):
                logger.critical("the worker failed", exc_info=error)

    worker = threading.Thread(target=work, name="worker")
    worker.start()
    keeper = Keeper()
    while worker.is_alive():
        worker.join(CALM_S)
        keeper.look()
    if failures:
        return 1
    take_leave(context)
    return 0


def take_leave(context: zmq.Context[zmq.Socket[bytes]]) -> None:
    """Let the last words reach the clients; the log is closed.

    With megabytes on their way to a thousand slow readers libzmq takes longer than its linger;
    nobody who stops a broker waits for that.
    """
    farewell = threading.Thread(target=context.term, name="farewell", daemon=True)
    farewell.start()
    farewell.join(FAREWELL_S_MAX)
    if farewell.is_alive():
        os._exit(0)


if __name__ == "__main__":
    sys.exit(main())
