"""What operators do, from the broker's host or with their key: ADMIN. Pure. PROTOCOL.md, "ADMIN".

Each verb answers with a table of texts. What changes something is written down in the audit.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable, Iterable
from contextlib import suppress
from itertools import islice

from broker.chat.deeds import time_text
from broker.chat.floor import CUT, DRAIN, Actor, Floor, is_begun
from broker.chat.orders import Orders
from broker.chat.peer import Peer
from broker.chat.reloads import Reloads
from broker.chat.rights import BAN
from broker.chat.rooms import Room
from broker.chat.sanctions import imposed, lifted
from broker.log.interface import LogFailed, NotInLog
from broker.log.rights_records import EVERYWHERE, Delete, Put, Sanction
from common import order, wire
from common.errors import Code, Refused
from common.keys import CURVE_KEY_BYTES
from common.limits import NICK_CHARS_MAX, REASON_CHARS_MAX
from common.names import check_room, fold, is_closed, is_talk
from common.order import Action, Role

ROWS_MAX = 10_000  # Of one table; whoever wants more looks into the database.
TABLE_BYTES_MAX = (
    4 * 1024 * 1024
)  # Of its texts, at 4 bytes a character: half of what clients take.
CELL_BYTES = 5  # MessagePack's own, of a text.
AUDIT_ROWS = 100  # Unless told.
KEPT_FOR_EVER, AS_SET = "all", "default"
RETAIN_MESSAGES_MAX = 10**12  # As in the broker's settings.
RETAIN_DAYS_MAX = 36_500
IDENTITY_DIGITS = (32, 64)  # Of a secret's digest, and of a key.
TITLES_TOLD_MAX = 5  # Of rooms that people call alike.

Rows = tuple[list[str], Iterable[list[str]]]  # Names of the columns, and the rows.
DONE: Rows = (["done"], [])
NOTHING_DONE: Rows = (["done"], [["nothing: it was so already"]])
RELOAD = "reload"  # The verb that is answered later.


class Admin:
    """Of one broker."""

    def __init__(self, floor: Floor, orders: Orders, reloads: Reloads, epoch: int) -> None:
        self._floor = floor
        self._orders = orders
        self._reloads = reloads
        self._epoch = epoch
        self._verbs: dict[str, Callable[[Actor, order.Admin], Rows]] = {
            "sessions": self._sessions,
            "rooms": self._rooms,
            "sanctions": self._sanctions,
            "audit": self._audit,
            "announce": self._announce,
            "nicks": self._nicks,
            "free": self._free,
            "retention": self._retention,
            "drop": self._drop,
            "drain": self._drain,
            "kick": self._kick,
            "ban": self._ban,
            "unban": self._unban,
            **dict.fromkeys(("mute", "unmute", "op", "deop", "slow"), self._in_room),
        }

    def admin(self, route: bytes, _token: bytes, command: order.Admin, peer: Peer) -> None:
        """Do what an operator asks for; raise `Refused` when it is none."""
        if not (peer.is_admin or (peer.key and peer.key in self._floor.rights.operators)):
            raise Refused(Code.FORBIDDEN, "only operators may do that")
        if command.verb == RELOAD:
            self._note(self._actor(peer), RELOAD, "", "")
            self._reloads.wait(route, command.id)
            return
        verb = self._verbs.get(command.verb)
        if verb is None:
            known = ", ".join(self.verbs)
            raise Refused(Code.BAD_PAYLOAD, f"there is no verb {command.verb!r}: {known}")
        columns, rows = verb(self._actor(peer), command)
        kept, is_cut = bounded(rows)
        self._floor.reply(route, order.Table(command.id, columns, kept, is_cut))

    @property
    def verbs(self) -> list[str]:
        """All verbs, in alphabetical order."""
        return sorted((*self._verbs, RELOAD))

    def _actor(self, peer: Peer) -> Actor:
        user = next((each.user for each in self._floor.sessions.of(peer.key)), None)
        return Actor(peer.key, user.nick if user is not None else "operator", Role.OPERATOR)

    def _note(self, actor: Actor, action: str, target: str, room: str, detail: str = "") -> None:
        """Write into the audit what is done whether or not the log can be written now."""
        floor = self._floor
        floor.commits_count += 1
        entry = floor.audit_entry(actor, action, target, room, detail)
        floor.late_audits.note(entry, floor.now_s)

    # --- looking ------------------------------------------------------------
    def _sessions(self, _actor: Actor, _command: order.Admin) -> Rows:
        rows = (
            [each.user.nick, each.user.owner.hex(), each.peer.address, str(len(each.rooms))]
            for each in self._floor.sessions
        )
        return ["nick", "key", "address", "rooms"], sorted(islice(rows, ROWS_MAX + 1))

    def _rooms(self, _actor: Actor, _command: order.Admin) -> Rows:
        rows = (self._room_row(room) for room in self._floor.rooms)
        columns = ["room", "title", "users", "members", "head", "owner", "messages", "days"]
        return columns, sorted(islice(rows, ROWS_MAX + 1))

    def _room_row(self, room: Room) -> list[str]:
        rights = self._floor.rights
        facts = rights.facts(room.name)
        return [
            room.name,
            rights.title(room.name),
            str(len(room.roster)),
            str(len(rights.members(room.name))) if is_closed(room.name) else "",
            str(room.head),
            facts.owner.hex(),
            *(
                AS_SET if each is None else str(each) if each else KEPT_FOR_EVER
                for each in (facts.retain_messages, facts.retain_days)
            ),
        ]

    def _sanctions(self, _actor: Actor, command: order.Admin) -> Rows:
        rights, now_ms = self._floor.rights, self._floor.now_ms
        if command.room:
            found = iter(rights.sanctions(self._room(command.room).name, now_ms))
        else:
            found = rights.all_sanctions(now_ms)
        rows = (
            [
                each.room,
                each.kind,
                each.nick,
                each.identity.hex(),
                at_text(each.until_ms) if each.until_ms else "for ever",
                each.by_nick,
                each.reason,
            ]
            for each in found
        )
        return ["room", "kind", "nick", "key", "until", "by", "reason"], rows

    def _audit(self, _actor: Actor, command: order.Admin) -> Rows:
        try:
            found = self._floor.keeper.audit(min(command.value or AUDIT_ROWS, ROWS_MAX))
        except LogFailed as error:
            raise Refused(Code.LOG_FAILED, "the log cannot be read") from error
        rows = (
            [
                str(each.id),
                at_text(each.ts_ms),
                each.actor_nick,
                each.actor_identity.hex(),
                each.action,
                each.target,
                each.room,
                each.detail,
            ]
            for each in found
        )
        return ["id", "at", "who", "key", "action", "whom", "room", "detail"], rows

    # --- everybody ----------------------------------------------------------
    def _announce(self, actor: Actor, command: order.Admin) -> Rows:
        if not command.text.strip():
            raise Refused(Code.TEXT_INVALID, "an announcement has words")
        self._note(actor, "announce", "", "", command.text[:REASON_CHARS_MAX])
        notice = wire.Notice("announcement", nick=actor.nick, text=command.text)
        for session in self._floor.sessions:
            self._floor.notify(session, notice)
        return ["told"], [[str(len(self._floor.sessions))]]

    def _drain(self, actor: Actor, command: order.Admin) -> Rows:
        """Take nobody new (`value` 1), or anybody again (0)."""
        if command.value > 1:
            raise Refused(Code.BAD_PAYLOAD, "draining is 1, or 0")
        is_draining = bool(command.value)
        action = "drain" if is_draining else "drain ends"
        self._note(actor, action, "", "", command.text[:REASON_CHARS_MAX])
        here = {each.user.owner for each in self._floor.sessions}
        self._floor.stayers = (self._floor.stayers or frozenset()) | here if is_draining else None
        self._floor.wishes.add(DRAIN)
        text = command.text or (
            "the broker will be stopped for maintenance; nobody new is let in"
            if is_draining
            else "the maintenance is over"
        )
        notice = wire.Notice("announcement", nick=actor.nick, text=text)
        for session in self._floor.sessions:
            self._floor.notify(session, notice)
        return ["sessions"], [[str(len(self._floor.sessions))]]

    # --- somebody -----------------------------------------------------------
    def _kick(self, actor: Actor, command: order.Admin) -> Rows:
        if command.room:
            return self._in_room(actor, command)
        identity, nick = self._somebody(command.nick)
        reason = _reason(command)
        self._note(actor, "kick", nick or command.nick, "", reason)
        heard = self._closed_of(identity)
        ended = self._send_away(actor, identity, "kicked", reason)
        # Their sessions end though the log may not take the other keys.
        with suppress(Refused), self._orders.other_keys(heard):
            pass
        return ["ended"], [[str(ended)]]

    def _ban(self, actor: Actor, command: order.Admin) -> Rows:
        if command.room:
            return self._in_room(actor, command)
        floor, reason = self._floor, _reason(command)
        identity, nick = self._somebody(command.nick)
        if identity in floor.rights.operators:
            raise Refused(Code.FORBIDDEN, f"{nick or command.nick} is an operator")
        wanted = Sanction(EVERYWHERE, BAN, identity, nick, reason=reason)
        changes = imposed(floor, actor, wanted, command.value)
        detail = f"{time_text(command.value)} {reason}".strip()
        audit = floor.audit_entry(actor, "ban", nick or command.nick, "", detail)
        with self._orders.other_keys(self._heard_by(identity)):
            floor.keep(changes, audit)
            ended = self._send_away(actor, identity, "banned", reason, seconds=command.value)
        floor.wishes.add(CUT)
        return ["ended"], [[str(ended)]]

    def _closed_of(self, identity: bytes) -> list[Room]:
        """Return the private rooms that somebody is in: who is sent away hears them no more."""
        names = {name for each in self._floor.sessions.of(identity) for name in each.rooms}
        private = (name for name in sorted(names) if is_closed(name) and not is_talk(name))
        return [self._floor.room(name) for name in private]

    def _heard_by(self, identity: bytes) -> list[Room]:
        """Return the rooms whose topic keys are all that lets somebody hear them.

        None with a key: it is asked at every subscription and for every page of history.
        """
        if len(identity) == CURVE_KEY_BYTES:
            return []
        floor = self._floor
        names = {name for each in floor.sessions.of(identity) for name in each.rooms}
        names.update(each.room for each in floor.rights.closed_rooms(identity))
        rooms = [room for name in sorted(names) if (room := floor.rooms.get(name)) is not None]
        return [room for room in rooms if not is_begun(room)]

    def _unban(self, actor: Actor, command: order.Admin) -> Rows:
        if command.room:
            return self._in_room(actor, command)
        floor = self._floor
        found = lifted(floor, EVERYWHERE, BAN, identity_of(command.nick), command.nick)
        if not found:
            raise Refused(Code.NO_SUCH_NICK, f"no ban holds against {command.nick}")
        audit = floor.audit_entry(actor, "unban", found[0].nick or command.nick, "", "")
        floor.keep([Delete(each) for each in found], audit)
        return DONE

    def _nicks(self, _actor: Actor, _command: order.Admin) -> Rows:
        rows = (
            [each.nick, each.identity.hex(), at_text(each.used_ms)]
            for each in self._floor.register.records()
        )
        return ["nick", "key", "used"], sorted(islice(rows, ROWS_MAX + 1))

    def _free(self, actor: Actor, command: order.Admin) -> Rows:
        """Take a nick from its owner: whoever comes next may have it."""
        floor = self._floor
        if floor.register.owner_of(command.nick) is None:
            raise Refused(Code.NO_SUCH_NICK, f"nobody owns {command.nick}")
        floor.keep([], floor.audit_entry(actor, "free", command.nick, "", ""))
        floor.register.free(command.nick)
        return DONE

    def _somebody(self, name: str) -> tuple[bytes, str]:
        """Return whom a nick or a key in hexadecimal digits means.

        The nick is empty for a key of which nobody is here: what is done then holds for the key
        alone.
        """
        floor = self._floor
        found = floor.find(name) if len(name) <= NICK_CHARS_MAX else None
        if found is not None:
            return found
        identity = identity_of(name)
        if not identity:
            raise Refused(Code.NO_SUCH_NICK, f"nobody called {name} is known here")
        return identity, next((each.user.nick for each in floor.sessions.of(identity)), "")

    def _send_away(
        self, actor: Actor, identity: bytes, code: str, reason: str, *, seconds: int = 0
    ) -> int:
        """End all sessions of somebody; return how many. seconds: how long they stay away."""
        ended = list(self._floor.sessions.of(identity))
        for session in ended:
            notice = wire.Notice(code, nick=actor.nick, text=reason, value=seconds)
            self._floor.dismiss(session, notice)
        return len(ended)

    # --- a room -------------------------------------------------------------
    def _in_room(self, actor: Actor, command: order.Admin) -> Rows:
        """Give an order in a room, as its owner could."""
        room = self._room(command.room)
        changed = self._orders.carry_out(
            actor,
            room,
            Action(command.verb),
            nick=command.nick,
            value=command.value,
            reason=_reason(command),
        )
        return DONE if changed else NOTHING_DONE

    def _room(self, name: str) -> Room:
        """Return a room by its name, or by what people call a closed one."""
        floor = self._floor
        room = floor.rooms.get(name if is_closed(name) else check_room(name))
        if room is None and is_closed(name):
            called = sorted(floor.rights.called(fold(name)))
            if len(called) > 1:
                told = ", ".join(called[:TITLES_TOLD_MAX])
                detail = f"{len(called)} rooms are called {name}; say which: {told}"
                raise Refused(Code.ROOM_INVALID, detail)
            room = floor.rooms.get(called[0]) if called else None
        if room is None:
            raise Refused(Code.ROOM_INVALID, f"there is no room {name}")
        return room

    def _retention(self, actor: Actor, command: order.Admin) -> Rows:
        """Keep so many messages of a room and so many days: `text` has both words."""
        floor = self._floor
        room = self._room(command.room)
        words = command.text.split()
        try:
            messages_word, days_word = words
            messages = _count_of(messages_word, RETAIN_MESSAGES_MAX)
            days = _count_of(days_word, RETAIN_DAYS_MAX)
        except ValueError:
            bounds = f"at most {RETAIN_MESSAGES_MAX} and {RETAIN_DAYS_MAX}"
            detail = f"say MESSAGES DAYS: a number ({bounds}), `{KEPT_FOR_EVER}` or `{AS_SET}`"
            raise Refused(Code.BAD_PAYLOAD, detail) from None
        facts = floor.rights.facts(room.name)
        audit = floor.audit_entry(actor, "retention", "", room.name, " ".join(words))
        floor.keep([Put(facts._replace(retain_messages=messages, retain_days=days))], audit)
        return DONE

    def _drop(self, actor: Actor, command: order.Admin) -> Rows:
        """Remove the text of the entry `value`, from the log and from every view."""
        floor = self._floor
        room = self._room(command.room)
        try:
            removed = floor.keeper.redact(room.name, command.value)
        except NotInLog as error:
            detail = f"{room.name} has no entry {command.value}, or no more"
            raise Refused(Code.BAD_PAYLOAD, detail) from error
        except LogFailed as error:
            raise Refused(Code.LOG_FAILED, str(error)) from error
        if removed.is_topic:
            room.topic = ""
        # It is gone from the log: whatever becomes of the audit, nobody shall go on showing it.
        publication = order.Removed(room.name, self._epoch, command.value)
        floor.effects.publications.append(room.subscription + wire.encode(publication))
        room.note_removed(command.value, floor.now_s)
        floor.rooms.published(room, floor.now_s)
        self._note(actor, "drop", removed.nick, room.name, f"entry {command.value}")
        return ["nick", "at"], [[removed.nick, at_text(removed.ts_ms)]]


def bounded(rows: Iterable[list[str]]) -> tuple[list[list[str]], bool]:
    """Return as many rows as one answer has, and whether there were more."""
    kept: list[list[str]] = []
    size_bytes = 0
    for row in rows:
        size_bytes += sum(CELL_BYTES + 4 * len(cell) for cell in row)
        if len(kept) == ROWS_MAX or size_bytes > TABLE_BYTES_MAX:
            return kept, True
        kept.append(row)
    return kept, False


def identity_of(text: str) -> bytes:
    """Return an identity that is written in hexadecimal digits; nothing where it is none."""
    if len(text) not in IDENTITY_DIGITS or not text.isascii() or not text.isalnum():
        return b""
    try:
        return bytes.fromhex(text)
    except ValueError:
        return b""


def _reason(command: order.Admin) -> str:
    """Return why, as it is told to whom it is about; raise `Refused`."""
    if len(command.text) > REASON_CHARS_MAX:
        raise Refused(Code.TEXT_INVALID, f"a reason has at most {REASON_CHARS_MAX} characters")
    return command.text


def _count_of(word: str, most: int) -> int | None:
    """Return how much is kept: None as set for the broker, 0 all; raise `ValueError`."""
    if word == AS_SET:
        return None
    if word == KEPT_FOR_EVER:
        return 0
    if not (word.isascii() and word.isdigit() and len(word) <= len(str(most))):
        raise ValueError
    count = int(word)
    if count > most:
        raise ValueError
    return count


def at_text(ms: int) -> str:
    """Return a time as operators read it: UTC, RFC 3339."""
    try:
        at = dt.datetime.fromtimestamp(ms / 1_000, dt.UTC)
    except (ValueError, OverflowError, OSError):
        return str(ms)
    return at.isoformat(timespec="seconds").replace("+00:00", "Z")
