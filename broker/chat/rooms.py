"""Rooms: their place in the log, what is proposed for them, and when to show their head. Pure.

PROTOCOL.md, "Rooms" and "Head beacons".
"""

from __future__ import annotations

import hmac
from bisect import bisect_left, bisect_right, insort
from collections.abc import Callable, Collection, Iterable, Iterator
from zlib import crc32

from broker import keys
from broker.chat.roster import Roster
from broker.chat.timers import Timers
from broker.log.interface import REMOVED_MAX, Proposal, RoomRecord, Spot
from common.errors import Code, Refused
from common.limits import BATCH_BYTES_MAX, BATCH_ENTRIES_MAX, KEY_BYTES, ROOM_CHARS_MAX
from common.names import check_room, is_closed
from common.order import ORDER_KIND, Removed
from common.wire import Batch, Draft, Kind, Post, encode

# Each subscriber is shown the head at once, alone; all who came within this time, and the room
# with them, are shown it again, with that of presence.
BEACON_JOIN_S = 0.25
# What is told to a room costs its members' number; a room that thousands enter at once is told
# no more often than this lets, or the cost would grow with the square of their number.
TOLD_MEMBER_S = 0.0005
TOLD_S_MAX = 1.0  # Nobody waits for it, but people want to see who came.
# After activity a room's head is shown again and again, ever more rarely: whoever missed the
# last message, and the beacons after it, has a hole for a minute at most.
BEACON_QUIETS_S = (0.25, 1.0, 4.0, 15.0, 60.0)
# Each room's own are shorter by up to this part. Rooms that fell silent together would otherwise
# be shown together for ever, and of more heads at once than a reader's queue holds, the same ones
# would be dropped each time.
BEACON_SPREAD = 0.25
# A word of a removed text may be missed as any other: it is said beside the heads, for so long;
# and whoever joins is told the last REMOVED_MAX, also those of before a restart.
REMOVED_TOLD_S = 60.0
# A batch without posts, at most: its room's name takes 4 bytes a character, a number 9.
BATCH_HEAD_BYTES = 4 * ROOM_CHARS_MAX + 64
TOPIC = Kind.TOPIC
# A post beside the characters of its texts: a nick, a time, and MessagePack's 5 bytes a text.
POST_HEAD_BYTES = 200
TEXT_HEAD_BYTES = 5

# Says of a draft in which room it is said, or where it stands when it may not be.
Judge = Callable[[Draft], str | Spot]


def telling_s(members: int) -> float:
    """Return how long so many members, once told something, are left alone."""
    return min(members * TOLD_MEMBER_S, TOLD_S_MAX)


class Room:
    """One room."""

    __slots__ = (
        "beacon_pace",
        "beacon_step",
        "first",
        "generation",
        "head",
        "is_kept",
        "name",
        "proposal",
        "removed",
        "roster",
        "secret",
        "slow_s",
        "spoke_s",
        "subscription",
        "told_until_s",
        "topic",
        "topic_by",
        "ts",
    )

    def __init__(self, record: RoomRecord, secret: bytes, version: int) -> None:
        self.name = record.name
        self.generation = record.generation
        self.first = record.first
        self.head = record.head
        self.topic = record.topic
        self.set_keys(secret)
        self.roster = Roster(version)
        self.proposal: Proposal | None = None  # What this drain says here, until it is full.
        self.ts = record.ts  # Of the newest post: times never fall within a room.
        self.beacon_pace = 1 - BEACON_SPREAD * crc32(record.name.encode()) / 2**32
        self.beacon_step = 0
        self.told_until_s = 0.0  # Its head is not shown again before, to please newcomers.
        self.slow_s = 0  # Between two texts of one person; 0: it is not slow.
        self.spoke_s: dict[bytes, float] = {}  # In a slow room: who spoke when, oldest first.
        self.is_kept = False  # In the log, though perhaps nothing was ever said.
        # Seqs, oldest removal first: told until when. Of an earlier run everybody joins anew.
        self.removed = dict.fromkeys(record.removed, 0.0)
        self.topic_by = 0  # The lowest `common.order.Role` that may set the topic.

    def note_removed(self, seq: int, now_s: float) -> None:
        """Note that an entry's text was removed; the oldest of too many is forgotten."""
        self.removed.pop(seq, None)
        self.removed[seq] = now_s + REMOVED_TOLD_S
        if len(self.removed) > REMOVED_MAX:
            del self.removed[next(iter(self.removed))]

    def set_keys(self, secret: bytes) -> None:
        """Make the topic of the room's name and generation, and tickets from here on."""
        self.secret = secret
        self.subscription = keys.subscription(secret, self.name, self.generation)

    def ticket(self, key: bytes, now_ms: int) -> bytes:
        """Return what opens the room's history to the holder of a key, for a day."""
        return keys.fresh_ticket(self.secret, self.name, self.generation, key, now_ms)


