"""The tables for names, rooms' facts, members, sanctions and the audit log, in the index's file.

Each row is a record of `broker.log.rights_records`, its columns the record's fields. Transactions
are the log's own (`broker.log.writer`).
"""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from typing import Any, NamedTuple

from broker.log.rights_records import (
    EVERYWHERE,
    FOR_EVER,
    AuditEntry,
    Change,
    Member,
    NickRecord,
    Put,
    Record,
    Rights,
    RoomFacts,
    Sanction,
)
from common.names import is_closed

# Entries kept of operators, and so many of everybody else: years of a team's. The oldest go first.
AUDIT_MAX = 10_000
# Of one person who is no operator; else whoever has a room of their own could push out the rest.
AUDIT_PER_PERSON_MAX = 1_000
SOON_MAX = 1_024  # Changes that wait in memory for the next writing of the index.

SCHEMA_RIGHTS = """
CREATE TABLE nicks (
    nick TEXT PRIMARY KEY,
    identity BLOB NOT NULL,
    used_ms INTEGER NOT NULL
) WITHOUT ROWID;
CREATE TABLE room_facts (
    room TEXT PRIMARY KEY,
    title TEXT NOT NULL,
    owner BLOB NOT NULL,
    birth INTEGER NOT NULL,
    topic_by INTEGER NOT NULL,
    slow_s INTEGER NOT NULL,
    retain_messages INTEGER,
    retain_days INTEGER
) WITHOUT ROWID;
CREATE TABLE members (
    room TEXT NOT NULL,
    identity BLOB NOT NULL,
    nick TEXT NOT NULL,
    role INTEGER NOT NULL,
    read_seq INTEGER NOT NULL,
    since_ms INTEGER NOT NULL,
    PRIMARY KEY (room, identity)
) WITHOUT ROWID;
CREATE TABLE sanctions (
    room TEXT NOT NULL,
    kind TEXT NOT NULL,
    identity BLOB NOT NULL,
    nick TEXT NOT NULL,
    until_ms INTEGER NOT NULL,
    reason TEXT NOT NULL,
    by_nick TEXT NOT NULL,
    by_identity BLOB NOT NULL,
    since_ms INTEGER NOT NULL,
    PRIMARY KEY (room, kind, identity, nick)
) WITHOUT ROWID;
CREATE TABLE audit (
    id INTEGER PRIMARY KEY,
    ts_ms INTEGER NOT NULL,
    actor_nick TEXT NOT NULL,
    actor_identity BLOB NOT NULL,
    action TEXT NOT NULL,
    target TEXT NOT NULL,
    room TEXT NOT NULL,
    detail TEXT NOT NULL,
    is_operator INTEGER NOT NULL
);
CREATE INDEX audit_of_operators ON audit (is_operator);
CREATE INDEX audit_of_person ON audit (actor_identity, is_operator);
"""


class _Table(NamedTuple):
    name: str
    key_fields: int  # So many of the record's first fields are its key.


TABLES: dict[type[Record], _Table] = {
    NickRecord: _Table("nicks", 1),
    RoomFacts: _Table("room_facts", 1),
    Member: _Table("members", 2),
    Sanction: _Table("sanctions", 4),
}
WITH_ROOM = ("room_facts", "members", "sanctions")
NAMES = (*(table.name for table in TABLES.values()), "audit")


def key_of(record: Record) -> tuple[object, ...]:
    """Return the fields that tell a record from others of its kind."""
    return record[: TABLES[type(record)].key_fields]


def write_changes(db: sqlite3.Connection, changes: Sequence[Change]) -> None:
    """Carry out changes in their order, within a transaction; raise `sqlite3.Error`."""
    for change in changes:
        record = change.record
        table = TABLES[type(record)]
        if isinstance(change, Put):
            places = ", ".join("?" * len(record))
            db.execute(f"INSERT OR REPLACE INTO {table.name} VALUES ({places})", record)  # noqa: S608 - our own words
        else:
            where = " AND ".join(f"{field} = ?" for field in record._fields[: table.key_fields])
            db.execute(f"DELETE FROM {table.name} WHERE {where}", key_of(record))  # noqa: S608 - likewise


