"""The client as a state machine: facts in, effects out. PROTOCOL.md, "Life cycle".

Pure: no sockets, threads, clock or randomness. Every method that takes `now` (monotonic, in
seconds) returns the list of effects to carry out, in their order.

    down --connected--> greeting --GREETING--> hello --WELCOME--> online
      ^                    ^                     | ERROR             | no_session, silence
      |                    +--- retry, rename() -+-- refused         |
      +---- disconnected (from anywhere)         +<------------------+
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

from client import notices
from client.directory import Directory
from client.effects import (
    Connect,
    Effect,
    Failed,
    Reject,
    Resolve,
    Stop,
    Subscribe,
    Transmit,
    Tray,
)
from client.events import State
from client.limits import ANSWER_AGE_S_MAX, CLOSE_S, RETRY_S, SILENCE_S_MAX, SLOW_DOWN_MS_MAX
from client.memberships import Memberships
from client.outbox import Line, Outbox
from client.phase import Phase
from client.questions import Call
from client.requests import REQUEST_ID_FIRST, Command, Request, Requests, to_exception
from common import order, topics, wire
from common.errors import Code, Malformed, Refused, Unreachable
from common.limits import PROTOCOL_VERSION

__all__ = ["Phase", "Session"]

NICK_CODES: Final = frozenset({Code.NICK_TAKEN, Code.NICK_INVALID})
PACE_CODES: Final = frozenset({Code.GAP, Code.SLOW_DOWN})
TRY_AGAIN_CODES: Final = frozenset(
    {Code.FULL, Code.CLOSING, Code.DRAINING, Code.SLOW_DOWN, Code.LOG_FAILED}
)


class Session:
    """The whole client. Owned by one thread.

    token: 16 random bytes; whoever knows them is this session. instance: a random number.
    owner: asked when HELLO is said, and not before.
    ready: a ticket that is resolved with the first WELCOME, or rejected when it is refused.
    """

    def __init__(
        self, *, nick: str, owner: Callable[[], bytes], token: bytes, instance: int, ready: object
    ) -> None:
        self.nick = nick
        self.motd = ""
        self.malformed_count = 0
        self.phase = Phase.DOWN
        self._owner = owner
        self._inbox = topics.inbox(token)
        self._instance = instance
        self._ready: object | None = ready
        self.state = ""
        self._ports: tuple[int, int] | None = None
        self._asked_id = 0  # Of the GREET or HELLO under way, and when it was sent.
        self._asked_s = 0.0
        self._heard_s = 0.0  # The last answer of any kind.
        self._retry_s: float | None = None  # A refusal that time may heal.
        self._is_retrying = False  # The state "refused" has been told with a wait.
        self._is_resend_due = False  # Texts in flight follow when every JOIN is on its way.
        self._is_paused = False
        self._closing_s: float | None = None  # close() was called: when to stop waiting.
        self._bye_id = 0
        self._is_stopped = False
        self._tray = Tray()
        self._requests = Requests(self._tray)
        self.directory = Directory()
        self._outbox = Outbox(self.directory.moved)
        self._memberships = Memberships(self._tray, self._requests, self._outbox, self.directory)
        self._questions = self._memberships.questions
        self._answers: dict[type[wire.Payload], Callable[[Any, float], None]] = {
            wire.Greeting: self._on_greeting,
            wire.Welcome: self._on_welcome,
            wire.Goodbye: self._on_goodbye,
            wire.Renamed: self._on_renamed,
            wire.Joined: self._memberships.joined,
            wire.Parted: self._on_parted,
            wire.Ack: self._on_ack,
            wire.Members: self._memberships.members,
            wire.RoomList: self._requests.room_list,
            order.Done: self._on_done,
            order.MyRooms: self._requests.my_rooms,
            wire.Error: self._on_error,
        }
        self._say("connecting", "")

    # --- facts from the connection ------------------------------------------
    def connected(self, now: float) -> list[Effect]:
        """Note that the DEALER reached the broker."""
        self._greet(now)
        return self._flush(now)

    def disconnected(self, now: float) -> list[Effect]:
        """Note that the DEALER lost the broker; what was under way is sent again later."""
        if self.phase is not Phase.DOWN:
            self._set_phase(Phase.DOWN)
            self._retry_s = None
            if self.state != "connecting":
                self._say("offline", "the connection to the broker is lost")
        return self._flush(now)

    def barred(self, error: Unreachable, now: float) -> list[Effect]:
        """Note why no handshake comes about with whoever is there."""
        if self._ready is not None:
            self._tray.effects.append(Reject(self._ready, error))
            self._ready = None
        self._refuse(str(error))
        return self._flush(now)

    def reply(self, reply: wire.Payload, now: float) -> list[Effect]:
        """Take an answer from the DEALER."""
        self._heard_s = now
        take = self._answers.get(type(reply))
        if take is not None:
            take(reply, now)
        return self._flush(now)

    def publications(self, frames: list[bytes], now: float) -> list[Effect]:
        """Take frames from the SUB, in the order in which they arrived."""
        memberships = self._memberships
        rooms = memberships.topics
        for frame in frames:
            try:
                topic, body = topics.split_publication(frame)
                room = rooms.get(topic)
                if room is not None:
                    memberships.publication(room, wire.parse_publication(body), now)
                elif topic == self._inbox:
                    self._notice(wire.parse_publication(body), now)
                # Otherwise it was unsubscribed meanwhile.
            except Malformed:
                self.malformed_count += 1
        return self._flush(now)

    def page_arrived(self, page: wire.Page, last: int, now: float) -> list[Effect]:
        """Ask already for what follows a page (up to seq `last`) that `page` is given next."""
        if self._is_paused or self.phase is not Phase.ONLINE:
            return []
        return self._questions.ask_ahead(page, last, self._requests.next_id(), now)

    def page(self, page: wire.Page, batches: list[wire.Batch], now: float) -> list[Effect]:
        """Take a page from the REQ."""
        self._memberships.answered(self._questions.page(page, batches, now), now)
        return self._flush(now)

    def history_refused(self, error: wire.Error, now: float) -> list[Effect]:
        """Take an ERROR from the REQ."""
        self._memberships.answered(self._questions.refused(error, now), now)
        return self._flush(now)

    def pause(self, now: float, *, is_paused: bool) -> list[Effect]:
        """Note that the SUB is not read, because the program has too many events unread.

        No room asks history then, and no beacon is awaited; answers go on as ever.
        """
        self._is_paused = is_paused
        self._memberships.await_proofs(now)
        return self._flush(now)

    def tick(self, now: float) -> list[Effect]:
        """Do what time has made due; see `deadline`."""
        deadline = self.deadline()
        if deadline is None or now < deadline:
            return []
        if self._closing_s is not None and self._closing_s <= now:
            self._stop()
        if self._retry_s is not None and self._retry_s <= now:
            self._greet(now)
        silent_s = self._silent_from_s()
        if silent_s is not None and silent_s <= now:
            if self.phase is Phase.ONLINE:
                self._say("offline", "the broker does not answer")
            self._greet(now)
        if self.phase is Phase.ONLINE:
            self._send_again(self._requests.take_due(now), now)
            if not self._is_paused:
                self._memberships.prove_again(now)
        self._tray.effects += self._questions.tick(now)
        return self._flush(now)

    def deadline(self) -> float | None:
        """When to call `tick` (monotonic, in seconds) if nothing else happens; None: never."""
        is_online = self.phase is Phase.ONLINE
        is_open = is_online and not self._is_paused
        times = [
            self._closing_s,
            self._retry_s,
            self._silent_from_s(),
            self._questions.deadline_s(is_open=is_open),
        ]
        if is_online:
            times += [self._outbox.deadline_s, self._requests.deadline_s]
        if is_open:
            times.append(self._memberships.deadline_s)
        return min((time for time in times if time is not None), default=None)

    # --- calls of the program -----------------------------------------------
    def say(self, lines: list[Line], now: float) -> list[Effect]:
        """Send texts; each ticket comes back in `Kept` or `Failed`."""
        self._outbox.put(lines)
        return self._flush(now)

    def join(
        self, name: str, history: int | None, since_ms: int | None, ticket: object, now: float
    ) -> list[Effect]:
        """Join a room (its folded name). Joining twice only tells about the room again."""
        self._memberships.join(name, history, since_ms, ticket, now)
        return self._flush(now)

    def part(self, name: str, ticket: object, now: float) -> list[Effect]:
        """Leave a room: nothing of it is delivered from here on."""
        self._memberships.part(name, ticket, now)
        return self._flush(now)

    def talk(
        self, nick: str, history: int | None, since_ms: int | None, ticket: object, now: float
    ) -> list[Effect]:
        """Join the talk with somebody; as `join`."""
        self._memberships.talk(nick, history, since_ms, ticket, now)
        return self._flush(now)

    def ask(self, make: Callable[[int], Command], ticket: object, now: float) -> list[Effect]:
        """Send the command that `make` returns for an id; resolved with its one answer.

        That is `wire.Members` for WHO, `wire.Greeting` for GREET, a list of `wire.RoomInfo` for
        ROOMS, `order.Done` for ORDER and READ, a list of `order.MyRoom` for MINE.
        """
        self._requests.send(Request(make(self._requests.next_id()), ticket), now)
        return self._flush(now)

    def rename(self, nick: str, ticket: object, now: float) -> list[Effect]:
        """Take another nick; resolved with it. After a refused resume it says HELLO anew."""
        command = wire.SetNick(self._requests.next_id(), nick)
        self._requests.send(Request(command, ticket), now)
        if self.phase is Phase.REFUSED:
            self.nick = nick
            self._greet(now)
        return self._flush(now)

    def history(self, call: Call, now: float) -> list[Effect]:
        """Read a room's history; resolved with a list of `Entry`."""
        self._questions.call(call)
        return self._flush(now)

    def abandon(self, ticket: object, now: float) -> list[Effect]:
        """Forget a call whose time is up."""
        self._memberships.abandon(ticket, now)
        self._requests.forget(ticket=ticket)
        self._questions.abandon(ticket)
        return self._flush(now)

    def close(self, now: float) -> list[Effect]:
        """Say BYE once every text is settled; `Stop` follows, after CLOSE_S at the latest."""
        if self._closing_s is None:
            self._closing_s = now + CLOSE_S
        return self._flush(now)

    def abandon_all(self) -> list[object]:
        """Return the ticket of everything that has no answer: the session is over."""
        tickets = self._outbox.abandon() + self._questions.abandon_all()
        tickets += self._memberships.tickets()
        waiting = self._requests.take_all()
        tickets += [request.ticket for request in waiting if request.ticket is not None]
        if self._ready is not None:
            tickets.append(self._ready)
        return tickets

    # --- the way to a session -----------------------------------------------
    def _greet(self, now: float) -> None:
        """Begin or resume: GREET first, since a restarted broker may have moved its ports."""
        self._set_phase(Phase.GREETING)
        self._retry_s = None
        self._asked_s = now
        self._asked_id = self._requests.next_id()
        self._tray.effects.append(Transmit(wire.Greet(self._asked_id)))

    def _on_greeting(self, greeting: wire.Greeting, now: float) -> None:
        if self.phase is not Phase.GREETING or greeting.id != self._asked_id:
            self._requests.resolve(greeting.id, greeting)
            return
        if greeting.protocol != PROTOCOL_VERSION:
            self._hello_refused(wire.other_version(greeting.protocol), now)
            return
        ports = (greeting.rooms_port, greeting.history_port)
        if ports != self._ports:
            self._tray.effects.append(Connect(*ports))
            if self._ports is None:
                # Before HELLO: the broker keeps only sessions whose inbox is subscribed.
                self._tray.effects.append(Subscribe(self._inbox))
            self._ports = ports
        self._set_phase(Phase.HELLO)
        self._asked_s = now
        self._asked_id = self._requests.next_id()
        hello = wire.Hello(
            self._asked_id, self.nick, self._owner(), self._instance, self._outbox.lowest
        )
        self._tray.effects.append(Transmit(hello))

    def _on_welcome(self, welcome: wire.Welcome, now: float) -> None:
        if self.phase is not Phase.HELLO or welcome.id != self._asked_id:
            return
        self._set_phase(Phase.ONLINE)
        self.nick = welcome.nick
        self.motd = welcome.motd
        if self._ready is not None:
            self._tray.effects.append(Resolve(self._ready, welcome))
            self._ready = None
        self._say("online", welcome.nick)
        waiting = self._requests.take_all()
        self._memberships.resume(now, was_resumed=welcome.resumed)
        self._send_again(waiting, now)
        self._is_resend_due = True

    def _send_again(self, requests: list[Request], now: float) -> None:
        for request in requests:
            if self._memberships.resend(request, now):
                continue
            if request.ticket is not None or request.room is None:
                self._requests.resend(request, now)
            # Otherwise it is a WHO of our own, and the JOINED of the resume tells the same.

    def _hello_refused(self, error: wire.Error, now: float) -> None:
        refused = to_exception(error)
        if self._ready is not None:
            self._tray.effects.append(Reject(self._ready, refused))
            self._ready = None
            self._refuse(refused.detail)
            return
        wait_s = -(-error.value // 1_000) if error.code == Code.BANNED else 0
        if error.code in TRY_AGAIN_CODES:
            self._retry_s = now + max(RETRY_S, min(error.value, SLOW_DOWN_MS_MAX) / 1000)
            self._say("closing" if error.code == Code.CLOSING else "offline", refused.detail)
            return
        for request in self._requests.take_nicks():
            command = request.command
            assert type(command) is wire.SetNick
            if error.code in NICK_CODES and command.nick != self.nick:
                self.nick = command.nick  # Asked for meanwhile: that one, then.
                self._requests.send(request, now)
                self._greet(now)
                return
            self._tray.effects.append(Reject(request.ticket, refused))
        self._refuse(refused.detail, now, wait_s)

    def _notice(self, item: wire.Publication, now: float) -> None:
        if type(item) is not wire.Notice:
            return
        notices.take(item, self._memberships, self._tray, now)
        if item.code == Code.CLOSING:
            self._say("closing", "the broker is closing")
            if self.phase is Phase.DOWN:
                # The word came through SUB, after the DEALER had noticed the end itself. It
                # explains that end, and does not change it.
                self._say("offline", "the broker has closed")
        elif item.code == Code.NO_SESSION and self.phase is Phase.ONLINE:
            self._tray.subscribe_anew(self._inbox)
            self._greet(now)
        elif item.code == Code.NOT_ALLOWED:  # While we were in, the key went off the list.
            self._refuse(item.text or Refused(item.code).detail)
        elif notices.is_end(item):
            self._refuse(notices.end_text(item), now, item.value)

    def _on_error(self, error: wire.Error, now: float) -> None:
        is_resuming = self.phase in (Phase.GREETING, Phase.HELLO)
        is_version = error.code == Code.BAD_VERSION  # Its broker could not read the id.
        if is_resuming and (error.id == self._asked_id or is_version):
            self._hello_refused(error, now)
        elif error.code == Code.NO_SESSION:
            if self.phase is Phase.ONLINE:
                self._greet(now)
        elif error.code == Code.SESSION_TAKEN:
            self._refuse(Refused(error.code, error.detail).detail)
        elif error.id < REQUEST_ID_FIRST:
            self._send_refused(error, now)
        elif error.code != Code.CLOSING:  # What a closing broker refuses is sent again later.
            self._request_refused(error, now)

    # --- answers ------------------------------------------------------------
    def _on_ack(self, ack: wire.Ack, _now: float) -> None:
        try:
            self._tray.effects += self._outbox.acked(ack)
        except Malformed:
            self.malformed_count += 1

    def _send_refused(self, error: wire.Error, now: float) -> None:
        if error.code in PACE_CODES and (self.phase is not Phase.ONLINE or self._is_resend_due):
            return  # Everything is sent again anyway.
        if error.code == Code.GAP and error.value < self._outbox.lowest:
            self._greet(now)  # The broker waits for what is settled already; HELLO tells it.
            return
        tickets, sends = self._outbox.refused(error, now)
        if tickets:
            self._tray.effects.append(Failed(tickets, to_exception(error)))
        self._tray.effects += map(Transmit, sends)

    def _request_refused(self, error: wire.Error, now: float) -> None:
        request = self._requests.take(error.id)
        if request is None:
            return
        command = request.command
        if error.code == Code.SLOW_DOWN:
            self._requests.delay(request, error.value, now)
        elif type(command) is wire.Part and error.code == Code.NOT_MEMBER:
            self._memberships.parted(request, command.room)
        elif type(command) is wire.Join:
            self._memberships.refused(request, to_exception(error))
        elif request.ticket is not None:
            self._tray.effects.append(Reject(request.ticket, to_exception(error)))
        elif request.room is not None:
            request.room.who_id = 0

    def _on_renamed(self, renamed: wire.Renamed, _now: float) -> None:
        self.nick = renamed.nick
        self._requests.resolve(renamed.id, renamed.nick)

    def _on_done(self, done: order.Done, now: float) -> None:
        command = request.command if (request := self._requests.resolve(done.id, done)) else None
        if type(command) is order.Order and done.room != command.room:
            self._memberships.rejoin(command.room, done.room, done.title, now)

    def _on_parted(self, parted: wire.Parted, _now: float) -> None:
        self._memberships.parted(self._requests.take(parted.id), parted.room)

    def _on_goodbye(self, goodbye: wire.Goodbye, _now: float) -> None:
        if goodbye.id == self._bye_id:
            self._stop()

    # --- in the end ---------------------------------------------------------
    def _silent_from_s(self) -> float | None:
        """When the broker's silence has lasted too long."""
        if self.phase in (Phase.GREETING, Phase.HELLO):
            return self._asked_s + SILENCE_S_MAX if self._retry_s is None else None
        if self.phase is not Phase.ONLINE:
            return None
        times = [self._requests.oldest_sent_s]
        if not self._is_resend_due:
            times.append(self._outbox.oldest_sent_s)
        oldest_s = min((time for time in times if time is not None), default=None)
        if oldest_s is None:
            return None
        return min(max(oldest_s, self._heard_s) + SILENCE_S_MAX, oldest_s + ANSWER_AGE_S_MAX)

    def _refuse(self, detail: str, now: float = 0.0, wait_s: int = 0) -> None:
        """Stay outside; with a wait only that long, so that a ban ends by itself."""
        self._set_phase(Phase.REFUSED)
        self._retry_s = now + notices.pause_s(wait_s) if wait_s else None
        self._say("refused", detail, wait_s)

    def _say(self, state: str, detail: str, wait_s: int = 0) -> None:
        if (state, wait_s > 0) != (self.state, self._is_retrying):
            self.state, self._is_retrying = state, wait_s > 0
            self._tray.events.append(State(state, detail, wait_s))

    def _stop(self) -> None:
        if not self._is_stopped:
            self._is_stopped = True
            self._closing_s = None
            self._tray.effects.append(Stop())

    def _set_phase(self, phase: Phase) -> None:
        self.phase = phase
        self._requests.is_open = phase is Phase.ONLINE

    def _flush(self, now: float) -> list[Effect]:
        """Add what can be sent now, and return all effects since the last time."""
        effects = self._tray.effects
        if self.phase is Phase.ONLINE:
            self._requests.pump(now)
            if not self._requests.is_behind:
                if self._is_resend_due:
                    self._is_resend_due = False
                    effects += map(Transmit, self._outbox.resume(now))
                effects += map(Transmit, self._outbox.pump(now))
            effects += self._questions.next(
                self._requests.next_id(), now, is_paused=self._is_paused
            )
        if self._closing_s is not None:
            if self.phase is not Phase.ONLINE:
                self._stop()
            elif self._outbox.is_empty and not self._bye_id:
                self._bye_id = self._requests.next_id()
                effects.append(Transmit(wire.Bye(self._bye_id)))
        return self._tray.take()
