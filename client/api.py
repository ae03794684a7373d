"""The blocking face of the client library: for scripts, bots, the command line, benchmarks.

    with connect("chat.local", nick="anna") as client:
        client.join("lobby")
        client.send("lobby", "hello")
        for event in client.events():
            print(event)

Errors are those of `common.errors`: `Refused` (with a code; `Untrusted` when the broker is not the
one that is known), `Unreachable` (nobody answered in time), `Closed`. Once connected, a lost
connection raises nothing: it is told by `State` events, and the client resumes by itself.
"""

from __future__ import annotations

import functools
import os
from collections import deque
from collections.abc import Callable, Iterator
from types import TracebackType
from typing import Self

from client.connection import Connection, CurveKeys
from client.doors import Doors
from client.events import (
    KINDS,
    Entry,
    Event,
    Joined,
    Left,
    Missing,
    Moved,
    Presence,
    Removed,
    Reset,
    Sent,
    Stalled,
    State,
    Told,
)
from client.limits import BURST_EVENTS_MAX, CALL_TIMEOUT_S, CLOSE_S
from client.outbox import Line
from client.pending import Pending
from client.questions import Call
from client.queues import CallQueue, EventQueue, Waker
from client.session import Session
from client.texts import text_bytes
from client.trust import Tell, dial, tell_on_stderr
from common import invitations, names, wire
from common.endpoints import Address
from common.errors import Barred, Closed, Refused, Unreachable, Untrusted
from common.invitations import Invitation
from common.limits import (
    HISTORY_DEFAULT,
    NUMBER_MAX,
    OWNER_BYTES_MAX,
    OWNER_BYTES_MIN,
    TOKEN_BYTES,
)
from common.order import Done, MyRoom
from common.wire import Greeting, Members, RoomInfo

__all__ = [
    "Client",
    "Closed",
    "CurveKeys",
    "Done",
    "Entry",
    "Event",
    "Greeting",
    "Joined",
    "Left",
    "Members",
    "Missing",
    "Moved",
    "MyRoom",
    "Pending",
    "Presence",
    "Refused",
    "Removed",
    "Reset",
    "RoomInfo",
    "Sent",
    "Stalled",
    "State",
    "Told",
    "Unreachable",
    "Untrusted",
    "ask_status",
    "connect",
]


def connect(
    broker: str | Invitation = "127.0.0.1:5555",
    *,
    nick: str,
    owner: bytes | Callable[[], bytes] | None = None,
    timeout_s: float = 2.0,
    curve: CurveKeys | None = None,
    tell: Tell = tell_on_stderr,
) -> Client:
    """Connect to a broker under a nick.

    broker: "HOST", "HOST:PORT", "[IPv6]:PORT", or a join line, whose key the broker must have.
    owner: 16 to 64 secret bytes that prove who one is to a broker that does not encrypt: sessions
    with the same may share a nick. None draws one for this client alone. Where it has to be looked
    up, a function that does: it is called once, from another thread, and only for such a broker.
    curve: the broker's key and one's own (see `client.keys`); no file is touched then. None uses
    what the command line uses: `known_brokers` and `keys/` in the user's data folder, and trust on
    first use. A broker that is not known and does not encrypt is talked with in the clear.
    tell: called with a line for people at the first contact.

    Raises `Unreachable` when nobody answers within timeout_s, `Refused` when the broker, or the
    rules for nicks, say no, its kind `Untrusted` when the broker is not the known one,
    `ValueError` when the address or the owner cannot be one, OSError or ValueError when the files
    cannot be used.
    """
    to = _invitation(broker)
    name, secret = names.check_nick(nick), _secret(owner)

    def attempt(address: Address, keys: CurveKeys | None, left_s: float) -> Client:
        client = Client(address, name, secret if keys is None else _no_owner, keys)
        try:
            client.wait_until_online(left_s)
        except BaseException:
            client.close()
            raise
        return client

    return dial(to, attempt, timeout_s, curve=curve, tell=tell)


def _secret(owner: bytes | Callable[[], bytes] | None) -> Callable[[], bytes]:
    """Return what tells the owner, the same each time; raise `ValueError`."""
    if callable(owner):
        return functools.cache(owner)
    found = os.urandom(OWNER_BYTES_MIN) if owner is None else owner
    if not OWNER_BYTES_MIN <= len(found) <= OWNER_BYTES_MAX:
        raise ValueError(f"an owner has {OWNER_BYTES_MIN} to {OWNER_BYTES_MAX} bytes")
    return lambda: found


