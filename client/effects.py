"""What the session wants done: its only way to act. Pure data: no I/O, no logic.

`client.connection` carries them out in their order. Tickets are the program's own objects (of
`client.pending`); the session hands them back and never looks inside.
"""

from __future__ import annotations

from msgspec import Struct

from client.events import Event
from common import wire


class Effect(Struct, frozen=True):
    """The base of all effects."""


class Transmit(Effect, frozen=True):
    """Send a command on the DEALER."""

    command: wire.Payload


class Connect(Effect, frozen=True):
    """Use these ports of the broker's host for SUB and REQ, and no others."""

    rooms_port: int
    history_port: int


class Subscribe(Effect, frozen=True):
    """Subscribe the SUB to a topic. The session never subscribes to one twice."""

    topic: bytes


class Unsubscribe(Effect, frozen=True):
    """Undo a Subscribe."""

    topic: bytes


class AskHistory(Effect, frozen=True):
    """Send a question on the REQ, made anew where there is none."""

    question: wire.History


class DropHistory(Effect, frozen=True):
    """Close the REQ: its answer is overdue, or nobody has asked for long."""


class Emit(Effect, frozen=True):
    """Hand events to the program, in this order."""

    events: list[Event]


class Kept(Effect, frozen=True):
    """The texts of these tickets are in the log, at first, first + 1, ..."""

    tickets: list[object]
    room: str
    first: int
    ts: int


class Failed(Effect, frozen=True):
    """The texts of these tickets were refused."""

    tickets: list[object]
    error: Exception


class Resolve(Effect, frozen=True):
    """Answer a call of the program."""

    ticket: object
    value: object


class Reject(Effect, frozen=True):
    """Fail a call of the program."""

    ticket: object
    error: Exception


class Stop(Effect, frozen=True):
    """The session is over: close everything."""


class Tray:
    """Where the parts of a session lay down what they want done; the session empties it."""

    __slots__ = ("effects", "events")

    def __init__(self) -> None:
        self.effects: list[Effect] = []
        self.events: list[Event] = []

    def subscribe_anew(self, topic: bytes) -> None:
        """Show the broker a subscription that it may have forgotten: it sees none twice."""
        self.effects += [Unsubscribe(topic), Subscribe(topic)]

    def take(self) -> list[Effect]:
        """Return all effects since the last time; the events become one of them, the last."""
        effects = self.effects
        if self.events:
            effects.append(Emit(self.events))
            self.events = []
        self.effects = []
        return effects
