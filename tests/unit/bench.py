"""A broker without sockets: the core, a log, a clock of its own, and clients' frames."""

from __future__ import annotations

from typing import NamedTuple, TypeVar, cast

from broker.chat.core import Core, Facts, Rules
from broker.chat.floods import Rate
from broker.log.interface import Log, LogFailed
from broker.log.rights_records import AuditEntry, Record
from common import topics, wire
from common.limits import KEY_BYTES
from common.order import Done, Mine, MyRoom, MyRooms, Order, Read, Role, Talk
from common.wire import Batch, Kind, Notice, Payload, Presence, Publication
from tests import saying
from tests.unit.logs import MemoryStore, Store

P = TypeVar("P", bound=Payload)

RULES = Rules(clients_max=100, rooms_max=100, grace_s=5.0, rate=Rate(1e6, 1e6), motd="hello")
FACTS = Facts("0.0.0", 5556, 5557, "27", "4.3.5")
START_MS = 1_000_000


class Published(NamedTuple):
    """One frame of the rooms endpoint, taken apart."""

    topic: bytes
    body: Publication


class Refusing:
    """A log that refuses some calls, as one on a full disk does."""

    def __init__(self, log: Log, failing: set[str]) -> None:
        self._log = log
        self._failing = failing

    def __getattr__(self, name: str) -> object:
        if name in self._failing:
            raise LogFailed("the log cannot be written: for a test")
        return getattr(self._log, name)


class Bench:
    """A running broker. Nothing moves by itself: `drain` is one turn of the worker's loop."""

    def __init__(self, store: Store | None = None, rules: Rules = RULES) -> None:
        self.store: Store = store or MemoryStore()
        self.rules = rules
        self.now_s = 0.0
        self.wall_shift_s = 0.0  # How far somebody has set the wall clock.
        self.failing: set[str] = set()  # What the log refuses to do, by the name of the call.
        self.start()

    def start(self) -> None:
        """Start the broker, anew after the first time: only the store remembers."""
        self.log = cast("Log", Refusing(self.store.open(), self.failing))
        self.core = Core(
            self.rules,
            FACTS,
            self.log.rooms(),
            secret=self.log.secret,
            epoch=self.log.epoch,
            recall=self.log.recall,
            keeper=self.log,
            now_ms=self.now_ms,
            now_s=self.now_s,
        )
        self.replies: dict[bytes, list[Payload]] = {}
        self.published: list[Published] = []
        self.forgotten: list[bytes] = []

    @property
    def now_ms(self) -> int:
        """The wall clock."""
        return START_MS + int((self.now_s + self.wall_shift_s) * 1_000)

    def set_clock(self) -> None:
        """Tell the core the time, as the worker does before it drains."""
        self.core.clock(self.now_ms, self.now_s)

    def drain(self, after_s: float = 0.0) -> None:
        """Let time pass; then decide, commit, publish and answer."""
        self.now_s += after_s
        self.set_clock()
        self.core.tick()
        proposals = self.core.take_proposals()
        promised = self.core.take_promised()
        if promised:
            try:
                self.log.keep(promised)
            except LogFailed:
                self.core.put_back(promised)
        if proposals:
            try:
                self.log.append(proposals)
            except LogFailed:
                self.core.failed(proposals)
        changes = self.core.take_changes()
        try:
            self.log.keep_soon(changes)
        except LogFailed:
            self.core.put_back(changes)
        self.core.committed(self.log.follow())
        effects = self.core.take_effects()
        for frame in effects.publications:
            topic, body = topics.split_publication(frame)
            self.published.append(Published(topic, wire.parse_publication(body)))
        for route, frames in effects.replies:
            self.replies.setdefault(route, []).append(wire.parse_reply(frames))
        for sender in effects.forgotten:
            self.log.forget(sender)
        self.forgotten += effects.forgotten

    def take(self, kind: type[Batch | Presence | Notice]) -> list[Publication]:
        """Return and forget what was published of one kind; empty batches are not counted."""
        taken = [each.body for each in self.published if type(each.body) is kind]
        self.published.clear()
        return [body for body in taken if not isinstance(body, Batch) or body.posts]

    def said(self, topic: bytes) -> list[str]:
        """Return all texts that were published on a topic."""
        batches = [each.body for each in self.published if each.topic == topic]
        posts = [post for batch in batches if isinstance(batch, Batch) for post in batch.posts]
        return [text for post in posts for text in post.texts]

    @property
    def records(self) -> dict[tuple[object, ...], Record]:
        """Everything that is written down but the audit."""
        assert isinstance(self.store, MemoryStore)
        return self.store.records

    @property
    def audits(self) -> list[AuditEntry]:
        """Who did what to whom, oldest first."""
        return self.log.audit(1_000)[::-1]

    def beacons(self) -> list[Batch]:
        """Return and forget the head beacons."""
        bodies = [each.body for each in self.published]
        self.published.clear()
        return [body for body in bodies if isinstance(body, Batch) and not body.posts]

    def peer(self, nick: str, *rooms: str, owner: str = "", hello: bool = True) -> Peer:
        """Return a client that has said HELLO and joined rooms; all presence is told."""
        peer = Peer(self, nick, owner)
        if hello:
            peer.open_inbox()
            peer.ask(peer.hello(), wire.Welcome)
            for room in rooms:
                peer.join(room)
            self.drain(0.2)
        return peer


