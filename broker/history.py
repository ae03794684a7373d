"""The history process: REP workers behind one endpoint. Reads the log; writes nothing.

A process of its own, so that a thousand clients replaying at once never delay live chat. Each
worker thread owns one read-only connection to the log; the proxy thread owns the socket to the
clients, and speaks REP there. Run as `python -m broker.history`.

Between these threads requests and pages go through queues, and a page is hundreds of frames:
handing on the list costs nothing, while sockets between them would take every frame twice more.
A socket only rings when a page is there, since the proxy waits for sockets.
"""

from __future__ import annotations

import logging
import os
import queue
import sqlite3
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path

import msgspec
import zmq

from broker import introductions, keys
from broker.child import (
    TELL_EVERY_S,
    Orders,
    Report,
    Teller,
    begin,
    raise_descriptor_limit,
    report,
)
from broker.config import keys_of
from broker.connections import cutter
from broker.host import certificates
from broker.host.door import Door
from broker.host.memory import CALM_S, Keeper
from broker.host.sockets import bound_socket, receive_message
from broker.host.zap import Guests, Handler, key_of
from broker.log.interface import LogFailed, Reader
from broker.log.reader import SqliteReader
from broker.log.writer import FILE_NAME
from broker.metrics.figures import Figures, added
from common import wire
from common.endpoints import Address
from common.errors import Code, Refused
from common.wire import Command

REQUEST_BYTES_MAX = 1_024  # A HISTORY is some hundred bytes.
BELL_ENDPOINT = "inproc://bell"
# Pages that wait for a client to read them; more are dropped, for each can have a megabyte. A
# REQ asks again only when it has its answer.
PAGES_WAITING_MAX = 2
REQUESTS_PER_WORKER = 2  # One is being answered, the next one is at hand.
# So many requests at once are a storm of readers, and what it gets is half of a gigabit line.
# ADR 0019.
STORM_REQUESTS = 8
STORM_BYTES_PER_S = 60_000_000
TOLD_MAX = 1_000
PAUSE_S_MIN = 0.001  # A shorter sleep takes longer than it should.

_decode_history = msgspec.msgpack.Decoder(wire.History).decode

Socket = zmq.Socket[bytes]


def answer(
    reader: Reader,
    frames: list[bytes],
    tally: Counter[str] | None = None,
    *,
    now_ms: int,
    key: bytes = b"",
    is_allowed: bool = True,
    operators: frozenset[bytes] = frozenset(),
) -> list[bytes]:
    """Return the answer to one request; never raises for what a client sent.

    tally: where it is counted, as `broker.metrics.figures` names it. key: of whoever asks, 32 raw
    bytes; none on a plain endpoint. is_allowed: whether that key is let in. operators: keys that
    no ban holds against.
    """
    tally = Counter() if tally is None else tally
    request_id = 0
    try:
        code, _, payload = wire.open_command(frames)
        if code != Command.HISTORY:
            request_id = wire.salvage_id(payload)
            raise Refused(Code.BAD_COMMAND, "only HISTORY is answered here")
        try:
            request = _decode_history(payload)
        except wire.DECODE_ERRORS as error:
            request_id = wire.salvage_id(payload)
            raise Refused(Code.BAD_PAYLOAD, str(error)) from error
        request_id = request.id
        if not is_allowed:  # It was, and has been struck off the list since.
            raise Refused(Code.NOT_ALLOWED)
        if key and key not in operators and reader.is_banned(key, now_ms):
            raise Refused(Code.BANNED)
        generation = reader.generation(request.room)
        ticket, room = request.ticket, request.room
        if not keys.is_ticket(ticket, reader.secret, room, generation, key=key, now_ms=now_ms):
            raise Refused(Code.BAD_TICKET)
        tally[f"history_questions:{request.mode.name.lower()}"] += 1
        page = reader.read(request.room, request.mode, request.at, request.limit)
    except Refused as refusal:
        tally[f"errors:{refusal.code}"] += 1
        return wire.refusal_frames(request_id, refusal)
    tally["history_pages"] += 1
    tally["history_bytes"] += sum(map(len, page.batches))
    record = page.record
    reply = wire.Page(request.id, record.name, reader.epoch, record.first, record.head, page.more)
    return [*wire.reply_frames(reply), *page.batches]


class Once:
    """Says each line the first time: what is damaged is asked for again and again."""

    def __init__(self, say: Callable[[str], None]) -> None:
        self._say = say
        self._told: set[str] = set()
        self._lock = threading.Lock()

    def __call__(self, line: str) -> None:
        """Say it, unless it was said."""
        with self._lock:
            if line in self._told:
                return
            if len(self._told) >= TOLD_MAX:
                self._told.clear()
            self._told.add(line)
        self._say(line)


