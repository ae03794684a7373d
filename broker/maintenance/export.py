"""`hubbub-broker export`: all entries of a log as JSON Lines. A broker may run meanwhile."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path

from broker.log.index import connect
from broker.log.interface import LogFailed, LogUnusable
from broker.log.reader import SqliteReader
from broker.log.writer import FILE_NAME, SCHEMA_VERSION, schema_of
from common.errors import HubbubError
from common.limits import HISTORY_ENTRIES_MAX
from common.spans import is_removed, last_seq
from common.wire import Batch, Kind, Mode, decode_batch

KIND_NAMES = {kind.value: kind.name.lower() for kind in Kind}
KIND_UNKNOWN = "notice"  # As the clients call what they do not know.


class ExportFailed(HubbubError):
    """The log cannot be read; the message says why and what to do."""


def export(
    folder: Path, rooms: list[str], since_ms: int, tell: Callable[[str], None]
) -> Iterator[str]:
    """Yield a line for each entry, room by room, in their order.

    rooms: only these; all when there is none. since_ms: only entries from that time on
    (milliseconds since 1970). tell: hears of what is damaged, and hence not in the lines.

    Holds a page of history in memory. Raises `ExportFailed`.
    """
    path = folder / FILE_NAME
    try:
        with closing(connect(path, read_only=True)) as db:
            if schema_of(db, path) < SCHEMA_VERSION:
                raise ExportFailed(f"an older Hubbub made {path}: start the broker on it once")
        with closing(SqliteReader(path, tell)) as reader:
            there = sorted(reader.rooms())
            unknown = [room for room in rooms if room not in there]
            if unknown:
                raise ExportFailed(f"there is no room {', '.join(unknown)} in {folder}")
            for room in rooms or there:
                yield from _room(reader, room, since_ms)
    except FileNotFoundError as error:
        name = Path(error.filename or path).name
        raise ExportFailed(
            f"{folder} lacks {name}; a start of the broker makes what can be made again"
        ) from error
    except (sqlite3.Error, OSError, LogFailed, LogUnusable) as error:
        raise ExportFailed(f"the log in {folder} cannot be read: {error}") from error


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