class Peer:
    """One client process."""

    count = 0

    def __init__(self, bench: Bench, nick: str, owner: str = "") -> None:
        Peer.count += 1
        self.bench = bench
        self.nick = nick
        self.route = b"route-%d" % Peer.count
        self.token = Peer.count.to_bytes(5, "big").ljust(16, b".")
        self.owner = (owner or nick).encode().ljust(16, b".")
        self.instance = Peer.count
        self.number = 1  # Of the next SEND.

    @property
    def inbox(self) -> bytes:
        """The topic of its inbox."""
        return topics.inbox(self.token)

    def open_inbox(self) -> None:
        """Subscribe to the inbox."""
        self.bench.set_clock()
        assert self.bench.core.subscribed(self.inbox) is not None

    def close_inbox(self) -> None:
        """Vanish."""
        self.bench.set_clock()
        self.bench.core.unsubscribed(self.inbox)

    def hello(self, number: int | None = None, nick: str | None = None) -> wire.Hello:
        """Return its HELLO."""
        lowest = self.number if number is None else number
        return wire.Hello(1, nick or self.nick, self.owner, self.instance, lowest)

    def say(self, command: Payload) -> None:
        """Send a command; it is not drained yet."""
        self.bench.set_clock()
        self.bench.core.receive(self.route, wire.command_frames(self.token, command))

    def heard(self) -> list[Payload]:
        """Drain, then return and forget the answers."""
        self.bench.drain()
        return self.bench.replies.pop(self.route, [])

    def ask(self, command: Payload, kind: type[P]) -> P:
        """Send a command and return its one answer, which must be of this kind."""
        self.say(command)
        (answer,) = self.heard()
        assert isinstance(answer, kind), answer
        return answer

    def refused(self, command: Payload) -> wire.Error:
        """Send a command and return its refusal."""
        return self.ask(command, wire.Error)

    def join(self, room: str, *, resume: bool = False) -> wire.Joined:
        """Join a room."""
        return self.ask(wire.Join(2, room, resume), wire.Joined)

    def order(
        self, room: str, action: str, nick: str = "", value: int = 0, reason: str = ""
    ) -> Done:
        """Give an order that is carried out."""
        return self.ask(Order(3, room, action, nick, value, reason), Done)

    def forbidden(
        self, room: str, action: str, nick: str = "", value: int = 0, reason: str = ""
    ) -> str:
        """Give an order that is refused; return the code."""
        return self.refused(Order(3, room, action, nick, value, reason)).code

    def shut_out(self, room: str) -> wire.Error:
        """Join a room, and be refused."""
        return self.refused(wire.Join(2, room))

    def talk(self, nick: str) -> wire.Joined:
        """Open the talk with somebody."""
        return self.ask(Talk(4, nick), wire.Joined)

    def mine(self) -> list[MyRoom]:
        """Return the closed rooms that it belongs to."""
        return self.ask(Mine(5), MyRooms).rooms

    def read(self, room: str, seq: int) -> Done:
        """Note up to where it has read."""
        return self.ask(Read(6, room, seq), Done)

    def role(self, room: str) -> Role:
        """Return what it may do in a room that it is in, or may enter."""
        return Role(self.join(room).role)

    def notices(self, code: str = "") -> list[wire.Notice]:
        """Return and forget what its inbox was told, but for other codes."""
        published, found = self.bench.published, []
        for each in tuple(published):
            if each.topic == self.inbox and isinstance(each.body, Notice):
                published.remove(each)
                if code in ("", each.body.code):
                    found.append(each.body)
        return found

    def next_send(self, room: str, *texts: str, kind: Kind = Kind.TEXT) -> wire.Send:
        """Return the next SEND."""
        self.number += 1
        return saying.send(self.number - 1, room, texts, kind)

    def send(self, room: str, *texts: str, kind: Kind = Kind.TEXT) -> wire.Ack:
        """Say texts and return their ACK."""
        return self.ask(self.next_send(room, *texts, kind=kind), wire.Ack)


def is_of(topic: bytes, room: str) -> bool:
    """Tell whether a topic is this room's."""
    return topic[: -KEY_BYTES - 1] == room.encode()