class Pace:
    """Says how long to pause so that pages stay below a rate. ADR 0019."""

    def __init__(self, bytes_per_s: float) -> None:
        self._bytes_per_s = bytes_per_s
        self._free_at_s = 0.0  # When what was sent will have taken its time.

    def pause_s(self, page: list[bytes], now_s: float) -> float:
        """Return the seconds to pause after this page: 0 while a pause is not worth it."""
        self._free_at_s = max(self._free_at_s, now_s) + sum(map(len, page)) / self._bytes_per_s
        pause_s = self._free_at_s - now_s
        return pause_s if pause_s >= PAUSE_S_MIN else 0.0


class Desk:
    """What lies between the proxy and the workers: messages with the envelopes of their clients."""

    def __init__(self) -> None:
        # A message, and the key of whoever sent it. None: end.
        self.requests: queue.SimpleQueue[tuple[list[bytes], bytes] | None] = queue.SimpleQueue()
        self.pages: queue.SimpleQueue[list[bytes]] = queue.SimpleQueue()
        self.operators: frozenset[bytes] = frozenset()  # Keys, as the settings have them now.
        self.tallies: list[Counter[str]] = []  # One a worker, who alone writes it.


def figures(tallies: Sequence[Counter[str]], waiting_count: int) -> Figures:
    """Return what to tell the supervisor."""
    copies = [dict(tally) for tally in tallies]  # Each in one step: its worker goes on counting.
    return Figures(counted=added(*copies), now={"history_waiting": waiting_count})


class Endpoints:
    """The sockets that history serves, and who may come in."""

    def __init__(self, orders: Orders) -> None:
        """Only remember; raise OSError or `FileUnusable` where the keys cannot be read."""
        self._orders = orders
        self.guests = Guests(orders.allowed)
        self.pair = certificates.load(Path(orders.settings.data)) if orders.is_secure else None
        self.binding = ""  # The endpoint being bound, or bound last.
        self.clients: Socket
        self.door: Door
        self.introductions: tuple[Socket, Door, introductions.Visits, bytes] | None = None

    def bind(self, context: zmq.Context[Socket], logger: logging.Logger) -> None:
        """Bind what is served. Raises `zmq.ZMQError`."""
        orders, pair = self._orders, self.pair
        if pair is not None:
            Handler(context, self.guests)
        self.clients = bound_socket(context, zmq.ROUTER, orders.address, REQUEST_BYTES_MAX, pair)
        self.clients.setsockopt(zmq.SNDHWM, PAGES_WAITING_MAX)
        self.binding = Address(orders.address, orders.history_port).url()
        self.door = Door(context, self.clients, self.binding, logger)
        if pair is not None:
            self.binding = Address(orders.address, orders.introduction_port).url()
            socket = introductions.new_socket(context, orders.address)
            visits = introductions.Visits(cutter(orders.introduction_port))
            door = Door(context, socket, self.binding, logger, visits.changed)
            self.introductions = (socket, door, visits, pair.public)


def work(bell: Socket, path: Path, desk: Desk, guests: Guests, complain: Once) -> None:
    """Answer requests until there is a None among them."""
    tally: Counter[str] = Counter()
    desk.tallies.append(tally)
    reader = SqliteReader(path, complain)
    try:
        while (request := desk.requests.get()) is not None:
            message, key = request
            # zguide, "The DEALER to REP combination": addresses, an empty frame, the request.
            start = message.index(b"") + 1
            try:
                now_ms = time.time_ns() // 1_000_000
                frames, is_allowed = message[start:], guests.admits(key)
                reply = answer(
                    reader,
                    frames,
                    tally,
                    now_ms=now_ms,
                    key=key,
                    is_allowed=is_allowed,
                    operators=desk.operators,
                )
                tally["history_entries"] = reader.entries_count
            except (sqlite3.Error, LogFailed) as error:
                complain(f"the log cannot be read: {error}")
                tally["log_failures:read"] += 1
                tally[f"errors:{Code.LOG_FAILED}"] += 1
                refusal = Refused(Code.LOG_FAILED, "the broker could not read its log")
                reply = wire.refusal_frames(0, refusal)
            desk.pages.put(message[:start] + reply)
            bell.send(b"")
    except zmq.ContextTerminated:
        pass
    finally:
        bell.close()
        reader.close()


