"""The texts on their way out: numbering, coalescing, window, resending. Pure.

Whatever waits for the same room and of the same kind goes into one SEND; a lone text goes at
once. Numbers are born only here, in the order of sending, and a SEND keeps its number and its
texts until it is acknowledged or refused: that is what makes a resend harmless. PROTOCOL.md,
"SEND".
"""

from __future__ import annotations

from collections import deque
from typing import Final, NamedTuple

from client.limits import GAP_ECHO_S, SLOW_DOWN_MS_MAX
from common import wire
from common.errors import Code
from common.limits import (
    COMMAND_BYTES_MAX,
    ROOM_CHARS_MAX,
    SEND_TEXTS_MAX,
    SENDS_IN_FLIGHT_MAX,
    TEXT_CHARS_MAX,
)
from common.wire import Kind

TEXT_HEADER_BYTES: Final = 3  # MessagePack str 16; longer texts do not exist.
# Array headers, number, kind, and a room's name at four bytes a character.
SEND_HEADER_BYTES: Final = 32 + 4 * ROOM_CHARS_MAX
TEXTS_BYTES_MAX: Final = COMMAND_BYTES_MAX - SEND_HEADER_BYTES
assert TEXT_CHARS_MAX * 4 + TEXT_HEADER_BYTES <= TEXTS_BYTES_MAX

# Codes after which the broker still expects the same number: the SEND stays in the window.
NOT_CONSUMED: Final = frozenset({Code.NO_SESSION, Code.CLOSING, Code.SESSION_TAKEN})


class Line(NamedTuple):
    """A text that waits to be sent. The room is folded, the text valid; `size` in UTF-8 bytes."""

    room: str
    kind: Kind
    text: str
    size: int
    ticket: object


class Flight:
    """A SEND that is not acknowledged yet."""

    __slots__ = ("send", "sent_s", "tickets")

    def __init__(self, send: wire.Send, tickets: list[object], now: float) -> None:
        self.send = send
        self.tickets = tickets
        self.sent_s = now


class Outbox:
    """Owned by the session, hence by one thread. `now` is monotonic, in seconds."""

    def __init__(self) -> None:
        self._number = 1  # Of the next new SEND.
        self._waiting: dict[str, deque[Line]] = {}  # By room; rooms take turns.
        self._flights: dict[int, Flight] = {}  # By number, rising.
        self._held_until_s: float | None = None  # SLOW_DOWN: nothing is sent before.
        self._resend_from = 0
        self._gap = 0  # The number that was last asked for, and until when again is an echo.
        self._gap_until_s = 0.0

    @property
    def lowest(self) -> int:
        """The lowest number that is not acknowledged, or the next one: HELLO's `number`."""
        return next(iter(self._flights), self._number)

    @property
    def is_empty(self) -> bool:
        """Whether every text is settled."""
        return not self._flights and not self._waiting

    @property
    def oldest_sent_s(self) -> float | None:
        """When the oldest SEND was last sent; None while none is out or the broker said wait."""
        if not self._flights or self._held_until_s is not None:
            return None
        return next(iter(self._flights.values())).sent_s

    @property
    def deadline_s(self) -> float | None:
        """When `pump` has something to do though nothing arrived."""
        return self._held_until_s

    def put(self, lines: list[Line]) -> None:
        """Queue texts. How many there may be is bounded where they come from (`api`)."""
        waiting = self._waiting
        for line in lines:
            queue = waiting.get(line.room)
            if queue is None:
                queue = waiting[line.room] = deque()
            queue.append(line)

    def pump(self, now: float) -> list[wire.Send]:
        """Return what may be sent now: overdue resends, then as much as the window takes."""
        sends: list[wire.Send] = []
        if self._held_until_s is not None:
            if now < self._held_until_s:
                return sends
            sends = self._resend(self._resend_from, now)
        # By numbers, not by how many are out: the broker remembers just so many numbers, and the
        # lowest must be among them even when only its own ACK was lost.
        while self._waiting and self._number - self.lowest < SENDS_IN_FLIGHT_MAX:
            sends.append(self._take(now))
        return sends

    def _take(self, now: float) -> wire.Send:
        """Make one SEND of the room whose turn it is."""
        room, queue = next(iter(self._waiting.items()))
        del self._waiting[room]
        kind = queue[0].kind
        texts: list[str] = []
        tickets: list[object] = []
        bytes_left = TEXTS_BYTES_MAX
        while queue and len(texts) < SEND_TEXTS_MAX:
            line = queue[0]
            bytes_left -= line.size + TEXT_HEADER_BYTES
            # A run of one kind only: a text must not overtake the action before it.
            if line.kind is not kind or bytes_left < 0:
                break
            queue.popleft()
            texts.append(line.text)
            tickets.append(line.ticket)
        if queue:
            self._waiting[room] = queue  # Behind the others.
        send = wire.Send(self._number, room, kind, texts)
        self._flights[self._number] = Flight(send, tickets, now)
        self._number += 1
        return send

    def resume(self, now: float) -> list[wire.Send]:
        """After WELCOME: return everything that is not acknowledged, in order."""
        self._gap_until_s = 0.0
        return self._resend(0, now)

    def _resend(self, number: int, now: float) -> list[wire.Send]:
        self._held_until_s = None
        sends = []
        for flight in self._flights.values():
            if flight.send.number >= number:
                flight.sent_s = now
                sends.append(flight.send)
        return sends

    def acked(self, number: int) -> list[object]:
        """Return the tickets of an acknowledged SEND; none if it was acknowledged before."""
        flight = self._flights.pop(number, None)
        return flight.tickets if flight else []

    def refused(self, error: wire.Error, now: float) -> tuple[list[object], list[wire.Send]]:
        """Take an ERROR for a number: return tickets to fail, and what to send again."""
        number = error.id
        if number not in self._flights or error.code in NOT_CONSUMED:
            return [], []
        if error.code == Code.SLOW_DOWN:
            is_held = self._held_until_s is not None
            self._resend_from = min(self._resend_from, number) if is_held else number
            wait_ms = min(max(error.value, 0), SLOW_DOWN_MS_MAX)
            self._held_until_s = max(self._held_until_s or 0.0, now + wait_ms / 1000)
            return [], []
        if error.code == Code.GAP:
            return [], self._fill_gap(error.value, now)
        return self._flights.pop(number).tickets, []

    def _fill_gap(self, expected: int, now: float) -> list[wire.Send]:
        """Send again from `expected`, once: every SEND behind the gap reports it too."""
        is_echo = expected == self._gap and now < self._gap_until_s
        if self._held_until_s is not None or is_echo:
            return []
        self._gap = expected
        self._gap_until_s = now + GAP_ECHO_S
        return self._resend(expected, now)

    def abandon(self) -> list[object]:
        """Return the tickets of all texts that were not settled: the session is over."""
        tickets = [ticket for flight in self._flights.values() for ticket in flight.tickets]
        tickets += [line.ticket for queue in self._waiting.values() for line in queue]
        self._flights.clear()
        self._waiting.clear()
        return tickets
