"""What is said: SEND, its numbers, and who may say what where. Pure. PROTOCOL.md, "Numbers"."""

from __future__ import annotations

from broker.chat.entrance import on_their_way
from broker.chat.floor import Floor, is_begun
from broker.chat.rights import MUTE, left_ms
from broker.chat.rooms import Room
from broker.chat.sessions import Session
from broker.chat.texts import check_texts
from broker.log.interface import Proposal, Sent, Spot, nowhere, reason_of
from common import wire
from common.errors import Code, Refused
from common.limits import SEND_TEXTS_MAX, SENDS_IN_FLIGHT_MAX
from common.names import is_talk
from common.order import Role
from common.wire import Draft, Kind

ACK_HEAD = wire.REPLY_HEADS[wire.Ack]
SPOKE_MAX = 16_384  # Who spoke last in a slow room; of more the first may speak again too early.


class Speech:
    """Of one broker."""

    def __init__(self, floor: Floor) -> None:
        self._floor = floor
        self.texts_count = 0  # Of all SENDs since proposals were taken.

    def send(self, session: Session, command: wire.Send) -> None:
        """Propose what a client says for the log."""
        floor = self._floor
        drafts = command.posts
        texts = [text for draft in drafts for text in draft.texts]
        if len(texts) > SEND_TEXTS_MAX:
            raise Refused(Code.BAD_PAYLOAD, f"a SEND has at most {SEND_TEXTS_MAX} texts")
        if command.number != session.expected:
            self._send_out_of_turn(session, command.number)
            return
        # Behind a SEND that is refused a client has a window of others, which it says again with
        # it: if only that one passed, each text would travel as often as a window has SENDs.
        floor.charge(session, len(texts), alike=SENDS_IN_FLIGHT_MAX)
        session.expected += 1  # Also when it is refused: the next one is not out of turn.
        wide = check_texts(drafts, texts)
        self.texts_count += len(texts)
        spots, last = floor.rooms.propose(
            drafts,
            session.speaks,
            session.user.nick,
            floor.now_ms,
            wide=wide,
            judge=lambda draft: self._judge(session, draft),
        )
        if last is None:
            reason = reason_of(spots[0])
            assert reason is not None
            raise Refused(reason[0], value=reason[1])
        if not session.has_spoken:
            session.has_spoken = True
            floor.register.spoke(session.user.nick, session.user.owner)
        last.sends.append(Sent(session.sender, command.number, spots, session))

    def _send_out_of_turn(self, session: Session, number: int) -> None:
        """Answer a SEND that came before, or one that came too early."""
        if number > session.expected:
            raise Refused(Code.GAP, f"{session.expected} comes first", session.expected)
        mark = session.kept.get(number)
        if mark is not None:
            self._floor.answer(session.route, [ACK_HEAD, mark])
        elif all(sent.number != number for sent in on_their_way(self._floor, session.sender)):
            raise Refused(Code.NOT_KEPT)  # But what is on its way gets its ACK from the log.

    def acknowledge(self, proposal: Proposal) -> None:
        """Tell the senders whose SENDs end in a proposal that they are in the log."""
        replies = self._floor.effects.replies
        for sent in proposal.sends:
            replies.append((sent.session.route, [ACK_HEAD, sent.ack]))

    def _judge(self, session: Session, draft: Draft) -> str | Spot:
        """Return the room in which a draft is said, or why it is not.

        Asked about topics, and about what is said where not everything may be.
        """
        try:
            room = self._floor.member_room(session, draft.room)
        except Refused:
            return nowhere(Code.NOT_MEMBER)
        rights, user = self._floor.rights, session.user
        if draft.kind is Kind.TOPIC and rights.role(room.name, user.owner) < room.topic_by:
            return nowhere(Code.TOPIC_CLOSED)
        if room.name in session.speaks:
            return room.name
        hindrance = self._judge_talk(session, room) if is_talk(room.name) else None
        if hindrance is not None:
            return hindrance
        return self._judge_speaker(session, room, len(draft.texts))

    def _judge_talk(self, session: Session, room: Room) -> Spot | None:
        """Return why nothing can be said in a talk, if so; else who speaks there takes it up."""
        floor = self._floor
        if len(floor.rights.members(room.name)) < 2:  # noqa: PLR2004 - a talk takes two
            floor.send_away(session, room, "the other one has left this talk: begin it anew")
            return nowhere(Code.NOT_MEMBER)
        if is_begun(room) and not floor.keep_talk(room):
            return nowhere(Code.LOG_FAILED)
        floor.arrived(session, room)
        return None

    def _judge_speaker(self, session: Session, room: Room, texts_count: int) -> str | Spot:
        """Likewise, of somebody who was muted, or is in a room that is slow."""
        rights, user, now_ms = self._floor.rights, session.user, self._floor.now_ms
        mute = rights.sanction(room.name, MUTE, user.owner, user.key, now_ms)
        if mute is not None:
            return nowhere(Code.MUTED, left_ms(mute, now_ms))
        self._floor.hear_out(session, room)  # Its time was up.
        if room.slow_s and rights.role(room.name, user.owner) < Role.MODERATOR:
            return self._in_slow(room, user.owner, texts_count)
        return room.name

    def _in_slow(self, room: Room, identity: bytes, texts_count: int) -> str | Spot:
        """Let somebody say one thing in a slow room, if it is time."""
        now_s, spoke_s = self._floor.now_s, room.spoke_s
        wait_s = spoke_s.get(identity, -float(room.slow_s)) + room.slow_s - now_s
        if wait_s > 0:
            return nowhere(Code.SLOW_MODE, int(wait_s * 1_000) + 1)
        if texts_count > 1:  # It is never time for several.
            return nowhere(Code.SLOW_MODE, room.slow_s * 1_000)
        spoke_s.pop(identity, None)
        while spoke_s:
            oldest = next(iter(spoke_s))
            if spoke_s[oldest] + room.slow_s > now_s and len(spoke_s) < SPOKE_MAX:
                break
            del spoke_s[oldest]
        spoke_s[identity] = now_s
        return room.name
