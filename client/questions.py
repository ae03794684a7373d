"""The questions to the history endpoint: one at a time, of rooms with holes and of people. Pure.

A REQ socket carries one question, so they queue here. People's calls go first: they are few and
somebody waits. Rooms take turns page by page, so that a long catching up in one starves no other.
"""

from __future__ import annotations

from collections import deque
from typing import NamedTuple

from client.effects import AskHistory, DropHistory, Effect, Reject, Resolve
from client.events import KIND_UNKNOWN, Entry, Event, Stalled
from client.limits import (
    HISTORY_IDLE_S,
    HISTORY_REFUSALS_MAX,
    HISTORY_STALL_S,
    HISTORY_TIMEOUT_S,
)
from client.replica import Ask, expand
from client.room import Room
from common import spans, wire
from common.errors import Code, Refused
from common.limits import HISTORY_ENTRIES_MAX
from common.wire import Mode

LOST_ONE = "1 message is damaged on the broker's disk and cannot be read"
LOST = "{} messages are damaged on the broker's disk and cannot be read"


class Call:
    """One call of history(): entries with after < seq < before, at most `limit` of them.

    With `after` it reads forwards from there, otherwise backwards from `before`.
    """

    __slots__ = ("after", "before", "limit", "pages", "refusals", "room", "ticket")

    def __init__(
        self, room: str, after: int | None, before: int, limit: int, ticket: object
    ) -> None:
        self.room = room
        self.after = after
        self.before = before
        self.limit = limit
        self.ticket = ticket
        self.pages: list[list[Entry]] = []
        self.refusals = 0

    def wants(self) -> Ask:
        """Return the next question."""
        limit = min(self.limit, HISTORY_ENTRIES_MAX)
        if self.after is None:
            return Ask(Mode.BEFORE, self.before, limit)
        return Ask(Mode.AFTER, self.after, limit)

    def take(self, page: wire.Page, batches: list[wire.Batch]) -> bool:
        """Add a page; return whether the answer is complete."""
        entries: list[Entry] = []
        last = 0
        for batch in batches:
            found, last = expand(self.room, batch, self.after or 0, self.before - 1)
            entries += found
            if lost_count := spans.lost_count(batch):
                near = (post.ts for each in batches for post in each.posts)
                ts = entries[-1].ts if entries else next(near, 0)  # Nobody knows; about then.
                words = LOST_ONE if lost_count == 1 else LOST.format(lost_count)
                entries.append(Entry(self.room, batch.first, ts, KIND_UNKNOWN, "", words))
        entries = entries[-self.limit :] if self.after is None else entries[: self.limit]
        self.pages.append(entries)
        self.limit -= len(entries)
        if not page.more or not entries or self.limit <= 0:
            return True
        if self.after is None:
            self.before = entries[0].seq
            return False
        self.after = last
        return last >= self.before - 1

    def result(self) -> list[Entry]:
        """Return the entries, oldest first."""
        pages = reversed(self.pages) if self.after is None else iter(self.pages)
        return [entry for page in pages for entry in page]


class Asked(NamedTuple):
    """The question under way; call is None when the room itself asked."""

    id: int
    room: Room
    ask: Ask
    call: Call | None
    sent_s: float


class Answer(NamedTuple):
    """What an answer led to. `renew` is a room that must JOIN again before it can ask on."""

    events: list[Event]
    effects: list[Effect]
    room: Room | None = None
    renew: bool = False


NOTHING = Answer([], [])


