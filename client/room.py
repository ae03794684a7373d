"""One room as the session sees it: membership, subscription, log and roster. Pure."""

from __future__ import annotations

from client.events import Event, Joined, Removed
from client.limits import PROOF_S, REMOVED_MAX
from client.replica import Replica
from client.roster import Roster
from common import wire


class Room:
    """The state of one room. Owned by the session, hence by one thread."""

    __slots__ = (
        "birth",
        "cursor_then",
        "hungry_from_s",
        "is_announced",
        "is_joined",
        "is_rejoin_due",
        "is_return",
        "is_swap_due",
        "join_id",
        "key",
        "name",
        "proof_due_s",
        "proof_pause_s",
        "refusals",
        "removed",
        "replica",
        "role",
        "roster",
        "slow_s",
        "stale_epoch",
        "subscription",
        "suspect_epoch",
        "tickets",
        "title",
        "topic",
        "topic_by",
        "who_id",
    )

    def __init__(self, name: str, history: int | None, since_ms: int | None) -> None:
        self.name = name
        self.replica = Replica(name, history, since_ms)
        self.roster = Roster(name)
        self.topic = ""
        self.title = ""
        self.role = self.slow_s = self.topic_by = 0
        self.birth = 0  # As JOINED told it: which of the rooms that ever had this name.
        self.key = b""  # The history ticket.
        self.tickets: list[object] = []  # Calls of join() that wait for JOINED.
        self.is_joined = False  # Was JOINED received ever? Then the next JOIN is a resume.
        self.is_announced = False  # Was the event Joined emitted for this log?
        # The JOIN and WHO under way, 0 for none, and the cursor when that JOIN was sent.
        self.join_id = 0
        self.who_id = 0
        self.cursor_then = 0
        self.is_rejoin_due = False  # The keys changed after that JOIN was sent.
        # The subscription counts as working once a frame arrived on it. PROTOCOL.md, "JOIN".
        self.subscription: bytes | None = None
        self.is_swap_due = False  # Subscribe again even if JOINED names the same topic.
        self.is_return = False  # The broker forgot us all: who is there now is no news.
        self.proof_due_s = 0.0
        self.proof_pause_s = PROOF_S
        # Frames of another epoch: one is being asked about, one is known to be old.
        self.suspect_epoch: int | None = None
        self.stale_epoch: int | None = None
        self.hungry_from_s = 0.0  # History brought nothing new: don't ask before.
        self.refusals = 0  # bad_ticket in a row.
        self.removed: dict[int, None] = {}  # Seqs that the program knows to be removed.

    def rename(self, name: str) -> None:
        """Take the name that the room has from here on; log and members are the same."""
        self.name = self.roster.room = name
        self.replica.rename(name)

    def begin_join(self, request_id: int) -> wire.Join:
        """Return the JOIN to send."""
        self.join_id = request_id
        self.cursor_then = self.replica.cursor
        replica = self.replica
        epoch, head = replica.epoch or 0, replica.target
        return wire.Join(request_id, self.name, self.is_joined, epoch, head, self.birth)

    def joined(self, joined: wire.Joined) -> list[Event]:
        """Take JOINED: log, roster, ticket. The subscription is the session's part."""
        self.join_id = 0
        self.key, self.birth = joined.ticket, joined.birth
        self.topic = joined.topic
        self.title, self.role = joined.title, joined.role
        self.slow_s, self.topic_by = joined.slow_s, joined.topic_by
        if self.suspect_epoch not in (None, joined.epoch):
            self.stale_epoch = self.suspect_epoch
        self.suspect_epoch = None
        is_anew = self.replica.is_strange(joined.epoch) or joined.head < self.cursor_then
        if is_anew:
            self.is_announced = False
            self.removed.clear()
        events = self.replica.joined(joined, self.cursor_then)
        for seq in joined.removed or ():
            if is_anew:  # All that is shown of this log will be read from now on, without it.
                self._note_removed(seq)
            else:
                events += self.remove(seq)
        if not self.is_joined:
            self.roster.begin(joined.version, joined.users, joined.nicks)
        else:
            change = self.roster.replace(
                joined.version, joined.users, joined.nicks, is_news=not self.is_return
            )
            if change is not None:
                events.append(change)
        self.is_return = False
        self.is_joined = True
        return events

    def remove(self, seq: int) -> list[Event]:
        """Take the word, said more than once, that a text was removed; return what is news of it.

        Who has not read the entry yet may have its page on the way: then it is news again.
        """
        if seq in self.removed:
            return []
        if self.replica.has_read(seq):
            self._note_removed(seq)
        return [Removed(self.name, seq)]

    def _note_removed(self, seq: int) -> None:
        """Remember that this is known; the oldest of too many is forgotten."""
        self.removed[seq] = None
        if len(self.removed) > REMOVED_MAX:
            del self.removed[next(iter(self.removed))]

    def announce(self) -> Joined | None:
        """Return the event Joined, once, when the room's history was delivered."""
        if self.is_announced or not self.replica.stands:
            return None
        self.is_announced = True
        return self.summary()

    def summary(self) -> Joined:
        """Return the room as it is now."""
        nicks = self.roster.nicks
        names = None if nicks is None else sorted(nicks)
        return Joined(
            self.name,
            self.topic,
            self.roster.users,
            names,
            self.title,
            self.role,
            self.slow_s,
            self.topic_by,
        )
