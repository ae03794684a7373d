"""The thread that owns every socket of a client, and carries out what the session decides.

All knowledge of ZeroMQ on the client's side is here; all decisions are in `client.session`.
"""

from __future__ import annotations

import contextlib
import os
import sys
import threading
import time
from typing import Final, NamedTuple

import zmq

from client import effects, limits
from client.events import Sent
from client.pending import Pending
from client.queues import CallQueue, EventQueue, Waker
from client.session import Session
from common import spans, wire
from common.endpoints import Address
from common.errors import Barred, Barrier, Closed, Malformed, Unreachable
from common.limits import COMMAND_FRAMES

# The pipe to the broker stands only after the handshake: a command sent at "connected" would be
# refused by IMMEDIATE.
UP: Final = zmq.EVENT_HANDSHAKE_SUCCEEDED
DOWN: Final = zmq.EVENT_DISCONNECTED
FAILED: Final = (
    zmq.EVENT_HANDSHAKE_FAILED_AUTH
    | zmq.EVENT_HANDSHAKE_FAILED_PROTOCOL
    | zmq.EVENT_HANDSHAKE_FAILED_NO_DETAIL
)
KEY_CHANGED: Final = "the broker there has another key now; `hubbub trust` tells more"
ZAP_DENIED: Final = 400  # ZAP (ZeroMQ RFC 27), "Authentication failure"; others may pass.


class CurveKeys(NamedTuple):
    """What an encrypted connection needs, 32 raw bytes each: the broker's key and one's own."""

    broker: bytes
    public: bytes
    secret: bytes


def open_socket(
    context: zmq.Context[zmq.Socket[bytes]],
    kind: int,
    host: str,
    curve: CurveKeys | None = None,
) -> zmq.Socket[bytes]:
    """Return a socket with the options that all of the client's share. PROTOCOL.md, "Sockets".

    curve: encrypts, and lets nobody but the broker with this key be at the other end.
    """
    found = context.socket(kind)
    if curve is not None:
        found.setsockopt(zmq.CURVE_SERVERKEY, curve.broker)
        found.setsockopt(zmq.CURVE_PUBLICKEY, curve.public)
        found.setsockopt(zmq.CURVE_SECRETKEY, curve.secret)
    found.linger = 0  # Before connect; nothing is sent that needs it: BYE waits for GOODBYE.
    found.setsockopt(zmq.TCP_KEEPALIVE, 1)
    found.setsockopt(zmq.TCP_KEEPALIVE_IDLE, limits.KEEPALIVE_IDLE_S)
    found.setsockopt(zmq.TCP_KEEPALIVE_INTVL, limits.KEEPALIVE_INTERVAL_S)
    found.setsockopt(zmq.TCP_KEEPALIVE_CNT, limits.KEEPALIVE_COUNT)
    found.setsockopt(zmq.TCP_MAXRT, limits.UNACKED_MS_MAX)
    found.setsockopt(zmq.CONNECT_TIMEOUT, limits.CONNECT_MS_MAX)
    # libzmq adds no jitter where there is a longest interval; without it all come back at once.
    # Importing `secrets` takes 4 ms.
    jitter_ms = int.from_bytes(os.urandom(4), sys.byteorder) % limits.RECONNECT_MS
    found.setsockopt(zmq.RECONNECT_IVL, limits.RECONNECT_MS + jitter_ms)
    found.setsockopt(zmq.RECONNECT_IVL_MAX, limits.RECONNECT_MS_MAX)
    if ":" in host:
        found.setsockopt(zmq.IPV6, 1)
    return found


def barrier_of(frames: list[bytes]) -> Barrier:
    """Return what a monitor's message of a failed handshake tells.

    libzmq 4.3.5 tries again by itself after HANDSHAKE_FAILED_NO_DETAIL, and never after the
    others. A broker that does not know itself by the key we have hangs up without detail; so does
    one that is just ending, or that encrypts and has seen that we don't before we saw that it does.
    """
    # zmq_socket_monitor(3): event (16 bits) and value (32), in the host's order.
    event = int.from_bytes(frames[0][:2], sys.byteorder)
    value = int.from_bytes(frames[0][2:6], sys.byteorder)
    if event == zmq.EVENT_HANDSHAKE_FAILED_AUTH:
        return Barrier.NOT_ALLOWED if value == ZAP_DENIED else Barrier.BROKEN_OFF
    if event == zmq.EVENT_HANDSHAKE_FAILED_PROTOCOL:
        is_other = value == zmq.PROTOCOL_ERROR_ZMTP_MECHANISM_MISMATCH
        return Barrier.OTHER_MECHANISM if is_other else Barrier.FOREIGN
    return Barrier.BROKEN_OFF


