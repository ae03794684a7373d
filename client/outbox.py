"""The texts on their way out: numbering, coalescing, window, resending. Pure.

Whatever waits goes into one SEND, for however many rooms; a lone text goes at once. Numbers are
born only here, in the order of sending, and a SEND keeps its number and its texts until it is
acknowledged or refused: that is what makes a resend harmless. PROTOCOL.md, "SEND".
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Mapping
from typing import Final, NamedTuple

from client.effects import Failed, Kept
from client.limits import GAP_ECHO_S, SLOW_DOWN_MS_MAX
from client.times import span_text
from common import wire
from common.errors import Code, Malformed, Refused
from common.limits import (
    COMMAND_BYTES_MAX,
    ROOM_CHARS_MAX,
    SEND_POSTS_MAX,
    SEND_TEXTS_MAX,
    SENDS_IN_FLIGHT_MAX,
    TEXT_CHARS_MAX,
)
from common.wire import Kind

TEXT_HEADER_BYTES: Final = 3  # MessagePack str 16; longer texts do not exist.
SEND_HEADER_BYTES: Final = 16  # Number, and two array headers.
# Array headers, kind, and the header of a room's name, which has four bytes a character at most.
POST_HEADER_BYTES: Final = 8
POSTS_BYTES_MAX: Final = COMMAND_BYTES_MAX - SEND_HEADER_BYTES
# A post of one text always fits, and a text is never more posts than one.
assert 4 * (ROOM_CHARS_MAX + TEXT_CHARS_MAX) + 16 <= POSTS_BYTES_MAX
assert SEND_POSTS_MAX >= SEND_TEXTS_MAX

# Codes whose `value` is how long it lasts, in milliseconds; 0 for ever.
LASTING: Final = frozenset({Code.BANNED, Code.MUTED, Code.SLOW_MODE})

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

    def __init__(self, send: wire.Send, tickets: list[list[object]], now: float) -> None:
        self.send = send
        self.tickets = tickets  # Of each post, those of its texts.
        self.sent_s = now

    def all_tickets(self) -> list[object]:
        """Return the tickets of all texts, in order."""
        return [ticket for tickets in self.tickets for ticket in tickets]


class Outbox:
    """Owned by the session, hence by one thread. `now` is monotonic, in seconds.

    moved: leads from former names of rooms to those of now; the session's own.
    """

    def __init__(self, moved: Mapping[str, str] | None = None) -> None:
        self._moved = {} if moved is None else moved
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
        waiting, moved = self._waiting, self._moved
        for line in lines:
            room = moved.get(line.room, line.room) if moved else line.room
            queue = waiting.get(room)
            if queue is None:
                queue = waiting[room] = deque()
            queue.append(line)

    def move(self, was: str, to: str) -> None:
        """Say in a room's new name what waits for it, and what is in flight and may go again.

        What the broker refuses under the old name comes back, but behind what was said since.
        """
        self._put_first(to, self._waiting.pop(was, ()))
        for flight in self._flights.values():
            posts = [
                wire.Draft(to if post.room == was else post.room, post.kind, post.texts)
                for post in flight.send.posts
            ]
            send = wire.Send(flight.send.number, posts)
            if len(wire.encode(send)) <= COMMAND_BYTES_MAX:  # The new name may be a longer one.
                flight.send = send

    def _put_first(self, room: str, lines: Iterable[Line]) -> None:
        """Queue texts before all others of their room, in their order."""
        lines = list(lines)
        if lines:
            self._waiting.setdefault(room, deque()).extendleft(reversed(lines))

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
        """Make one SEND of what waits, beginning with the room whose turn it is."""
        waiting = self._waiting
        posts: list[wire.Draft] = []
        tickets: list[list[object]] = []
        texts_left, bytes_left = SEND_TEXTS_MAX, POSTS_BYTES_MAX
        while waiting and texts_left:
            room, queue = next(iter(waiting.items()))
            room_bytes = len(room.encode()) + POST_HEADER_BYTES
            run, run_bytes = _run(queue, texts_left, bytes_left - room_bytes)
            if not run:
                break  # The SEND is full.
            del waiting[room]
            if queue:
                waiting[room] = queue  # Behind the others.
            texts_left -= len(run)
            bytes_left -= room_bytes + run_bytes
            posts.append(wire.Draft(room, run[0].kind, [line.text for line in run]))
            tickets.append([line.ticket for line in run])
        send = wire.Send(self._number, posts)
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

    def acked(self, ack: wire.Ack) -> list[Kept | Failed]:
        """Return what became of each post of a SEND; nothing if it was acknowledged before.

        Raises `Malformed` when the SEND had another number of posts: it is sent again then.
        """
        flight = self._flights.get(ack.number)
        if flight is None:
            return []
        posts = flight.send.posts
        if len(ack.kept) != len(posts):
            message = f"an ACK of {len(ack.kept)} posts for a SEND of {len(posts)}"
            raise Malformed(message)
        del self._flights[ack.number]
        settled: list[Kept | Failed] = []
        for tickets, post, place in zip(flight.tickets, posts, ack.kept, strict=True):
            if place.first:
                settled.append(Kept(tickets, post.room, place.first, place.ts))
            elif not self._is_said_again(post, tickets, place.code):
                settled.append(Failed(tickets, refusal(place.code, "", place.ts)))
        return settled

    def _is_said_again(self, post: wire.Draft, tickets: list[object], code: str) -> bool:
        """Queue a refused post for its room's new name, where the room has one."""
        to = self._moved.get(post.room)
        if to is None or code != Code.NOT_MEMBER:
            return False
        lines = zip(post.texts, tickets, strict=True)
        self._put_first(
            to, (Line(to, post.kind, text, len(text.encode()), ticket) for text, ticket in lines)
        )
        return True

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
        flight = self._flights.pop(number)
        failed: list[object] = []
        for post, tickets in zip(flight.send.posts, flight.tickets, strict=True):
            if not self._is_said_again(post, tickets, error.code):
                failed += tickets
        return failed, []

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
        tickets = [each for flight in self._flights.values() for each in flight.all_tickets()]
        tickets += [line.ticket for queue in self._waiting.values() for line in queue]
        self._flights.clear()
        self._waiting.clear()
        return tickets


def refusal(code: str, detail: str, value: int) -> Refused:
    """Return what the program meets for a code of the broker; says how long it lasts."""
    refused = Refused(code, detail, value)
    if value and code in LASTING:
        seconds = -(-value // 1_000)  # Whoever waits as long as it says does not come too early.
        return Refused(code, f"{refused.detail} ({span_text(seconds)} left)", value)
    return refused


def _run(queue: deque[Line], count_max: int, bytes_max: int) -> tuple[list[Line], int]:
    """Take lines of one kind that make a post; return them and their size in bytes."""
    run: list[Line] = []
    size_bytes = 0
    kind = queue[0].kind
    while queue and len(run) < count_max:
        line = queue[0]
        line_bytes = line.size + TEXT_HEADER_BYTES
        # Of one kind only: a text must not overtake the action before it. A topic stands alone.
        is_other = line.kind is not kind or (run and kind is Kind.TOPIC)
        if is_other or size_bytes + line_bytes > bytes_max:
            break
        size_bytes += line_bytes
        run.append(queue.popleft())
    return run, size_bytes
