"""The tables of the index, as each version of the log brought them.

1 had no `sends`; 2 had every body in `batches`, 3 no CRC of each, as old rows still have; 4 knew
no names that are owned, no closed rooms, and no texts that are removed.
"""

from __future__ import annotations

import sqlite3

from broker.log.rights_store import SCHEMA_RIGHTS

VERSION = 5

SCHEMA = """
CREATE TABLE meta (key TEXT PRIMARY KEY, value) WITHOUT ROWID;
CREATE TABLE rooms (
    id INTEGER PRIMARY KEY,
    name TEXT NOT NULL UNIQUE,
    generation INTEGER NOT NULL,
    first INTEGER NOT NULL,  -- The oldest entry kept.
    trimmed INTEGER NOT NULL,  -- The newest entry dropped; the head of a room without rows.
    topic TEXT NOT NULL
);
CREATE TABLE batches (
    place INTEGER PRIMARY KEY,  -- rooms.id << 40 | last seq
    count INTEGER NOT NULL,
    ts INTEGER NOT NULL,  -- Of the last post, milliseconds since 1970; rises within a room.
    body BLOB NOT NULL  -- Empty where it lies in a segment.
);
CREATE TABLE senders (
    sender BLOB PRIMARY KEY,
    ts INTEGER NOT NULL,
    marks BLOB NOT NULL  -- MessagePack: {number: payload of its ACK} of the last SENDs.
) WITHOUT ROWID;
"""
SCHEMA_SENDS = """
CREATE TABLE sends (
    id INTEGER PRIMARY KEY,  -- One per writing of the index, until it is in `senders`.
    marks BLOB NOT NULL  -- MessagePack: {sender: {number: payload of its ACK}}
);
"""
SCHEMA_SEGMENTS = """
ALTER TABLE batches ADD COLUMN position INTEGER NOT NULL DEFAULT 0;
ALTER TABLE batches ADD COLUMN size_bytes INTEGER NOT NULL DEFAULT 0;
CREATE TABLE segments (
    id INTEGER PRIMARY KEY,
    live_bytes INTEGER NOT NULL  -- Of the batches that are not dropped yet.
);
"""
SCHEMA_CHECKS = "ALTER TABLE batches ADD COLUMN crc INTEGER"  # CRC-32 of the body.
SCHEMA_REDACTIONS = """
CREATE TABLE redactions (
    position INTEGER PRIMARY KEY,  -- In the segments; nothing else lies there from now on.
    data BLOB NOT NULL
);
"""
STEPS = (SCHEMA, SCHEMA_SENDS, SCHEMA_SEGMENTS, SCHEMA_CHECKS, SCHEMA_RIGHTS + SCHEMA_REDACTIONS)
assert len(STEPS) == VERSION


def upgrade(connection: sqlite3.Connection, version: int) -> None:
    """Bring tables of a version, 0 for none, to today's within a transaction."""
    for step in STEPS[version:]:
        for statement in step.split(";\n"):
            connection.execute(statement)
    connection.execute(f"PRAGMA user_version = {VERSION}")
