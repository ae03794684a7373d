"""One room's log as this client has seen it: snapshot, live batches and repairs, merged by seq.

Pure: no I/O, no clock. Here is decided that a program sees every entry exactly once and in
order, or hears how many are gone. PROTOCOL.md, "Replica of a room".

The cursor is the last seq that was delivered; everything up to it is done with. A batch that
begins above the cursor shows a hole. It is held until history has filled the hole, and `wants`
says what to ask. Only JOINED says which log (epoch) is the right one: batches and pages of
another epoch must be shown to `is_strange` first.
"""

from __future__ import annotations

from typing import Final, NamedTuple

from msgspec.structs import replace

from client.events import (
    KIND_NAMES,
    KIND_REMOVED,
    KIND_UNKNOWN,
    Entry,
    Event,
    Missing,
    Reset,
)
from client.limits import HELD_BATCHES_MAX, HELD_ENTRIES_MAX
from common import spans, wire
from common.limits import HISTORY_DEFAULT, HISTORY_ENTRIES_MAX, NUMBER_MAX
from common.wire import Mode


class Ask(NamedTuple):
    """One question for the history endpoint; see `wire.History`."""

    mode: Mode
    at: int
    limit: int


LIVE: Final = None  # Not a snapshot's mode: the cursor is where the program is.