def _no_owner() -> bytes:
    """Return what a broker is told that knows us by our key: zeros, which are no secret."""
    return bytes(OWNER_BYTES_MIN)


def ask_status(
    broker: str | Invitation = "127.0.0.1:5555",
    timeout_s: float = 2.0,
    *,
    curve: CurveKeys | None = None,
    tell: Tell = tell_on_stderr,
) -> Greeting:
    """Ask a broker how it is, without a session; arguments and errors as those of `connect`.

    `Refused` here says that the broker speaks another version.
    """
    from client import greeting  # `hubbub send` should not wait for it.

    return dial(_invitation(broker), greeting.ask, timeout_s, curve=curve, tell=tell)


def _invitation(broker: str | Invitation) -> Invitation:
    return broker if isinstance(broker, Invitation) else invitations.parse(broker)


class Client(Doors):
    """A session with a broker; made by `connect`.

    Every method may be called from any thread, except that one thread at a time reads events.
    After fork() it belongs to the parent; in the child every call raises `Closed`.

    Events wait in a bounded queue. A program that sends and never reads them is safe: the
    client then stops reading rooms, and repairs from history once the program reads on.
    """

    def __init__(
        self,
        address: Address,
        nick: str,
        owner: Callable[[], bytes],
        curve: CurveKeys | None = None,
    ) -> None:
        self._address = address
        self._curve = curve
        self._ready: Pending[wire.Welcome] = Pending()
        token = os.urandom(TOKEN_BYTES)
        session = Session(
            nick=nick,
            owner=owner,
            token=token,
            instance=int.from_bytes(os.urandom(7), "big") & NUMBER_MAX,
            ready=self._ready,
        )
        waker = Waker()
        super().__init__(session, CallQueue(waker))
        self._events = EventQueue(waker)
        self._taken: deque[Event] = deque()  # Of the thread that reads events.
        self._connection = Connection(
            address,
            token,
            session,
            calls=self._calls,
            events=self._events,
            waker=waker,
            curve=curve,
        )
        self._connection.start()

    def wait_until_online(self, timeout_s: float) -> None:
        """Wait for the first WELCOME; `connect` does. Raises `Unreachable`, `Refused`, `Closed`."""
        try:
            self._ready.result(timeout_s)
        except Barred:
            raise
        except Unreachable as error:
            from client import greeting

            raise Unreachable(greeting.nobody(self._address)) from error

    @property
    def is_exposed(self) -> bool:
        """Whether others on the network can read along: not encrypted, and not on this host."""
        return self._curve is None and not self._address.is_loopback

    @property
    def nick(self) -> str:
        """The nick as the broker knows it."""
        return self._session.nick

    @property
    def motd(self) -> str:
        """The broker's message of the day."""
        return self._session.motd

    @property
    def state(self) -> str:
        """How the connection is: the state of the last `State` event."""
        return self._session.state

    # --- rooms --------------------------------------------------------------
    def who(self, room: str, *, timeout_s: float | None = CALL_TIMEOUT_S) -> Members:
        """Return the users of a room. Raises `Refused`, `Unreachable`, `Closed`."""
        name = self._joined(room)
        pending: Pending[Members] = Pending()
        return self._ask(pending, lambda request_id: wire.Who(request_id, name), timeout_s)

    def rooms(self, *, timeout_s: float | None = CALL_TIMEOUT_S) -> list[RoomInfo]:
        """Return all rooms, in order of their names. Raises `Unreachable`, `Closed`."""
        pending: Pending[list[RoomInfo]] = Pending()
        return self._ask(pending, wire.Rooms, timeout_s)

    def history(
        self,
        room: str,
        *,
        before: int | None = None,
        after: int | None = None,
        limit: int = HISTORY_DEFAULT,
        timeout_s: float | None = CALL_TIMEOUT_S,
    ) -> list[Entry]:
        """Return entries of a joined room, oldest first, at most `limit`.

        Those next after the seq `after` (and below `before`, if given); otherwise the last ones
        before the seq `before`, or the newest. Read page by page, so a large limit is fine.

        Raises `Refused`, `Unreachable`, `Closed`, `ValueError`.
        """
        until = NUMBER_MAX if before is None else before
        if limit < 1 or not 0 <= until <= NUMBER_MAX or not 0 <= (after or 0) <= NUMBER_MAX:
            raise ValueError("limit is at least 1; before and after are seqs")
        pending: Pending[list[Entry]] = Pending()
        call = Call(self._joined(room), after, until, limit, pending)
        return self._call(pending, lambda s, now: s.history(call, now), timeout_s)

    # --- texts --------------------------------------------------------------
    def send(
        self, room: str, text: str, *, kind: str = "text", timeout_s: float | None = None
    ) -> Sent:
        """Say a text and return its place in the log, once the broker has committed it.

        timeout_s None waits through reconnects and restarts of the broker. `Unreachable` after
        a time-out does not take the text back: it can still be kept.

        Raises `Refused`, `Unreachable`, `Closed`, `ValueError`.
        """
        return self.post(room, text, kind=kind).result(timeout_s)

    def post(self, room: str, text: str, *, kind: str = "text") -> Pending[Sent]:
        """Queue a text (kind "text", "action" or "topic") and return what will become of it.

        Texts of one client arrive in a room in the order in which they were posted. Blocks only
        while `TEXTS_UNSETTLED_MAX` texts are neither kept nor refused.

        Raises `Refused` for what can't be a text or a room, `Closed`, `ValueError`.
        """
        code = KINDS.get(kind)
        if code is None:
            raise ValueError(f"{kind!r} is not a kind: write {', '.join(KINDS)}")
        name = self._joined(room)
        pending: Pending[Sent] = Pending()
        self._check_process()
        self._calls.put_line(Line(name, code, text, text_bytes(text, code), pending))
        return pending

    def topic(self, room: str, text: str, *, timeout_s: float | None = None) -> Sent:
        """Set a room's topic; as `send`."""
        return self.send(room, text, kind="topic", timeout_s=timeout_s)

    # --- the session --------------------------------------------------------
    def status(self, *, timeout_s: float | None = CALL_TIMEOUT_S) -> Greeting:
        """Return how the broker is. Raises `Unreachable`, `Closed`."""
        pending: Pending[Greeting] = Pending()
        return self._ask(pending, wire.Greet, timeout_s)

    def rename(self, nick: str, *, timeout_s: float | None = CALL_TIMEOUT_S) -> str:
        """Take another nick and return it; in the state "refused" it tries to resume with it.

        Raises `Refused`, `Unreachable`, `Closed`.
        """
        name = names.check_nick(nick)
        pending: Pending[str] = Pending()
        return self._call(pending, lambda s, now: s.rename(name, pending, now), timeout_s)

    def close(self) -> None:
        """End the session: settle the texts, say BYE; after a second at most, close anyway.

        Texts that are not settled then end with `Closed`. Closing twice does nothing.
        """
        if os.getpid() == self._pid:
            self._calls.want_end()
            self._connection.join(2 * CLOSE_S)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def __del__(self) -> None:
        # The thread knows the queues, not the client, so a forgotten client ends here.
        if hasattr(self, "_connection") and os.getpid() == self._pid:
            self._calls.want_end()

    # --- events -------------------------------------------------------------
    def events(self, timeout_s: float | None = None) -> Iterator[Event]:
        """Yield events as they come; end when closed, or after timeout_s without an event.

        Only one thread at a time.
        """
        while self._taken or self._refill(timeout_s):
            yield self._taken.popleft()

    def next_event(self, timeout_s: float | None = None) -> Event | None:
        """Return the next event; None when closed, or after timeout_s without an event.

        Only one thread at a time.
        """
        if self._taken or self._refill(timeout_s):
            return self._taken.popleft()
        return None

    def next_burst(self, timeout_s: float | None = None) -> list[Event]:
        """Return the next event and those that have come with it, at most `BURST_EVENTS_MAX`.

        Empty when closed, or after timeout_s without an event. Only one thread at a time.
        """
        if not self._taken:
            self._refill(timeout_s)
        count = min(len(self._taken), BURST_EVENTS_MAX)
        return [self._taken.popleft() for _ in range(count)]

    def _refill(self, timeout_s: float | None) -> bool:
        self._check_process()
        self._taken = self._events.take(timeout_s)
        return bool(self._taken)
