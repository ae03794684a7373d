"""The side of the log that is not messages: what is kept beside them, and the names of rooms.

A base of `broker.log.writer.SqliteLog`, whose transactions these are.
"""

from __future__ import annotations

import contextlib
import sqlite3
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager
from pathlib import Path

from broker.log.index import WASTE, finish_redactions, set_meta, write_removed
from broker.log.interface import (
    REMOVED_MAX,
    LogFailed,
    LogUnusable,
    NameTaken,
    NotInLog,
    Redacted,
)
from broker.log.redaction import decide, plan
from broker.log.retention import Retention
from broker.log.rights_records import AuditEntry, Change, Put, Rights, RoomFacts
from broker.log.rights_store import Soon, read_audit, read_rights, write_audit, write_changes
from broker.log.room import Room


class Administration(ABC):
    """Belongs to the one thread that makes the log."""

    _db: sqlite3.Connection
    _rooms: dict[str, Room]
    _retention: Retention
    _soon: Soon
    _is_removed: bool
    _folder: Path
    _redactions: int  # In all, so that a backup sees when there was one meanwhile.
    _has_waste: bool  # Of removals.
    _room_id_last: int

    @abstractmethod
    def _check_database(self) -> None:
        """Raise `LogFailed` when the file was removed or replaced."""

    @abstractmethod
    def _write_index(self) -> None:
        """Write what waits for it, also in `_soon`; raise `sqlite3.Error`."""

    @abstractmethod
    def _roll_back(self) -> None:
        """End a transaction that failed."""

    @abstractmethod
    def _all_or_nothing(self) -> AbstractContextManager[None]:
        """Surround what commits, and changes this object only then."""

    @abstractmethod
    def _name(self, room_id: int, name: str) -> None:
        """Commit a room's name; raise `LogFailed` and keep nothing."""

    def load_rights(self) -> Rights:
        """Return all that `keep` and `keep_soon` were given; raise `LogFailed`."""
        try:
            if len(self._soon):
                self._write_index()
            return read_rights(self._db)
        except sqlite3.Error as error:
            self._roll_back()
            message = f"the log cannot be read: {error}"
            raise LogFailed(message) from error

    def audit(self, limit: int, before_id: int | None = None) -> list[AuditEntry]:
        """Return the newest entries of the audit log, newest first; raise `LogFailed`.

        before_id: only entries older than this one.
        """
        try:
            return read_audit(self._db, limit, before_id)
        except sqlite3.Error as error:
            message = f"the log cannot be read: {error}"
            raise LogFailed(message) from error

    def keep(self, changes: Sequence[Change], *, audit: Sequence[AuditEntry] = ()) -> None:
        """Keep all of it on the disk, in this order, or raise `LogFailed` and keep nothing."""
        with self._durably() as db:
            write_changes(db, changes)
            if audit:
                write_audit(db, audit)
        self._retention.follow(changes)

    def keep_soon(self, changes: Sequence[Change]) -> None:
        """Keep it within a second or so; a crash before that loses it.

        Raises `LogFailed` when much waits already, and cannot be written.
        """
        if self._soon.is_full:
            try:
                self._write_index()
            except sqlite3.Error as error:
                self._roll_back()
                message = f"the log cannot be written: {error}"
                raise LogFailed(message) from error
        self._soon.add(changes)
        self._retention.follow(changes)

    def set_retention(self, room: str, messages: int | None, days: int | None) -> RoomFacts:
        """Let a room keep more or less than others, and return its facts; raise `LogFailed`.

        None: as everywhere. 0: for ever.
        """
        known = (each for each in self.load_rights().rooms if each.room == room)
        facts = next(known, RoomFacts(room))
        fresh = facts._replace(retain_messages=messages, retain_days=days)
        self.keep([Put(fresh)])
        return fresh

    def found_room(self, name: str) -> None:
        """Let a room be in the log before its first entry; one that is there stays as it is.

        On the disk when this returns; raises `LogFailed` and keeps nothing.
        """
        if name not in self._rooms:
            room_id = self._room_id_last + 1
            self._name(room_id, name)
            self._rooms[name] = Room(room_id, 0, 1, "", (0, 0))

    def rename_room(self, old: str, new: str) -> None:
        """Give a room, with its entries and all that is kept for it, another name.

        On the disk, and seen by every reader, when this returns. Bodies of earlier batches keep
        the old name inside. Raises `NotInLog` when there is no such room, `NameTaken` when there
        is one of the new name, and `LogFailed`; then nothing changes.
        """
        room = self._rooms.get(old)
        if room is None:
            raise NotInLog(f"there is no room {old} in the log")
        if new in self._rooms:
            raise NameTaken(f"there is a room {new} in the log")
        self._name(room.id, new)
        del self._rooms[old]
        self._rooms[new] = room
        self._retention.rename(old, new)

    def raise_generation(self, room: str) -> int:
        """Make every topic key and ticket of a room worthless; return its new generation.

        On the disk, and seen by every reader, when this returns. Raises `NotInLog`, and
        `LogFailed`; then nothing changes.
        """
        found = self._rooms.get(room)
        if found is None:
            raise NotInLog(f"there is no room {room} in the log")
        # Above every other room's, too: a room that is called what another one was called before
        # must never come to the topic keys and tickets of that one.
        fresh = 1 + max(each.generation for each in self._rooms.values())
        with self._durably() as db:
            db.execute("UPDATE rooms SET generation = ? WHERE id = ?", (fresh, found.id))
        found.generation = fresh
        return fresh

    def redact(self, room: str, seq: int) -> Redacted:
        """Remove a text for good, and for every reader; its place and the rest stay.

        In its place stands `common.spans.removed`; the room's topic is "" if it was this text.
        Once more does no harm. Raises `NotInLog`, and `LogFailed`, which says what is left of it.
        """
        found = self._rooms.get(room)
        if found is None:
            raise NotInLog(f"there is no room {room} in the log")
        with self._all_or_nothing():
            try:
                self._finish_redactions()
                self._write_index()
                made = plan(self._db, self._folder, found.id, seq)
            except (sqlite3.Error, OSError, LogUnusable) as error:
                self._roll_back()
                raise LogFailed(f"nothing was removed: {error}") from error
            is_topic = bool(made.topic) and found.topic == made.topic
            told = (*(each for each in found.removed if each != seq), seq)[-REMOVED_MAX:]
            if made.is_needed or told != found.removed:
                with self._durably() as db:
                    write_removed(db, found.id, told)
                    if made.is_needed:
                        decide(db, made, found.id)
                        set_meta(db, "redactions", self._redactions + 1)
                found.removed = told
            if made.is_needed:
                self._redactions += 1
                self._has_waste = True
                if is_topic:
                    found.topic = ""
        try:
            self._finish_redactions()
        except (sqlite3.Error, OSError, LogUnusable) as error:
            self._roll_back()
            message = (
                f"nobody is shown the text any more, but it is still in the file: {error}; that "
                "is tried again about once a second, and by the next start"
            )
            raise LogFailed(message) from error
        return made.said._replace(is_topic=is_topic)

    def _finish_redactions(self) -> None:
        """Put in place what removals have decided, and clean up after them.

        Raises `sqlite3.Error`, `OSError`, `Damaged`.
        """
        if not self._has_waste:
            return
        finish_redactions(self._db, self._folder)
        # The write-ahead log has pages as they were. Who reads them now is done in a moment.
        (is_busy, _, _) = self._db.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
        if not is_busy:
            self._db.execute("DELETE FROM redactions WHERE position = ?", (WASTE,))
            self._has_waste = False

    @contextlib.contextmanager
    def _durably(self) -> Iterator[sqlite3.Connection]:
        """Surround a transaction that is on the disk in the end; raise `LogFailed`."""
        if self._is_removed:
            self._check_database()
        db = self._db
        try:
            self._write_index()
            db.execute("PRAGMA synchronous = FULL")
            db.execute("BEGIN IMMEDIATE")
            yield db
            db.execute("COMMIT")
        except sqlite3.Error as error:
            self._roll_back()
            message = f"the log cannot be written: {error}"
            raise LogFailed(message) from error
        except BaseException:  # A number that SQLite does not know, say: the next one begins anew.
            self._roll_back()
            raise
        finally:
            with contextlib.suppress(sqlite3.Error):  # Then commits take longer, no more.
                db.execute("PRAGMA synchronous = NORMAL")
