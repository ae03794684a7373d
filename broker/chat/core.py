"""The broker's decisions: messages in, effects out. Pure.

No ZeroMQ, no database, no clock, no randomness: time, keys and the log's memory come in as
arguments, and everything that shall happen lies in `effects` until the owner takes it. So the
whole broker runs in a simulation, and every decision can be tested without a socket.

A drain goes: `clock`, then any number of `subscribed`, `unsubscribed` and `receive`, `tick`,
`take_proposals`; the log commits; `committed` or `failed`; `take_effects`.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, NamedTuple

import msgspec

from broker.chat.peer import PLAIN, Peer
from broker.chat.presence import Presence
from broker.chat.rooms import Room, Rooms
from broker.chat.sessions import Rate, Session, Sessions
from broker.chat.texts import check_texts
from broker.log.interface import Committed, LogFailed, Proposal, RoomRecord, Sent
from common import topics, wire
from common.errors import Code, Refused
from common.limits import (
    PRESENCE_NAMES_MAX,
    PROTOCOL_VERSION,
    ROOMS_BYTES_MAX,
    ROOMS_PAGE_MAX,
    ROOMS_PER_SESSION_MAX,
    SEND_TEXTS_MAX,
    SENDS_IN_FLIGHT_MAX,
)
from common.wire import Command

NAMES_PER_COST = 64  # So many nicks or rooms in an answer cost as much as a text.
# So long after the start a room may be heard by whoever has its topic and no session yet: they
# subscribe before they can say HELLO and JOIN. And so many at once.
RESUME_S = 30.0
EARLY_MAX = 200_000
REFUSAL_BYTES = 8 * 1024  # It counts so much in a drain: rubbish by the thousand ends it soon.
# Presence versions must rise across restarts: they begin at the start's milliseconds, shifted,
# and no room changes a thousand times a millisecond.
VERSIONS_PER_MS = 1_024


class Rules(NamedTuple):
    """The operator's settings that decisions depend on."""

    clients_max: int
    rooms_max: int
    grace_s: float
    rate: Rate
    motd: str
    operators: frozenset[bytes] = frozenset()  # Their keys.


class Facts(NamedTuple):
    """What GREETING tells beside the core's own counts."""

    program: str
    rooms_port: int
    history_port: int
    pyzmq: str
    libzmq: str
    restarts: int = 0


class Effects(NamedTuple):
    """What shall happen, in this order: publish, reply, forget."""

    publications: list[bytes]
    replies: list[tuple[bytes, list[bytes]]]  # The route, and the frames to send there.
    forgotten: list[bytes]  # Senders whose session ended.


SEND = int(Command.SEND)
ACK_HEAD = wire.REPLY_HEADS[wire.Ack]

Handler = Callable[..., None]  # (session, command), or (route, token, command, peer) without one.


