"""Commands that wait for their answer, by id. Pure. PROTOCOL.md, "Ids".

Ids start high: an ERROR carries the number of a SEND in the same field, and those start at 1.
"""

from __future__ import annotations

from typing import Final

from msgspec.structs import replace

from client.effects import Resolve, Transmit, Tray
from client.limits import REQUESTS_IN_FLIGHT_MAX, SLOW_DOWN_MS_MAX
from client.outbox import refusal
from client.room import Room
from common import order, wire
from common.errors import Refused

REQUEST_ID_FIRST: Final = 1 << 52

Command = (
    wire.Greet
    | wire.SetNick
    | wire.Join
    | wire.Part
    | wire.Who
    | wire.Rooms
    | order.Order
    | order.Talk
    | order.Mine
    | order.Read
)


class Request:
    """A command, who waits for it, and when it was sent."""

    __slots__ = ("command", "found", "room", "sent_s", "ticket")

    def __init__(self, command: Command, ticket: object = None, room: Room | None = None) -> None:
        self.command = command
        self.ticket = ticket  # None when the session itself asks.
        self.room = room
        self.sent_s: float | None = None  # None while it waits for a session.
        self.found: list[wire.RoomInfo] = []  # ROOMS: the pages so far.


class Requests:
    """Owned by the session, hence by one thread.

    There are as many as the program has threads that wait, one JOIN and one WHO per room.
    """

    def __init__(self, tray: Tray) -> None:
        self.is_open = False  # Does the session stand? Otherwise requests wait for it.
        self._tray = tray
        self._id = REQUEST_ID_FIRST - 1
        self._by_id: dict[int, Request] = {}
        self._waiting: dict[int, Request] = {}  # Those of them that wait for room in flight.
        self._delayed: list[tuple[float, Request]] = []  # SLOW_DOWN: when to send them again.

    @property
    def oldest_sent_s(self) -> float | None:
        """When the oldest request was sent; None when none is out."""
        for request in self._by_id.values():
            if request.sent_s is not None:
                return request.sent_s
        return None

    @property
    def is_behind(self) -> bool:
        """Whether requests wait for room. Texts must not overtake the JOINs among them."""
        return bool(self._waiting)

    @property
    def deadline_s(self) -> float | None:
        """When `take_due` has something."""
        return self._delayed[0][0] if self._delayed else None

    def next_id(self) -> int:
        """Return an id that was never used."""
        self._id += 1
        return self._id

    def send(self, request: Request, now: float) -> None:
        """Send a request now, or as soon as there is room, or when the session stands."""
        self._by_id[request.command.id] = request
        request.sent_s = None
        if self.is_open:
            self._waiting[request.command.id] = request
            self.pump(now)

    def put_back(self, request: Request) -> None:
        """Let a request that was taken wait for the next session."""
        request.sent_s = None
        self._by_id[request.command.id] = request

    def pump(self, now: float) -> None:
        """Send what waits, as far as there is room, in order."""
        while self._waiting and len(self._by_id) - len(self._waiting) < REQUESTS_IN_FLIGHT_MAX:
            request = self._waiting.pop(next(iter(self._waiting)))
            request.sent_s = now
            self._tray.effects.append(Transmit(request.command))

    def resend(self, request: Request, now: float) -> None:
        """Send it under a fresh id, so that a late answer to the old one is not taken for it."""
        request.command = replace(request.command, id=self.next_id())
        self.send(request, now)

    def resolve(self, request_id: int, value: object) -> Request | None:
        """Answer the call that waits for this id."""
        request = self.take(request_id)
        if request is not None and request.ticket is not None:
            self._tray.effects.append(Resolve(request.ticket, value))
        return request

    def room_list(self, page: wire.RoomList, now: float) -> None:
        """Take a page of the rooms; ask for the next one, or answer with all of them."""
        request = self.take(page.id)
        if request is None:
            return
        request.found += page.rooms
        if page.more and page.rooms:
            request.command = wire.Rooms(self.next_id(), page.rooms[-1].room)
            self.send(request, now)
        elif request.ticket is not None:
            self._tray.effects.append(Resolve(request.ticket, request.found))

    def my_rooms(self, mine: order.MyRooms, _now: float) -> None:
        """Answer with the closed rooms that one belongs to."""
        self.resolve(mine.id, mine.rooms)

    def delay(self, request: Request, wait_ms: int, now: float) -> None:
        """Keep a request for later, as the broker asked."""
        wait_s = min(max(wait_ms, 0), SLOW_DOWN_MS_MAX) / 1000
        self._delayed.append((now + wait_s, request))
        self._delayed.sort(key=lambda item: item[0])

    def take(self, request_id: int) -> Request | None:
        """Remove and return the request with this id."""
        self._waiting.pop(request_id, None)
        return self._by_id.pop(request_id, None)

    def take_due(self, now: float) -> list[Request]:
        """Remove and return the delayed requests whose time has come."""
        due = [request for due_s, request in self._delayed if due_s <= now]
        self._delayed = [item for item in self._delayed if item[0] > now]
        return due

    def take_nicks(self) -> list[Request]:
        """Remove and return the requests for another nick."""
        found = [r for r in self._by_id.values() if type(r.command) is wire.SetNick]
        for request in found:
            self.take(request.command.id)
        return found

    def take_all(self) -> list[Request]:
        """Remove and return everything, oldest first: to be sent again, or given up."""
        requests = list(self._by_id.values()) + [request for _, request in self._delayed]
        self._by_id.clear()
        self._waiting.clear()
        self._delayed.clear()
        return requests

    def forget(self, *, ticket: object = None, room: Room | None = None) -> None:
        """Drop what a call or a room waits for."""

        def is_kept(request: Request) -> bool:
            is_ticket = ticket is not None and request.ticket is ticket
            return not is_ticket and (room is None or request.room is not room)

        for request in list(self._by_id.values()):
            if not is_kept(request):
                self.take(request.command.id)
        self._delayed = [item for item in self._delayed if is_kept(item[1])]


def to_exception(error: wire.Error) -> Refused:
    """Return the ERROR as the exception that the program meets."""
    return refusal(error.code, error.detail, error.value)
