"""One client: the shipped session, its connections, and the books of the program that uses it."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any

from client import effects
from client.events import (
    KINDS,
    Entry,
    Event,
    Joined,
    Left,
    Missing,
    Moved,
    Removed,
    Reset,
    State,
    Told,
)
from client.outbox import Line
from client.session import Session
from common import order, spans, topics, wire
from common.wire import Kind
from tests.sim.checkers import Judge, Stay
from tests.sim.network import Link, Network, Pipe
from tests.sim.trace import Trace, shown

Tickets = tuple[str, Any]


class SimClient:
    """A program with one session. All that it does and hears goes through here."""

    def __init__(
        self,
        name: str,
        *,
        chance: random.Random,
        network: Network,
        judge: Judge,
        trace: Trace,
        kin: SimClient | None,
        is_secure: bool,
    ) -> None:
        """Begin; with `kin`, as the same person under the same nick; `is_secure`: with a key."""
        self.name = name
        self.nick: str = kin.nick if kin else name
        self.owner: bytes = kin.owner if kin else chance.randbytes(16)
        self.token = chance.randbytes(16)
        self.person: str = kin.person if kin else name
        self.key: bytes = b"" if not is_secure else kin.key if kin else chance.randbytes(32)
        network.keys[name] = self.key
        judge.doors.came(name, self.person, self.key)
        self.session = Session(
            nick=self.nick,
            owner=lambda: self.owner,
            token=self.token,
            instance=1,
            ready=("ready", None),
        )
        self.link: Link | None = None
        self.pipe: Pipe | None = None
        self.wanted: dict[bytes, None] = {}  # What SUB is subscribed to. In order: a dict.
        self.has_ports = False
        self.question: wire.History | None = None  # On its way to history,
        self.page: list[bytes] | None = None  # and the answer on its way back.
        self.frozen_until_s = 0.0
        self.is_closing = False
        self.is_over = False
        self.is_refused = False
        self.stays: dict[str, Stay] = {}  # Rooms that the program is in.
        self.lefts = 0  # How often leaving was answered, but not told yet.
        self.summaries: dict[str, Joined] = {}  # What the last call of join() told.
        self.secrets: list[wire.Joined] = []  # Topics and tickets that it was ever told.
        self.doors: list[str] = []  # Closed rooms that it knows, whether it may enter or not.
        self.renames = 0
        self.said = 0
        self._chance = chance
        self._network = network
        self._judge = judge
        self._trace = trace
        self._perform: dict[type[effects.Effect], Callable[[Any], None]] = {
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

    def do(self, wanted: list[effects.Effect]) -> None:
        """Carry out what the session wants."""
        for effect in wanted:
            self._perform[type(effect)](effect)

    # --- its connections ----------------------------------------------------
    def connect(self, now_s: float) -> None:
        """Bring up the connections that are down."""
        self.notice(now_s)
        if self.link is None:
            self.link = self._network.dial(self.name)
            self._trace.note(self.name, f"connects as {self.link.route.decode()}")
            self.do(self.session.connected(now_s))
        if self.has_ports and (self.pipe is None or self.pipe.is_broken):
            self._trace.note(self.name, f"listens, to {len(self.wanted)} topics")
            self.pipe = self._network.listen(self.name, list(self.wanted))

    def notice(self, now_s: float) -> None:
        """See that the link is broken, if it is."""
        if self.link is not None and self.link.is_broken:
            self.link = None
            self._trace.note(self.name, "sees its link broken")
            self.do(self.session.disconnected(now_s))

    def deliver(self, now_s: float, share: float) -> None:
        """Take what has arrived, or some of it."""
        chance, session = self._chance, self.session
        pipe = self.pipe
        if pipe is not None and not pipe.is_broken and pipe.frames:
            count = len(pipe.frames) if share == 1 else chance.randint(0, len(pipe.frames))
            frames = [pipe.frames.popleft() for _ in range(count)]
            self.do(session.publications(frames, now_s))
        while self.link and self.link.down and (share == 1 or chance.random() < share):
            reply = wire.parse_reply(self.link.down.popleft())
            if self._trace.is_on:
                self._trace.note(self.name, f"hears {shown(reply)}")
            if isinstance(reply, wire.Joined):
                self.secrets.append(reply)
            self.do(session.reply(reply, now_s))
        if self.page is not None and (share == 1 or chance.random() < share):
            self._take_page(now_s)

    def _take_page(self, now_s: float) -> None:
        """Read an answer of history as `client.connection` does."""
        assert self.page is not None
        frames, self.page = self.page, None
        reply = wire.parse_reply(frames)
        if isinstance(reply, wire.Page):
            batches = [wire.decode_batch(frame) for frame in frames[2:]]
            self._trace.note(self.name, f"reads a page of {reply.room}: {len(batches)} batches")
            if reply.more and batches:
                last = spans.last_seq(batches[-1])
                self.do(self.session.page_arrived(reply, last, now_s))
            self.do(self.session.page(reply, batches, now_s))
        elif isinstance(reply, wire.Error):
            self._trace.note(self.name, f"history refuses: {reply.code}")
            self.do(self.session.history_refused(reply, now_s))

    def tick(self, now_s: float) -> None:
        """Let the session look at the clock."""
        self.do(self.session.tick(now_s))

    def _transmit(self, effect: effects.Transmit) -> None:
        if self._trace.is_on:
            self._trace.note(self.name, f"sends {shown(effect.command)}")
        if self.link is not None and not self.link.is_broken:
            self._tell_judge(effect.command)
            self.link.up.append(wire.command_frames(self.token, effect.command))

    def _tell_judge(self, command: wire.Payload) -> None:
        doors = self._judge.doors
        if isinstance(command, order.Order):
            given = (command.room, command.action, command.nick, command.value)
            doors.orders(self.name, command.id, given)
        elif isinstance(command, wire.Join):
            doors.joins(self.name, command.id, command.room)
            stay = self.stays.get(command.room)
            if stay is not None:
                stay.asks_again(self._judge.witness, is_resume=command.resume)

    def _connect(self, _effect: effects.Connect) -> None:
        self.has_ports = True

    def _subscribe(self, effect: effects.Subscribe) -> None:
        assert effect.topic not in self.wanted, "SUB never asks twice"
        self.wanted[effect.topic] = None
        if self.pipe is not None and not self.pipe.is_broken:
            self.pipe.subscriptions.append((True, effect.topic))

    def _unsubscribe(self, effect: effects.Unsubscribe) -> None:
        del self.wanted[effect.topic]
        if self.pipe is not None and not self.pipe.is_broken:
            self.pipe.subscriptions.append((False, effect.topic))

    def _ask_history(self, effect: effects.AskHistory) -> None:
        assert self.question is None, "REQ asks one question at a time"
        assert self.page is None, "REQ asks one question at a time"
        self.question = effect.question

    def _drop_history(self, _effect: effects.DropHistory) -> None:
        self.question = self.page = None

    def _stop(self, _effect: effects.Stop) -> None:
        self.is_over = True

    # --- what the program hears ---------------------------------------------
    def _emit(self, effect: effects.Emit) -> None:
        for event in effect.events:
            self._hear(event)

    def _hear(self, event: Event) -> None:
        if self._trace.is_on:
            self._trace.note(self.name, f"program hears {shown(event)}")
        if isinstance(event, Told) and event.code == "invited":
            self.doors.append(event.room)
        if isinstance(event, Entry | Missing | Reset | Removed):
            self._hear_log(event)
        elif isinstance(event, Moved):
            self._move(event)
        elif isinstance(event, Left):
            self._leave(event)
        elif isinstance(event, State):
            self.is_refused |= event.state == "refused"
            if event.state == "online":
                self.nick = event.detail

    def _leave(self, event: Left) -> None:
        if self.lefts and not event.code:
            self.lefts -= 1
        else:
            self._gone(event.room)

    def _move(self, event: Moved) -> None:
        stay = self.stays.pop(event.room, None)
        if stay is not None:
            self.stays[event.to] = stay
            stay.hears_move(event.to)
        self.doors.append(event.to)

    def _hear_log(self, event: Entry | Missing | Reset | Removed) -> None:
        stay = self.stays.get(event.room)
        if stay is None:
            self._judge.blame(f"{self.name} hears of {event.room} after it left: {event}")
        elif isinstance(event, Entry):
            kind = order.ORDER_KIND if event.kind == "order" else KINDS.get(event.kind, Kind.TEXT)
            kind = int(kind)
            stay.hears_entry(event.seq, (event.ts, event.nick, kind, event.text))
        elif isinstance(event, Removed):
            stay.hears_removed(event.seq)
        elif isinstance(event, Missing):
            stay.hears_missing(event.count)
        else:
            stay.hears_reset()

    def _gone(self, room: str) -> None:
        stay = self.stays.pop(room, None)
        if stay is not None:
            stay.is_over = True

    def _kept(self, effect: effects.Kept) -> None:
        for seq, ticket in enumerate(effect.tickets, effect.first):
            self._judge.acknowledged(str(ticket), effect.room, seq)
        self._trace.note(self.name, f"program hears kept: {effect.tickets} from {effect.first} on")

    def _failed(self, effect: effects.Failed) -> None:
        for ticket in effect.tickets:
            self._judge.refused(str(ticket), str(effect.error))
        if self._trace.is_on:
            self._trace.note(self.name, f"program hears failed: {effect.tickets} {effect.error!r}")

    def _resolve(self, effect: effects.Resolve) -> None:
        kind, about = _ticket(effect.ticket)
        if kind == "join" and isinstance(effect.value, Joined):
            self.summaries[effect.value.room] = effect.value
            about.was_joined = True
        elif kind == "rename":
            self.nick = str(effect.value)
        elif kind == "part":
            self.lefts += 1  # The event tells of that time, whatever room it is now.

    def _reject(self, effect: effects.Reject) -> None:
        kind, about = _ticket(effect.ticket)
        self._trace.note(self.name, f"program hears no to {kind}: {effect.error!r}")
        if kind == "ready":
            self.is_over = True
        elif kind == "join" and about in self.stays.values() and not about.was_joined:
            self._gone(about.room)

    # --- what the program does ----------------------------------------------
    def join(self, room: str, history: int | None, since_ms: int | None, now_s: float) -> None:
        """Join a room, or ask about it again."""
        stay = self.stays.get(room)
        if stay is None:
            stay = self.stays[room] = self._judge.stay(self.name, room, history, since_ms)
            self._trace.note(self.name, f"program joins {room}: {history}, since {since_ms}")
        self.do(self.session.join(room, history, since_ms, ("join", stay), now_s))

    def part(self, room: str, now_s: float) -> None:
        """Leave a room."""
        self._trace.note(self.name, f"program leaves {room}")
        self._gone(room)
        self.do(self.session.part(room, ("part", room), now_s))

    def role(self, room: str) -> int:
        """Return what it may do in a room that it is in, as far as it knows."""
        found = self.session._memberships._rooms.get(room)
        return found.role if found is not None else 0

    def order(self, room: str, action: str, nick: str, value: int, now_s: float) -> None:
        """Give an order in a room."""
        self._trace.note(self.name, f"program orders {action} {nick} {value} in {room}")
        ticket = ("order", action)
        self.do(
            self.session.ask(
                lambda number: order.Order(number, room, action, nick, value), ticket, now_s
            )
        )

    def rename(self, nick: str, now_s: float) -> None:
        """Take another nick."""
        self._trace.note(self.name, f"program wants to be {nick}")
        self.is_refused = False
        self.do(self.session.rename(nick, ("rename", nick), now_s))

    def say(self, rooms: list[str], count: int, now_s: float) -> list[str]:
        """Say so many texts, each in one of the rooms, and return them."""
        chance = self._chance
        lines = []
        for _ in range(count):
            self.said += 1
            kind = chance.choices([Kind.TEXT, Kind.ACTION, Kind.TOPIC], [16, 2, 1])[0]
            text = f"{self.name}.{self.said}" + ("." * 60 if chance.random() < 0.1 else "")
            room = chance.choice(rooms)
            self._judge.said(text, self.stays[room])
            lines.append(Line(room, kind, text, len(text), text))
        self._trace.note(self.name, f"program says {[line.text.rstrip('.') for line in lines]}")
        self.do(self.session.say(lines, now_s))
        return [line.text for line in lines]

    def die(self) -> None:
        """End without a word."""
        self.is_over = True
        self.stays.clear()

    def inbox(self) -> bytes:
        """Return the topic of its own."""
        return topics.inbox(self.token)


def _ticket(ticket: object) -> Tickets:
    return ticket if isinstance(ticket, tuple) else ("", None)
