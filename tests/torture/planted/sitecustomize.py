"""Plants the bug that HUBBUB_PLANTED names into a broker: Python runs this at its start.

Only a test puts this folder on PYTHONPATH. https://docs.python.org/3/library/site.html
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence

from broker.log import segments
from broker.log import writer as log_writer
from broker.log.interface import Marks
from broker.log.rights_records import AuditEntry, Change
from broker.log.senders import Senders

LATE_RECORDS = 20  # So many commits are acknowledged before any of them is written.


def acknowledge_first() -> None:
    """Write records some time after everybody was told that they are kept."""
    late: list[tuple[int, bytes, int]] = []
    ends: list[int] = []
    write, show, write_index = (
        segments._write,
        segments.HighWater.set,
        log_writer.SqliteLog._write_index,
    )

    def write_late(file: int, data: bytes, offset: int) -> None:
        late.append((file, data, offset))

    def catch_up(high_water: segments.HighWater) -> None:
        for record in late:
            write(*record)
        late.clear()
        if ends:
            show(high_water, ends[-1])

    def show_late(high_water: segments.HighWater, position: int) -> None:
        ends.append(position)
        if len(late) > LATE_RECORDS or not late:
            catch_up(high_water)

    def write_index_late(log: log_writer.SqliteLog) -> None:
        catch_up(log._high_water)  # Or readers would find places where nothing is yet.
        write_index(log)

    segments._write = write_late
    segments.HighWater.set = show_late  # type: ignore[assignment,method-assign]
    log_writer.SqliteLog._write_index = write_index_late  # type: ignore[assignment,method-assign]


def forget_sends() -> None:
    """Do not remember after a restart what was acknowledged to whom."""

    def recall(_senders: Senders, _sender: bytes) -> Marks:
        return {}

    Senders.recall = recall  # type: ignore[assignment,method-assign]


def drop_last() -> None:
    """Take the last whole record after a crash for one cut short, and do not look twice."""
    whole = segments.SegmentReader.whole_records

    def whole_but_last(reader: segments.SegmentReader, position: int) -> Iterator[segments.Record]:
        records = list(whole(reader, position))
        yield from records[:-1]

    segments.SegmentReader.whole_records = whole_but_last  # type: ignore[assignment,method-assign]
    segments.HighWater.get = lambda _mark: 0  # type: ignore[assignment,method-assign]


def tell_orders_first() -> None:
    """Write down what an order has changed some time after everybody was told that it is done."""

    def keep_late(
        log: log_writer.SqliteLog, changes: Sequence[Change], *, audit: Sequence[AuditEntry] = ()
    ) -> None:
        del audit
        log.keep_soon(changes)

    log_writer.SqliteLog.keep = keep_late  # type: ignore[assignment,method-assign]


PLANTS = {
    "acknowledge_first": acknowledge_first,
    "forget_sends": forget_sends,
    "drop_last": drop_last,
    "tell_orders_first": tell_orders_first,
}
if os.environ.get("HUBBUB_PLANTED"):
    PLANTS[os.environ["HUBBUB_PLANTED"]]()
