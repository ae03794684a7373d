"""A room's log in memory, as the broker keeps and serves it: for tests of the client."""

from __future__ import annotations

from common import spans, wire
from common.wire import Mode

EPOCH = 7


class LogModel:
    """Batches of texts; each text is its own seq, so a test sees at once what it got.

    gap: seqs that are left out before each batch, as a replicated log does.
    """

    def __init__(self, room: str = "lobby", *, epoch: int = EPOCH, gap: int = 0) -> None:
        self.room = room
        self.epoch = epoch
        self.gap = gap
        self.damaged: set[int] = set()  # The `prev` of batches that cannot be read.
        self.head = 0
        self.batches: list[wire.Batch] = []

    @property
    def first(self) -> int:
        """The oldest seq that is still there; head + 1 when there is none."""
        return self.batches[0].first if self.batches else self.head + 1

    @property
    def seqs(self) -> list[int]:
        """Return all seqs that are still there."""
        return [batch.first + i for batch in self.batches for i in range(spans.texts_count(batch))]

    def append(self, *sizes: int, ts: int | None = None) -> wire.Batch:
        """Commit one batch with a post of each size."""
        first = self.head + 1 + self.gap
        posts = []
        seq = first
        for size in sizes:
            texts = [str(n) for n in range(seq, seq + size)]
            posts.append(wire.Post(seq if ts is None else ts, "anna", 0, texts))
            seq += size
        batch = wire.Batch(self.room, self.epoch, self.head, first, posts)
        self.batches.append(batch)
        self.head = seq - 1
        return batch

    def beacon(self) -> wire.Batch:
        """Return an empty batch that tells the head."""
        return wire.Batch(self.room, self.epoch, self.head, self.head + 1, [])

    def cut(self, count: int) -> None:
        """Forget the oldest batches."""
        del self.batches[:count]

    def joined(self, request_id: int = 1) -> wire.Joined:
        """Return the answer to JOIN."""
        return wire.Joined(
            request_id,
            self.room,
            self.room.encode() + b"\0" + b"k" * 16,
            b"t" * 16,
            self.epoch,
            self.first,
            self.head,
            "",
            1,
            1,
            ["anna"],
        )

    def page(
        self, mode: Mode, at: int, limit: int, *, batches_max: int = 99, request_id: int = 1
    ) -> tuple[wire.Page, list[wire.Batch]]:
        """Answer HISTORY with whole batches that cover the range, at most `batches_max`."""
        if mode is Mode.BEFORE:
            found = [batch for batch in self.batches if batch.first < at]
            found.reverse()
        elif mode is Mode.AFTER:
            found = [batch for batch in self.batches if spans.last_seq(batch) > at]
        else:
            found = [batch for batch in self.batches if batch.posts[-1].ts >= at]
        taken: list[wire.Batch] = []
        count = 0
        for batch in found:
            if count >= limit or len(taken) >= batches_max:
                break
            taken.append(batch)
            first, last = batch.first, spans.last_seq(batch)
            low = at + 1 if mode is Mode.AFTER else first
            high = at - 1 if mode is Mode.BEFORE else last
            count += min(last, high) - max(first, low) + 1
        is_more = len(taken) < len(found)
        if mode is Mode.BEFORE:
            taken.reverse()
        taken = [
            spans.lost(self.room, self.epoch, batch.first, spans.last_seq(batch))
            if batch.prev in self.damaged
            else batch
            for batch in taken
        ]
        page = wire.Page(request_id, self.room, self.epoch, self.first, self.head, is_more)
        return page, taken
