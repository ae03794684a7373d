"""The broker's decisions: messages in, effects out. Pure.

No ZeroMQ, no database, no clock, no randomness: time, keys and the log's memory come in as
arguments, and everything that shall happen lies in `effects` until the owner takes it. So the
whole broker runs in a simulation, and every decision can be tested without a socket.

A drain goes: `clock`, then any number of `subscribed`, `unsubscribed` and `receive`, `tick`,
`take_proposals`, `take_promised`; the log commits; `committed` or `failed`; `take_effects`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

import msgspec

from broker.chat import returns
from broker.chat.admin import Admin
from broker.chat.entrance import Entrance
from broker.chat.floods import Move
from broker.chat.floor import Effects, Floor, Rules
from broker.chat.greetings import Facts, Greetings
from broker.chat.listings import Listings
from broker.chat.nicks import Register
from broker.chat.orders import Orders
from broker.chat.peer import PLAIN, Peer
from broker.chat.reloads import Reloads
from broker.chat.rights import Rights
from broker.chat.rooms import Room, Rooms
from broker.chat.sessions import Session, Sessions
from broker.chat.speech import Speech
from broker.chat.talks import Talks
from broker.log.interface import Committed, Log, Proposal, RoomRecord
from broker.log.rights_records import Change, Delete
from common import topics, wire
from common.errors import Code, Refused
from common.limits import (
    PRESENCE_NAMES_MAX,
    ROOMS_PER_SESSION_MAX,
)
from common.names import check_room, is_closed, is_talk
from common.wire import Command

__all__ = ["Core", "Effects", "Facts", "Rules"]

# Presence versions must rise across restarts: they begin at the start's milliseconds, shifted,
# and no room changes a thousand times a millisecond.
VERSIONS_PER_MS = 1_024


SEND = int(Command.SEND)
ADMIN_COMMANDS = frozenset({int(Command.GREET), int(Command.ADMIN)})  # Of the data folder's socket.

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
        keeper: Log,
        now_ms: int,
        now_s: float,
        stayers: frozenset[bytes] | None = None,
    ) -> None:
        """Begin with the log's rooms; `recall` is the log's memory of a sender, `stayers` as below.

        Raises `broker.log.interface.LogFailed` when what is written down cannot be read.
        """
        self._epoch = epoch
        self._is_closing = False
        self.sessions = Sessions(
            clients_max=rules.clients_max, grace_s=rules.grace_s, rate=rules.rate, now_s=now_s
        )
        self.rooms = Rooms(
            records,
            secret=secret,
            epoch=epoch,
            version=now_ms * VERSIONS_PER_MS,
            rooms_max=rules.rooms_max,
        )
        written = keeper.load_rights()
        register = Register(written.nicks, nick_days=rules.nick_days)
        rights = Rights(written, operators=rules.operators, commons=rules.commons)
        for each in written.rooms:
            room = self.rooms.get(each.room)
            if room is not None:
                room.slow_s, room.topic_by = each.slow_s, each.topic_by
        self._floor = Floor(
            rules,
            self.sessions,
            self.rooms,
            rights,
            register,
            keeper=keeper,
            now_ms=now_ms,
            now_s=now_s,
        )
        self._floor.stayers = stayers
        here = {room.name for room in self.rooms}
        self._floor.keep_soon([Delete(each) for each in rights.homeless(here)])
        self.refusals = self._floor.refusals
        self._entrance = Entrance(self._floor, recall)
        self._speech = Speech(self._floor)
        self._listings = Listings(self._floor)
        self._orders = Orders(self._floor, secret)
        self._talks = Talks(self._floor, secret, self._join_room)
        self._greetings = Greetings(self._floor, facts, epoch)
        self.reloads = Reloads(self._floor)
        self._admin = Admin(self._floor, self._orders, self.reloads, epoch)
        self.entries_count = 0
        self._commands = self._command_table()

    def _command_table(self) -> dict[int, tuple[Callable[[bytes], Any], Handler, bool]]:
        """Return for each command byte: decoder, handler, and whether it needs a session."""
        handlers: dict[Command, tuple[Handler, bool]] = {
            Command.GREET: (self._greetings.greet, False),
            Command.HELLO: (self._entrance.hello, False),
            Command.BYE: (self._entrance.bye, True),
            Command.NICK: (self._entrance.nick, True),
            Command.JOIN: (self._join, True),
            Command.PART: (self._part, True),
            Command.SEND: (self._speech.send, True),
            Command.WHO: (self._listings.who, True),
            Command.ROOMS: (self._listings.rooms, True),
            Command.ORDER: (self._orders.order, True),
            Command.TALK: (self._talks.talk, True),
            Command.MINE: (self._talks.mine, True),
            Command.READ: (self._talks.read, True),
            Command.ADMIN: (self._admin.admin, False),
        }
        return {
            int(code): (
                msgspec.msgpack.Decoder(wire.COMMANDS[code]).decode,
                handler,
                needs_session,
            )
            for code, (handler, needs_session) in handlers.items()
        }

    @property
    def log_failures_count(self) -> int:
        """How many commits failed."""
        return self._greetings.log_failures_count

    @property
    def stayers(self) -> frozenset[bytes] | None:
        """Who may still come, for an operator wants to stop the broker; None: everybody."""
        return self._floor.stayers

    # --- messages -----------------------------------------------------------
    def clock(self, now_ms: int, now_s: float) -> None:
        """Set the time for what follows: wall clock in ms since 1970, steady clock in s."""
        self._floor.now_ms, self._floor.now_s = now_ms, now_s

    @property
    def answered_bytes(self) -> int:
        """How much waits to be taken, but for first ACKs."""
        return self._floor.answered_bytes

    @property
    def commits_count(self) -> int:
        """How often the log was waited for since effects were taken."""
        return self._floor.commits_count

    @property
    def texts_count(self) -> int:
        """How many texts all SENDs have since proposals were taken."""
        return self._speech.texts_count

    def receive(self, route: bytes, frames: list[bytes], peer: Peer = PLAIN) -> None:
        """Take one message of a client; never raises for what a client sent."""
        request_id = 0
        try:
            code, token, payload = wire.open_command(frames)
            entry = self._commands.get(code)
            if entry is None or (peer.is_admin and code not in ADMIN_COMMANDS):
                request_id = wire.salvage_id(payload)
                raise Refused(Code.BAD_COMMAND, f"there is no command {code} here")
            decode, handle, needs_session = entry
            try:
                command = decode(payload)
            except wire.DECODE_ERRORS as error:
                request_id = wire.salvage_id(payload)
                raise Refused(Code.BAD_PAYLOAD, str(error)) from error
            request_id = command.number if code == SEND else command.id
            if self._is_closing and handle != self._greetings.greet:
                raise Refused(Code.CLOSING)
            if not needs_session:
                handle(route, token, command, peer)
                return
            session = self.sessions.get(token)
            if session is None or session.key != peer.key:
                raise Refused(Code.NO_SESSION)
            session.route = route
            if code != SEND:
                self._floor.charge(session, 1)
            try:
                handle(session, command)
            except Refused as refusal:
                # Else what was paid is missing when the wait is over, and never is it enough.
                if code != SEND and refusal.code == Code.SLOW_DOWN:
                    session.bucket.give_back(1)
                raise
        except Refused as refusal:
            self._floor.refuse(route, request_id, refusal)

    def subscribed(self, topic: bytes, key: bytes = b"") -> list[bytes] | None:
        """Take a subscription; return what to publish to this subscriber alone, None to refuse.

        That is the head of a room, which proves the subscription, and nothing for an inbox.
        key: whose connection it is; empty on a plain endpoint, where the topic is all there is.
        """
        if topics.is_inbox(topic):
            if self.sessions.inbox_opened(topic, self._floor.now_s, key):
                return []
            self.refusals["bad_subscription"] += 1
            return None
        name = self.rooms.admits(topic)
        if name is None or not self._may_hear(name, key):
            self.refusals["bad_subscription"] += 1
            return None
        self.rooms.subscribed(name, self._floor.now_s)
        return [self.rooms.head(name)]

    def _may_hear(self, room: str, key: bytes) -> bool:
        """Tell whether a person may hear a room; not every restart needs them to have come back."""
        if not key:
            return True
        is_open = not is_closed(room) or self._floor.rights.member(room, key) is not None
        return is_open and not self.is_banned(key)

    def is_banned(self, key: bytes) -> bool:
        """Tell whether an operator has banned a key from the whole broker."""
        return self._floor.rights.is_banned(key, self._floor.now_ms)

    def unsubscribed(self, topic: bytes) -> None:
        """Take the end of a subscription, or of the connection that held it."""
        if topics.is_inbox(topic):
            self.sessions.inbox_closed(topic, self._floor.now_s)

    # --- commands -----------------------------------------------------------
    def _join(self, session: Session, command: wire.Join) -> None:
        name = self._meant(session, command)
        if is_closed(name):
            self._floor.check_door(name, session.user)  # Whether it is there or not.
            room = self.rooms.get(name)
            if room is None:
                raise Refused(Code.NOT_INVITED)
        else:
            returns.check_resumed(self._floor, name, command, self._epoch)
            room = self._open(session, name)
        self._join_room(session, room, command.id, is_resume=command.resume)

    def _meant(self, session: Session, command: wire.Join) -> str:
        """Return the name of the room that is to be joined.

        Who is in a room that got another name may not know it yet. Who does, and joins the old
        one all the same, means the room that has it now.
        """
        name = command.room if is_closed(command.room) else check_room(command.room)
        moved = session.moved.get(name)
        if moved is None:
            if command.resume:
                moved = returns.moved_meanwhile(self._floor, session, name, command.birth)
            if moved is None:
                return name
            session.note_move(name, moved)
        if (
            command.resume
            or is_closed(name)
            or self._floor.is_late(session, self._floor.room(moved))
        ):
            return moved
        del session.moved[name]
        return name

    def _open(self, session: Session, name: str) -> Room:
        """Return an open room, made where there is none; who makes it owns it."""
        self._floor.check_door(name, session.user)
        room = self.rooms.open(name)
        if not room.roster and not room.head and room.proposal is None:
            try:
                self._orders.renew(room)
            except Refused:
                self._floor.drop_if_unused(room)
                raise
            if not self._floor.owner(room):
                self._orders.own(room, session.user)
        return room

    def _join_room(
        self, session: Session, room: Room, request_id: int, *, is_resume: bool = False
    ) -> None:
        """Let a session into a room that it may enter, and tell it what it needs there."""
        floor = self._floor
        if room.name not in session.rooms:
            floor.move(session, Move.JOIN)
            if len(session.rooms) >= ROOMS_PER_SESSION_MAX:
                self._floor.drop_if_unused(room)
                raise Refused(
                    Code.TOO_MANY_ROOMS, f"a client joins at most {ROOMS_PER_SESSION_MAX} rooms"
                )
            floor.enter(session, room, is_resume=is_resume)
        session.nudged.discard(room.name)
        if not is_talk(room.name):  # Clients join talks by themselves.
            floor.arrived(session, room)
        floor.has_rejoined(session, room)
        roster, user = room.roster, session.user
        nicks = None
        if len(roster) <= PRESENCE_NAMES_MAX:
            nicks = roster.show(user)
        else:
            roster.look(user)
        floor.reply(
            session.route,
            wire.Joined(
                id=request_id,
                room=room.name,
                subscription=room.subscription,
                ticket=room.ticket(session.key, floor.now_ms),
                epoch=self._epoch,
                first=room.first,
                head=room.head,
                topic=room.topic,
                version=roster.version,
                users=len(roster),
                nicks=nicks,
                title=self._talks.title(room.name, user.owner),
                role=floor.rights.role(room.name, user.owner),
                slow_s=room.slow_s,
                topic_by=room.topic_by,
                removed=list(room.removed) or None,
                birth=floor.rights.facts(room.name).birth,
            ),
        )

    def _part(self, session: Session, command: wire.Part) -> None:
        room = self._floor.member_room(session, command.room)
        self._floor.move(session, Move.PART)
        self._floor.leave(session, room)
        self._floor.reply(session.route, wire.Parted(command.id, room.name))

    # --- the log ------------------------------------------------------------
    def take_proposals(self) -> list[Proposal]:
        """Return what this drain wants to have in the log."""
        self._speech.texts_count = 0
        proposals = self.rooms.take_proposals()
        for proposal in proposals:
            self._floor.note_founded(self._floor.room(proposal.room))
        return proposals

    def take_wishes(self) -> set[str]:
        """Return what is wanted of whoever runs the core: `broker.chat.floor` says."""
        wishes, self._floor.wishes = self._floor.wishes, set()
        return wishes

    def take_promised(self) -> list[Change]:
        """Return what is to be on the disk before the proposals, and before anybody is answered.

        That is whose new rooms and nicks are, of all who came in this drain.
        """
        return self._floor.take_promised()

    def take_changes(self) -> list[Change]:
        """Return what is to be written down beside it, when there is time."""
        return self._floor.take_later()

    def put_back(self, changes: Iterable[Change]) -> None:
        """Take back what the log could not write; `take_changes` has it again."""
        self._floor.put_back(changes)

    def committed(self, batches: Iterable[Committed]) -> None:
        """Publish and acknowledge what the log has committed."""
        floor = self._floor
        for batch in batches:
            proposal = batch.proposal
            room = floor.room(proposal.room)
            room.head = batch.last
            room.is_kept = True
            if proposal.topic is not None:
                room.topic = proposal.topic
            self.entries_count += proposal.count
            if not is_closed(room.name):
                self._greetings.entries_count += proposal.count
            floor.effects.publications.append(room.subscription + batch.body)
            self.rooms.published(room, floor.now_s)
            self._speech.acknowledge(proposal)
            if is_talk(room.name):
                self._talks.nudge(room)

    def failed(self, proposals: Iterable[Proposal]) -> None:
        """Tell the senders that the log could not be written."""
        self._greetings.log_failures_count += 1
        for proposal in proposals:
            self._floor.note_unsaid(self._floor.room(proposal.room))
            for sent in proposal.sends:
                self._floor.refuse(sent.session.route, sent.number, Refused(Code.LOG_FAILED))

    def trimmed(self, firsts: Mapping[str, int]) -> None:
        """Note the oldest entries that the log still has."""
        for name, first in firsts.items():
            self._floor.room(name).first = first

    # --- time ---------------------------------------------------------------
    def tick(self) -> None:
        """Do what is due: expire sessions, tell presence, show heads, ask who strangers are."""
        floor = self._floor
        for session in self.sessions.expired(floor.now_s):
            floor.dismiss(session)
        floor.forget_nicks()
        for inbox in self.sessions.strangers(floor.now_s):
            floor.tell_inbox(inbox, wire.Notice(Code.NO_SESSION))
        for room in floor.presence.take(floor.now_s):
            self._tell_presence(room)
        floor.effects.publications.extend(self.rooms.beacons(floor.now_s))
        floor.remind()
        self.reloads.tick()
        floor.late_audits.tick(floor.now_s)

    def next_deadline_s(self) -> float:
        """Return when `tick` has something to do, on the steady clock."""
        return min(
            self._floor.presence.deadline_s,
            self.sessions.next_deadline_s(),
            self.rooms.next_deadline_s(),
            self._floor.remind_at_s,
            self.reloads.deadline_s,
            self._floor.late_audits.deadline_s,
        )

    def reload(self, rules: Rules, *, admits: Callable[[bytes], bool]) -> None:
        """Go by other rules from here on; end the sessions of keys that are let in no more."""
        floor = self._floor
        floor.rules = rules
        changed = floor.rights.operators ^ rules.operators
        floor.rights.operators = rules.operators
        for session in [each for who in sorted(changed) for each in self.sessions.of(who)]:
            for name in session.rooms:
                floor.hear_out(session, floor.room(name))
        self.sessions.floods.rate = rules.rate
        for session in [each for each in self.sessions if not admits(each.key)]:
            floor.dismiss(session, wire.Notice(Code.NOT_ALLOWED))

    def close(self) -> None:
        """Take no more commands, and tell everybody that the broker is closing."""
        self._is_closing = True
        self._floor.late_audits.tick(self._floor.now_s, is_due=True)
        for session in self.sessions:
            self._floor.notify(session, wire.Notice(Code.CLOSING))

    def take_effects(self) -> Effects:
        """Return what shall happen since the last call."""
        return self._floor.take_effects()

    def _tell_presence(self, room: Room) -> None:
        presence = room.roster.flush(room.name)
        if presence is not None and room.roster:
            publication = room.subscription + wire.encode(presence)
            self._floor.effects.publications.append(publication)
        self._floor.drop_if_unused(room)
