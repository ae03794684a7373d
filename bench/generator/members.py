"""A member of a room: the client library's own session over light sockets. PROTOCOL.md.

Whatever the library decides after a break - when to greet, what to send again, which history to
ask - is decided here by the same code; only the sockets and the thread are others.
"""

from __future__ import annotations

import functools
import secrets
import time
from collections.abc import Callable
from typing import NamedTuple

from bench import zmtp
from bench.curve import new_keys
from bench.dialect import Unexpected
from bench.generator.books import Book, Log
from bench.generator.links import Net
from bench.generator.sockets import LightSocket, Messages, Timetable
from bench.results import Counts
from client import effects
from client.events import Entry, Reset, State
from client.outbox import Line
from client.session import Phase, Session
from common import spans, topics, wire
from common.errors import Malformed
from common.limits import COMMAND_FRAMES, NUMBER_MAX
from common.wire import Kind


class Place(NamedTuple):
    """What the members of a room share."""

    net: Net
    timetable: Timetable
    commands_port: int
    room: str
    nicks: str  # How they begin; a number follows.
    log: Log
    became_whole: Callable[[], None]
    server_key: bytes = b""  # CURVE; b"" where nothing is encrypted.


class Member:
    """One client, which checks every entry that it hears. Belongs to the thread of its `Net`.

    It is *whole* when it is in the room, has heard a publication there through its present
    connection, and has every entry up to the head which that one told.
    """

    def __init__(
        self, index: int, place: Place, arrivals: list[tuple[int, str]] | None = None
    ) -> None:
        """Begin to connect. `arrivals` is given when (monotonic, ns) each text was heard."""
        self.is_whole = False
        self.whole_ns = 0  # When it became so the last time; monotonic.
        self.questions = 0  # To the history endpoint.
        self.kept: list[tuple[int, str]] = []  # Seq and text of each acknowledgement.
        self.ticket = b""
        self._place = place
        self._keys = new_keys(place.server_key) if place.server_key else None
        self._arrivals = arrivals
        self._book: Book | None = None  # From the first JOINED on.
        self._is_in = False  # JOINED came through the present connection.
        self._head: int | None = None  # What the first batch of the present connection told.
        self._token = secrets.token_bytes(16)
        self._topics: list[bytes] = []  # Subscriptions, as a SUB keeps them.
        self._sub: LightSocket | None = None
        self._req: LightSocket | None = None
        self._question = b""  # Waits for the REQ to be connected.
        self._history_port = 0
        self._perform = {
            effects.Transmit: self._transmit,
            effects.Connect: self._connect,
            effects.Subscribe: self._subscribe,
            effects.Unsubscribe: self._unsubscribe,
            effects.AskHistory: self._ask,
            effects.DropHistory: self._drop_history,
            effects.Emit: self._hear,
            effects.Kept: self._keep,
            effects.Failed: self._refuse,
            effects.Resolve: self._resolve,
            effects.Reject: self._refuse,
            effects.Stop: self._refuse,
        }
        self._session = Session(
            nick=f"{place.nicks}{index:05d}",
            owner=functools.partial(bytes, secrets.token_bytes(16)),
            token=self._token,
            instance=int.from_bytes(secrets.token_bytes(7), "big") & NUMBER_MAX,
            ready=None,
        )
        self._do(self._session.join(place.room, 0, None, None, time.monotonic()))
        self._dealer = LightSocket(
            b"DEALER",
            place.net,
            place.timetable,
            place.commands_port,
            heard=self._take_replies,
            up=self._connected,
            down=self._disconnected,
            keys=self._keys,
        )

    @property
    def last(self) -> int:
        """The highest seq that it has."""
        return self._book.last if self._book is not None else 0

    def has(self, head: int) -> bool:
        """Tell whether it has everything from where it joined up to a seq."""
        return self._book is not None and not self._book.lost(head)

    def keys_hex(self) -> list[str]:
        """Return its keys in hex, for whoever shall use its ticket; nothing if it has none."""
        return [key.hex() for key in self._keys or ()]

    def say(self, text: str) -> None:
        """Say a text; what can't be sent now is sent when the broker is back."""
        line = Line(self._place.room, Kind.TEXT, text, len(text), text)
        self._do(self._session.say([line], time.monotonic()))

    def tick(self, now: float) -> None:
        """Do what time has made due."""
        wanted = self._session.tick(now)
        if wanted:
            self._do(wanted)

    def close(self, counts: Counts, head: int) -> None:
        """Add its book to the run's counts."""
        if self._book is not None:
            self._book.close(counts, head)

    # --- what arrives -------------------------------------------------------
    def _connected(self) -> None:
        self._do(self._session.connected(time.monotonic()))

    def _disconnected(self) -> None:
        self._is_in = self.is_whole = False
        self._do(self._session.disconnected(time.monotonic()))

    def _take_replies(self, messages: Messages) -> None:
        now = time.monotonic()
        for frames in messages:
            reply = _parsed(frames)
            if type(reply) is wire.Joined:
                self._is_in = True
                self.ticket = reply.ticket
                if self._book is None:
                    self._book = Book(self._place.log, reply.head)
            self._do(self._session.reply(reply, now))
        self._become_whole()

    def _subscribe_all(self) -> None:
        assert self._sub is not None
        self._sub.send(b"".join(map(zmtp.subscribe, self._topics)))

    def _unsubscribed(self) -> None:
        self._head = None
        self.is_whole = False

    def _take_publications(self, messages: Messages) -> None:
        frames = [frame for (frame,) in messages]
        self._do(self._session.publications(frames, time.monotonic()))
        if not self.is_whole:
            if self._head is None:
                self._head = _head_of(frames)
            self._become_whole()

    def _become_whole(self) -> None:
        if self.is_whole or not self._is_in or self._head is None or self.last < self._head:
            return
        if self._session.phase is Phase.ONLINE:
            self.is_whole = True
            self.whole_ns = time.monotonic_ns()
            self._place.became_whole()

    def _req_up(self) -> None:
        assert self._req is not None
        question, self._question = self._question, b""
        if question:
            self._req.send(question)

    def _take_pages(self, messages: Messages) -> None:
        now = time.monotonic()
        for message in messages:
            frames = message[1:]  # The first one is REQ's empty delimiter.
            page = _parsed(frames)
            batches = [wire.decode_batch(frame) for frame in frames[COMMAND_FRAMES:]]
            if type(page) is wire.Page:
                if page.more and batches:
                    last = spans.last_seq(batches[-1])
                    self._do(self._session.page_arrived(page, last, now))
                self._do(self._session.page(page, batches, now))
            elif type(page) is wire.Error:
                self._do(self._session.history_refused(page, now))
        self._become_whole()

    # --- what is to be done -------------------------------------------------
    def _do(self, wanted: list[effects.Effect]) -> None:
        for effect in wanted:
            self._perform[type(effect)](effect)  # type: ignore[operator]  # The table pairs them.

    def _transmit(self, effect: effects.Transmit) -> None:
        self._dealer.send(zmtp.message(*wire.command_frames(self._token, effect.command)))

    def _keep(self, effect: effects.Kept) -> None:
        # The session hands tickets back as they were given: here they are the texts.
        self.kept += [(seq, str(text)) for seq, text in enumerate(effect.tickets, effect.first)]

    def _subscribe(self, effect: effects.Subscribe) -> None:
        self._topics.append(effect.topic)
        if self._sub is not None:
            self._sub.send(zmtp.subscribe(effect.topic))

    def _unsubscribe(self, effect: effects.Unsubscribe) -> None:
        self._topics.remove(effect.topic)
        if self._sub is not None:
            self._sub.send(zmtp.unsubscribe(effect.topic))

    def _resolve(self, _effect: effects.Resolve) -> None:
        """Take no notice: whether it has joined shows in `_take_replies`."""

    def _refuse(self, effect: effects.Effect) -> None:
        raise Unexpected(f"a member of the room met {effect}")

    def _connect(self, effect: effects.Connect) -> None:
        self._history_port = effect.history_port
        self._drop_history()
        if self._sub is not None:
            if self._sub.port == effect.rooms_port:
                return
            self._sub.close()
            self._unsubscribed()
        self._sub = LightSocket(
            b"SUB",
            self._place.net,
            self._place.timetable,
            effect.rooms_port,
            heard=self._take_publications,
            up=self._subscribe_all,
            down=self._unsubscribed,
            keys=self._keys,
        )

    def _ask(self, effect: effects.AskHistory) -> None:
        self.questions += 1
        frames = wire.command_frames(wire.NO_TOKEN, effect.question)
        self._question = zmtp.message(b"", *frames)
        if self._req is None:
            self._req = LightSocket(
                b"REQ",
                self._place.net,
                self._place.timetable,
                self._history_port,
                heard=self._take_pages,
                up=self._req_up,
                keys=self._keys,
            )
        elif self._req.is_up:
            self._req_up()

    def _drop_history(self, _effect: effects.DropHistory | None = None) -> None:
        self._question = b""
        if self._req is not None:
            self._req.close()
            self._req = None

    def _hear(self, effect: effects.Emit) -> None:
        for event in effect.events:
            if type(event) is Entry:
                assert self._book is not None
                if not self._book.add(event):
                    raise Unexpected(f"two members heard different texts: {event}")
                if self._arrivals is not None:
                    self._arrivals.append((time.monotonic_ns(), event.text))
            elif type(event) is Reset or (type(event) is State and event.state == "refused"):
                raise Unexpected(f"a member of the room was told {event}")


def _parsed(frames: list[bytes]) -> wire.Payload:
    try:
        return wire.parse_reply(frames)
    except Malformed as error:
        raise Unexpected(str(error)) from error


def _head_of(frames: list[bytes]) -> int | None:
    """Return the head that the first batch among publications tells; beacons are batches."""
    for frame in frames:
        item = wire.parse_publication(topics.split_publication(frame)[1])
        if type(item) is wire.Batch:
            return spans.last_seq(item)
    return None