class Replica:
    """The state of one room. Owned by the session, hence by one thread.

    history: entries that a newcomer sees; 0 for none, None for all that the log has.
    since_ms: entries from this time on (milliseconds since 1970) instead.
    """

    __slots__ = (
        "_before",
        "_collected",
        "_count",
        "_held",
        "_held_entries",
        "_history",
        "_phase",
        "_since_ms",
        "_stands_at",
        "cursor",
        "epoch",
        "room",
        "target",
    )

    def __init__(
        self, room: str, history: int | None = HISTORY_DEFAULT, since_ms: int | None = None
    ) -> None:
        self.room = room
        self.epoch: int | None = None  # None until JOINED.
        self.cursor = 0
        self.target = 0  # The newest seq known to be in the log.
        self._history = history
        self._since_ms = since_ms
        self._phase: Mode | None = LIVE
        self._stands_at = 0
        self._before = 0  # BEFORE: where the next page of the snapshot ends.
        self._count = 0  # BEFORE: entries still wanted.
        self._collected: list[list[Entry | Missing]] = []  # BEFORE: pages, newest first.
        self._held: list[wire.Batch] = []
        self._held_entries = 0

    @property
    def has_hole(self) -> bool:
        """Whether history is needed."""
        return self._phase is not LIVE or self.cursor < self.target

    @property
    def stands(self) -> bool:
        """Whether everything up to the head at the time of joining was delivered."""
        return self._phase is LIVE and self.epoch is not None and self.cursor >= self._stands_at

    def has_read(self, seq: int) -> bool:
        """Tell whether an entry was delivered: what a snapshot is still to bring was not."""
        return self._phase is LIVE and seq <= self.cursor

    def rename(self, room: str) -> None:
        """Go on under another name; the log is the same."""
        self.room = room
        self._collected = [
            [replace(each, room=room) for each in piece] for piece in self._collected
        ]

    def is_strange(self, epoch: int) -> bool:
        """Return whether JOINED gave another epoch than this one. Then JOIN must tell again."""
        return epoch != self.epoch

    def joined(self, joined: wire.Joined, cursor_then: int) -> list[Event]:
        """Take the log's state from JOINED; `cursor_then` is the cursor when JOIN was sent.

        A head below that cursor means that the log was rolled back: it starts over then, as it
        does with another epoch.
        """
        if joined.epoch == self.epoch and joined.head >= cursor_then:
            self.target = max(self.target, joined.head)
            return self._release([])
        events: list[Event] = [] if self.epoch is None else [Reset(self.room)]
        self.epoch = joined.epoch
        self._held.clear()
        self._held_entries = 0
        self._begin(joined.first, joined.head)
        return events

    def _begin(self, first: int, head: int) -> None:
        """Start as a newcomer. The snapshot's own entries lie at or below the cursor set here."""
        self.target = self.cursor = self._stands_at = head
        self._phase = LIVE
        self._collected = []
        oldest = max(first - 1, 0)
        if first > head:
            return  # The log is empty.
        if self._since_ms is not None:
            self._phase = Mode.SINCE
        elif self._history is None:
            self.cursor = oldest
        elif self._history > HISTORY_ENTRIES_MAX:
            # Too many to hold until the oldest is known, so count back by seq instead. In a log
            # whose numbers have gaps this finds fewer entries, never more.
            self.cursor = max(oldest, head - self._history)
        elif self._history > 0:
            self._phase = Mode.BEFORE
            self._before = head + 1
            self._count = self._history

    def live(self, batch: wire.Batch, events: list[Event]) -> None:
        """Take a published batch of the right epoch; add what it brings to `events`."""
        if batch.prev <= self.cursor and self._phase is LIVE:
            self._deliver(batch, events)
            if self._held:
                self._release(events)
            return
        last = spans.last_seq(batch)
        if last <= self.cursor:
            return
        self.target = max(self.target, last)
        entries_count = spans.texts_count(batch)
        if (
            entries_count
            and len(self._held) < HELD_BATCHES_MAX
            and self._held_entries + entries_count <= HELD_ENTRIES_MAX
        ):
            self._held.append(batch)
            self._held_entries += entries_count
        # Otherwise the target remembers that it exists, and a repair fetches it.

    def wants(self) -> Ask | None:
        """Return the history question that would bring this room on, if any."""
        if self._phase is Mode.BEFORE:
            return Ask(Mode.BEFORE, self._before, self._count)
        if self._phase is Mode.SINCE:
            return Ask(Mode.SINCE, self._since_ms or 0, HISTORY_ENTRIES_MAX)
        return self._wants_after(self.cursor)

    def wants_next(self, ask: Ask, page: wire.Page, last: int) -> Ask | None:
        """Return what `wants` will once `page` was taken, whose newest entry is `last`.

        None where that is not certain. So the next page can be on its way while this one, the
        answer to `ask`, is still being read.
        """
        is_plain = self._phase is LIVE and ask.mode is Mode.AFTER and ask.at == self.cursor
        if not is_plain or not page.more or page.epoch != self.epoch or last <= self.cursor:
            return None
        return self._wants_after(last)

    def _wants_after(self, cursor: int) -> Ask | None:
        if cursor >= self.target:
            return None
        end = min((batch.prev for batch in self._held), default=self.target)
        # Numbers may have gaps, so the difference bounds the entries that can be missing.
        limit = min(max(end - cursor, 1), HISTORY_ENTRIES_MAX)
        return Ask(Mode.AFTER, cursor, limit)

    def page(self, ask: Ask, page: wire.Page, batches: list[wire.Batch]) -> list[Event]:
        """Take the answer to `ask`; an answer that is no longer wanted changes nothing."""
        events: list[Event] = []
        if page.epoch != self.epoch or page.head < self._stands_at:
            return events  # Of another log, or of a name that the room has no more.
        if self._phase is Mode.BEFORE:
            if ask.mode is Mode.BEFORE and ask.at == self._before:
                self._page_before(page, batches, events)
        elif self._phase is Mode.SINCE:
            if ask.mode is Mode.SINCE:
                self._page_since(batches, events)
        elif ask.mode is Mode.AFTER and ask.at <= self.cursor:
            self._page_after(page, batches, events)
        return events

    def _page_before(self, page: wire.Page, batches: list[wire.Batch], events: list[Event]) -> None:
        found: list[Entry | Missing] = []
        count, oldest = self._count, self._before
        for batch in reversed(batches):
            if lost_count := spans.lost_count(batch):
                lost_count = min(lost_count, oldest - batch.first, count)
                found.append(Missing(self.room, lost_count))
                count -= lost_count
                oldest -= lost_count
            elif entries := expand(self.room, batch, 0, self._before - 1)[0][-count:]:
                found += reversed(entries)
                count -= len(entries)
                oldest = entries[0].seq
            if count <= 0:
                break
        if found:
            found.reverse()
            self._collected.append(found)
            self._count, self._before = count, oldest
        if page.more and found and self._count > 0:
            return  # The page ended by its bytes.
        for piece in reversed(self._collected):
            events += piece
        self._collected = []
        self._phase = LIVE
        self._release(events)

    def _page_since(self, batches: list[wire.Batch], events: list[Event]) -> None:
        """Find the first entry of that time; from there on, clocks that step back don't matter."""
        since_ms = self._since_ms or 0
        self._phase = LIVE
        seq = _seq_since(batches, since_ms)
        if seq is not None:
            if seq <= self.cursor:
                self.cursor = seq - 1
                self._deliver_all(batches, events)
            # Otherwise it was said after the join: then everything since is wanted.
            self.target = max(self.target, seq)
        self._release(events)

    def _page_after(self, page: wire.Page, batches: list[wire.Batch], events: list[Event]) -> None:
        if not batches and page.first > self.cursor + 1:
            self._miss(page.first - 1, events)
        self._deliver_all(batches, events)

    def _deliver_all(self, batches: list[wire.Batch], events: list[Event]) -> None:
        """Deliver a page. What lies between its batches is not in the log any more."""
        for batch in batches:
            if batch.prev > self.cursor:
                self._miss(batch.prev, events)
            self._deliver(batch, events)
        self._release(events)

    def _miss(self, seq: int, events: list[Event]) -> None:
        events.append(Missing(self.room, seq - self.cursor))
        self.cursor = seq
        self.target = max(self.target, seq)

    def _deliver(self, batch: wire.Batch, events: list[Event]) -> None:
        entries, last = expand(self.room, batch, self.cursor)
        events += entries
        self.cursor = max(self.cursor, last)
        self.target = max(self.target, last)

    def _release(self, events: list[Event]) -> list[Event]:
        """Deliver the held batches that the cursor has reached; drop those it has passed."""
        if self._phase is not LIVE or not self._held:
            return events
        self._held.sort(key=_prev)
        held = []
        for batch in self._held:
            if batch.prev <= self.cursor:
                self._deliver(batch, events)
            else:
                held.append(batch)
        self._held = held
        self._held_entries = sum(map(spans.texts_count, held))
        return events


