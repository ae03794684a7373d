"""What history says of a room whose entries were all dropped by their age."""

from pathlib import Path

import pytest

from broker.log.interface import Proposal
from broker.log.reader import SqliteReader
from broker.log.writer import SqliteLog, prepare
from common.wire import Mode, Post


@pytest.mark.parametrize("mode", list(Mode))
def test_a_room_without_entries_has_no_more_of_them(tmp_path: Path, mode: Mode) -> None:
    """Otherwise a client that asks on while there is more asks for ever."""
    path = prepare(tmp_path)
    log = SqliteLog(path, retain_messages=0, retain_days=1)
    proposal = Proposal("lobby")
    proposal.posts.append(Post(1, "anna", 0, ["long ago"]))
    proposal.count = 1
    log.append([proposal])
    log.trim(now_ms=10**12)
    reader = SqliteReader(path)

    page = reader.read("lobby", mode, 0, 100)
    reader.close()
    log.close()

    assert (page.record.first, page.record.head) == (2, 1)
    assert (page.batches, page.more) == ([], False)