class Questions:
    """Owned by the session, hence by one thread. `now` is monotonic, in seconds."""

    def __init__(self, rooms: dict[str, Room]) -> None:
        self._rooms = rooms  # The session's own; read only here.
        self._calls: deque[Call] = deque()
        self._hungry: dict[str, None] = {}  # Rooms with holes, in order.
        self._asked: Asked | None = None
        self._ahead: Asked | None = None  # Asked already, while the answer before it is read.
        self._used_s: float | None = None  # Last use of the REQ; None while there is none.

    def call(self, call: Call) -> None:
        """Queue a call of history()."""
        self._calls.append(call)

    def hunger(self, room: Room) -> None:
        """Queue a room if it has a hole."""
        if room.replica.has_hole:
            self._hungry.setdefault(room.name)

    def move(self, room: Room, was: str) -> list[Effect]:
        """Ask under the room's new name from here on."""
        if was in self._hungry:
            del self._hungry[was]
            self._hungry.setdefault(room.name)
        for call in self._calls:
            if call.room == was:
                call.room = room.name
        asked = self._asked
        if asked is None or asked.room is not room:
            return []
        # History may have looked for the name that is no more, and found nothing.
        self._asked = self._ahead = self._used_s = None
        if asked.call is not None:
            asked.call.room = room.name
        self._again(asked)
        return [DropHistory()]

    def next(self, request_id: int, now: float, *, is_paused: bool) -> list[Effect]:
        """Ask the next question if none is under way. While paused, only people may ask."""
        if self._asked is not None:
            return []
        for call in self._calls:
            room = self._rooms.get(call.room)
            if room is not None and room.is_joined and room.join_id:
                continue  # JOINED brings its ticket; that of now may be the one that was refused.
            self._calls.remove(call)
            if room is not None and room.is_joined:
                return [self._ask(request_id, room, call.wants(), call, now)]
            return [Reject(call.ticket, Refused(Code.NOT_MEMBER))]
        if is_paused:
            return []
        for name in list(self._hungry):
            room = self._rooms.get(name)
            if room is not None and (now < room.hungry_from_s or room.join_id):
                continue  # Its turn comes with the time, or with JOINED.
            del self._hungry[name]
            ask = room.replica.wants() if room is not None else None
            if room is not None and ask is not None:
                return [self._ask(request_id, room, ask, None, now)]
        return []

    def _ask(self, request_id: int, room: Room, ask: Ask, call: Call | None, now: float) -> Effect:
        self._asked = Asked(request_id, room, ask, call, now)
        return self._transmit(self._asked)

    def _transmit(self, asked: Asked) -> Effect:
        self._used_s = asked.sent_s
        room, ask = asked.room, asked.ask
        return AskHistory(wire.History(asked.id, room.name, room.key, ask.mode, ask.at, ask.limit))

    def ask_ahead(self, page: wire.Page, last: int, request_id: int, now: float) -> list[Effect]:
        """Ask for what follows a page that has arrived and is not read yet; see `page`.

        last: the seq of its newest entry. Only when nobody else has something to ask.
        """
        asked = self._asked
        if asked is None or page.id != asked.id or asked.call is not None or self._calls:
            return []
        room = asked.room
        is_alone = self._hungry.keys() <= {room.name}
        if not is_alone or self._rooms.get(room.name) is not room or room.join_id:
            return []
        ask = room.replica.wants_next(asked.ask, page, last)
        if ask is None:
            return []
        self._ahead = Asked(request_id, room, ask, None, now)
        return [self._transmit(self._ahead)]

    def _again(self, asked: Asked) -> None:
        """Put the question back to the front of its queue."""
        if asked.call is None:
            self.hunger(asked.room)
        elif asked.call.ticket is not None:
            self._calls.appendleft(asked.call)

    def page(self, page: wire.Page, batches: list[wire.Batch], now: float) -> Answer:
        """Take a page; one that nobody waits for is ignored."""
        asked = self._asked
        if asked is None or page.id != asked.id:
            return NOTHING
        self._asked, self._ahead = self._ahead, None
        self._used_s = now
        room = asked.room
        room.refusals = 0
        if asked.call is not None:
            if not asked.call.take(page, batches):
                self._calls.appendleft(asked.call)
                return NOTHING
            return Answer([], [Resolve(asked.call.ticket, asked.call.result())])
        if self._rooms.get(room.name) is not room:
            return NOTHING  # Left meanwhile.
        if room.replica.is_strange(page.epoch):
            room.hungry_from_s = now + HISTORY_STALL_S
            return Answer([], [], room, renew=True)
        events = room.replica.page(asked.ask, page, batches)
        if room.replica.wants() == asked.ask:
            # The page lags behind what was published. Never guess: ask again, but not at once.
            room.hungry_from_s = now + HISTORY_STALL_S
        return Answer(events, [], room)

    def refused(self, error: wire.Error, now: float) -> Answer:
        """Take an ERROR from the history endpoint."""
        asked = self._asked
        if asked is None or error.id not in (asked.id, 0):
            return NOTHING
        self._asked = None
        room = asked.room
        is_ticket = error.code == Code.BAD_TICKET
        if asked.call is not None:
            asked.call.refusals += 1
            if is_ticket and asked.call.refusals < HISTORY_REFUSALS_MAX:
                self._calls.appendleft(asked.call)
                return Answer([], [], room, renew=True)
            failure = Refused(error.code, error.detail, error.value)
            return Answer([], [Reject(asked.call.ticket, failure)])
        room.refusals += 1
        room.hungry_from_s = now + HISTORY_STALL_S * room.refusals
        events: list[Event] = []
        if room.refusals > HISTORY_REFUSALS_MAX:
            room.hungry_from_s = now + HISTORY_IDLE_S
            if room.refusals == HISTORY_REFUSALS_MAX + 1 and not is_ticket:
                events.append(Stalled(room.name, error.detail))
        return Answer(events, [], room, renew=is_ticket)

    def abandon(self, ticket: object) -> bool:
        """Forget a call that nobody waits for any more."""
        for call in self._calls:
            if call.ticket is ticket:
                self._calls.remove(call)
                return True
        asked = self._asked
        if asked is not None and asked.call is not None and asked.call.ticket is ticket:
            asked.call.ticket = None  # The answer, or the time-out, ends it.
            asked.call.limit = 0
            return True
        return False

    def abandon_all(self) -> list[object]:
        """Return the tickets of all calls: the session is over."""
        calls = list(self._calls)
        self._calls.clear()
        if self._asked is not None and self._asked.call is not None:
            calls.append(self._asked.call)
        return [call.ticket for call in calls if call.ticket is not None]

    def tick(self, now: float) -> list[Effect]:
        """Give up an overdue question (a fresh socket asks again), close an idle socket."""
        asked = self._asked
        if asked is not None:
            if asked.sent_s + HISTORY_TIMEOUT_S > now:
                return []
            self._asked = self._ahead = None
            self._again(asked)
        elif self._used_s is None or self._used_s + HISTORY_IDLE_S > now:
            return []
        self._used_s = None
        return [DropHistory()]

    def deadline_s(self, *, is_open: bool) -> float | None:
        """When there is something to do though nothing arrived; is_open: rooms may ask."""
        if self._asked is not None:
            return self._asked.sent_s + HISTORY_TIMEOUT_S
        times = [
            room.hungry_from_s
            for name in self._hungry
            if is_open and (room := self._rooms.get(name)) is not None and not room.join_id
        ]
        if self._used_s is not None:
            times.append(self._used_s + HISTORY_IDLE_S)
        return min(times, default=None)
