"""`hubbub-broker export`: all entries of a log as JSON Lines. A broker may run meanwhile."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path

from broker.log.index import connect
from broker.log.interface import LogFailed, LogUnusable
from broker.log.reader import SqliteReader
from broker.log.rights_store import read_rights
from broker.log.writer import FILE_NAME, SCHEMA_VERSION, schema_of
from common.errors import HubbubError
from common.limits import HISTORY_ENTRIES_MAX
from common.spans import is_removed, last_seq
from common.wire import Batch, Kind, Mode, decode_batch

KIND_NAMES = {kind.value: kind.name.lower() for kind in Kind}
CLOSED = ("+", "@")  # Names of rooms that only their members may enter begin so.
KIND_UNKNOWN = "notice"  # As the clients call what they do not know.


def _note_nothing(_line: str) -> None:
    """Keep it to oneself."""


class ExportFailed(HubbubError):
    """The log cannot be read; the message says why and what to do."""


def export(
    folder: Path,
    rooms: list[str],
    since_ms: int,
    tell: Callable[[str], None],
    note: Callable[[str], None] = _note_nothing,
) -> Iterator[str]:
    """Yield a line for each entry, room by room, in their order.

    rooms: only these, by name or title; without any, all that are open. since_ms: only entries
    from that time on (milliseconds since 1970). tell: hears of what is damaged, and hence not in
    the lines. note: hears of closed rooms that were left out.

    Holds a page of history in memory. Raises `ExportFailed`.
    """
    path = folder / FILE_NAME
    try:
        with closing(connect(path, read_only=True)) as db:
            if schema_of(db, path) < SCHEMA_VERSION:
                raise ExportFailed(f"an older Hubbub made {path}: start the broker on it once")
            titles = {facts.room: facts.title for facts in read_rights(db).rooms}
        with closing(SqliteReader(path, tell)) as reader:
            there = sorted(reader.rooms())
            wanted = [name for room in rooms for name in _names(room, there, titles)]
            unknown = [room for room in rooms if not _names(room, there, titles)]
            if unknown:
                raise ExportFailed(f"there is no room {', '.join(unknown)} in {folder}")
            if not rooms:
                wanted = [room for room in there if not room.startswith(CLOSED)]
                if count := len(there) - len(wanted):
                    note(f"{count} closed rooms were left out: --room NAME or TITLE exports one")
            for room in wanted:
                yield from _room(reader, room, since_ms)
    except FileNotFoundError as error:
        name = Path(error.filename or path).name
        raise ExportFailed(
            f"{folder} lacks {name}; a start of the broker makes what can be made again"
        ) from error
    except (sqlite3.Error, OSError, LogFailed, LogUnusable) as error:
        raise ExportFailed(f"the log in {folder} cannot be read: {error}") from error


def _names(wanted: str, there: list[str], titles: Mapping[str, str]) -> list[str]:
    """Return the rooms that are meant: by name, else all with this title."""
    if wanted in there:
        return [wanted]
    return [room for room in there if titles.get(room) == wanted]


def _room(reader: SqliteReader, room: str, since_ms: int) -> Iterator[str]:
    seq, is_more = 0, True
    mode, at = (Mode.SINCE, since_ms) if since_ms else (Mode.AFTER, 0)
    while is_more:
        page = reader.read(room, mode, at, HISTORY_ENTRIES_MAX)
        for body in page.batches:
            batch = decode_batch(body)
            seq = last_seq(batch)
            yield from _lines(room, batch, since_ms)
        mode, at, is_more = Mode.AFTER, seq, page.more


def _lines(room: str, batch: Batch, since_ms: int) -> Iterator[str]:
    seq = batch.first
    for post in batch.posts:
        kind = KIND_NAMES.get(post.kind, KIND_UNKNOWN)
        for text in post.texts:
            if post.ts >= since_ms:
                fields = {"room": room, "seq": seq, "ts": rfc3339(post.ts), "kind": kind}
                is_gone = is_removed(text)
                said = {"nick": post.nick, "text": "" if is_gone else text}
                yield json.dumps(fields | said | ({"removed": True} if is_gone else {}))
            seq += 1


def rfc3339(ms: int) -> str:
    """Return UTC with milliseconds, of milliseconds since 1970, as the clients' --json."""
    text = datetime.fromtimestamp(ms / 1000, UTC).isoformat(timespec="milliseconds")
    return text.replace("+00:00", "Z")
