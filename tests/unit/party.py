"""The client's session and the broker's core, with a wire between them that a test moves.

Nothing moves by itself: what somebody sends lies there until `carry`, what the broker says until
`answer`, `hear` and `page`.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Any, TypeVar

from broker.history import answer
from client import effects
from client.events import Entry, Event
from client.outbox import Line
from client.session import Session
from common import order, wire
from common.errors import Refused
from common.wire import Kind
from tests.unit.bench import Bench
from tests.unit.logs import MemoryStore

T = TypeVar("T")


class Party:
    """A broker, and who is connected to it."""

    def __init__(self, *nicks: str) -> None:
        self.store = MemoryStore()
        self.bench = Bench(self.store)
        self.now = 100.0
        self.guests = [Guest(self, nick) for nick in nicks]
        for guest in self.guests:
            guest.do(guest.session.connected(self.now))
        self.settle()

    def drain(self, after_s: float = 0.0) -> None:
        """Let the broker decide and commit, and lay what it says on the wires."""
        self.now += after_s
        self.bench.drain(after_s)
        published, self.bench.published = self.bench.published, []
        for guest in self.guests:
            guest.replies += self.bench.replies.pop(guest.route, [])
            guest.frames += [
                topic + wire.encode(body) for topic, body in published if topic in guest.topics
            ]

    def settle(self) -> None:
        """Let everything arrive that is on its way, and time pass until nothing more comes."""
        for _ in range(12):
            for _ in range(60):
                for guest in self.guests:
                    for act in (guest.carry, guest.listen, guest.answer, guest.hear, guest.page):
                        act()
                self.drain()
                if not any(guest.is_busy for guest in self.guests):
                    break
            self.drain(0.5)
            for guest in self.guests:
                guest.wait()


class Guest:
    """One session."""

    def __init__(self, party: Party, nick: str) -> None:
        self.party = party
        self.nick = nick
        self.route = b"route of " + nick.encode()
        self.token = nick.encode().ljust(16, b".")
        self.session = Session(
            nick=nick,
            owner=lambda: nick.encode().ljust(16, b"o"),
            token=self.token,
            instance=5,
            ready="?",
        )
        self.topics: set[bytes] = set()
        self.commands: deque[wire.Payload] = deque()
        self.wanted: deque[tuple[bool, bytes]] = deque()  # Subscriptions and their ends.
        self.replies: deque[wire.Payload] = deque()
        self.frames: deque[bytes] = deque()
        self.question: wire.History | None = None
        self.events: list[Event] = []
        self.kept: list[str] = []
        self.failed: list[tuple[object, Exception]] = []
        self.answers: dict[object, object] = {}
        self._perform: dict[type[effects.Effect], Callable[[Any], object]] = {
            effects.Transmit: lambda effect: self.commands.append(effect.command),
            effects.Connect: lambda _: None,
            effects.Subscribe: lambda effect: self.wanted.append((True, effect.topic)),
            effects.Unsubscribe: lambda effect: self.wanted.append((False, effect.topic)),
            effects.AskHistory: self._ask_history,
            effects.DropHistory: self._drop_history,
            effects.Emit: lambda effect: self.events.extend(effect.events),
            effects.Kept: lambda effect: self.kept.extend(map(str, effect.tickets)),
            effects.Failed: lambda effect: self.failed.extend(
                (ticket, effect.error) for ticket in effect.tickets
            ),
            effects.Resolve: lambda effect: self.answers.update({effect.ticket: effect.value}),
            effects.Reject: lambda effect: self.answers.update({effect.ticket: effect.error}),
        }

    def do(self, wanted: list[effects.Effect]) -> None:
        for effect in wanted:
            self._perform[type(effect)](effect)

    def _ask_history(self, effect: effects.AskHistory) -> None:
        assert self.question is None, "a REQ takes one question at a time"
        self.question = effect.question

    def _drop_history(self, _: effects.DropHistory) -> None:
        self.question = None

    @property
    def is_busy(self) -> bool:
        on_their_way = (self.commands, self.wanted, self.replies, self.frames, self.question)
        return any(on_their_way)

    # --- the wire, a step at a time -----------------------------------------
    def carry(self) -> None:
        if self.commands:
            self.party.bench.set_clock()
            frames = wire.command_frames(self.token, self.commands.popleft())
            self.party.bench.core.receive(self.route, frames)

    def listen(self) -> None:
        if self.wanted:
            is_begin, topic = self.wanted.popleft()
            self.party.bench.set_clock()
            if not is_begin:
                self.topics.discard(topic)
                self.party.bench.core.unsubscribed(topic)
                return
            first = self.party.bench.core.subscribed(topic)
            if first is not None:
                self.topics.add(topic)
                self.frames += first

    def answer(self) -> None:
        if self.replies:
            self.do(self.session.reply(self.replies.popleft(), self.party.now))

    def hear(self) -> None:
        if self.frames:
            self.do(self.session.publications([self.frames.popleft()], self.party.now))

    def page(self) -> None:
        question, self.question = self.question, None
        if question is not None:
            frames = answer(
                self.party.store.reader(),
                wire.command_frames(wire.NO_TOKEN, question),
                now_ms=self.party.bench.now_ms,
            )
            page = wire.parse_reply(frames)
            if isinstance(page, wire.Page):
                batches = [wire.decode_batch(frame) for frame in frames[2:]]
                self.do(self.session.page(page, batches, self.party.now))
            elif isinstance(page, wire.Error):
                self.do(self.session.history_refused(page, self.party.now))

    def wait(self) -> None:
        self.do(self.session.tick(self.party.now))

    # --- what its program does ----------------------------------------------
    def say(self, room: str, *texts: str) -> None:
        lines = [Line(room, Kind.TEXT, text, len(text), text) for text in texts]
        self.do(self.session.say(lines, self.party.now))

    def join(self, room: str, history: int | None = 100) -> object:
        """Join a room and return what came of it."""
        self.do(self.session.join(room, history, None, f"join {room}", self.party.now))
        self.party.settle()
        return self.answers.pop(f"join {room}")

    def talk(self, nick: str) -> object:
        """Open a talk and return what came of it."""
        self.do(self.session.talk(nick, 100, None, f"talk {nick}", self.party.now))
        self.party.settle()
        return self.answers.pop(f"talk {nick}")

    def give(
        self, room: str, action: str, nick: str = "", value: int = 0, reason: str = ""
    ) -> None:
        """Give an order; what comes of it is in `answers`."""
        name = self.session.directory.moved.get(room, room)
        self.do(
            self.session.ask(
                lambda n: order.Order(n, name, action, nick, value, reason), action, self.party.now
            )
        )

    def order(self, room: str, action: str, nick: str = "", value: int = 0) -> object:
        """Give an order, and return what came of it."""
        self.give(room, action, nick, value, "" if not nick else "why not")
        self.party.settle()
        return self.answers.pop(action)

    def heard(self, kind: type[T]) -> list[T]:
        """Return and forget the events of a kind."""
        found: list[T] = [event for event in self.events if isinstance(event, kind)]
        self.events = [event for event in self.events if not isinstance(event, kind)]
        return found

    def texts(self) -> list[tuple[int, str]]:
        """Return seq and text of all entries that were delivered."""
        return [(event.seq, event.text) for event in self.events if isinstance(event, Entry)]

    def refusal(self, ticket: object) -> str:
        """Return the code with which a call failed."""
        error = self.answers.pop(ticket)
        assert isinstance(error, Refused)
        return error.code