class Connection:
    """Owned by its own thread: context, DEALER with monitor, SUB, REQ.

    Other threads only start it, use the two queues, and wait for its end with `join`.
    """

    def __init__(
        self,
        address: Address,
        token: bytes,
        session: Session,
        *,
        calls: CallQueue,
        events: EventQueue,
        waker: Waker,
        curve: CurveKeys | None = None,
    ) -> None:
        self._address = address
        self._curve = curve
        self._token = token
        self._session = session
        self._calls = calls
        self._events = events
        self._waker = waker
        self._rooms_url: str | None = None
        self._history_url: str | None = None
        self._req: zmq.Socket[bytes] | None = None
        self._is_paused = False
        self._is_stopped = False
        self._is_barred = False  # The session was told why no handshake comes about.
        self._was_up = False
        self._broken_off_count = 0  # Handshakes in a row.
        self._perform = {
            effects.Transmit: self._transmit,
            effects.Connect: self._connect,
            effects.Subscribe: self._subscribe,
            effects.Unsubscribe: self._unsubscribe,
            effects.AskHistory: self._ask_history,
            effects.DropHistory: self._drop_history,
            effects.Emit: self._emit,
            effects.Kept: self._kept,
            effects.Failed: self._failed,
            effects.Resolve: self._resolve,
            effects.Reject: self._reject,
            effects.Stop: self._stop,
        }
        self._thread = threading.Thread(target=self._run, name="hubbub-client", daemon=True)

    def start(self) -> None:
        """Start the thread."""
        self._thread.start()

    def join(self, timeout_s: float) -> None:
        """Wait for the thread's end."""
        self._thread.join(timeout_s)

    # --- the thread ---------------------------------------------------------
    def _run(self) -> None:
        closed = Closed("the connection failed")
        try:
            with zmq.Context(io_threads=1) as self._context:
                try:
                    self._open()
                    self._loop()
                    closed = Closed("the connection was closed")
                finally:
                    self._context.destroy(linger=0)
        finally:
            self._calls.close(closed)
            calls, lines = self._calls.take()
            tickets: list[object] = [ticket for ticket, _ in calls]
            tickets += [line.ticket for line in lines]
            for ticket in tickets + self._session.abandon_all():
                _pending(ticket).fail(closed)
            self._events.close()
            self._waker.close()

    def _open(self) -> None:
        host = self._address.host
        self._dealer = open_socket(self._context, zmq.DEALER, host, self._curve)
        self._dealer.setsockopt(zmq.IMMEDIATE, 1)  # Nothing waits for a broker that is away.
        self._dealer.setsockopt(zmq.SNDHWM, limits.COMMANDS_QUEUE_MAX)
        self._dealer.setsockopt(zmq.RCVHWM, limits.COMMANDS_QUEUE_MAX)
        self._dealer.setsockopt(zmq.MAXMSGSIZE, limits.REPLY_BYTES_MAX)
        self._monitor = self._dealer.get_monitor_socket(UP | DOWN | FAILED)
        self._sub = open_socket(self._context, zmq.SUB, host, self._curve)
        self._sub.setsockopt(zmq.RCVHWM, limits.ROOMS_QUEUE_MAX)
        self._sub.setsockopt(zmq.MAXMSGSIZE, limits.PUBLICATION_BYTES_MAX)
        self._poller = zmq.Poller()
        self._poller.register(self._waker.fileno(), zmq.POLLIN)
        self._poller.register(self._monitor, zmq.POLLIN)
        self._poller.register(self._dealer, zmq.POLLIN)
        self._poller.register(self._sub, zmq.POLLIN)
        self._dealer.connect(self._address.url())

    def _loop(self) -> None:
        session = self._session
        waker_fd = self._waker.fileno()
        while not self._is_stopped:
            deadline_s = session.deadline()
            timeout_ms = None
            if deadline_s is not None:
                # Rounded up, or the last millisecond would be spent asking.
                timeout_ms = max(int((deadline_s - time.monotonic()) * 1000) + 1, 0)
            ready = dict(self._poller.poll(timeout_ms))
            now = time.monotonic()
            if waker_fd in ready:
                self._take_calls(now)
            # Rooms before the monitor: a broker's last word explains the end that follows it.
            if self._sub in ready and not self._is_paused:
                self._take_publications(now)
            # The monitor before replies: each belongs to the connection that it came through.
            if self._monitor in ready:
                self._take_monitor(now)
            if self._dealer in ready:
                self._take_replies(now)
            if self._req is not None and self._req in ready:
                self._take_page(now)
            self._do(session.tick(now))
            self._balance(now)

    def _do(self, wanted: list[effects.Effect]) -> None:
        perform = self._perform
        for effect in wanted:
            perform[type(effect)](effect)  # type: ignore[operator]  # The table pairs the types.

    def _balance(self, now: float) -> None:
        """Stop reading rooms while the program has too much unread, and go on afterwards."""
        is_paused = not self._events.is_low if self._is_paused else self._events.is_full
        if is_paused != self._is_paused:
            self._is_paused = is_paused
            if is_paused:
                self._poller.unregister(self._sub)
            else:
                self._poller.register(self._sub, zmq.POLLIN)
            self._do(self._session.pause(now, is_paused=is_paused))

    # --- what arrives -------------------------------------------------------
    def _take_calls(self, now: float) -> None:
        self._waker.clear()
        calls, lines = self._calls.take()
        # Texts first: close() and part() speak of what was said before them.
        if lines:
            self._do(self._session.say(lines, now))
        for _, call in calls:
            self._do(call(self._session, now))
        if self._calls.is_end_wanted:
            self._do(self._session.close(now))

    def _take_monitor(self, now: float) -> None:
        with contextlib.suppress(zmq.Again):
            while True:
                frames = self._monitor.recv_multipart(zmq.NOBLOCK)
                event = int.from_bytes(frames[0][:2], sys.byteorder)
                if event == UP:
                    self._is_barred = False
                    self._was_up = True
                    self._broken_off_count = 0
                    self._do(self._session.connected(now))
                elif event != DOWN:
                    self._take_barrier(barrier_of(frames), now)
                elif not self._is_barred:  # The end of a handshake that failed is no news.
                    self._do(self._session.disconnected(now))

    def _take_barrier(self, barrier: Barrier, now: float) -> None:
        """Tell the session why nobody answers, where that is more than a broker that is away."""
        if barrier is Barrier.BROKEN_OFF and self._was_up:
            self._broken_off_count += 1
            if self._broken_off_count % limits.HANDSHAKES_BROKEN_MAX:
                return  # It may be ending, or have no descriptor left.
            if not self._is_other_key():
                return
            self._is_barred = True
            self._do(self._session.barred(Unreachable(KEY_CHANGED), now))
        else:
            self._is_barred = True
            self._do(self._session.barred(Barred(barrier), now))

    def _is_other_key(self) -> bool:
        """Ask whoever is there now for the key. Blocks, while there is nothing else to do."""
        from client.introduction import ask_key

        if self._curve is None:
            return False
        try:
            key = ask_key(self._address, limits.INTRODUCTION_S)
        except Unreachable:
            return False
        return key != self._curve.broker

    def _take_replies(self, now: float) -> None:
        with contextlib.suppress(zmq.Again):
            for _ in range(limits.DRAIN_FRAMES_MAX):
                frames = self._dealer.recv_multipart(zmq.NOBLOCK)
                try:
                    reply = wire.parse_reply(frames)
                except Malformed:
                    self._session.malformed_count += 1
                else:
                    self._do(self._session.reply(reply, now))

    def _take_page(self, now: float) -> None:
        assert self._req is not None
        frames = self._req.recv_multipart()
        try:
            page = wire.parse_reply(frames)
            if type(page) is wire.Page and page.more and len(frames) > COMMAND_FRAMES:
                last = spans.last_seq(wire.decode_batch(frames[-1]))
                self._do(self._session.page_arrived(page, last, now))
            batches = [wire.decode_batch(frame) for frame in frames[COMMAND_FRAMES:]]
        except (Malformed, *wire.DECODE_ERRORS):
            self._session.malformed_count += 1  # The time-out asks again.
            return
        if type(page) is wire.Page:
            self._do(self._session.page(page, batches, now))
        elif type(page) is wire.Error:
            self._do(self._session.history_refused(page, now))

    def _take_publications(self, now: float) -> None:
        frames: list[bytes] = []
        bytes_left = limits.DRAIN_BYTES_MAX
        receive = self._sub.recv
        with contextlib.suppress(zmq.Again):
            while bytes_left > 0 and len(frames) < limits.DRAIN_FRAMES_MAX:
                frame = receive(zmq.NOBLOCK)
                frames.append(frame)
                bytes_left -= len(frame)
        self._do(self._session.publications(frames, now))

    # --- what is to be done -------------------------------------------------
    def _transmit(self, effect: effects.Transmit) -> None:
        frames = wire.command_frames(self._token, effect.command)
        try:
            self._dealer.send_multipart(frames, zmq.NOBLOCK)
        except zmq.Again:
            # A pipe that has just come up is not seen by send(), which looks only now and then.
            self._dealer.getsockopt(zmq.EVENTS)
            # Otherwise the broker is away: the session sends everything again after it.
            with contextlib.suppress(zmq.Again):
                self._dealer.send_multipart(frames, zmq.NOBLOCK)

    def _connect(self, effect: effects.Connect) -> None:
        rooms_url = self._address.url(effect.rooms_port)
        if rooms_url != self._rooms_url:
            if self._rooms_url is not None:
                self._sub.disconnect(self._rooms_url)
            self._sub.connect(rooms_url)
            self._rooms_url = rooms_url
        self._history_url = self._address.url(effect.history_port)
        self._drop_history()

    def _subscribe(self, effect: effects.Subscribe) -> None:
        self._sub.setsockopt(zmq.SUBSCRIBE, effect.topic)

    def _unsubscribe(self, effect: effects.Unsubscribe) -> None:
        self._sub.setsockopt(zmq.UNSUBSCRIBE, effect.topic)

    def _ask_history(self, effect: effects.AskHistory) -> None:
        assert self._history_url is not None
        if self._req is None:
            self._req = open_socket(self._context, zmq.REQ, self._address.host, self._curve)
            self._req.setsockopt(zmq.MAXMSGSIZE, limits.PUBLICATION_BYTES_MAX)
            self._req.connect(self._history_url)
            self._poller.register(self._req, zmq.POLLIN)
        with contextlib.suppress(zmq.Again):  # Not in 1 question; if so, its time-out asks again.
            frames = wire.command_frames(wire.NO_TOKEN, effect.question)
            self._req.send_multipart(frames, zmq.NOBLOCK)

    def _drop_history(self, _effect: effects.DropHistory | None = None) -> None:
        if self._req is not None:
            self._poller.unregister(self._req)
            self._req.close()
            self._req = None

    def _emit(self, effect: effects.Emit) -> None:
        self._events.put(effect.events)

    def _kept(self, effect: effects.Kept) -> None:
        room = effect.room
        ts = effect.ts
        for seq, ticket in enumerate(effect.tickets, effect.first):
            _pending(ticket).settle(Sent(room, seq, ts))
        self._calls.settled(len(effect.tickets))

    def _failed(self, effect: effects.Failed) -> None:
        for ticket in effect.tickets:
            _pending(ticket).fail(effect.error)
        self._calls.settled(len(effect.tickets))

    def _resolve(self, effect: effects.Resolve) -> None:
        if effect.ticket is not None:
            _pending(effect.ticket).settle(effect.value)

    def _reject(self, effect: effects.Reject) -> None:
        if effect.ticket is not None:
            _pending(effect.ticket).fail(effect.error)

    def _stop(self, _effect: effects.Stop) -> None:
        self._is_stopped = True


def _pending(ticket: object) -> Pending[object]:
    assert isinstance(ticket, Pending)
    return ticket
