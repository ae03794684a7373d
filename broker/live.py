"""The live process: one worker thread owns ROUTER, XPUB and the log's write side.

Drain, decide, commit, publish, acknowledge. Decisions are `broker.chat.core`; here is only what
touches sockets, the log and the clock. Run by the supervisor as `python -m broker.live`.
"""

from __future__ import annotations

import contextlib
import gc
import logging
import os
import signal
import sqlite3
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import zmq

from broker.chat.core import Core, Facts, Rules
from broker.chat.floods import Rate
from broker.chat.floor import CUT, DRAIN, NICKS
from broker.chat.nicks import NICKS_MAX
from broker.chat.peer import Peer
from broker.child import (
    ORDERS_FILE,
    Ear,
    Orders,
    Report,
    begin,
    raise_descriptor_limit,
    report,
)
from broker.config import Settings, keys_of, nicks_of, rooms_of
from broker.connections import Connections, cutter
from broker.host import certificates, drain_file
from broker.host.admin_socket import AdminRoute, AdminSocket
from broker.host.door import Door
from broker.host.memory import CALM_S, Keeper
from broker.host.sockets import bound_socket, receive_message, send_message
from broker.host.trouble import Trouble
from broker.host.zap import Guests, Handler
from broker.house import House
from broker.log.interface import LogFailed, LogUnusable, Proposal
from broker.log.rights_records import Change
from broker.log.writer import FILE_NAME, SqliteLog
from broker.metrics.tally import Tally
from broker.peers import Peers
from broker.subscriptions import Subscriptions
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
DRAIN_COMMITS_MAX = 4  # Of orders: each waits for the disk, and those who only talk wait, too.
SUBSCRIPTION_BYTES_MAX = 4 * ROOM_CHARS_MAX + 1 + KEY_BYTES + 16
DESCRIPTORS_PER_CLIENT = 2
DESCRIPTORS_RESERVED = 64  # Listeners, log, threads, and refusals being told.
# Answers that wait for one client; whatever is beyond is lost, and asked for again. A client
# that joins all its rooms in one go must not lose any.
REPLIES_WAITING_MAX = 2 * ROOMS_PER_SESSION_MAX
# What the kernel takes of one peer's subscriptions ahead of us, and so what still comes of a flood
# after it was cut off. Whoever joins a thousand rooms in one go waits a turn.
SUBSCRIPTIONS_WAITING_BYTES = 64 * 1024
# Frames: libzmq takes all of a pipe in one go, and never ends while it is filled as fast.
SUBSCRIPTIONS_WAITING = 50
NICKS_WARNING = (
    "nine tenths of %d names are taken: when all are, who comes owns none until one is free again; "
    "`hubbub admin nicks` lists them, `hubbub admin free` frees one"
)
# A client that leaves a PING unanswered for two intervals, or for so long, is taken for dead.
HEARTBEAT_ANSWER_S_MAX = 10.0
# Python looks for cycles after so many new objects that are still alive. There are none to find;
# with its 700 the look took a fifth of the worker's time when SENDs have many posts.
GC_OBJECTS = 100_000
NO_MEMORY = "no memory is left (ulimit -v): ending, to begin anew with what is in the log"
# Last words to somebody who is cut off need so long to leave; everybody else waits meanwhile.
LAST_WORDS_S = 0.02
KEEP_AGAIN_S = 1.0  # Until what the log could not write beside messages is tried again.
ADMINISTRATOR = Peer(is_admin=True)
FAREWELL_S_MAX = 2.0  # Longer than the sockets' linger, shorter than the supervisor's patience.