class Core:
    """All state of the live broker, but for the log."""

    def __init__(
        self,
        rules: Rules,
        facts: Facts,
        records: Iterable[RoomRecord],
        *,
        secret: bytes,
        epoch: int,
        recall: Callable[[bytes], Mapping[int, bytes]],
        now_ms: int,
        now_s: float,
    ) -> None:
        """Begin with the log's rooms; `recall` is the log's memory of a sender."""
        self._rules = rules
        self._facts = facts
        self._epoch = epoch
        self._recall = recall
        self._started_s = now_s
        self._now_ms, self._now_s = now_ms, now_s
        self._is_closing = False
        self.sessions = Sessions(
            clients_max=rules.clients_max, grace_s=rules.grace_s, rate=rules.rate
        )
        self.rooms = Rooms(
            records,
            secret=secret,
            epoch=epoch,
            version=now_ms * VERSIONS_PER_MS,
            rooms_max=rules.rooms_max,
        )
        self._presence = Presence(now_s)
        self.entries_count = 0
        self.log_failures_count = 0
        self.answered_bytes = 0  # In the effects that wait to be taken, but for first ACKs.
        self.texts_count = 0  # Of all SENDs since proposals were taken.
        self.refusals: Counter[str] = Counter()
        self._effects = Effects([], [], [])
        self._early: set[tuple[bytes, str]] = set()  # Keys and rooms they hear unproven.
        self._commands = self._command_table()

    def _command_table(self) -> dict[int, tuple[Callable[[bytes], Any], Handler, bool]]:
        """Return for each command byte: decoder, handler, and whether it needs a session."""
        handlers: dict[Command, tuple[Handler, bool]] = {
            Command.GREET: (self._greet, False),
            Command.HELLO: (self._hello, False),
            Command.BYE: (self._bye, True),
            Command.NICK: (self._nick, True),
            Command.JOIN: (self._join, True),
            Command.PART: (self._part, True),
            Command.SEND: (self._send, True),
            Command.WHO: (self._who, True),
            Command.ROOMS: (self._rooms_after, True),
        }
        return {
            int(code): (
                msgspec.msgpack.Decoder(wire.COMMANDS[code]).decode,
                handler,
                needs_session,
            )
            for code, (handler, needs_session) in handlers.items()
        }

    # --- messages -----------------------------------------------------------
    def clock(self, now_ms: int, now_s: float) -> None:
        """Set the time for what follows: wall clock in ms since 1970, steady clock in s."""
        self._now_ms, self._now_s = now_ms, now_s

    def receive(self, route: bytes, frames: list[bytes], peer: Peer = PLAIN) -> None:
        """Take one message of a client; never raises for what a client sent."""
        request_id = 0
        try:
            code, token, payload = wire.open_command(frames)
            entry = self._commands.get(code)
            if entry is None:
                request_id = wire.salvage_id(payload)
                raise Refused(Code.BAD_COMMAND, f"there is no command {code} here")
            decode, handle, needs_session = entry
            try:
                command = decode(payload)
            except wire.DECODE_ERRORS as error:
                request_id = wire.salvage_id(payload)
                raise Refused(Code.BAD_PAYLOAD, str(error)) from error
            request_id = command.number if code == SEND else command.id
            if self._is_closing and handle != self._greet:
                raise Refused(Code.CLOSING)
            if not needs_session:
                handle(route, token, command, peer)
                return
            session = self.sessions.get(token)
            if session is None or session.key != peer.key:  # Or a stolen token.
                raise Refused(Code.NO_SESSION)
            session.route = route
            if code != SEND:
                self._charge(session, 1)
            handle(session, command)
        except Refused as refusal:
            self._refuse(route, request_id, refusal)

    def _refuse(self, route: bytes, request_id: int, refusal: Refused) -> None:
        self.refusals[refusal.code] += 1
        self.answered_bytes += REFUSAL_BYTES
        self._effects.replies.append((route, wire.refusal_frames(request_id, refusal)))

    def _charge(self, session: Session, cost: int, *, alike: int = 1) -> None:
        """Take what a command costs from the session's allowance; raise `Refused(slow_down)`.

        A SEND costs its texts, and any other command one; WHO in a large room and ROOMS cost
        more, for the answer is much larger than the question.
        """
        wait_ms = self.sessions.wait_ms(session, cost, self._now_s, alike=alike)
        if wait_ms:
            raise Refused(Code.SLOW_DOWN, value=wait_ms)

    def _reply(self, route: bytes, reply: wire.Payload) -> None:
        self._answer(route, wire.reply_frames(reply))

    def _answer(self, route: bytes, frames: list[bytes]) -> None:
        self.answered_bytes += len(frames[1])
        self._effects.replies.append((route, frames))

    def subscribed(self, topic: bytes, key: bytes = b"") -> list[bytes] | None:
        """Take a subscription; return what to publish to this subscriber alone, None to refuse.

        That is the head of a room, which proves the subscription, and nothing for an inbox.
        key: of the subscriber, 32 raw bytes; none on a plain endpoint.
        """
        if topics.is_inbox(topic):
            if self.sessions.inbox_opened(topic, self._now_s, key):
                return []
            self.refusals["bad_subscription"] += 1
            return None
        name = self.rooms.admits(topic)
        if name is None or not self._is_for(key, name):
            self.refusals["bad_subscription"] += 1
            return None
        self.rooms.subscribed(name, self._now_s)
        return [self.rooms.head(name)]

    def _is_for(self, key: bytes, room: str) -> bool:
        """Tell whether a key may hear a room: one that a session of it is in.

        Right after a start nobody has a session yet, but libzmq subscribes again by itself.
        """
        if not key or self.sessions.is_member(key, room):
            return True
        if self._now_s > self._started_s + RESUME_S or len(self._early) >= EARLY_MAX:
            return False
        self._early.add((key, room))
        return True

    def unproven_keys(self) -> frozenset[bytes]:
        """Return the keys that hear a room since the start, and are not in it; once, in the end.

        Their connections are to be cut: with them go their subscriptions.
        """
        if not self._early or self._now_s <= self._started_s + RESUME_S:
            return frozenset()
        early, self._early = self._early, set()
        return frozenset(key for key, room in early if not self.sessions.is_member(key, room))

    def unsubscribed(self, topic: bytes) -> None:
        """Take the end of a subscription, or of the connection that held it."""
        if topics.is_inbox(topic):
            self.sessions.inbox_closed(topic, self._now_s)

    # --- commands -----------------------------------------------------------
    def _greet(self, route: bytes, _token: bytes, command: wire.Greet, _peer: Peer) -> None:
        facts = self._facts
        self._reply(
            route,
            wire.Greeting(
                id=command.id,
                program=facts.program,
                protocol=PROTOCOL_VERSION,
                rooms_port=facts.rooms_port,
                history_port=facts.history_port,
                epoch=self._epoch,
                uptime_s=int(self._now_s - self._started_s),
                clients=len(self.sessions),
                clients_max=self._rules.clients_max,
                rooms=len(self.rooms),
                pyzmq=facts.pyzmq,
                libzmq=facts.libzmq,
                entries=self.entries_count,
                refused=self.refusals.total(),
                log_failures=self.log_failures_count,
                restarts=facts.restarts,
            ),
        )

    def _hello(self, route: bytes, token: bytes, command: wire.Hello, peer: Peer) -> None:
        if token == wire.NO_TOKEN:
            raise Refused(Code.BAD_PAYLOAD, "HELLO takes a token of random bytes")
        for idler in self.sessions.giving_way(route, token, command, peer.key):
            self._dismiss(idler)
        session, is_resumed = self.sessions.hello(route, token, command, self._now_s, peer.key)
        if not is_resumed:
            try:
                self._remember(session)
            except LogFailed as error:  # What it sent already must be known, or would come twice.
                self._end(session)
                raise Refused(Code.LOG_FAILED, "the broker cannot read its log") from error
        nick = session.user.nick
        self._reply(route, wire.Welcome(command.id, nick, is_resumed, self._rules.motd))

    def _remember(self, session: Session) -> None:
        """Find what a new session has sent already, before the broker or itself was restarted."""
        sender = session.sender
        session.kept = self._recall(sender)
        numbers = set(session.kept)
        if sender in self._effects.forgotten:  # It left and came again within this drain.
            self._effects.forgotten.remove(sender)
            numbers.update(sent.number for sent in self._on_their_way(sender))
        session.expected = max(session.expected, max(numbers, default=0) + 1)

    def _on_their_way(self, sender: bytes) -> Iterator[Sent]:
        """Yield the SENDs of this drain that the log is about to be given."""
        for proposal in self.rooms.proposals:
            yield from (sent for sent in proposal.sends if sent.sender == sender)

    def _bye(self, session: Session, command: wire.Bye) -> None:
        self._reply(session.route, wire.Goodbye(command.id))
        self._end(session)

    def _nick(self, session: Session, command: wire.SetNick) -> None:
        user, nick_before = self.sessions.rename(session, command.nick)
        if session.user is user:
            for name in sorted({name for each in user.sessions for name in each.rooms}):
                room = self._room(name)
                room.roster.rename(user, nick_before)
                self._presence.stir(room, self._now_s)
        else:
            for name in sorted(session.rooms):
                room = self._room(name)
                room.roster.move(user, session.user)
                self._presence.stir(room, self._now_s)
        self._reply(session.route, wire.Renamed(command.id, session.user.nick))

    def _join(self, session: Session, command: wire.Join) -> None:
        room = self.rooms.open(command.room)
        if room.name not in session.rooms:
            if len(session.rooms) >= ROOMS_PER_SESSION_MAX:
                self.rooms.drop_if_unused(room)
                raise Refused(
                    Code.TOO_MANY_ROOMS, f"a client joins at most {ROOMS_PER_SESSION_MAX} rooms"
                )
            session.rooms.add(room.name)
            is_return = command.resume and self._presence.is_old(room, session.user, self._now_s)
            if room.roster.add(session.user, is_return=is_return):
                self._presence.stir(room, self._now_s)
        roster = room.roster
        nicks = None
        if len(roster) <= PRESENCE_NAMES_MAX:
            nicks = roster.show(session.user)
        else:
            roster.look(session.user)
        self._reply(
            session.route,
            wire.Joined(
                id=command.id,
                room=room.name,
                subscription=room.subscription,
                ticket=room.ticket(session.key, self._now_ms),
                epoch=self._epoch,
                first=room.first,
                head=room.head,
                topic=room.topic,
                version=roster.version,
                users=len(roster),
                nicks=nicks,
            ),
        )

    def _part(self, session: Session, command: wire.Part) -> None:
        room = self._member_room(session, command.room)
        self._leave(session, room)
        self._reply(session.route, wire.Parted(command.id, room.name))

    def _send(self, session: Session, command: wire.Send) -> None:
        drafts = command.posts
        texts = [text for draft in drafts for text in draft.texts]
        if len(texts) > SEND_TEXTS_MAX:
            raise Refused(Code.BAD_PAYLOAD, f"a SEND has at most {SEND_TEXTS_MAX} texts")
        if command.number != session.expected:
            self._send_out_of_turn(session, command.number)
            return
        # Behind a SEND that is refused a client has a window of others, which it says again with
        # it: if only that one passed, each text would travel as often as a window has SENDs.
        self._charge(session, len(texts), alike=SENDS_IN_FLIGHT_MAX)
        session.expected += 1  # Also when it is refused: the next one is not out of turn.
        wide = check_texts(drafts, texts)
        self.texts_count += len(texts)
        spots, last = self.rooms.propose(
            drafts, session.rooms, session.user.nick, self._now_ms, wide=wide
        )
        if last is None:
            raise Refused(Code.NOT_MEMBER)
        last.sends.append(Sent(session.sender, command.number, spots, session))

    def _send_out_of_turn(self, session: Session, number: int) -> None:
        """Answer a SEND that came before, or one that came too early."""
        if number > session.expected:
            raise Refused(Code.GAP, f"{session.expected} comes first", session.expected)
        mark = session.kept.get(number)
        if mark is not None:
            self._answer(session.route, [ACK_HEAD, mark])
        elif all(sent.number != number for sent in self._on_their_way(session.sender)):
            raise Refused(Code.NOT_KEPT)  # But what is on its way gets its ACK from the log.

    def _who(self, session: Session, command: wire.Who) -> None:
        room = self._member_room(session, command.room)
        roster = room.roster
        self._charge(session, len(roster) // NAMES_PER_COST)
        self._reply(
            session.route,
            wire.Members(
                command.id, room.name, roster.version, len(roster), roster.show(session.user)
            ),
        )

    def _rooms_after(self, session: Session, command: wire.Rooms) -> None:
        infos: list[wire.RoomInfo] = []
        size_bytes, is_more = 0, False
        for room in self.rooms.after(command.after):
            if len(infos) == ROOMS_PAGE_MAX or size_bytes >= ROOMS_BYTES_MAX:
                is_more = True
                break
            infos.append(wire.RoomInfo(room.name, len(room.roster), room.head, room.topic))
            size_bytes += len(room.name.encode()) + len(room.topic.encode())
        self._charge(session, len(infos) // NAMES_PER_COST)
        self._reply(session.route, wire.RoomList(command.id, infos, is_more))

    # --- the log ------------------------------------------------------------
    def take_proposals(self) -> list[Proposal]:
        """Return what this drain wants to have in the log."""
        self.texts_count = 0
        return self.rooms.take_proposals()

    def committed(self, batches: Iterable[Committed]) -> None:
        """Publish and acknowledge what the log has committed."""
        effects = self._effects
        for batch in batches:
            proposal = batch.proposal
            room = self._room(proposal.room)
            room.head = batch.last
            if proposal.topic is not None:
                room.topic = proposal.topic
            self.entries_count += proposal.count
            effects.publications.append(room.subscription + batch.body)
            self.rooms.published(room, self._now_s)
            for sent in proposal.sends:
                effects.replies.append((sent.session.route, [ACK_HEAD, sent.ack]))

    def failed(self, proposals: Iterable[Proposal]) -> None:
        """Tell the senders that the log could not be written."""
        self.log_failures_count += 1
        for proposal in proposals:
            for sent in proposal.sends:
                self._refuse(sent.session.route, sent.number, Refused(Code.LOG_FAILED))

    def trimmed(self, firsts: Mapping[str, int]) -> None:
        """Note the oldest entries that the log still has."""
        for name, first in firsts.items():
            self._room(name).first = first

    # --- time ---------------------------------------------------------------
    def tick(self) -> None:
        """Do what is due: expire sessions, tell presence, show heads, ask who strangers are."""
        for session in self.sessions.expired(self._now_s):
            self._dismiss(session)
        for inbox in self.sessions.strangers(self._now_s):
            self._notice(inbox, Code.NO_SESSION)
        for room in self._presence.take(self._now_s):
            self._tell_presence(room)
        self._effects.publications.extend(self.rooms.beacons(self._now_s))

    def next_deadline_s(self) -> float:
        """Return when `tick` has something to do, on the steady clock."""
        return min(
            self._presence.deadline_s, self.sessions.next_deadline_s(), self.rooms.next_deadline_s()
        )

    def reload(self, rules: Rules, *, admits: Callable[[bytes], bool] | None = None) -> None:
        """Go by other rules from here on; end the sessions of keys that are let in no more."""
        self._rules = rules
        self.sessions.rate = rules.rate
        if admits is not None:
            for session in [each for each in self.sessions if not admits(each.key)]:
                self._end(session)
                self._notice(session.inbox, Code.NOT_ALLOWED)

    def close(self) -> None:
        """Take no more commands, and tell everybody that the broker is closing."""
        self._is_closing = True
        for session in self.sessions:
            self._notice(session.inbox, Code.CLOSING)

    def take_effects(self) -> Effects:
        """Return what shall happen since the last call."""
        effects, self._effects = self._effects, Effects([], [], [])
        self.answered_bytes = 0
        return effects

    # --- membership ---------------------------------------------------------
    def _room(self, name: str) -> Room:
        room = self.rooms.get(name)
        assert room is not None, name
        return room

    def _member_room(self, session: Session, name: str) -> Room:
        if name not in session.rooms:
            raise Refused(Code.NOT_MEMBER)
        return self._room(name)

    def _leave(self, session: Session, room: Room) -> None:
        session.rooms.discard(room.name)
        if room.roster.remove(session.user):
            self._presence.left(room, session.user, self._now_s)

    def _end(self, session: Session) -> None:
        for name in sorted(session.rooms):
            self._leave(session, self._room(name))
        self.sessions.end(session)
        self._effects.forgotten.append(session.sender)

    def _dismiss(self, session: Session) -> None:
        """End a session that seems to be nobody's; whoever hears its inbox comes again."""
        self._end(session)
        self._notice(session.inbox, Code.NO_SESSION)

    def _tell_presence(self, room: Room) -> None:
        presence = room.roster.flush(room.name)
        if presence is not None and room.roster:
            self._effects.publications.append(room.subscription + wire.encode(presence))
        self.rooms.drop_if_unused(room)

    def _notice(self, inbox: bytes, code: Code) -> None:
        body = wire.encode(wire.Notice(str(code)))
        self._effects.publications.append(inbox + body)
