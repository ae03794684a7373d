"""What all decisions of one broker share: its time, sessions, rooms, rights, and what shall happen.

Pure, as `broker.chat.core`, which owns it. The modules that decide about one thing each (orders,
talks, administration) work on this and know nothing of one another.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple

from broker.chat.floods import Move, Rate
from broker.chat.late_audits import LateAudits
from broker.chat.nicks import NICK_DAYS, NICKS_MANY, NickChange, Register
from broker.chat.presence import Presence
from broker.chat.rights import BAN, MUTE, PENDING, Rights, left_ms
from broker.chat.rooms import Room, Rooms
from broker.chat.sessions import Session, Sessions, User
from broker.log.interface import Log, LogFailed
from broker.log.retention_clock import RetentionClock
from broker.log.rights_records import (
    AuditEntry,
    Change,
    Delete,
    NickRecord,
    Put,
    RoomFacts,
    about,
)
from common import wire
from common.errors import Code, Refused
from common.names import check_nick, is_closed, is_talk
from common.order import Role

CUT = "cut"  # The connections of keys that are banned.
DRAIN = "drain"  # To have it noted who may come.
NICKS = "nicks"  # The register is nearly full: the log should tell.
NICKS_EVERY_S = 60.0
# So many changes wait for a log that fails, of a record each; then the oldest are lost.
LATER_MAX = 65_536
REFUSAL_BYTES = 8 * 1024  # It counts so much in a drain: rubbish by the thousand ends it soon.

# Who was told to join a room again and has not is told again after so long, then ever more rarely:
# the word may have been lost, and without the room's new keys nothing shows it.
REMIND_S = 2.0
REMIND_S_MAX = 60.0


class Rules(NamedTuple):
    """The operator's settings that decisions depend on."""

    clients_max: int
    rooms_max: int
    grace_s: float
    rate: Rate
    motd: str
    nick_days: float = NICK_DAYS  # An owned nick that nobody uses is free after that.
    operators: frozenset[bytes] = frozenset()  # Public keys.
    commons: frozenset[str] = frozenset()  # Rooms that nobody but operators owns.


class Effects(NamedTuple):
    """What shall happen, in this order: publish, reply, forget."""

    publications: list[bytes]
    replies: list[tuple[bytes, list[bytes]]]  # The route, and the frames to send there.
    forgotten: list[bytes]  # Senders whose session ended.


class Actor(NamedTuple):
    """Whose order it is."""

    owner: bytes  # The identity; empty for who sits at the broker's host.
    nick: str
    role: Role


def _nick_changes(changes: Iterable[NickChange]) -> Iterator[Change]:
    for change in changes:
        record = NickRecord(*change)
        yield Put(record) if change.identity else Delete(record)


def is_begun(room: Room) -> bool:
    """Tell whether a room is a talk in which nothing was said yet; nobody has written it down."""
    return is_talk(room.name) and not room.is_kept


def as_made(facts: RoomFacts) -> RoomFacts:
    """Return what is known of a room from the start: whose it is, and which one."""
    return RoomFacts(facts.room, owner=facts.owner, birth=facts.birth)