class Worker:
    """Owns, from its own thread: ROUTER, XPUB and the log."""

    def __init__(
        self,
        orders: Orders,
        context: zmq.Context[zmq.Socket[bytes]],
        ear: Ear | None = None,
    ) -> None:
        """Only remember; sockets and log are made by the thread that uses them."""
        self._ear = ear or Ear()
        self._guests = Guests(orders.allowed)
        self._is_cut_due = False  # Somebody was struck off the list, or banned, in this turn.
        self._orders = orders
        self._context = context
        self._logger = logging.getLogger("live")
        self._doors: list[Door] = []
        self._admin: AdminSocket | None = None
        self._supervisor = os.getppid()
        self._trouble = Trouble()
        self._tally = Tally()
        self._keep_at_s = 0.0  # Not before, after a failure: each attempt may wait for a lock.

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
                _rules(settings, clients_max),
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
                keeper=self._log,
                now_ms=time.time_ns() // 1_000_000,
                now_s=time.monotonic(),
                stayers=drain_file.read(Path(settings.data)),
            )
            if self._core.stayers is not None:
                self._logger.warning("still draining: nobody new is let in")
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
        pair = certificates.load(Path(settings.data)) if orders.is_secure else None
        if pair is not None:
            Handler(self._context, self._guests)
        address = orders.address
        self._router = bound_socket(self._context, zmq.ROUTER, address, COMMAND_BYTES_MAX, pair)
        self._router.setsockopt(zmq.ROUTER_MANDATORY, 1)
        self._router.setsockopt(zmq.SNDHWM, REPLIES_WAITING_MAX)
        self._xpub = bound_socket(self._context, zmq.XPUB, address, SUBSCRIPTION_BYTES_MAX, pair)
        self._xpub.setsockopt(zmq.XPUB_MANUAL, 1)
        self._xpub.setsockopt(zmq.XPUB_NODROP, 1)  # To hear of a full queue: see _publish.
        self._xpub.setsockopt(zmq.SNDHWM, settings.publish_queue)
        self._xpub.setsockopt(zmq.RCVBUF, SUBSCRIPTIONS_WAITING_BYTES)
        self._xpub.setsockopt(zmq.RCVHWM, SUBSCRIPTIONS_WAITING)
        answer_s = min(2 * settings.heartbeat, HEARTBEAT_ANSWER_S_MAX)
        self._xpub.setsockopt(zmq.HEARTBEAT_IVL, int(settings.heartbeat * 1_000))
        self._xpub.setsockopt(zmq.HEARTBEAT_TIMEOUT, int(answer_s * 1_000))
        self._connections = Connections(cutter(orders.rooms_port))
        self._peers = Peers(self._guests, cutter(orders.commands_port), is_secure=orders.is_secure)
        for socket, port, changed in (
            (self._router, orders.commands_port, self._peers.changed if pair else None),
            (self._xpub, orders.rooms_port, self._connections.changed),
        ):
            endpoint = Address(orders.address, port).url()
            try:
                door = Door(self._context, socket, endpoint, self._logger, changed)
                self._doors.append(door)
            except zmq.ZMQError as error:
                is_taken = error.errno == zmq.EADDRINUSE
                report(Report(f"{endpoint}: {error.strerror}", is_port_taken=is_taken))
                raise SystemExit(1) from error
        self._connections.listen = self._doors[-1].listen
        self._peers.listen = self._doors[0].listen
        try:
            self._admin = AdminSocket(self._context, Path(settings.data))
        except (OSError, zmq.ZMQError) as error:
            self._logger.warning("no `hubbub admin` here, only with an operator's key: %s", error)

    def _serve(self) -> None:
        core, log, tally = self._core, self._log, self._tally
        house = House(core, log, tally, self._doors)
        guests = self._guests if self._orders.is_secure else None
        subscriptions = Subscriptions(self._xpub, core, self._connections, guests)
        poller = zmq.Poller()
        admins = [self._admin.socket] if self._admin is not None else []
        for source in (ORDERS_FILE, self._xpub, self._router, *admins, *house.sources):
            poller.register(source, zmq.POLLIN)  # XPUB with POLLOUT would always be ready.
        is_stopping = False
        while not is_stopping:
            deadline_s = min(core.next_deadline_s(), house.deadline_s())
            ready = dict(poller.poll(max(0, int((deadline_s - time.monotonic()) * 1_000) + 1)))
            core.clock(time.time_ns() // 1_000_000, time.monotonic())
            house.watch_memory(time.monotonic())
            if self._xpub in ready or self._doors[-1].events in ready:
                subscriptions.drain()
            if guests is not None and self._doors[0].events in ready:
                self._peers.listen()
            if self._router in ready:
                self._drain_commands()
            self._drain_admin()
            core.tick()
            if ORDERS_FILE in ready:
                self._listen_to_supervisor()
                if self._ear.is_over:
                    core.close()
                    is_stopping = True
            proposals = core.take_proposals()
            self._keep_promised()
            if proposals:
                self._append(proposals)
                house.log_grows(time.monotonic())
            self._keep_later()
            committed = log.follow()
            core.committed(committed)
            tally.committed(committed)
            self._heed(core.take_wishes())
            self._carry_out()
            self._cut_off()
            self._ask_to_reload()
            house.keep(ready, time.monotonic())
        house.close()
        self._close()

    def _close(self) -> None:
        if self._admin is not None:
            self._admin.close()
        self._router.close()
        self._xpub.close()

    def _listen_to_supervisor(self) -> None:
        """Take the newest settings, if the supervisor has told any."""
        reload = self._ear.hear(0)
        if reload is None:
            return
        self._guests.replace(reload.allowed)
        self._core.reload(
            _rules(reload.settings, self._tally.sessions_max),
            admits=self._guests.admits,
        )
        self._core.reloads.answered(
            reload.asked,
            reload.names,
            "all" if reload.allowed is None else str(len(reload.allowed)),
            reload.failure,
        )
        self._is_cut_due = self._orders.is_secure

    def _note_drain(self) -> None:
        """Have the next live process know, before the operator is answered."""
        try:
            drain_file.note(Path(self._orders.settings.data), self._core.stayers)
        except OSError as error:
            reason = error.strerror
            self._logger.warning("a crash of live will undo the last order to drain: %s", reason)

    def _heed(self, wishes: set[str]) -> None:
        """Do what the core cannot do by itself; what it answers is said after that."""
        if DRAIN in wishes:
            self._note_drain()
        if NICKS in wishes:
            self._logger.warning(NICKS_WARNING, NICKS_MAX)
        self._is_cut_due |= CUT in wishes and self._orders.is_secure

    def _cut_off(self) -> None:
        """End the connections of keys that were struck off the list, or banned."""
        if self._is_cut_due:
            self._is_cut_due = False
            time.sleep(LAST_WORDS_S)
            self._connections.cut_off(self._is_out)
            self._peers.cut_off(self._is_out)

    def _is_out(self, key: bytes) -> bool:
        return not self._guests.admits(key) or self._core.is_banned(key)

    def _append(self, proposals: list[Proposal]) -> None:
        """Commit, or tell the senders that nothing is kept."""
        begun_s = time.monotonic()
        try:
            self._log.append(proposals)
        except LogFailed as error:
            self._core.failed(proposals)
            self._tally.append_failed(time.monotonic())
            reason = f"{error}; senders are told that nothing is kept"
            self._trouble.failed(reason, time.monotonic(), self._logger)
        else:
            self._tally.appended(time.monotonic() - begun_s)
            count = self._trouble.succeeded()
            if count:
                self._logger.warning("the log is written again, after %d failures", count)

    def _keep_promised(self) -> None:
        """Have whose new rooms and nicks are on the disk before anybody is told of them.

        One transaction for all who came in this drain. Where the log cannot be written people
        come all the same: then it is lost with this process, unless it is written later.
        """
        if time.monotonic() >= self._keep_at_s:
            self._keep(self._core.take_promised(), self._log.keep)

    def _keep_later(self) -> None:
        """Have what can wait written down."""
        if time.monotonic() >= self._keep_at_s:
            self._keep(self._core.take_changes(), self._log.keep_soon)

    def _keep(self, changes: list[Change], keep: Callable[[list[Change]], None]) -> None:
        if not changes:
            return
        try:
            keep(changes)
        except LogFailed as error:
            self._core.put_back(changes)
            self._keep_at_s = time.monotonic() + KEEP_AGAIN_S
            self._trouble.failed(str(error), time.monotonic(), self._logger)

    def _drain_commands(self) -> None:
        router, core, handle = self._router, self._core, self._core.receive
        peers, is_secure = self._peers, self._orders.is_secure
        peer_by = peers.known.get
        taken = 0
        try:
            for taken in range(1, DRAIN_MESSAGES_MAX + 1):  # noqa: B007 - read below
                route, frames, frame = receive_message(router)
                peer = None if is_secure else peer_by(route)
                peer = peer or peers.of(route, frame)
                if peer is None:
                    continue
                handle(route, frames, peer)
                if (
                    core.texts_count >= DRAIN_TEXTS_MAX
                    or core.answered_bytes > DRAIN_ANSWERS_BYTES_MAX
                    or core.commits_count >= DRAIN_COMMITS_MAX
                ):
                    break
        except zmq.Again:
            taken -= 1
        self._tally.drained(taken)

    def _drain_admin(self) -> None:
        if self._admin is not None:
            for route, frames in self._admin.receive():
                self._core.receive(route, frames, ADMINISTRATOR)

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
                if type(route) is AdminRoute:
                    assert self._admin is not None
                    self._admin.send(route, frames)
                else:
                    send_message(router, route, frames)
            except zmq.ZMQError as error:
                # Gone, or too slow to be told: it will resume and hear it again.
                if error.errno not in (zmq.EAGAIN, zmq.EHOSTUNREACH):
                    raise
                self._tally.replies_lost_count += 1
        for sender in effects.forgotten:
            self._log.forget(sender)

    def _ask_to_reload(self) -> None:
        """Have the supervisor read its configuration again; if it is gone, we are about to go."""
        if os.getppid() == self._supervisor and self._core.reloads.take_question():
            with contextlib.suppress(ProcessLookupError):
                # Not SIGHUP: of a broker at a terminal that one is the end.
                os.kill(self._supervisor, signal.SIGUSR1)


def _rules(settings: Settings, clients_max: int) -> Rules:
    return Rules(
        clients_max=clients_max,
        rooms_max=settings.max_rooms,
        grace_s=settings.grace,
        rate=Rate(settings.rate, settings.burst, nicks_of(settings.unlimited)),
        motd=settings.motd,
        operators=keys_of(settings.operators),
        commons=rooms_of(settings.commons),
        nick_days=settings.nick_days,
    )


def main() -> int:
    """Run the worker on a thread of its own until the supervisor says stop."""
    orders, ear, logger = begin("live")
    gc.set_threshold(GC_OBJECTS)
    context: zmq.Context[zmq.Socket[bytes]] = zmq.Context(IO_THREADS)
    failures: list[BaseException] = []

    def work() -> None:
        try:
            Worker(orders, context, ear).run()
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