def proxy(endpoints: Endpoints, bell: Socket, desk: Desk, requests_max: int) -> None:
    """Pass requests and answers on until the context ends.

    No more requests go to the workers than they take at once, or make a storm. The others wait at
    `clients`, where turns go round among the connections, so that whoever asks a thousand questions
    in one go waits for them, and nobody else does. In a storm pages go out at a pace that leaves
    cores and line to what is said now. About once a second the supervisor is told how it goes.
    """
    clients, door = endpoints.clients, endpoints.door
    poller = zmq.Poller()
    poller.register(bell, zmq.POLLIN)
    poller.register(clients, zmq.POLLIN)
    poller.register(door.events, zmq.POLLIN)
    requests_count = 0  # With the workers.
    pace = Pace(STORM_BYTES_PER_S)
    is_storm = False  # From when no more could be taken, until all of those are answered.
    teller, tell_at_s = Teller(), 0.0
    try:
        while True:
            now_s = time.monotonic()
            if now_s >= tell_at_s:
                tell_at_s = now_s + TELL_EVERY_S
                teller.tell(figures(desk.tallies, requests_count))
            wait_s = min(tell_at_s, door.deadline_s) - now_s
            ready = dict(poller.poll(max(0, int(wait_s * 1_000) + 1)))
            if door.events in ready or door.deadline_s <= time.monotonic():
                door.look(time.monotonic())
            if bell in ready:
                bell.recv()
                page = desk.pages.get()
                clients.send_multipart(page)
                if is_storm:
                    time.sleep(pace.pause_s(page, time.monotonic()))
                requests_count -= 1
                is_storm = is_storm and requests_count > 0
                poller.register(clients, zmq.POLLIN)
            elif clients in ready:
                route, frames, frame = receive_message(clients)
                message = [route, *frames]
                if b"" not in message[:-1]:
                    continue  # Not from a REQ.
                desk.requests.put((message, key_of(frame) if endpoints.pair else b""))
                requests_count += 1
                if requests_count == requests_max:
                    is_storm = True
                    poller.unregister(clients)
    except zmq.ContextTerminated:
        pass
    finally:
        door.close()
        clients.close()
        bell.close()


def guarded(task: Callable[..., None], *args: object) -> None:
    """Do a thread's work; a failure that nobody foresaw ends the process, to be started anew.

    Else each one would leave a question without its answer and take a thread away, until the
    last is gone and everybody waits.
    """
    try:
        task(*args)
    except BaseException:
        logging.getLogger("history").critical("a thread failed", exc_info=True)
        os._exit(1)


def main() -> int:
    """Bind, start proxy and workers, and wait until the supervisor says stop."""
    orders, ear, logger = begin("history")
    raise_descriptor_limit()
    context: zmq.Context[Socket] = zmq.Context()
    bell = context.socket(zmq.PULL)
    bell.setsockopt(zmq.LINGER, 0)
    bell.bind(BELL_ENDPOINT)
    desk = Desk()
    desk.operators = keys_of(orders.settings.operators)
    complain = Once(logger.error)
    endpoints = Endpoints(orders)
    try:
        endpoints.bind(context, logger)
    except zmq.ZMQError as error:
        is_taken = error.errno == zmq.EADDRINUSE
        report(Report(f"{endpoints.binding}: {error.strerror}", is_port_taken=is_taken))
        return 1
    path = Path(orders.settings.data) / FILE_NAME
    workers_count = orders.settings.history_workers
    threads = []
    for index in range(workers_count):
        ringer = context.socket(zmq.PUSH)  # Here: the word to stop may come before a thread begins.
        ringer.setsockopt(zmq.LINGER, 0)
        ringer.connect(BELL_ENDPOINT)
        work_args = (work, ringer, path, desk, endpoints.guests, complain)
        threads.append(threading.Thread(target=guarded, args=work_args, name=f"history-{index}"))
    requests_max = max(STORM_REQUESTS, workers_count * REQUESTS_PER_WORKER)
    report(Report())  # Before the proxy, which speaks to the supervisor from then on.
    proxy_args = (proxy, endpoints, bell, desk, requests_max)
    threads.append(threading.Thread(target=guarded, args=proxy_args, name="proxy"))
    if endpoints.introductions is not None:
        introduce_args = (introductions.serve, *endpoints.introductions)
        threads.append(threading.Thread(target=guarded, args=introduce_args, name="introductions"))
    for thread in threads:
        thread.start()
    keeper = Keeper()
    while not ear.is_over:
        reload = ear.hear(CALM_S)
        if reload is not None:
            endpoints.guests.replace(reload.allowed)
            desk.operators = keys_of(reload.settings.operators)
        keeper.look()
    for _ in range(workers_count):
        desk.requests.put(None)
    context.term()  # Wakes every thread, and returns when each has closed its sockets.
    return 0


if __name__ == "__main__":
    sys.exit(main())
