"""The work `replay` on tiny logs: it reads everything, and counts what it reads."""

from __future__ import annotations

from pathlib import Path

import pytest

from bench.dialect import Unexpected
from bench.histogram import Histogram
from bench.results import Counts
from bench.servers import jetstream, redis_streams
from bench.servers.base import Server
from bench.target import Target
from bench.works import replay
from bench.works.base import Replay
from bench.works.filled_log import ROOM, Filler
from bench.works.replay_peers import Tally as PageTally
from broker.log.reader import SqliteReader
from broker.log.writer import FILE_NAME
from client.events import Entry, Event, Missing
from common import spans, wire
from tests.installed import started

ENTRIES = 1_000
OPTIONS = Replay(entries=ENTRIES, last=100)
HUBBUB = Target("hubbub", "0", is_durable=True, host="", ports=[], pids=[], settings=[])
PEERS: list[Server] = [redis_streams.SERVER, jetstream.SERVER]


class Listener:
    """A watch that remembers."""

    def __init__(self) -> None:
        self.parts: list[str] = []
        self.open = 0

    def begin(self, work: str, server: str, total: float | None, unit: str) -> None:
        assert server
        assert total is None or total > 0
        assert unit
        self.parts.append(work)
        self.open += 1

    def moment(self, at_s: float, values: dict[str, float]) -> None:
        assert at_s >= 0
        assert values

    def end(self) -> None:
        self.open -= 1


def entry(seq: int, number: int | None = None) -> Entry:
    text = f"0000{seq - 1 if number is None else number:08x}".ljust(64, "0")
    return Entry(ROOM, seq, 0, "text", "anna", text)


def test_hubbub_is_read_in_full() -> None:
    """Every entry once and in order, and a figure for all that the issue asks for."""
    watch = Listener()
    result = replay.run(HUBBUB, OPTIONS, watch)
    assert Counts(sent=ENTRIES, delivered=ENTRIES) == result.counts
    assert replay.NEWCOMERS == Histogram(result.histograms["last"]).count
    assert {
        "entries_per_s",
        "text_bytes_per_s",
        "fill_entries_per_s",
        "log_bytes",
        "last_growth",
        "append_us",
        "append_growth",
        "tail_read_us",
        "tail_read_growth",
    } <= set(result.figures)
    assert min(result.figures.values()) > 0
    assert ["fill", "fill", "replay", "newcomers", "append and tail read"] == watch.parts
    assert watch.open == 0


@pytest.mark.parametrize("server", PEERS, ids=lambda server: server.name)
def test_peers_are_read_in_full(server: Server, tmp_path: Path) -> None:
    """The same of the peers that keep a history."""
    with started(server, tmp_path, OPTIONS.size) as target:
        result = replay.run(target, OPTIONS, Listener())
    assert Counts(sent=ENTRIES, acknowledged=ENTRIES, delivered=ENTRIES) == result.counts
    assert replay.NEWCOMERS == Histogram(result.histograms["last"]).count
    assert result.figures["entries_per_s"] > 0


def test_a_filled_log_is_one_that_the_broker_would_have_written(tmp_path: Path) -> None:
    """Seqs without holes, batches of 16, the texts' numbers beside them; also when filled on."""
    for count in (20, 100):
        filler = Filler(tmp_path, 64)
        filler.fill(count)
        filler.close()
    reader = SqliteReader(tmp_path / FILE_NAME)
    page = reader.read(ROOM, wire.Mode.AFTER, 0, 1_000)
    reader.close()
    batches = [wire.decode_batch(body) for body in page.batches]
    assert [16, 4, 16, 16, 16, 16, 16] == [spans.texts_count(batch) for batch in batches]
    assert [0, *map(spans.last_seq, batches[:-1])] == [batch.prev for batch in batches]
    texts = [text for batch in batches for post in batch.posts for text in post.texts]
    assert list(range(100)) == [int(text[4:12], 16) for text in texts]


def test_what_is_lost_or_comes_twice_is_counted() -> None:
    """A reader that gets something else than the log does not pass for clean."""
    tally = replay.Tally(1, 6, 64)
    tally.take([entry(1), entry(2)])
    tally.take([entry(2), entry(5)])
    tally.close()
    assert Counts(delivered=4, lost=3, duplicated=1) == tally.counts
    assert not tally.is_done
    pages = PageTally(Counts(), 64)
    pages.take([entry(seq).text.encode() for seq in (1, 2)])
    pages.take([entry(seq).text.encode() for seq in (4, 5)])
    assert Counts(delivered=4, lost=1) == pages.counts


@pytest.mark.parametrize("event", [Missing(ROOM, 3), entry(3, number=7)], ids=["gap", "text"])
def test_a_history_that_is_not_the_one_written_is_an_error(event: Event) -> None:
    """What the client library calls missing, and a text in another's place, end the run."""
    with pytest.raises(Unexpected):
        replay.Tally(3, 9, 64).take([event])