def _prev(batch: wire.Batch) -> int:
    return batch.prev


def _seq_since(batches: list[wire.Batch], since_ms: int) -> int | None:
    """Return the first seq of a time or later; of what is lost nobody knows, so it counts."""
    for batch in batches:
        seq = batch.first
        if spans.lost_count(batch):
            return seq
        for post in batch.posts:
            if post.ts >= since_ms:
                return seq
            seq += len(post.texts)
    return None


def expand(
    room: str, batch: wire.Batch, after: int, until: int = NUMBER_MAX
) -> tuple[list[Entry], int]:
    """Return the batch's entries with after < seq <= until, and the batch's last seq."""
    if not batch.posts:
        return [], batch.prev
    entries: list[Entry] = []
    first = seq = batch.first
    for post in batch.posts:
        kind = KIND_NAMES.get(post.kind, KIND_UNKNOWN)
        ts = post.ts
        nick = post.nick
        for text in post.texts:  # Mostly one; a comprehension costs more than it saves then.
            if "\0" in text and not text.strip("\0"):  # Nobody says that: it is what is left.
                entries.append(Entry(room, seq, ts, KIND_REMOVED, nick, ""))
            else:
                entries.append(Entry(room, seq, ts, kind, nick, text))
            seq += 1
    if first <= after or seq - 1 > until:
        entries = [entry for entry in entries if after < entry.seq <= until]
    return entries, seq - 1
