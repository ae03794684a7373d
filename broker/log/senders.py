"""What the log's index remembers of senders: where their last SENDs went.

Each commit's record has what is new. When the index is written, it gets that as one row of
`sends`; from there it goes into `senders`, a row per sender, a few senders at a time and seldom:
a row per sender each time would cost more than the messages when hundreds of people say
something at once.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Mapping
from itertools import islice
from typing import NamedTuple

import msgspec

from broker.log.interface import LogUnusable, Marks
from common.limits import SENDS_IN_FLIGHT_MAX
from common.wire import Ack, Place, encode

# A fold takes so many senders, or such a part of those that wait: chat does not wait long for
# it, and nobody waits for more than some twenty folds.
FOLD_SENDERS = 256
FOLD_PART = 8


class _OldMark(msgspec.Struct, array_like=True):
    """A mark of the time when a SEND was for one room."""

    room: str
    first: int
    ts: int


_decode_marks = msgspec.msgpack.Decoder(dict[int, bytes | _OldMark]).decode
_decode_sends = msgspec.msgpack.Decoder(dict[bytes, dict[int, bytes | _OldMark]]).decode
UNREADABLE = (msgspec.DecodeError, ValueError)  # ValueError: a text that is not UTF-8.
_decode_ack = msgspec.msgpack.Decoder(Ack).decode


def _today(marks: Mapping[int, bytes | _OldMark]) -> Marks:
    """Return marks in today's form, in the order of their numbers."""
    return {
        number: encode(Ack(number, [Place(mark.first, mark.ts)]))
        if isinstance(mark, _OldMark)
        else mark
        for number, mark in sorted(marks.items())
    }


def _newest_ms(marks: Marks) -> int:
    """Return when the SEND with the highest number was kept."""
    return max(place.ts for place in _decode_ack(marks[max(marks)]).kept)


def is_readable(marks: bytes, *, is_sends: bool) -> bool:
    """Tell whether marks as they lie in `sends` (else `senders`) are what was written."""
    try:
        (_decode_sends if is_sends else _decode_marks)(marks)
    except UNREADABLE:
        return False
    return True


def unreadable_count(db: sqlite3.Connection) -> int:
    """Return how many rows of what is remembered of senders cannot be read."""
    return sum(
        not is_readable(marks, is_sends=is_sends)
        for table, is_sends in (("senders", False), ("sends", True))
        for (marks,) in db.execute(f"SELECT marks FROM {table}")  # noqa: S608 - one of these two
    )


class _Unfolded(NamedTuple):
    """A sender whose newest marks are not in `senders` yet."""

    row: int  # The oldest row of `sends` that they are in.
    marks: Marks


def add_marks(marks: dict[bytes, Marks], fresh: Mapping[bytes, Marks]) -> None:
    """Take the marks of one more commit into those of the commits before it."""
    for sender, newer in fresh.items():
        older = marks.get(sender)
        if older is None:
            marks[sender] = dict(newer)
        else:
            older.update(newer)
            _bound(older)


def _bound(marks: Marks) -> None:
    """Keep the newest: a sender's numbers are committed, and hence come in here, in their order."""
    for number in list(islice(marks, max(0, len(marks) - SENDS_IN_FLIGHT_MAX))):
        del marks[number]


class Senders:
    """The memory of senders. Belongs to the log."""

    def __init__(self, db: sqlite3.Connection) -> None:
        """Take up what the last run had not folded; raise `LogUnusable` where it is damaged."""
        self._db = db
        self._living: dict[bytes, Marks] = {}  # One per session: the core forgets them.
        self._unfolded: dict[bytes, _Unfolded] = {}  # In the order of their rows.
        self._unwritten: dict[bytes, Marks] = {}
        self._row = 0  # The last one of `sends`.
        for self._row, sends in db.execute("SELECT id, marks FROM sends ORDER BY id"):
            try:
                decoded = _decode_sends(sends)
            except UNREADABLE as error:
                message = (
                    "what the log remembers of senders is damaged: restore a backup, or keep the "
                    "messages with `hubbub-broker salvage`"
                )
                raise LogUnusable(message) from error
            self._keep({sender: _today(marks) for sender, marks in decoded.items()}, self._row)
        self._living.clear()

    def committed(self, fresh: Mapping[bytes, Marks]) -> None:
        """Remember what a record holds; the next row of `sends` will have it."""
        if fresh:
            add_marks(self._unwritten, fresh)
            self._keep(fresh, self._row + 1)

    def write(self) -> None:
        """Write what is new within the index's transaction; raise `sqlite3.Error`."""
        if self._unwritten:
            row = (self._row + 1, encode(self._unwritten))
            self._db.execute("INSERT INTO sends VALUES (?, ?)", row)

    def written(self) -> None:
        """Note that the transaction of `write` was committed."""
        if self._unwritten:
            self._row += 1
            self._unwritten = {}

    def _keep(self, fresh: Mapping[bytes, Marks], row: int) -> None:
        for sender, marks in fresh.items():
            living = self.recall(sender)
            is_older = bool(living) and next(iter(marks)) <= next(reversed(living))
            living.update(marks)
            if is_older:  # A row of `sends` that `senders` had already, for another's sake.
                in_order = sorted(living.items())
                living.clear()
                living.update(in_order)
            _bound(living)
            if sender not in self._unfolded:
                self._unfolded[sender] = _Unfolded(row, living)

    def recall(self, sender: bytes) -> Marks:
        """Return the living memory of a sender's last SENDs: it changes with each commit."""
        marks = self._living.get(sender)
        if marks is None:
            unfolded = self._unfolded.get(sender)
            marks = unfolded.marks if unfolded else self._read(sender)
            self._living[sender] = marks
        return marks

    def _read(self, sender: bytes) -> Marks:
        row = self._db.execute("SELECT marks FROM senders WHERE sender = ?", (sender,)).fetchone()
        try:
            return _today(_decode_marks(row[0])) if row else {}
        except UNREADABLE:  # As if it was long ago; `hubbub-broker check` tells.
            return {}

    def forget(self, sender: bytes) -> None:
        """Drop the sender from memory, not from the log."""
        self._living.pop(sender, None)

    def fold(self) -> None:
        """Put the marks of those that wait longest into `senders`; raise `sqlite3.Error`.

        What was committed must have been written.
        """
        if not self._unfolded:
            return
        count = max(FOLD_SENDERS, len(self._unfolded) // FOLD_PART)
        folded = dict(islice(self._unfolded.items(), count))
        left = next(islice(self._unfolded.values(), count, None), None)
        row_first = left.row if left else self._row + 1
        self._db.execute("BEGIN IMMEDIATE")
        self._db.executemany(
            "INSERT INTO senders VALUES (?, ?, ?) ON CONFLICT (sender) "
            "DO UPDATE SET ts = excluded.ts, marks = excluded.marks",
            [
                (sender, _newest_ms(each.marks), encode(each.marks))
                for sender, each in folded.items()
            ],
        )
        self._db.execute("DELETE FROM sends WHERE id < ?", (row_first,))
        self._db.execute("COMMIT")
        for sender in folded:
            del self._unfolded[sender]

    def drop_older(self, ms: int) -> None:
        """Drop those from the file who have sent nothing since a time; raise `sqlite3.Error`."""
        self._db.execute("DELETE FROM senders WHERE ts < ?", (ms,))