def write_audit(db: sqlite3.Connection, entries: Sequence[AuditEntry]) -> None:
    """Add entries to the audit log within a transaction, and drop the oldest of too many."""
    db.executemany(
        "INSERT INTO audit "
        "(ts_ms, actor_nick, actor_identity, action, target, room, detail, is_operator) "
        "VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
        [entry[1:] for entry in entries],
    )
    for identity in {entry.actor_identity for entry in entries if not entry.is_operator}:
        db.execute(
            "DELETE FROM audit WHERE actor_identity = ?1 AND NOT is_operator AND id <= ("
            "SELECT id FROM audit WHERE actor_identity = ?1 AND is_operator = 0 "
            "ORDER BY id DESC LIMIT 1 OFFSET ?2)",
            (identity, AUDIT_PER_PERSON_MAX),
        )
    for is_operator in {entry.is_operator for entry in entries}:
        db.execute(
            "DELETE FROM audit WHERE is_operator = ?1 AND id <= ("
            "SELECT id FROM audit WHERE is_operator = ?1 ORDER BY id DESC LIMIT 1 OFFSET ?2)",
            (is_operator, AUDIT_MAX),
        )


def rename_room(db: sqlite3.Connection, old: str, new: str) -> None:
    """Let what is kept for a room be kept for its new name (`renamed`); raise `sqlite3.Error`."""
    if is_closed(old) and not is_closed(new):
        db.execute("UPDATE room_facts SET title = room WHERE room = ?", (old,))
    for table in WITH_ROOM:
        db.execute(f"UPDATE OR REPLACE {table} SET room = ? WHERE room = ?", (new, old))  # noqa: S608 - our own words


def read_rights(db: sqlite3.Connection) -> Rights:
    """Return all that is kept but the audit log; raise `sqlite3.Error`."""
    return Rights(
        [NickRecord(*row) for row in _rows(db, NickRecord)],
        [RoomFacts(*row) for row in _rows(db, RoomFacts)],
        [Member(*row) for row in _rows(db, Member)],
        [Sanction(*row) for row in _rows(db, Sanction)],
    )


def is_banned(db: sqlite3.Connection, identity: bytes, now_ms: int) -> bool:
    """Tell whether a ban holds against somebody in the whole broker; raise `sqlite3.Error`."""
    found = db.execute(
        "SELECT 1 FROM sanctions WHERE room = ? AND kind = 'ban' AND identity = ? "
        "AND (until_ms = ? OR until_ms > ?)",
        (EVERYWHERE, identity, FOR_EVER, now_ms),
    )
    return found.fetchone() is not None


def _rows(db: sqlite3.Connection, kind: type[Record]) -> list[Any]:
    return db.execute(f"SELECT * FROM {TABLES[kind].name}").fetchall()  # noqa: S608 - our own words


def read_audit(db: sqlite3.Connection, limit: int, before_id: int | None) -> list[AuditEntry]:
    """Return the newest entries, those before another one if it is given; newest first."""
    rows = db.execute(
        "SELECT * FROM audit WHERE ? IS NULL OR id < ? ORDER BY id DESC LIMIT ?",
        (before_id, before_id, max(0, min(limit, 2 * AUDIT_MAX))),
    )
    return [AuditEntry(*row)._replace(is_operator=bool(row[-1])) for row in rows]


class Soon:
    """Changes that need not be on the disk at once. Bounded: who adds asks `is_full`."""

    def __init__(self) -> None:
        self._changes: dict[tuple[object, ...], Change] = {}  # The newest for each key.

    def add(self, changes: Sequence[Change]) -> None:
        """Take more; a change of the same record replaces the older one."""
        for change in changes:
            record = change.record
            key = (TABLES[type(record)].name, *key_of(record))
            self._changes.pop(key, None)
            self._changes[key] = change

    @property
    def is_full(self) -> bool:
        """Tell whether it is time to write them."""
        return len(self._changes) >= SOON_MAX

    def __len__(self) -> int:
        """Return how many records wait."""
        return len(self._changes)

    def changes(self) -> list[Change]:
        """Return what waits."""
        return list(self._changes.values())

    def clear(self) -> None:
        """Begin anew, after a commit."""
        self._changes.clear()
