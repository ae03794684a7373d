"""The memory of senders in the SQLite log: what a crash leaves of it, and how it is folded."""

from __future__ import annotations

from contextlib import closing
from pathlib import Path

from broker.log.senders import FOLD_SENDERS
from broker.log.writer import SqliteLog
from common.limits import SENDS_IN_FLIGHT_MAX
from tests.unit.logs import SqliteStore, mark, proposal, said, sent

ANN = b"a" * 16
NOW_MS = 1_700_000_000_000


def say(log: SqliteLog, *senders: bytes, number: int = 1) -> None:
    """Commit a text of each sender."""
    sends = [sent(sender, number, (0, index, NOW_MS)) for index, sender in enumerate(senders)]
    log.append([proposal("r", *[said("x") for _ in senders], sends=sends)])


def rows(store: SqliteStore, table: str) -> int:
    """Return how many rows a table has."""
    count = store.database.execute(f"SELECT count(*) FROM {table}").fetchone()[0]  # noqa: S608
    assert isinstance(count, int)
    return count


def test_what_was_folded_and_what_was_not_are_one_memory(tmp_path: Path) -> None:
    """Opened again with marks in both tables, the log knows them all, and the newest only."""
    with closing(SqliteStore(tmp_path)) as store:
        log = store.open()
        say(log, ANN, number=1)
        log.trim(NOW_MS)
        assert (0, 1) == (rows(store, "sends"), rows(store, "senders"))
        for number in range(2, SENDS_IN_FLIGHT_MAX + 3):
            say(log, ANN, number=number)
        expected = {n: mark(n, (n, NOW_MS)) for n in range(3, SENDS_IN_FLIGHT_MAX + 3)}
        assert expected == log.recall(ANN)
        again = store.open()
        assert expected == again.recall(ANN)
        again.trim(NOW_MS)
        assert (0, 1) == (rows(store, "sends"), rows(store, "senders"))
        assert expected == store.open().recall(ANN)


def test_a_fold_takes_some_and_keeps_the_rows_of_the_others(tmp_path: Path) -> None:
    """A sender who waits for the next fold is in `sends` still, whenever the log is opened."""
    with closing(SqliteStore(tmp_path)) as store:
        log = store.open()
        senders = [b"%016d" % index for index in range(FOLD_SENDERS + 2)]
        for some in (senders[: FOLD_SENDERS - 1], senders[FOLD_SENDERS - 1 :]):
            say(log, *some)
            log._write_index()
        say(log, senders[0], number=2)
        log.trim(NOW_MS)
        assert (2, FOLD_SENDERS) == (rows(store, "sends"), rows(store, "senders"))
        again = store.open()
        for index, sender in enumerate(senders):
            assert [1, 2][: 2 - bool(index)] == sorted(again.recall(sender))
        again.trim(NOW_MS)
        assert (0, FOLD_SENDERS + 2) == (rows(store, "sends"), rows(store, "senders"))


def test_a_session_that_ended_is_folded_and_remembered(tmp_path: Path) -> None:
    """Forgetting a sender loses no mark, and its next session has the same living memory."""
    with closing(SqliteStore(tmp_path)) as store:
        log = store.open()
        say(log, ANN)
        log.forget(ANN)
        living = log.recall(ANN)
        say(log, ANN, number=2)
        log.trim(NOW_MS)
        say(log, ANN, number=3)
        assert [1, 2, 3] == sorted(living)
        log.forget(ANN)
        assert [1, 2, 3] == sorted(log.recall(ANN))