class Floor:
    """Of one broker."""

    def __init__(
        self,
        rules: Rules,
        sessions: Sessions,
        rooms: Rooms,
        rights: Rights,
        register: Register,
        *,
        keeper: Log,
        now_ms: int,
        now_s: float,
    ) -> None:
        self.rules = rules
        self.sessions = sessions
        self.rooms = rooms
        self.rights = rights
        self.register = register
        self.presence = Presence(now_s)
        self.keeper = keeper
        self.now_ms, self.now_s = now_ms, now_s
        self.effects = Effects([], [], [])
        self.answered_bytes = 0  # In the effects that wait to be taken, but for first ACKs.
        self.commits_count = 0  # That were waited for since effects were taken.
        self.refusals: Counter[str] = Counter()
        self.wishes: set[str] = set()  # For whoever runs the core: CUT, DRAIN, NICKS.
        self.stayers: frozenset[bytes] | None = None  # Identities that may come; None: all.
        # To be written down when there is time, one for each record, in their order.
        self._later: dict[tuple[object, ...], Change] = {}
        self.late_audits = LateAudits(keeper)
        self._founded: set[str] = set()  # Rooms in which the first words are about to be kept.
        self._unsaid: set[str] = set()  # Those of them in which that failed.
        # Who is to join which rooms again, and under which names they know them.
        self._late: dict[Session, dict[Room, str]] = {}
        self._remind_at_s = math.inf
        self._remind_s = REMIND_S
        self._clock = RetentionClock(now_s)
        self.register.is_here = lambda nick: sessions.user(nick) is not None
        self._are_nicks_many = False
        self._nicks_at_s = now_s  # When to look for nicks that nobody uses.

    # --- what shall happen --------------------------------------------------
    def take_effects(self) -> Effects:
        """Return what shall happen since the last call."""
        effects, self.effects = self.effects, Effects([], [], [])
        self.answered_bytes = self.commits_count = 0
        return effects

    def reply(self, route: bytes, reply: wire.Payload) -> None:
        """Answer a command."""
        self.answer(route, wire.reply_frames(reply))

    def answer(self, route: bytes, frames: list[bytes]) -> None:
        """Answer with frames that are there already."""
        self.answered_bytes += len(frames[1])
        self.effects.replies.append((route, frames))

    def refuse(self, route: bytes, request_id: int, refusal: Refused) -> None:
        """Answer that it is not done."""
        self.refusals[refusal.code] += 1
        self.answered_bytes += REFUSAL_BYTES
        self.effects.replies.append((route, wire.refusal_frames(request_id, refusal)))

    def notify(self, session: Session, notice: wire.Notice) -> None:
        """Tell a session something on its inbox."""
        self.tell_inbox(session.inbox, notice)

    def tell_inbox(self, inbox: bytes, notice: wire.Notice) -> None:
        """Tell whoever hears an inbox something."""
        self.effects.publications.append(inbox + wire.encode(notice))

    def charge(self, session: Session, cost: int, *, alike: int = 1) -> None:
        """Take what a command costs from the session's allowance; raise `Refused(slow_down)`.

        A SEND costs its texts, and any other command one; WHO in a large room and ROOMS cost
        more, for the answer is much larger than the question.
        """
        wait_ms = self.sessions.wait_ms(session, cost, self.now_s, alike=alike)
        if wait_ms:
            raise Refused(Code.SLOW_DOWN, value=wait_ms)

    def move(self, session: Session, move: Move) -> None:
        """Count a change that others hear of; raise `Refused(slow_down)` after too many."""
        self.check_move(move, session.user.owner, session.address)

    def check_move(self, move: Move, identity: bytes, address: str) -> None:
        """Count a change by somebody, from an address that counts; raise `Refused(slow_down)`."""
        wait_ms = self.sessions.floods.moves_wait_ms(
            move, self.now_s, key=identity, address=address
        )
        if wait_ms:
            raise Refused(Code.SLOW_DOWN, value=wait_ms)

    # --- what is written down -----------------------------------------------
    def keep(self, changes: Sequence[Change], audit: AuditEntry | None = None) -> None:
        """Write changes down, then take them in; raise `Refused(log_failed)` and change nothing."""
        changes = list(changes)
        # With all that waits, and after it: else what waits would undo this.
        written = [*self._later.values(), *changes]
        self.commits_count += 1
        try:
            self.keeper.keep(written, audit=[audit] if audit is not None else [])
        except LogFailed as error:
            raise Refused(Code.LOG_FAILED) from error
        self._later.clear()
        self.rights.apply(changes)

    def keep_soon(self, changes: Iterable[Change]) -> None:
        """Take changes in, and have them written down with the next ones."""
        changes = list(changes)
        self.rights.apply(changes)
        self._add_later(changes)

    def _add_later(self, changes: Iterable[Change]) -> None:
        for change in changes:
            what = about(change.record)
            self._later.pop(what, None)
            self._later[what] = change

    def note_founded(self, room: Room) -> None:
        """Have whose a room is written down before the first words in it are kept."""
        if not room.head and not is_talk(room.name):  # A talk is written down as a whole.
            self._founded.add(room.name)

    def note_unsaid(self, room: Room) -> None:
        """Note that the first words in a room were not kept, though whose it is may be."""
        if not room.head:
            self._unsaid.add(room.name)

    def take_promised(self) -> list[Change]:
        """Return what is to be on the disk before this drain's batches, and before its answers."""
        founded, self._founded = sorted(filter(self.rights.is_known, self._founded)), set()
        promised: list[Change] = [Put(self.rights.facts(name)) for name in founded]
        promised += _nick_changes(self.register.take_promised())
        for change in promised:
            self._later.pop(about(change.record), None)  # An older one, put back.
        return promised

    def take_later(self) -> list[Change]:
        """Return what is to be written down when there is time."""
        self._add_later(_nick_changes(self.register.take_changes()))
        later, self._later = list(self._later.values()), {}
        return later

    def put_back(self, changes: Iterable[Change]) -> None:
        """Keep for the next `take_later` what could not be written down; newer changes stay."""
        self._later = {about(change.record): change for change in changes} | self._later
        while len(self._later) > LATER_MAX:
            del self._later[next(iter(self._later))]

    def forget_nicks(self) -> None:
        """Free the nicks that nobody has used for long, by a clock that is to be trusted."""
        if self.now_s >= self._nicks_at_s:
            self._nicks_at_s = self.now_s + NICKS_EVERY_S
            for session in self.sessions:  # However long ago their HELLO was.
                user = session.user
                is_operator = user.owner in self.rights.operators
                self.register.hold(user.nick, user.owner, self.now_ms, is_operator=is_operator)
            self.register.expire(self.trusted_ms())
            were_many, self._are_nicks_many = self._are_nicks_many, len(self.register) >= NICKS_MANY
            if self._are_nicks_many and not were_many:
                self.wishes.add(NICKS)

    def trusted_ms(self) -> int:
        """Return the time that things are dropped by for good: no clock that has just jumped."""
        return self._clock.now_ms(self.now_ms, self.now_s)

    def audit_entry(
        self, actor: Actor, action: str, target: str, room: str, detail: str
    ) -> AuditEntry:
        """Return an entry of the audit log."""
        is_operator = actor.role >= Role.OPERATOR
        return AuditEntry(
            0, self.now_ms, actor.nick, actor.owner, action, target, room, detail, is_operator
        )

    # --- membership ---------------------------------------------------------
    def room(self, name: str) -> Room:
        """Return a room that is known to be there."""
        room = self.rooms.get(name)
        assert room is not None, name
        return room

    def member_room(self, session: Session, name: str) -> Room:
        """Return a room that the session is in; raise `Refused(not_member)`.

        A room that was given another name is found under the old one, until the session knows.
        """
        if name not in session.rooms:
            name = session.moved.get(name, "")
            if name not in session.rooms:
                raise Refused(Code.NOT_MEMBER)
        return self.room(name)

    def check_door(self, room: str, user: User) -> None:
        """Raise `Refused` when somebody may not enter a room that is there, or would be."""
        is_member = self.rights.member(room, user.owner) is not None
        if is_closed(room) and not is_member:
            raise Refused(Code.NOT_INVITED)
        ban = self.rights.sanction(room, BAN, user.owner, user.key, self.now_ms)
        if ban is not None and self.rights.role(room, user.owner) < Role.OPERATOR:
            detail = f"you are banned from this room: {ban.reason}" if ban.reason else ""
            raise Refused(Code.BANNED, detail, left_ms(ban, self.now_ms))

    def enter(self, session: Session, room: Room, *, is_resume: bool) -> None:
        """Make a session a member of a room that it may enter."""
        session.rooms.add(room.name)
        self.hear_out(session, room)
        self.note_nick(room, session.user)
        is_return = is_resume and self.presence.is_old(room, session.user, self.now_s)
        if room.roster.add(session.user, is_return=is_return):
            self.presence.stir(room, self.now_s)

    def leave(self, session: Session, room: Room) -> None:
        """End a session's being in a room."""
        session.rooms.discard(room.name)
        session.speaks.discard(room.name)
        session.forget_moves(room.name)
        self.has_rejoined(session, room)
        if room.roster.remove(session.user):
            self.presence.left(room, session.user, self.now_s)

    def send_away(self, session: Session, room: Room, why: str) -> None:
        """End a session's being in a talk, and tell it why."""
        self.leave(session, room)
        self.notify(session, wire.Notice("uninvited", room.name, text=why))

    def drop_if_unused(self, room: Room) -> None:
        """Forget a room that nobody is in and nobody ever said anything in."""
        if not self.rooms.drop_if_unused(room):
            return
        drops = [Delete(each) for each in tuple(self.rights.records_of(room.name))]
        facts = self.rights.facts(room.name)
        if room.name in self._unsaid:
            self._unsaid.discard(room.name)
            self.keep_soon(drops)
        elif [each.record for each in drops] == [as_made(facts)]:
            self.rights.apply(drops)  # Nothing of it was written down.
        else:
            self.keep_soon(drops)

    def owner(self, room: Room) -> bytes:
        """Return whose a room is; empty where it is nobody's."""
        return self.rights.facts(room.name).owner

    def note_nick(self, room: Room, user: User) -> None:
        """Note how somebody with a place in a room is called now."""
        place = self.rights.member(room.name, user.owner)
        if place is not None and place.nick != user.nick:
            self.keep_soon([Put(place._replace(nick=user.nick))])

    def end(self, session: Session) -> None:
        """End a session."""
        for name in sorted(session.rooms):
            self.leave(session, self.room(name))
        self.register.touch(session.user.nick, session.user.owner, self.now_ms)
        self.sessions.end(session)
        self.effects.forgotten.append(session.sender)

    def dismiss(self, session: Session, notice: wire.Notice | None = None) -> None:
        """End a session that seems to be nobody's; whoever hears its inbox comes again."""
        self.end(session)
        self.notify(session, notice or wire.Notice(Code.NO_SESSION))

    def check_claim(self, nick: str, identity: bytes) -> None:
        """Raise `Refused` if somebody else owns a nick or one that looks like it."""
        is_operator = identity in self.rights.operators
        self.register.check(nick, identity, is_operator=is_operator)

    def claim(self, nick: str, identity: bytes) -> None:
        """Let somebody who is here have a nick; `check_claim` says whether they may."""
        is_operator = identity in self.rights.operators
        self.register.claim(nick, identity, self.now_ms, is_operator=is_operator)

    def find(self, nick: str) -> tuple[bytes, str] | None:
        """Return whose a nick is, and how they write it; None where nobody is known by it.

        Raises `Refused(nick_invalid)`.
        """
        nick = check_nick(nick)
        user = self.sessions.user(nick)
        if user is not None:
            return user.owner, user.nick
        identity = self.register.owner_of(nick)
        return (identity, nick) if identity is not None else None

    # --- rooms with other keys ----------------------------------------------
    def ask_back(self, room: Room, was: str = "") -> None:
        """Have all who are in a room join it again: it has other keys, or another name."""
        for user in room.roster:
            for session in user.sessions:
                if room.name in session.rooms:
                    self._late.setdefault(session, {}).setdefault(room, was or room.name)
                    self._remind(session, room)
        self._remind_s = REMIND_S
        self._remind_at_s = self.now_s + REMIND_S

    def _remind(self, session: Session, room: Room) -> None:
        title = self.rights.title(room.name)
        known_as = self._late[session][room]
        birth = self.rights.facts(room.name).birth
        notice = wire.Notice("rejoin", known_as, title, text=room.name, value=birth)
        self.notify(session, notice)

    def is_late(self, session: Session, room: Room) -> bool:
        """Tell whether somebody has not joined a room again since they were asked to."""
        return room in self._late.get(session, ())

    def has_rejoined(self, session: Session, room: Room) -> None:
        """Note that a session knows a room's name and keys, or need not know them."""
        rooms = self._late.get(session)
        if rooms is not None and rooms.pop(room, None) is not None and not rooms:
            del self._late[session]

    @property
    def remind_at_s(self) -> float:
        """When somebody is to be asked back again."""
        return self._remind_at_s if self._late else math.inf

    def remind(self) -> None:
        """Ask those again who have not come, if it is time."""
        if self.now_s < self.remind_at_s:
            return
        for session, rooms in self._late.items():
            for room in rooms:
                self._remind(session, room)
        self._remind_s = min(2 * self._remind_s, REMIND_S_MAX)
        self._remind_at_s = self.now_s + self._remind_s

    def keep_talk(self, room: Room) -> bool:
        """Write a talk down before the first text in it; tell whether it could be."""
        try:
            self.keep([Put(each) for each in self.rights.records_of(room.name)])
            self.commits_count += 1
            self.keeper.found_room(room.name)
        except (Refused, LogFailed):
            return False
        room.is_kept = True
        return True

    def has_place(self, room: str, identity: bytes) -> bool:
        """Tell whether somebody may have one more place in a room.

        Invitations that they have not followed give way: nobody fills somebody else's places.
        """
        rights = self.rights
        if not rights.check_place(room, identity) and not rights.is_full(room):
            pending = rights.pending(identity)
            if pending is not None:
                self.keep_soon([Delete(pending)])
        return rights.check_place(room, identity)

    def arrived(self, session: Session, room: Room) -> None:
        """Note that somebody came who was invited; or, in a talk, that they speak in it."""
        place = self.rights.member(room.name, session.user.owner)
        if place is not None and place.since_ms == PENDING:
            self.keep_soon([Put(place._replace(since_ms=self.now_ms))])

    # --- who may speak ------------------------------------------------------
    def hear_out(self, session: Session, room: Room) -> None:
        """Note whether a member may say what it likes, without a look at each text."""
        if room.name not in session.rooms:
            return
        user, rights = session.user, self.rights
        is_muted = rights.sanction(room.name, MUTE, user.owner, user.key, self.now_ms) is not None
        is_free = not room.slow_s or rights.role(room.name, user.owner) >= Role.MODERATOR
        if is_free and not is_muted and not is_talk(room.name):  # There each text is an answer.
            session.speaks.add(room.name)
        else:
            session.speaks.discard(room.name)

    def hear_out_somebody(self, identity: bytes, room: Room) -> None:
        """Likewise, of somebody who may be in a room with several sessions."""
        for session in self.sessions.of(identity):
            self.hear_out(session, room)

    def hear_out_all(self, room: Room) -> None:
        """Likewise, of all who are in a room."""
        for user in room.roster:
            for session in user.sessions:
                self.hear_out(session, room)
