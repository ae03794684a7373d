"""What live counts, in plain numbers that only its worker thread touches. Pure.

Whatever stands in the path of a message or a batch is an addition to an integer; the words and
the sums are made once a second, in `figures`.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable

from broker.chat.core import Core
from broker.log.interface import Committed
from broker.metrics.figures import COUNTS, SUM, Figures, Histogram, labelled

FAILING_S = 30.0  # A commit that failed so long ago says nothing about the next one.


class Tally:
    """Counts of one live process, since its start."""

    def __init__(self) -> None:
        self.sessions_max = 0
        self.publications_count = 0
        self.queue_full_count = 0
        self.replies_lost_count = 0
        self.trim_failures_count = 0
        self._failing_until_s = 0.0
        self._drains = Histogram("drain_messages")
        self._commits = Histogram("commit_seconds")
        self._batches = Histogram("batch_entries")

    def drained(self, messages_count: int) -> None:
        """Count the commands of one turn."""
        if messages_count:
            self._drains.add(messages_count)

    def appended(self, commit_s: float) -> None:
        """Count a commit."""
        self._commits.add(commit_s)
        self._failing_until_s = 0.0

    def append_failed(self, now_s: float) -> None:
        """Note that a commit failed; the core counts them."""
        self._failing_until_s = now_s + FAILING_S

    def committed(self, batches: Iterable[Committed]) -> None:
        """Count the entries of batches."""
        counts = self._batches.counts
        for batch in batches:  # One step deep: there may be a thousand in a commit.
            counts[bisect_left(COUNTS, batch.proposal.count)] += 1

    def figures(self, core: Core, now_s: float) -> Figures:
        """Return what to tell the supervisor; `now_s` on the steady clock."""
        drains = self._drains.told()
        return Figures(
            counted={
                "messages": drains[f"drain_messages:{SUM}"],
                "entries": core.entries_count,
                "batches": sum(self._batches.counts),
                "publications": self.publications_count,
                "publish_queue_full": self.queue_full_count,
                "replies_lost": self.replies_lost_count,
                "log_failures:append": core.log_failures_count,
                "log_failures:trim": self.trim_failures_count,
                **labelled("errors", core.refusals),
                **drains,
                **self._commits.told(),
                **self._batches.told(),
                f"batch_entries:{SUM}": core.entries_count,
            },
            now={
                "sessions": len(core.sessions),
                "sessions_max": self.sessions_max,
                "users": core.sessions.users_count,
                "rooms": len(core.rooms),
                "log_failing": int(now_s < self._failing_until_s),
                "draining": int(core.stayers is not None),
            },
        )
