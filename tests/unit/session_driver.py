"""Drives a client session by hand: keeps the time, sorts the effects, answers what is asked."""

from __future__ import annotations

from typing import TypeVar

import pytest

from client import effects
from client.events import Entry, Event, State
from client.outbox import Line
from client.session import Phase, Session
from common import spans, topics, wire
from common.errors import Code, Refused
from common.wire import Kind
from tests.unit.log_model import LogModel

TOKEN = b"T" * 16
INBOX = topics.inbox(TOKEN)
OWNER = b"O" * 16
READY = "ready"

T = TypeVar("T")


class Driver:
    """A session, what it has sent and told so far, and the log that answers it."""

    def __init__(self) -> None:
        self.now = 100.0
        self.session = Session(
            nick="anna", owner=lambda: OWNER, token=TOKEN, instance=5, ready=READY
        )
        self.log = LogModel()
        self.sent: list[wire.Payload] = []
        self.asked: list[wire.History] = []
        self.events: list[Event] = []
        self.others: list[effects.Effect] = []

    def take(self, wanted: list[effects.Effect]) -> None:
        """Sort effects to where the tests look for them."""
        for effect in wanted:
            if isinstance(effect, effects.Transmit):
                self.sent.append(effect.command)
            elif isinstance(effect, effects.AskHistory):
                self.asked.append(effect.question)
            elif isinstance(effect, effects.Emit):
                self.events += effect.events
            else:
                self.others.append(effect)

    # --- what was sent and told ---------------------------------------------
    def last(self, kind: type[T]) -> T:
        """Return the last command of a kind, and forget it and all others."""
        found = [command for command in self.sent if isinstance(command, kind)]
        self.sent.clear()
        assert found, f"no {kind.__name__} was sent"
        return found[-1]

    def drain_events(self) -> list[Event]:
        events, self.events = self.events, []
        return events

    def drain_others(self) -> list[effects.Effect]:
        others, self.others = self.others, []
        return others

    def states(self) -> list[str]:
        return [event.state for event in self.drain_events() if isinstance(event, State)]

    def seqs(self) -> list[int]:
        return [event.seq for event in self.drain_events() if isinstance(event, Entry)]

    def rejected(self, ticket: object) -> str:
        """Return the code with which a call failed."""
        for effect in self.others:
            if isinstance(effect, effects.Reject) and effect.ticket is ticket:
                assert isinstance(effect.error, Refused)
                return effect.error.code
        pytest.fail(f"{ticket!r} was not rejected: {self.others}")

    # --- facts --------------------------------------------------------------
    def reply(self, reply: wire.Payload) -> None:
        self.take(self.session.reply(reply, self.now))

    def refuse(self, request_id: int, code: Code, value: int = 0) -> None:
        self.reply(wire.Error(request_id, code, "", survives=True, value=value))

    def publish(self, item: wire.Publication, topic: bytes | None = None) -> None:
        frame = (topic or self.topic) + wire.encode(item)
        self.take(self.session.publications([frame], self.now))

    def wait(self, seconds: float) -> None:
        self.now += seconds
        self.take(self.session.tick(self.now))

    # --- whole steps --------------------------------------------------------
    @property
    def topic(self) -> bytes:
        return self.log.joined().subscription

    def greet(self, *, rooms_port: int = 2, protocol: int = 1) -> None:
        """Answer the GREET under way."""
        greeting = wire.Greeting(
            self.last(wire.Greet).id, "0", protocol, rooms_port, 3, 7, 0, 1, 9, 1, "", ""
        )
        self.reply(greeting)

    def welcome(self, *, resumed: bool = False) -> None:
        """Answer the GREET and the HELLO under way."""
        self.greet()
        hello = self.last(wire.Hello)
        self.reply(wire.Welcome(hello.id, hello.nick, resumed, "hi"))

    def page(self) -> None:
        """Answer the last question to history."""
        ask = self.asked.pop()
        page, batches = self.log.page(ask.mode, ask.at, ask.limit, request_id=ask.id)
        if page.more and batches:  # As the connection does.
            last = spans.last_seq(batches[-1])
            self.take(self.session.page_arrived(page, last, self.now))
        self.take(self.session.page(page, batches, self.now))

    def join(self, ticket: object = "join", history: int | None = 100) -> None:
        """Join the log's room, with beacon and history."""
        self.take(self.session.join("lobby", history, None, ticket, self.now))
        self.reply(self.log.joined(self.last(wire.Join).id))
        self.publish(self.log.beacon())
        while self.asked:
            self.page()

    def say(self, *texts: str) -> None:
        lines = [Line("lobby", Kind.TEXT, text, len(text), text) for text in texts]
        self.take(self.session.say(lines, self.now))


def online() -> Driver:
    """Return a session that stands, with nothing left to look at."""
    driver = Driver()
    driver.take(driver.session.connected(driver.now))
    driver.welcome()
    assert driver.session.phase is Phase.ONLINE
    driver.drain_events()
    driver.drain_others()
    driver.sent.clear()
    return driver


def in_room() -> Driver:
    """Return a session that stands in the room `lobby`."""
    driver = online()
    driver.join()
    driver.drain_events()
    driver.drain_others()
    driver.sent.clear()
    return driver
