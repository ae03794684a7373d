"""Coming, going and names: HELLO, BYE and NICK. Pure."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping

from broker import keys
from broker.chat.floods import Move
from broker.chat.floor import Floor
from broker.chat.lookalikes import key_of
from broker.chat.peer import Peer, is_loopback
from broker.chat.rights import BAN, left_ms
from broker.chat.sessions import Session
from broker.log.interface import LogFailed, Sent
from broker.log.rights_records import EVERYWHERE
from common import wire
from common.errors import Code, Refused
from common.names import check_nick


class Entrance:
    """Of one broker."""

    def __init__(self, floor: Floor, recall: Callable[[bytes], Mapping[int, bytes]]) -> None:
        """`recall` is the log's memory of a sender."""
        self._floor = floor
        self._recall = recall

    def hello(self, route: bytes, token: bytes, command: wire.Hello, peer: Peer) -> None:
        """Begin or resume a session."""
        floor = self._floor
        sessions = floor.sessions
        if token == wire.NO_TOKEN:
            raise Refused(Code.BAD_PAYLOAD, "HELLO takes a token of random bytes")
        if sessions.get(token) is None:
            self._check_newcomer(command.nick, peer.key or keys.owner(command.owner), peer)
        for idler in sessions.giving_way(route, token, command, peer):
            floor.dismiss(idler)
        session, is_resumed = sessions.hello(route, token, command, floor.now_s, peer)
        if not is_resumed:
            try:
                self._remember(session)
            except LogFailed as error:  # What it sent already must be known, or would come twice.
                # Not as if they had been here: a refusal changes nothing of whose the nick is.
                sessions.end(session)
                floor.effects.forgotten.append(session.sender)
                raise Refused(Code.LOG_FAILED, "the broker cannot read its log") from error
            floor.claim(check_nick(command.nick), session.user.owner)
        nick = session.user.nick
        floor.reply(route, wire.Welcome(command.id, nick, is_resumed, floor.rules.motd))

    def _check_newcomer(self, nick: str, identity: bytes, peer: Peer) -> None:
        """Raise `Refused` for somebody whom the broker takes not at all, or not now."""
        floor = self._floor
        nick = check_nick(nick)
        floor.check_move(Move.HELLO, identity, "" if is_loopback(peer.address) else peer.address)
        stayers = floor.stayers
        if stayers is not None and identity not in stayers | floor.rights.operators:
            raise Refused(Code.DRAINING)
        ban = floor.rights.sanction(EVERYWHERE, BAN, identity, key_of(nick), floor.now_ms)
        if ban is not None and identity not in floor.rights.operators:
            detail = f"you are banned here: {ban.reason}" if ban.reason else ""
            raise Refused(Code.BANNED, detail, left_ms(ban, floor.now_ms))
        self._check_name(nick, identity, peer.address)

    def _check_name(self, nick: str, identity: bytes, address: str) -> None:
        """Raise `Refused` for a nick that is somebody else's, or after too many that were not."""
        floor = self._floor
        floor.check_claim(nick, identity)
        if floor.register.is_new(nick, identity):
            floor.check_move(Move.NAME, identity, "" if is_loopback(address) else address)

    def _remember(self, session: Session) -> None:
        """Find what a new session has sent already, before the broker or itself was restarted."""
        sender, forgotten = session.sender, self._floor.effects.forgotten
        session.kept = self._recall(sender)
        numbers = set(session.kept)
        if sender in forgotten:  # It left and came again within this drain.
            forgotten.remove(sender)
            numbers.update(sent.number for sent in on_their_way(self._floor, sender))
        session.expected = max(session.expected, max(numbers, default=0) + 1)

    def bye(self, session: Session, command: wire.Bye) -> None:
        """End a session at once."""
        self._floor.reply(session.route, wire.Goodbye(command.id))
        self._floor.end(session)

    def nick(self, session: Session, command: wire.SetNick) -> None:
        """Give a session another nick, and tell its rooms."""
        floor = self._floor
        nick, identity = check_nick(command.nick), session.user.owner
        floor.move(session, Move.NICK)
        self._check_bans(nick, session)
        self._check_name(nick, identity, session.address)
        user, nick_before = floor.sessions.rename(session, nick)
        floor.claim(nick, identity)
        session.has_spoken = False
        if session.user is user:
            for name in sorted({name for each in user.sessions for name in each.rooms}):
                room = floor.room(name)
                room.roster.rename(user, nick_before)
                floor.presence.stir(room, floor.now_s)
                floor.note_nick(room, user)
                floor.hear_out_somebody(identity, room)
        else:
            for name in sorted(session.rooms):
                room = floor.room(name)
                room.roster.move(user, session.user)
                floor.presence.stir(room, floor.now_s)
                floor.note_nick(room, session.user)
                floor.hear_out(session, room)
        floor.reply(session.route, wire.Renamed(command.id, session.user.nick))

    def _check_bans(self, nick: str, session: Session) -> None:
        """Raise `Refused` for a nick that is banned from the broker, or from a room they are in."""
        floor, user = self._floor, session.user
        if user.owner in floor.rights.operators:
            return
        for name in (EVERYWHERE, *sorted(session.rooms)):
            ban = floor.rights.sanction(name, BAN, user.owner, key_of(nick), floor.now_ms)
            if ban is not None:
                where = floor.rights.title(name) or name or "this broker"
                detail = f"{nick} is banned from {where}"
                raise Refused(Code.BANNED, detail, left_ms(ban, floor.now_ms))


def on_their_way(floor: Floor, sender: bytes) -> Iterator[Sent]:
    """Yield the SENDs of a sender that the log is about to be given in this drain."""
    for proposal in floor.rooms.proposals:
        yield from (sent for sent in proposal.sends if sent.sender == sender)
