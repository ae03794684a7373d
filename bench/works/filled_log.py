"""Logs of a given length, written by the broker's own code, and what an append and a read cost."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

from bench.text import Maker
from broker.log.interface import Proposal, Sent
from broker.log.reader import SqliteReader
from broker.log.writer import SqliteLog, prepare
from common.limits import SENDS_IN_FLIGHT_MAX
from common.wire import Kind, Mode, Post

ROOM: Final = "replay"
# A batch as a busy room makes them: a drain finds some SENDs, each of some coalesced texts.
TEXTS_PER_BATCH: Final = 16
TEXTS_PER_POST: Final = 4
BATCHES_PER_COMMIT: Final = 256  # Rows are the same as with a commit each, and come sooner.
SENDERS: Final = 16

Times = NDArray[np.float64]


class Filler:
    """Appends to one room of a log. Belongs to one thread.

    Text `number` (from 0) is that of the entry with seq `number` + 1; see `bench.text`.
    """

    def __init__(self, folder: Path, text_bytes: int) -> None:
        """Open the log in the folder, or make it."""
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        # Nothing is dropped: what is retained is the business of the broker that opens it later.
        self._log = SqliteLog(prepare(folder), retain_messages=0, retain_days=0)
        self._text_bytes = text_bytes
        self._maker = Maker(0, text_bytes, TEXTS_PER_BATCH * BATCHES_PER_COMMIT)
        self._senders = [f"sender-{index:02d}".encode() for index in range(SENDERS)]
        self._sends = 0
        heads = [record.head for record in self._log.rooms() if record.name == ROOM]
        self.count = heads[0] if heads else 0  # Entries that the log has.

    def fill(self, count: int, tell: Callable[[int], None] = lambda _: None) -> None:
        """Append until the log has `count` entries; `tell` hears how many, after each commit."""
        while self.count < count:
            wanted = min(count - self.count, TEXTS_PER_BATCH * BATCHES_PER_COMMIT)
            self._append(wanted, has_sends=False)
            tell(self.count)

    def append_batch(self) -> None:
        """Append one batch as the broker does: a commit of its own, its SENDs remembered."""
        self._append(TEXTS_PER_BATCH, has_sends=True)

    def _append(self, count: int, *, has_sends: bool) -> None:
        joined = self._maker.make(self.count, count).decode()
        size = self._text_bytes
        texts = [joined[start : start + size] for start in range(0, len(joined), size)]
        ts = time.time_ns() // 1_000_000
        proposals: list[Proposal] = []
        for start in range(0, count, TEXTS_PER_BATCH):
            proposal = Proposal(ROOM, len(proposals))
            in_batch = texts[start : start + TEXTS_PER_BATCH]
            for offset in range(0, len(in_batch), TEXTS_PER_POST):
                said = in_batch[offset : offset + TEXTS_PER_POST]
                if has_sends:
                    proposal.sends.append(self._sent(proposal.index, offset, ts))
                nick = f"nick-{len(proposal.posts)}"
                proposal.posts.append(Post(ts, nick, Kind.TEXT, said))
            proposal.count = len(in_batch)
            proposals.append(proposal)
        self._log.append(proposals)
        self._log.follow()
        self.count += count

    def _sent(self, proposal_index: int, offset: int, ts: int) -> Sent:
        self._sends += 1
        sender = self._senders[self._sends % SENDERS]
        return Sent(sender, self._sends // SENDERS, [(proposal_index, offset, ts)], None)

    def close(self) -> None:
        """Release the log; what waits in its write-ahead log is folded into the file."""
        self._log.close()


def file_bytes(folder: Path) -> int:
    """Return the size of a log that nobody has open."""
    return sum(path.stat().st_size for path in folder.iterdir())


def costs_us(
    folders: list[Path], text_bytes: int, last: int, rounds: int
) -> tuple[list[Times], list[Times]]:
    """Return what each append of a batch and each read of the last entries took, per log.

    Logs take turns, so that a machine that slows down slows all of them. In microseconds, in this
    process: an append includes its fsync. Appends lengthen the logs by `rounds` batches.
    """
    fillers = [Filler(folder, text_bytes) for folder in folders]
    readers = [SqliteReader(prepare(folder)) for folder in folders]
    appends = np.zeros((len(folders), rounds))
    reads = np.zeros((len(folders), rounds))
    try:
        for index in range(rounds):
            for which, (filler, reader) in enumerate(zip(fillers, readers, strict=True)):
                appends[which, index] = _time_us(filler.append_batch)
                head = filler.count

                def read(reader: SqliteReader = reader, head: int = head) -> None:
                    page = reader.read(ROOM, Mode.BEFORE, head + 1, last)
                    assert page.record.head == head

                reads[which, index] = _time_us(read)
    finally:
        for reader in readers:
            reader.close()
        for filler in fillers:
            filler.close()
    return list(appends), list(reads)


def _time_us(call: Callable[[], None]) -> float:
    start_ns = time.perf_counter_ns()
    call()
    return (time.perf_counter_ns() - start_ns) / 1_000


assert TEXTS_PER_BATCH // TEXTS_PER_POST <= SENDERS <= SENDERS * SENDS_IN_FLIGHT_MAX