class Rooms:
    """All rooms that have entries or members."""

    def __init__(
        self,
        records: Iterable[RoomRecord],
        *,
        secret: bytes,
        epoch: int,
        version: int,
        rooms_max: int,
    ) -> None:
        self._secret = secret
        self._epoch = epoch
        self._version = version  # Where each roster's versions begin: above any earlier run's.
        self._rooms_max = rooms_max
        self._rooms = {record.name: Room(record, secret, version) for record in records}
        for room in self:
            room.is_kept = True
        # Of those that are open, kept in order: everybody may ask for them any time.
        self._names = sorted(name for name in self._rooms if not is_closed(name))
        self._beacons: Timers[str] = Timers()
        self.proposals: list[Proposal] = []

    def __len__(self) -> int:
        """Return how many rooms there are, as far as everybody may know."""
        return len(self._names)

    def __iter__(self) -> Iterator[Room]:
        return iter(self._rooms.values())

    def get(self, name: str) -> Room | None:
        """Return the room of this exact spelling."""
        return self._rooms.get(name)

    def after(self, name: str) -> Iterator[Room]:
        """Yield the open rooms whose names come after this one, in the order of their names."""
        for index in range(bisect_right(self._names, name), len(self._names)):
            yield self._rooms[self._names[index]]

    def open(self, name: str) -> Room:
        """Return the room, made where there is none; raise `Refused`."""
        name = check_room(name)
        room = self._rooms.get(name)
        if room is None:
            if len(self._rooms) >= self._rooms_max:
                raise Refused(Code.TOO_MANY_ROOMS, f"{self._rooms_max} rooms are the most here")
            room = self._add(name)
        return room

    def _add(self, name: str) -> Room:
        record = RoomRecord(name, 0, 1, 0, "")
        room = self._rooms[name] = Room(record, self._secret, self._version)
        if not is_closed(name):
            insort(self._names, name)
        return room

    def found(self, name: str) -> Room:
        """Return a closed room that has just come to be; raise `Refused`."""
        if len(self._rooms) >= self._rooms_max:
            raise Refused(Code.TOO_MANY_ROOMS, f"{self._rooms_max} rooms are the most here")
        return self._add(name)

    def forget(self, room: Room) -> None:
        """Be without a room that is not in the log."""
        del self._rooms[room.name]
        if not is_closed(room.name):
            del self._names[bisect_left(self._names, room.name)]
        self._beacons.cancel(room.name)

    def rename(self, room: Room, name: str) -> None:
        """Give a room another name, and with it other keys. What it is about to say goes along."""
        del self._rooms[room.name]
        if not is_closed(room.name):
            del self._names[bisect_left(self._names, room.name)]
        self._beacons.cancel(room.name)
        for proposal in self.proposals:
            if proposal.room == room.name:
                proposal.room = name
        room.name = name
        room.set_keys(self._secret)
        self._rooms[name] = room
        if not is_closed(name):
            insort(self._names, name)

    def raise_generation(self, room: Room, generation: int) -> None:
        """Give a room other keys: those of before are worthless."""
        room.generation = generation
        room.set_keys(self._secret)

    def drop_if_unused(self, room: Room) -> bool:
        """Forget a room that nobody is in and nobody ever said anything in; tell whether it was."""
        is_known = self._rooms.get(room.name) is room  # It may have been forgotten before.
        is_used = room.roster or room.head or room.is_kept or room.proposal is not None
        if is_known and not is_used:
            self.forget(room)
        return is_known and not is_used

    def propose(
        self,
        drafts: Iterable[Draft],
        speaks: Collection[str],
        nick: str,
        now_ms: int,
        *,
        wide: int,
        judge: Judge,
    ) -> tuple[list[Spot], Proposal | None]:
        """Put posts into their rooms' proposals, those that may be said.

        speaks: rooms in which all texts may be. judge: asked about posts in others, and about
        topics. wide: bytes that a character takes at most. Returns where each post is, and the
        proposal after which all are in the log; None when none can be kept.
        """
        rooms, proposals = self._rooms, self.proposals
        spots: list[Spot] = []
        last = -1
        for draft in drafts:
            name, texts = draft.room, draft.texts
            if name not in speaks or draft.kind is TOPIC:
                verdict = judge(draft)
                if not isinstance(verdict, str):
                    spots.append(verdict)
                    continue
                name = verdict
            room = rooms[name]
            count = len(texts)
            chars = len(texts[0]) if count == 1 else sum(map(len, texts))
            size_bytes = wide * chars + TEXT_HEAD_BYTES * count + POST_HEAD_BYTES
            proposal = room.proposal
            if (
                proposal is None
                or proposal.count + count > BATCH_ENTRIES_MAX
                or proposal.size_bytes + size_bytes > BATCH_BYTES_MAX
            ):
                proposal = self._begin(room)
            if room.ts < now_ms:  # noqa: PLR1730 - max() is a call, for each post
                room.ts = now_ms
            ts, kind, index = room.ts, draft.kind, proposal.index
            spots.append((index, proposal.count, ts))
            proposal.posts.append(Post(ts, nick, kind, texts))
            proposal.count += count
            proposal.size_bytes += size_bytes
            if kind is TOPIC:
                proposal.topic = texts[0]
            if index > last:  # noqa: PLR1730 - likewise
                last = index
        return spots, proposals[last] if last >= 0 else None

    def _begin(self, room: Room) -> Proposal:
        """Return the proposal for what is said in a room from here on."""
        proposal = room.proposal = Proposal(room.name, len(self.proposals))
        proposal.size_bytes = BATCH_HEAD_BYTES
        self.proposals.append(proposal)
        return proposal

    def announce(self, room: Room, nick: str, text: str, now_ms: int) -> None:
        """Have the log say what somebody did in a room; a line that nobody can send."""
        proposal = self._begin(room)
        room.ts = max(room.ts, now_ms)
        proposal.posts.append(Post(room.ts, nick, ORDER_KIND, [text]))
        proposal.count = 1
        proposal.size_bytes += 4 * len(text) + TEXT_HEAD_BYTES + POST_HEAD_BYTES

    def take_proposals(self) -> list[Proposal]:
        """Return what was proposed since the last call; later posts open new proposals."""
        proposals, self.proposals = self.proposals, []
        for proposal in proposals:
            self._rooms[proposal.room].proposal = None
        return proposals

    def admits(self, topic: bytes) -> str | None:
        """Return the room that a subscription opens, by its key; None for a foreign topic.

        A room without entries is forgotten at a restart, but its members' subscriptions
        are recognised all the same.
        """
        name_bytes, nul, key = topic.partition(b"\0")
        if not nul or len(key) != KEY_BYTES:
            return None
        try:
            name = name_bytes.decode()
        except UnicodeDecodeError:
            return None
        room = self._rooms.get(name)
        expected = room.subscription if room else keys.subscription(self._secret, name, 0)
        if not hmac.compare_digest(topic, expected):
            return None  # First, for it takes a fraction of the time that the spelling does.
        if room is None and is_closed(name):
            return None  # It has another name now.
        try:
            return name if room or check_room(name) == name else None
        except Refused:
            return None

    def subscribed(self, name: str, now_s: float) -> None:
        """Show the room's heads to everybody soon: somebody has just subscribed."""
        room = self._rooms.get(name)
        at_s = max(now_s + BEACON_JOIN_S, room.told_until_s if room else 0.0)
        if self._beacons.deadline(name) > at_s:
            self._beacons.set(name, at_s)

    def head(self, name: str) -> bytes:
        """Return the publication that shows the head of a room."""
        room = self._rooms.get(name)
        head = room.head if room else 0
        subscription = room.subscription if room else keys.subscription(self._secret, name, 0)
        return subscription + encode(Batch(name, self._epoch, head, head + 1, []))

    def removals(self, room: Room, now_s: float) -> list[bytes]:
        """Return the publications that tell a room which texts were removed of late."""
        return [
            room.subscription + encode(Removed(room.name, self._epoch, seq))
            for seq, until_s in room.removed.items()
            if now_s < until_s
        ]

    def published(self, room: Room, now_s: float) -> None:
        """Show the room's head after a short quiet: a batch has just been published."""
        room.beacon_step = 0
        self._beacons.set(room.name, now_s + BEACON_QUIETS_S[0])

    def beacons(self, now_s: float) -> list[bytes]:
        """Return the publications of the heads that are due, of log and presence."""
        publications = []
        for name in self._beacons.due(now_s):
            publications.append(self.head(name))
            room = self._rooms.get(name)
            if room and room.roster:
                publications.append(room.subscription + encode(room.roster.head(name)))
                publications += self.removals(room, now_s)
                room.told_until_s = now_s + telling_s(len(room.roster))
                quiet_until_s = now_s + BEACON_QUIETS_S[room.beacon_step] * room.beacon_pace
                self._beacons.set(name, max(quiet_until_s, room.told_until_s))
                room.beacon_step = min(room.beacon_step + 1, len(BEACON_QUIETS_S) - 1)
        return publications

    def next_deadline_s(self) -> float:
        """Return when `beacons` has something again."""
        return self._beacons.next()
