"""The rooms of a session: joining, subscriptions and their proof, logs, rosters. Pure.

PROTOCOL.md, "JOIN" and "Replica of a room". JOIN comes before the subscription, always: a topic
that the broker refused once stays refused until the client unsubscribes.
"""

from __future__ import annotations

from msgspec.structs import replace

from client import codes
from client.directory import Directory
from client.effects import Failed, Reject, Resolve, Subscribe, Tray, Unsubscribe
from client.events import Left, Moved
from client.limits import PROOF_S, PROOF_S_MAX
from client.outbox import Outbox
from client.questions import Answer, Questions
from client.requests import Request, Requests
from client.room import Room
from common import order, wire
from common.errors import Code, Refused
from common.names import is_closed, is_talk


class Memberships:
    """Owned by the session, hence by one thread. `now` is monotonic, in seconds."""

    def __init__(
        self, tray: Tray, requests: Requests, outbox: Outbox, directory: Directory
    ) -> None:
        self.directory = directory
        self.topics: dict[bytes, Room] = {}  # What SUB is subscribed to, besides the inbox.
        self._rooms: dict[str, Room] = {}
        self.questions = Questions(self._rooms)
        self._unproven: dict[str, Room] = {}  # Subscriptions that brought no frame yet.
        self._tray = tray
        self._requests = requests
        self._outbox = outbox

    # --- joining and leaving ------------------------------------------------
    def join(
        self, name: str, history: int | None, since_ms: int | None, ticket: object, now: float
    ) -> None:
        """Join a room, or tell about it again where it is joined."""
        room = self._rooms.get(name)
        if room is None:
            self.directory.free(name)
            room = self._rooms[name] = Room(name, history, since_ms)
        room.tickets.append(ticket)
        if not room.join_id:
            self._send_join(room, now)

    def talk(
        self, nick: str, history: int | None, since_ms: int | None, ticket: object, now: float
    ) -> None:
        """Join the talk with somebody; its name comes with JOINED."""
        command = order.Talk(self._requests.next_id(), nick)
        self._requests.send(Request(command, ticket, Room("", history, since_ms)), now)

    def part(self, name: str, ticket: object, now: float) -> None:
        """Leave a room: nothing of it is delivered from here on."""
        name = self.directory.moved.get(name, name)
        room = self._rooms.get(name)
        if room is None:
            self._tray.effects.append(Reject(ticket, Refused(Code.NOT_MEMBER)))
            return
        self._drop(room, Refused(Code.NOT_MEMBER, "the room was left meanwhile"))
        self._requests.send(Request(wire.Part(self._requests.next_id(), name), ticket), now)

    def parted(self, request: Request | None, name: str) -> None:
        """Take PARTED, or the word that there was nothing to leave."""
        if request is not None and request.ticket is not None:
            self._tray.events.append(Left(name))
            self._tray.effects.append(Resolve(request.ticket, None))

    def abandon(self, ticket: object, now: float) -> None:
        """Forget a call of join(). The broker may have heard JOIN, so a lone one is undone."""
        for room in list(self._rooms.values()):
            if ticket not in room.tickets:
                continue
            room.tickets.remove(ticket)
            if not room.is_joined and not room.tickets:
                self._drop(room, Refused(Code.NOT_MEMBER))
                command = wire.Part(self._requests.next_id(), room.name)
                self._requests.send(Request(command), now)

    def tickets(self) -> list[object]:
        """Return the calls of join() that have no answer."""
        return [ticket for room in self._rooms.values() for ticket in room.tickets]

    def resume(self, now: float, *, was_resumed: bool) -> None:
        """Join again, before anything is said there: it renews topic, ticket and presence."""
        for room in self._rooms.values():
            room.join_id = room.who_id = 0
            room.is_rejoin_due = False
            if room.is_joined:
                # A broker that had lost the session may have refused the topic; SUB asks once.
                room.is_swap_due |= not was_resumed
                room.is_return = not was_resumed
                self._send_join(room, now)
        self.await_proofs(now)

    def resend(self, request: Request, now: float) -> bool:
        """Take care of what must not be sent again as it was; return whether that is so.

        A JOIN that was under way goes with the state of now. A PART whose room was joined again
        is done: it would end that membership. What is about a room goes with its name of now.
        """
        command, room = request.command, request.room
        if type(command) is wire.Join:
            if room is not None and self._rooms.get(room.name) is room:
                self._send_join(room, now)
            return True
        if type(command) is wire.Part and command.room in self._rooms:
            self._tray.effects.append(Resolve(request.ticket, None))
            return True
        if isinstance(command, order.Order | order.Read | wire.Who):
            # Its answer was lost, not what it did or what somebody else did: the broker of now may
            # have heard of no other name than that by which the room was joined again.
            name = self.directory.moved.get(command.room, command.room)
            request.command = replace(command, room=name)
        return False

    def _send_join(self, room: Room, now: float) -> None:
        room.is_rejoin_due = False
        command = room.begin_join(self._requests.next_id())
        self._requests.send(Request(command, room=room), now)

    def joined(self, joined: wire.Joined, now: float) -> None:
        """Take JOINED."""
        request = self._requests.take(joined.id)
        room = request.room if request is not None else None
        if request is None and is_talk(joined.room) and joined.room not in self._rooms:
            # Nobody waits for this talk any more. Left again, it can tell that there is news.
            self._requests.send(Request(wire.Part(self._requests.next_id(), joined.room)), now)
        if request is not None and type(request.command) is order.Talk:
            room = self._talk_joined(request, joined, now)
        if room is None or room.join_id != joined.id:
            return
        if room.name != joined.room and (is_closed(room.name) or is_closed(joined.room)):
            self._move(room, joined.room, joined.title)
        self.directory.call(joined.room, joined.title)
        self._tray.events += room.joined(joined)
        if room.is_swap_due or room.subscription != joined.subscription:
            self._unsubscribe(room)
            room.subscription = joined.subscription
            room.proof_due_s = now + room.proof_pause_s
            self._unproven[room.name] = room
            self.topics[joined.subscription] = room
            self._tray.effects.append(Subscribe(joined.subscription))
        summary = room.summary()
        self._tray.effects += [Resolve(ticket, summary) for ticket in room.tickets]
        room.tickets = []
        self._advance(room)
        if room.is_rejoin_due:
            self._send_join(room, now)

    def _talk_joined(self, request: Request, joined: wire.Joined, now: float) -> Room | None:
        """Take up the talk that was asked for; return its room, if JOINED is news to it."""
        room = self._rooms.get(joined.room)
        if room is None:
            room = request.room
            assert room is not None
            room.rename(joined.room)
            room.join_id = joined.id
            self._rooms[room.name] = room
        elif not room.join_id and not is_same(room, joined):
            self._send_join(room, now)
        if room.join_id:
            room.tickets.append(request.ticket)
            return room
        self._tray.effects.append(Resolve(request.ticket, room.summary()))
        return None

    # --- what the broker does of itself -------------------------------------
    def rejoin(self, name: str, to: str, title: str, now: float, birth: int = 0) -> None:
        """Join again because the room's keys have changed, and perhaps its name."""
        room = self._rooms.get(name)
        if room is None or (birth and room.birth not in (0, birth)):
            return  # JOINED or DONE has told already; and another room may have the name by now.
        if to not in ("", name):
            self._move(room, to, title)
        if room.join_id:
            room.is_rejoin_due = True  # Its answer may be from before the change.
        elif room.is_joined:
            self._send_join(room, now)

    def _move(self, room: Room, to: str, title: str) -> None:
        """Give a room the name that it has from here on."""
        other = self._rooms.get(to)
        if other is not None:
            room.tickets += other.tickets  # Whoever joins by this name means this room.
            other.tickets = []
            self._drop(other, Refused(Code.NOT_MEMBER))
            if other.is_joined:  # A room that is no more.
                self._tray.events.append(Left(to))
        was = room.name
        is_unproven = self._unproven.pop(was, None) is not None
        del self._rooms[was]
        room.rename(to)
        room.title = title
        self._rooms[to] = room
        if is_unproven:
            self._unproven[to] = room
        self._tray.effects += self.questions.move(room, was)
        self.directory.move(was, to)
        self._outbox.move(was, to)
        self.directory.call(to, title)
        self._tray.events.append(Moved(was, to, title))

    def sent_away(self, name: str, code: str, reason: str, now: float) -> None:
        """Leave a room because the broker says that one is not in it any more."""
        room = self._rooms.get(name)
        if room is None:
            return
        is_joining = bool(room.join_id)
        self._drop(room, Refused(Code.NOT_MEMBER, f"you are not in this room any more: {code}"))
        self._tray.events.append(Left(name, code, reason))
        if is_joining:  # The broker may have heard it after it sent us away.
            self._requests.send(Request(wire.Part(self._requests.next_id(), name)), now)

    def fall_silent(self) -> None:
        """Hear no room while there is no session; `resume` comes back to them."""
        for room in self._rooms.values():
            self._unsubscribe(room)
            room.join_id = room.who_id = 0  # A JOINED that is under way is worth nothing.
        self._tray.effects += self.questions.stop()

    def turn_away(self, error: Exception) -> None:
        """Refuse what the program waits for while there is no session, but for another nick.

        What is to be left is left: nobody joins it again.
        """
        for room in list(self._rooms.values()):
            if not room.is_joined:
                self._drop(room, error)
            self._tray.effects += [Reject(ticket, error) for ticket in room.tickets]
            room.tickets = []
        for request in self._requests.take_all():
            command = request.command
            if type(command) is wire.Part:
                self.parted(request, command.room)
                request.ticket = None  # The broker is told all the same, if it comes to that.
            elif type(command) is not wire.SetNick:
                if request.ticket is not None:
                    self._tray.effects.append(Reject(request.ticket, error))
                continue
            self._requests.put_back(request)
        tickets = self.questions.abandon_all()
        self._tray.effects += [Reject(ticket, error) for ticket in tickets]
        if isinstance(error, Refused) and error.code in codes.ENDED:
            self._turn_texts_away(error)

    def _turn_texts_away(self, error: Refused) -> None:
        flying, waiting = self._outbox.abandon_apart()
        if flying:
            words = f"{error.detail}; whether it was kept is not known"
            self._tray.effects.append(Failed(flying, Refused(error.code, words, error.value)))
        if waiting:
            self._tray.effects.append(Failed(waiting, error))

    def set_role(self, name: str, role: int) -> None:
        """Note one's role in a room."""
        room = self._rooms.get(name)
        if room is not None:
            room.role = role

    def refused(self, request: Request, refused: Refused) -> None:
        """Take the refusal of a JOIN: the room is gone, even if it was joined before."""
        room = request.room
        if room is not None and room.join_id == request.command.id:
            self._drop(room, refused)
            if room.is_joined:
                self._tray.events.append(Left(room.name, refused.code, refused.detail))

    def _drop(self, room: Room, error: Exception) -> None:
        """Forget a room; calls of join() that still wait fail."""
        self._unsubscribe(room)
        del self._rooms[room.name]
        self.directory.drop(room.name)
        self._requests.forget(room=room)
        self._tray.effects += [Reject(ticket, error) for ticket in room.tickets]
        room.tickets = []

    def _unsubscribe(self, room: Room) -> None:
        if room.subscription is not None:
            self._tray.effects.append(Unsubscribe(room.subscription))
            del self.topics[room.subscription]
            room.subscription = None
        self._unproven.pop(room.name, None)
        room.is_swap_due = False
        room.proof_due_s = 0.0

    # --- what arrives -------------------------------------------------------
    def publication(self, room: Room, item: wire.Publication, now: float) -> None:
        """Take what was published on a room's topic."""
        if room.proof_due_s:
            self._unproven.pop(room.name, None)
            room.proof_due_s = 0.0
            room.proof_pause_s = PROOF_S
        if type(item) is wire.Batch:
            replica = room.replica
            if item.epoch != replica.epoch:
                self._suspect(room, item.epoch, now)
                return
            replica.live(item, self._tray.events)
            if replica.has_hole or not room.is_announced:
                self._advance(room)
        elif type(item) is wire.Presence:
            self._presence(room, item, now)
        elif type(item) is order.Removed and item.epoch == room.replica.epoch:
            self._tray.events += room.remove(item.seq)

    def _suspect(self, room: Room, epoch: int, now: float) -> None:
        """Ask about a frame of another log: old, or the log changed. Only JOINED can tell."""
        if not room.join_id and epoch != room.stale_epoch:
            room.suspect_epoch = epoch
            self._send_join(room, now)

    def _presence(self, room: Room, item: wire.Presence, now: float) -> None:
        news, must_ask = room.roster.apply(item)
        if news is not None:
            self._tray.events.append(news)
            for old, new in news.renamed if is_talk(room.name) else ():
                if room.title == f"@{old}":
                    room.title = f"@{new}"
                    self.directory.call(room.name, room.title)
        if must_ask and not room.who_id and not room.join_id:
            room.who_id = self._requests.next_id()
            self._requests.send(Request(wire.Who(room.who_id, room.name), room=room), now)

    def members(self, members: wire.Members, _now: float) -> None:
        """Take the answer to WHO, whoever asked."""
        request = self._requests.resolve(members.id, members)
        room = request.room if request is not None else None
        if room is not None and self._rooms.get(room.name) is room:
            room.who_id = 0
            if members.version >= room.roster.version:
                news = room.roster.replace(members.version, members.users, members.nicks)
                if news is not None:
                    self._tray.events.append(news)

    def answered(self, answer: Answer, now: float) -> None:
        """Take what history led to."""
        self._tray.events += answer.events
        self._tray.effects += answer.effects
        room = answer.room
        if room is not None and self._rooms.get(room.name) is room:
            self._advance(room)
            if answer.renew and not room.join_id:
                self._send_join(room, now)

    def _advance(self, room: Room) -> None:
        """After the log moved: announce the room if it stands, ask history if it has a hole."""
        joined = room.announce()
        if joined is not None:
            self._tray.events.append(joined)
        self.questions.hunger(room)

    # --- the proof that a subscription works --------------------------------
    @property
    def deadline_s(self) -> float | None:
        """When `prove_again` has something to do."""
        return min((room.proof_due_s for room in self._unproven.values()), default=None)

    def await_proofs(self, now: float) -> None:
        """Start the wait for beacons anew, when nothing could have been heard."""
        for room in self._unproven.values():
            room.proof_due_s = now + room.proof_pause_s

    def prove_again(self, now: float) -> None:
        """No beacon: the subscription was refused. Join and ask again, each time more slowly."""
        for room in [room for room in self._unproven.values() if room.proof_due_s <= now]:
            self._unsubscribe(room)
            room.proof_pause_s = min(2 * room.proof_pause_s, PROOF_S_MAX)
            if not room.join_id:
                self._send_join(room, now)


def is_same(room: Room, joined: wire.Joined) -> bool:
    """Tell whether JOINED, asked for otherwise, says nothing that a joined room must act on."""
    return room.is_joined and room.subscription == joined.subscription
