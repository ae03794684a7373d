"""What operators do, from the broker's host or with their key: ADMIN. Pure. PROTOCOL.md, "ADMIN".

Each verb answers with a table of texts. What changes something is written down in the audit.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable, Iterable

from broker.chat.floor import RELOAD, Actor, Floor
from broker.chat.orders import Orders, time_text
from broker.chat.peer import Peer
from broker.chat.rights import BAN
from broker.chat.rooms import Room
from broker.log.interface import LogFailed, NotInLog
from broker.log.rights_records import EVERYWHERE, Delete, Put, Sanction
from common import order, wire
from common.errors import Code, Refused
from common.limits import REASON_CHARS_MAX
from common.names import check_room, fold, is_closed
from common.order import Action, Role

ROWS_MAX = 10_000  # Of one table; whoever wants more looks into the database.
AUDIT_ROWS = 100  # Unless told.
KEPT_FOR_EVER = "all"

Rows = tuple[list[str], list[list[str]]]  # Names of the columns, and the rows.
DONE: Rows = (["done"], [])


class Admin:
    """Of one broker."""

    def __init__(self, floor: Floor, orders: Orders, epoch: int) -> None:
        self._floor = floor
        self._orders = orders
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
            "reload": self._reload,
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
        verb = self._verbs.get(command.verb)
        if verb is None:
            known = ", ".join(sorted(self._verbs))
            raise Refused(Code.BAD_PAYLOAD, f"there is no verb {command.verb!r}: {known}")
        columns, rows = verb(self._actor(peer), command)
        self._floor.reply(route, order.Table(command.id, columns, rows[:ROWS_MAX]))

    def _actor(self, peer: Peer) -> Actor:
        user = next((each.user for each in self._floor.sessions.of(peer.key)), None)
        return Actor(peer.key, user.nick if user is not None else "operator", Role.OPERATOR)

    def _note(self, actor: Actor, action: str, target: str, room: str, detail: str = "") -> None:
        """Write into the audit what has no record of its own."""
        self._floor.keep([], self._floor.audit_entry(actor, action, target, room, detail))

    # --- looking ------------------------------------------------------------
    def _sessions(self, _actor: Actor, _command: order.Admin) -> Rows:
        rows = [
            [each.user.nick, each.user.owner.hex(), each.peer.address, str(len(each.rooms))]
            for each in self._floor.sessions
        ]
        return ["nick", "key", "address", "rooms"], sorted(rows)

    def _rooms(self, _actor: Actor, _command: order.Admin) -> Rows:
        rights = self._floor.rights
        rows = []
        for room in self._floor.rooms:
            facts = rights.facts(room.name)
            kept = [facts.retain_messages, facts.retain_days]
            rows.append(
                [
                    room.name,
                    facts.title,
                    str(len(room.roster)),
                    str(len(rights.members(room.name))) if is_closed(room.name) else "",
                    str(room.head),
                    facts.owner.hex(),
                    " ".join("" if each is None else str(each) for each in kept).strip(),
                ]
            )
        columns = ["room", "title", "users", "members", "head", "owner", "kept"]
        return columns, sorted(rows)

    def _sanctions(self, _actor: Actor, command: order.Admin) -> Rows:
        floor = self._floor
        names = [self._room(command.room).name] if command.room else self._all_rooms()
        rows = [
            [
                each.room,
                each.kind,
                each.nick,
                each.identity.hex(),
                at_text(each.until_ms) if each.until_ms else "for ever",
                each.by_nick,
                each.reason,
            ]
            for name in names
            for each in floor.rights.sanctions(name, floor.now_ms)
        ]
        return ["room", "kind", "nick", "key", "until", "by", "reason"], rows

    def _all_rooms(self) -> Iterable[str]:
        return [EVERYWHERE, *sorted(room.name for room in self._floor.rooms)]

    def _audit(self, _actor: Actor, command: order.Admin) -> Rows:
        try:
            found = self._floor.keeper.audit(min(command.value or AUDIT_ROWS, ROWS_MAX))
        except LogFailed as error:
            raise Refused(Code.LOG_FAILED, "the log cannot be read") from error
        rows = [
            [
                str(each.id),
                at_text(each.ts_ms),
                each.actor_nick,
                each.action,
                each.target,
                each.room,
                each.detail,
            ]
            for each in found
        ]
        return ["id", "at", "who", "action", "whom", "room", "detail"], rows

    # --- everybody ----------------------------------------------------------
    def _announce(self, actor: Actor, command: order.Admin) -> Rows:
        if not command.text.strip():
            raise Refused(Code.TEXT_INVALID, "an announcement has words")
        self._note(actor, "announce", "", "", command.text[:REASON_CHARS_MAX])
        notice = wire.Notice("announcement", nick=actor.nick, text=command.text)
        for session in self._floor.sessions:
            self._floor.notify(session, notice)
        return ["told"], [[str(len(self._floor.sessions))]]

    def _reload(self, actor: Actor, _command: order.Admin) -> Rows:
        self._note(actor, "reload", "", "")
        self._floor.wishes.add(RELOAD)
        return DONE

    def _drain(self, actor: Actor, command: order.Admin) -> Rows:
        """Take nobody new (`value` 1), or anybody again (0)."""
        is_draining = bool(command.value)
        self._note(actor, "drain" if is_draining else "drain ends", "", "")
        self._floor.is_draining = is_draining
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
        self._note(actor, "kick", nick, "", command.text)
        return ["ended"], [[str(self._send_away(actor, identity, "kicked", command.text))]]

    def _ban(self, actor: Actor, command: order.Admin) -> Rows:
        if command.room:
            return self._in_room(actor, command)
        floor = self._floor
        identity, nick = self._somebody(command.nick)
        if identity in floor.rights.operators:
            raise Refused(Code.FORBIDDEN, f"{nick} is an operator")
        now_ms, until_ms = floor.now_ms, 0
        if command.value:
            until_ms = now_ms + 1_000 * command.value
        sanction = Sanction(
            EVERYWHERE,
            BAN,
            identity,
            nick,
            until_ms,
            command.text[:REASON_CHARS_MAX],
            actor.nick,
            actor.owner,
            now_ms,
        )
        detail = f"{time_text(command.value)} {command.text}".strip()[:REASON_CHARS_MAX]
        floor.keep([Put(sanction)], floor.audit_entry(actor, "ban", nick, "", detail))
        return ["ended"], [[str(self._send_away(actor, identity, "banned", command.text))]]

    def _unban(self, actor: Actor, command: order.Admin) -> Rows:
        if command.room:
            return self._in_room(actor, command)
        floor = self._floor
        found = [
            each
            for each in floor.rights.sanctions(EVERYWHERE, floor.now_ms)
            if fold(each.nick) == fold(command.nick) or each.identity.hex() == command.nick
        ]
        if not found:
            raise Refused(Code.NO_SUCH_NICK, f"no ban holds against {command.nick}")
        audit = floor.audit_entry(actor, "unban", found[0].nick, "", "")
        floor.keep([Delete(each) for each in found], audit)
        return DONE

    def _nicks(self, _actor: Actor, _command: order.Admin) -> Rows:
        rows = [
            [each.nick, each.identity.hex(), at_text(each.used_ms)]
            for each in self._floor.register.records()
        ]
        return ["nick", "key", "used"], sorted(rows)

    def _free(self, actor: Actor, command: order.Admin) -> Rows:
        """Take a nick from its owner: whoever comes next may have it."""
        floor = self._floor
        if floor.register.owner_of(command.nick) is None:
            raise Refused(Code.NO_SUCH_NICK, f"nobody owns {command.nick}")
        self._note(actor, "free", command.nick, "")
        floor.register.free(command.nick)
        return DONE

    def _somebody(self, nick: str) -> tuple[bytes, str]:
        found = self._floor.find(nick)
        if found is None:
            raise Refused(Code.NO_SUCH_NICK, f"nobody called {nick} is known here")
        return found

    def _send_away(self, actor: Actor, identity: bytes, code: str, reason: str) -> int:
        """End all sessions of somebody; return how many."""
        ended = list(self._floor.sessions.of(identity))
        for session in ended:
            notice = wire.Notice(code, nick=actor.nick, text=reason[:REASON_CHARS_MAX])
            self._floor.dismiss(session, notice)
        return len(ended)

    # --- a room -------------------------------------------------------------
    def _in_room(self, actor: Actor, command: order.Admin) -> Rows:
        """Give an order in a room, as its owner could."""
        room = self._room(command.room)
        self._orders.carry_out(
            actor,
            room,
            Action(command.verb),
            nick=command.nick,
            value=command.value,
            reason=command.text[:REASON_CHARS_MAX],
        )
        return DONE

    def _room(self, name: str) -> Room:
        room = self._floor.rooms.get(name if is_closed(name) else check_room(name))
        if room is None:
            raise Refused(Code.ROOM_INVALID, f"there is no room {name}")
        return room

    def _retention(self, actor: Actor, command: order.Admin) -> Rows:
        """Keep `value` messages of a room and `text` days; "" as set, 0 for ever."""
        floor = self._floor
        room = self._room(command.room)
        words = command.text.split()
        if len(words) != 2 or not all(_is_count(word) for word in words):  # noqa: PLR2004 - see below
            raise Refused(Code.BAD_PAYLOAD, "say MESSAGES DAYS, each a number, `all` or `default`")
        messages, days = (_count_of(word) for word in words)
        facts = floor.rights.facts(room.name)
        audit = floor.audit_entry(actor, "retention", "", room.name, command.text)
        floor.keep([Put(facts._replace(retain_messages=messages, retain_days=days))], audit)
        try:
            floor.keeper.set_retention(room.name, messages, days)
        except LogFailed as error:
            raise Refused(Code.LOG_FAILED) from error
        return DONE

    def _drop(self, actor: Actor, command: order.Admin) -> Rows:
        """Remove the text of the entry `value`, from the log and from every view."""
        floor = self._floor
        room = self._room(command.room)
        try:
            removed = floor.keeper.redact(room.name, command.value)
        except NotInLog as error:
            detail = f"#{room.name} has no entry {command.value}"
            raise Refused(Code.BAD_PAYLOAD, detail) from error
        except LogFailed as error:
            raise Refused(Code.LOG_FAILED) from error
        self._note(actor, "drop", removed.nick, room.name, f"entry {command.value}")
        if removed.is_topic:
            room.topic = ""
        publication = order.Removed(room.name, self._epoch, command.value)
        floor.effects.publications.append(room.subscription + wire.encode(publication))
        return ["nick", "at"], [[removed.nick, at_text(removed.ts_ms)]]


def _is_count(word: str) -> bool:
    return word in (KEPT_FOR_EVER, "default") or (word.isascii() and word.isdigit())


def _count_of(word: str) -> int | None:
    if word == "default":
        return None
    return 0 if word == KEPT_FOR_EVER else min(int(word), 10**12)


def at_text(ms: int) -> str:
    """Return a time as operators read it: UTC, RFC 3339."""
    try:
        at = dt.datetime.fromtimestamp(ms / 1_000, dt.UTC)
    except (ValueError, OverflowError, OSError):
        return str(ms)
    return at.isoformat(timespec="seconds").replace("+00:00", "Z")
