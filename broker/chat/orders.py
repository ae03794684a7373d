"""Order in a room: doors, roles, bans, mutes, slowness, reports. Pure. PROTOCOL.md, "Order".

An order whose end is there already does nothing, and is done: its first DONE may have been lost.
What is done is written down before anybody hears of it. A room's log tells what its members should
know; the audit tells the operators everything.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import NamedTuple, TypeVar

from broker.chat import doors
from broker.chat.deeds import (
    ABOUT_SOMEBODY,
    LIFTING,
    NEEDED,
    WITH_VALUE,
    span_text,
    time_text,
    words_against,
)
from broker.chat.floods import Move
from broker.chat.floor import Actor, Floor
from broker.chat.rights import BAN, MEMBERS_PER_ROOM_MAX, MUTE, PENDING
from broker.chat.rooms import Room
from broker.chat.sanctions import check_may_change, imposed, lifted
from broker.chat.sessions import Session, User
from broker.log.rights_records import (
    AuditEntry,
    Change,
    Delete,
    Member,
    Put,
    RoomFacts,
    Sanction,
    about,
)
from common import order, wire
from common.errors import Code, HubbubError, Refused
from common.names import fold, is_closed, is_talk
from common.order import Action, Role

SLOW_S_MAX = 3_600
ORDER_COST = 20  # Texts: each waits for the disk, and everybody with it.

T = TypeVar("T")


class Target(NamedTuple):
    """Whom an order is about."""

    identity: bytes  # Empty where only the name is known.
    nick: str


class Given(NamedTuple):
    """An order that may be carried out."""

    actor: Actor
    room: Room
    target: Target
    value: int
    reason: str


class Orders:
    """Of one broker."""

    def __init__(self, floor: Floor, secret: bytes) -> None:
        """Make the names of private rooms with the log's secret."""
        self._floor = floor
        self._secret = secret
        self._has_changed = False  # Whether the order under way did anything.
        self._do: dict[Action, Callable[[Given], None]] = {
            Action.PRIVATE: self._close,
            Action.PUBLIC: self._open,
            Action.INVITE: self._invite,
            Action.UNINVITE: self._uninvite,
            Action.KICK: self._kick,
            Action.BAN: self._ban,
            Action.UNBAN: self._unban,
            Action.MUTE: self._mute,
            Action.UNMUTE: self._unmute,
            Action.OP: self._op,
            Action.DEOP: self._deop,
            Action.SLOW: self._slow,
            Action.TOPIC_BY: self._topic_by,
            Action.REPORT: self._report,
        }

    def own(self, room: Room, user: User) -> None:
        """Let a room that has just come to be be somebody's.

        It is written down with the first thing that is said there.
        """
        rights = self._floor.rights
        if rights.may_be_owned(room.name):
            facts = rights.facts(room.name)  # Of a room of this name that there was, perhaps.
            birth = doors.birth(self._floor, self._secret, room.name)
            mine = RoomFacts(room.name, owner=user.owner, birth=birth)
            kept = (facts.retain_messages, facts.retain_days)
            rights.apply([Put(mine._replace(retain_messages=kept[0], retain_days=kept[1]))])

    def renew(self, room: Room) -> None:
        """Give a new room keys that none of its name had: others may still listen with those."""
        if not room.generation and self._floor.rights.called(f"+{room.name}"):
            self._change_keys(room)

    # --- commands -----------------------------------------------------------
    def order(self, session: Session, command: order.Order) -> None:
        """Carry out an order, if whoever gives it may."""
        floor = self._floor
        try:
            action = Action(command.action)
        except ValueError:
            raise Refused(Code.BAD_PAYLOAD, f"there is no order {command.action!r}") from None
        room = floor.member_room(session, command.room)
        user = session.user
        actor = Actor(user.owner, user.nick, floor.rights.role(room.name, user.owner))
        floor.move(session, Move.RIGHTS)
        floor.charge(session, ORDER_COST)
        nick, value, reason = command.nick, command.value, command.reason
        changed = self.carry_out(actor, room, action, nick=nick, value=value, reason=reason)
        title = floor.rights.title(room.name)
        floor.reply(session.route, order.Done(command.id, room.name, title, changed))

    def carry_out(
        self, actor: Actor, room: Room, action: Action, *, nick: str, value: int, reason: str
    ) -> bool:
        """Carry out an order in a room; tell whether it changed anything.

        Raises `Refused` when its giver may not, or it cannot be.
        """
        self._has_changed = False
        target = Target(b"", "")
        if action in ABOUT_SOMEBODY and actor.role >= min(NEEDED[action], Role.MEMBER):
            target = self._target(room, nick)
        # Whoever was invited may leave for good.
        is_leaving = action is Action.UNINVITE and target.identity == actor.owner
        needed = Role.MEMBER if is_leaving else NEEDED[action]
        is_kept_out = is_talk(room.name) and action is not Action.REPORT and not is_leaving
        if actor.role < needed or is_kept_out:
            raise Refused(Code.FORBIDDEN, words_against(room.name, needed, action))
        if "\0" in reason:
            raise Refused(Code.TEXT_INVALID, "a reason has no NUL")
        if action not in WITH_VALUE:
            value = 0
        if action in ABOUT_SOMEBODY:
            self._check_rank(room, actor, target, action)
        self._do[action](Given(actor, room, target, value, reason))
        return self._has_changed

    def _check_rank(self, room: Room, actor: Actor, target: Target, action: Action) -> None:
        """Raise `Refused` for an order against oneself, or against who is no lower."""
        if action in LIFTING:
            return
        if target.identity == actor.owner:
            raise Refused(Code.FORBIDDEN, f"nobody can {action.value} themselves")
        is_against = action in (Action.KICK, Action.BAN, Action.MUTE)
        if is_against and self._floor.rights.role(room.name, target.identity) >= actor.role:
            raise Refused(Code.FORBIDDEN, f"{target.nick} has no lower role than you")

    def _target(self, room: Room, nick: str) -> Target:
        """Return whom a nick means: who is here, who is known in the room, who owns the name."""
        found = self._floor.find(nick)
        if found is not None:
            return Target(*found)
        for member in self._floor.rights.members(room.name):
            if fold(member.nick) == fold(nick):
                return Target(member.identity, member.nick)
        for sanction in self._floor.rights.sanctions(room.name, self._floor.now_ms):
            if fold(sanction.nick) == fold(nick):
                return Target(sanction.identity, sanction.nick)
        raise Refused(Code.NO_SUCH_NICK, f"nobody called {nick} is known here")

    # --- doors --------------------------------------------------------------
    def _close(self, given: Given) -> None:
        room = given.room
        if is_closed(room.name):
            return
        rights, facts = self._floor.rights, self._floor.rights.facts(room.name)
        owner = facts.owner or given.actor.owner
        name = doors.closed_name(self._floor, self._secret, room.name)
        changes: list[Change] = [Put(facts._replace(title=f"+{room.name}", owner=owner))]
        people = doors.people(self._floor, room, owner)
        if len(people) > MEMBERS_PER_ROOM_MAX:
            detail = f"a private room has at most {MEMBERS_PER_ROOM_MAX} members"
            raise Refused(Code.TOO_MANY, detail)
        now_ms = self._floor.now_ms
        for identity, nick in people.items():
            if not self._floor.has_place(name, identity):
                raise Refused(Code.TOO_MANY, f"{nick} is in as many closed rooms as can be")
            role = Role.OWNER if identity == owner else rights.role(room.name, identity)
            role = min(max(role, Role.MEMBER), Role.OWNER)
            changes.append(Put(Member(room.name, identity, nick, role, room.head, now_ms)))
        before = {about(each): each for each in rights.records_of(room.name)}
        # First the places, then the door: whenever the broker ends in between, the room is open.
        self._floor.keep(changes, self._audit(given, "private"))
        try:
            self._move(given, name, "made the room private")
        except Refused:
            for record in (change.record for change in changes):
                known = before.get(about(record))
                self._floor.keep_soon([Put(known) if known is not None else Delete(record)])
            raise

    def _open(self, given: Given) -> None:
        room = given.room
        if not is_closed(room.name):
            return
        rights = self._floor.rights
        name = doors.open_name(self._floor, room.name, given.reason, given.actor.role)
        self._floor.keep([], self._audit(given, "public"))
        self._move(given, name, "opened the room to all")
        # What only a closed room has. It does no harm until it is gone.
        stale: list[Change] = [
            Delete(each) for each in rights.members(name) if each.role <= Role.MEMBER
        ]
        self._floor.keep_soon(stale)

    def _move(self, given: Given, name: str, deed: str) -> None:
        """Give a room another name, with all that is written down of it."""
        floor, room = self._floor, given.room
        before = room.name
        self._found(before)
        self._log(lambda: floor.keeper.rename_room(before, name))
        floor.rights.rename(before, name)
        floor.rooms.rename(room, name)
        for user in room.roster:
            for session in user.sessions:
                if before in session.rooms:
                    session.rooms.remove(before)
                    session.rooms.add(name)
                    session.speaks.discard(before)
                    session.note_move(before, name)
                    floor.hear_out(session, room)
        floor.ask_back(room, before)
        self._announce(given, deed)

    def _invite(self, given: Given) -> None:
        floor, room, target = self._floor, given.room, given.target
        if not is_closed(room.name):
            raise Refused(Code.FORBIDDEN, "the room is open to all")
        if lifted(floor, room.name, BAN, *target):
            raise Refused(
                Code.FORBIDDEN, f"{target.nick} is banned from this room: unban them first"
            )
        if floor.rights.member(room.name, target.identity) is None:
            if not floor.has_place(room.name, target.identity):
                raise Refused(Code.TOO_MANY, "no further place is left")
            place = Member(room.name, target.identity, target.nick, Role.MEMBER, room.head, PENDING)
            floor.keep([Put(place)], self._audit(given, "invite"))
            self._tell(given, "invited")

    def _uninvite(self, given: Given) -> None:
        floor, room, target = self._floor, given.room, given.target
        member = floor.rights.member(room.name, target.identity)
        if not is_closed(room.name):
            raise Refused(Code.FORBIDDEN, "the room is open to all")
        if member is None:
            return
        if member.role == Role.OWNER:
            raise Refused(
                Code.FORBIDDEN, "the owner cannot leave for good: give the room away first"
            )
        if member.role >= given.actor.role and target.identity != given.actor.owner:
            raise Refused(Code.FORBIDDEN, f"{target.nick} has no lower role than you")
        self._remove(given, [Delete(member)], "uninvite", "uninvited")

    # --- against somebody ---------------------------------------------------
    def _kick(self, given: Given) -> None:
        name, here = given.room.name, self._floor.sessions.of(given.target.identity)
        if not any(name in each.rooms for each in here):
            return
        # Without other keys they would hear a closed room on, unseen. An open one hears anybody.
        with self.other_keys([given.room] if is_closed(name) else []):
            self._floor.keep([], self._audit(given, "kick"))
            self._send_out(given, "kicked", is_told=self._concerns(given))
        self._announce(given, f"kicked {given.target.nick}")

    def _ban(self, given: Given) -> None:
        floor, room, target = self._floor, given.room, given.target
        changes = self._sanction(given, BAN)
        member = floor.rights.member(room.name, target.identity)
        if member is not None:
            changes.append(Delete(member))
        self._remove(given, changes, "ban", "banned")
        self._announce(given, f"banned {target.nick}{time_text(given.value)}")

    def _unban(self, given: Given) -> None:
        if self._lift(given, BAN, "unban"):
            self._announce(given, f"unbanned {given.target.nick}")

    def _mute(self, given: Given) -> None:
        self._floor.keep(self._sanction(given, MUTE), self._audit(given, "mute"))
        self._floor.hear_out_somebody(given.target.identity, given.room)
        self._tell(given, "muted")
        self._announce(given, f"muted {given.target.nick}{time_text(given.value)}")

    def _unmute(self, given: Given) -> None:
        if not self._lift(given, MUTE, "unmute"):
            return
        self._floor.hear_out_somebody(given.target.identity, given.room)
        self._tell(given, "unmuted")
        self._announce(given, f"unmuted {given.target.nick}")

    def _sanction(self, given: Given, kind: str) -> list[Change]:
        target = given.target
        wanted = Sanction(given.room.name, kind, target.identity, target.nick, reason=given.reason)
        return imposed(self._floor, given.actor, wanted, given.value)

    def _lift(self, given: Given, kind: str, action: str) -> bool:
        """End what holds against somebody; tell whether anything did."""
        found = lifted(self._floor, given.room.name, kind, *given.target)
        check_may_change(self._floor, given.actor, found)
        if found:
            self._floor.keep([Delete(each) for each in found], self._audit(given, action))
        return bool(found)

    # --- roles and rules ----------------------------------------------------
    def _op(self, given: Given) -> None:
        floor, room, target = self._floor, given.room, given.target
        role = floor.rights.role(room.name, target.identity)
        if given.value == Role.OWNER:
            self._hand_on(given)
            return
        if given.value:
            raise Refused(Code.BAD_PAYLOAD, f"a role to give is 0 or {int(Role.OWNER)}")
        if role == Role.MODERATOR:
            return
        if role > Role.MODERATOR:
            raise Refused(Code.FORBIDDEN, f"{target.nick} is no less than a moderator already")
        if not floor.rights.check_place(room.name, target.identity):
            raise Refused(Code.TOO_MANY, "no further place is left")
        member = floor.rights.member(room.name, target.identity)
        if member is None and is_closed(room.name):
            raise Refused(Code.NO_SUCH_NICK, f"{target.nick} has no place in this room")
        place = member or Member(
            room.name, target.identity, target.nick, Role.MEMBER, room.head, floor.now_ms
        )
        floor.keep([Put(place._replace(role=Role.MODERATOR))], self._audit(given, "op"))
        floor.hear_out_somebody(target.identity, room)
        self._tell(given, "role", value=Role.MODERATOR)
        self._announce(given, f"made {target.nick} a moderator")

    def _hand_on(self, given: Given) -> None:
        """Make the room somebody else's, who is in it or has come to their place."""
        room, target = given.room, given.target
        if self._floor.rights.facts(room.name).owner == target.identity:
            return
        doors.check_heir(self._floor, room, target.identity, target.nick)
        changes = doors.handed_on(self._floor, room, target.identity)
        self._floor.keep(changes, self._audit(given, "op", "owner"))
        self._floor.hear_out_all(room)
        self._tell(given, "role", value=Role.OWNER)
        self._announce(given, f"gave the room to {target.nick}")

    def _deop(self, given: Given) -> None:
        floor, room, target = self._floor, given.room, given.target
        member = floor.rights.member(room.name, target.identity)
        if member is None or member.role != Role.MODERATOR:
            if floor.rights.role(room.name, target.identity) > Role.MODERATOR:
                raise Refused(Code.FORBIDDEN, f"{target.nick} is more than a moderator")
            return
        after = Role.MEMBER if is_closed(room.name) else Role.GUEST
        change = Put(member._replace(role=after)) if after else Delete(member)
        floor.keep([change], self._audit(given, "deop"))
        floor.hear_out_somebody(target.identity, room)
        self._tell(given, "role", value=after)
        self._announce(given, f"made {target.nick} a moderator no more")

    def _slow(self, given: Given) -> None:
        if given.value > SLOW_S_MAX:
            raise Refused(Code.BAD_PAYLOAD, f"at most {SLOW_S_MAX} seconds")
        room, facts = given.room, self._floor.rights.facts(given.room.name)
        if facts.slow_s == given.value:
            return  # The audit tells what was changed.
        audit = self._audit(given, "slow", str(given.value))
        self._floor.keep([Put(facts._replace(slow_s=given.value))], audit)
        room.slow_s = given.value
        room.spoke_s.clear()
        self._floor.hear_out_all(room)
        slow = f"made the room slow: a text each {span_text(given.value)}"
        self._announce(given, slow if given.value else "made the room as fast as before")

    def _topic_by(self, given: Given) -> None:
        if given.value > Role.OWNER:
            raise Refused(Code.BAD_PAYLOAD, f"a role is a number from 0 to {int(Role.OWNER)}")
        room, facts = given.room, self._floor.rights.facts(given.room.name)
        if facts.topic_by == given.value:
            return
        audit = self._audit(given, "topic_by", str(given.value))
        self._floor.keep([Put(facts._replace(topic_by=given.value))], audit)
        room.topic_by = given.value
        who = {0: "everybody", 1: "members", 2: "moderators", 3: "the owner"}[given.value]
        self._announce(given, f"lets {who} set the topic")

    def _report(self, given: Given) -> None:
        floor, room = self._floor, given.room
        floor.keep([], self._audit(given, "report", given.reason))
        title = floor.rights.title(room.name)
        text = f"{given.target.nick}: {given.reason}"
        notice = wire.Notice("report", room.name, title, given.actor.nick, text)
        for session in floor.sessions:
            role = floor.rights.role(room.name, session.user.owner)
            if role >= Role.OPERATOR or (room.name in session.rooms and role >= Role.MODERATOR):
                floor.notify(session, notice)

    # --- what follows -------------------------------------------------------
    def _send_out(self, given: Given, code: str, *, is_told: bool) -> None:
        """End somebody's being in a room, and say why."""
        room, target = given.room, given.target
        for session in list(self._floor.sessions.of(target.identity)):
            if room.name in session.rooms:
                self._floor.leave(session, room)
        if is_told:
            self._notify(given, code)

    def _tell(self, given: Given, code: str, value: int | None = None) -> None:
        """Tell whom an order is about, where it concerns them."""
        if self._concerns(given):
            self._notify(given, code, value)

    def _concerns(self, given: Given) -> bool:
        """Tell whether somebody is in a room, or has a place there.

        Nobody else is told: a word about a private room would tell that it is there.
        """
        floor, name, identity = self._floor, given.room.name, given.target.identity
        is_here = any(name in each.rooms for each in floor.sessions.of(identity))
        return is_here or floor.rights.member(name, identity) is not None

    def _notify(self, given: Given, code: str, value: int | None = None) -> None:
        title = self._floor.rights.title(given.room.name)
        notice = wire.Notice(
            code,
            given.room.name,
            title,
            given.actor.nick,
            given.reason,
            given.value if value is None else value,
        )
        for session in self._floor.sessions.of(given.target.identity):
            self._floor.notify(session, notice)

    def _remove(self, given: Given, changes: list[Change], action: str, code: str) -> None:
        """Take somebody out of a room for good: nothing that they have of it is worth anything."""
        with self.other_keys([given.room]):
            is_told = self._concerns(given)  # Before their place is gone.
            self._floor.keep(changes, self._audit(given, action))
            self._send_out(given, code, is_told=is_told)

    @contextmanager
    def other_keys(self, rooms: list[Room]) -> Iterator[None]:
        """Give rooms other keys, then have somebody taken out, and the others join again.

        The keys first: where the rest fails, nobody is out, and nobody is left who should be.
        """
        floor, changed = self._floor, []
        try:
            for room in rooms:
                self._change_keys(room)
                changed.append(room)
            yield
        finally:
            for room in changed:
                floor.ask_back(room)

    def _change_keys(self, room: Room) -> None:
        self._found(room.name)
        generation = self._log(lambda: self._floor.keeper.raise_generation(room.name))
        self._floor.rooms.raise_generation(room, generation)

    def _found(self, name: str) -> None:
        """Have a room in the log, before anything is said there."""
        floor = self._floor
        self._log(lambda: floor.keeper.found_room(name))
        floor.room(name).is_kept = True

    def _announce(self, given: Given, deed: str) -> None:
        reason = f" ({given.reason})" if given.reason else ""
        self._floor.rooms.announce(
            given.room, given.actor.nick, f"{deed}{reason}", self._floor.now_ms
        )

    def _audit(self, given: Given, action: str, detail: str = "") -> AuditEntry:
        self._has_changed = True  # Whatever changes anything is audited, and nothing else.
        room = self._floor.rights.title(given.room.name) or given.room.name
        detail = detail or " ".join(filter(None, (time_text(given.value), given.reason)))
        return self._floor.audit_entry(given.actor, action, given.target.nick, room, detail.strip())

    def _log(self, write: Callable[[], T]) -> T:
        """Have the log do something; raise `Refused` where it cannot."""
        self._floor.commits_count += 1
        try:
            return write()
        except HubbubError as error:
            raise Refused(Code.LOG_FAILED) from error
