"""What is on the disk before anybody is answered, and what happens when it cannot be."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import closing
from pathlib import Path

import pytest

from broker.chat import floor
from broker.chat.peer import Peer as Transport
from broker.log.interface import Log, Proposal
from broker.log.rights_records import Change, Delete, Member, NickRecord, Put, RoomFacts
from common import wire
from tests.unit.bench import Bench, Peer
from tests.unit.logs import SqliteStore
from tests.unit.test_nicks_online import ANN, BOB, come, say
from tests.unit.test_segments import crashed


def after_a_kill(store: SqliteStore, folder: Path) -> Bench:
    """Return a broker that starts with what is on the disk now."""
    return Bench(SqliteStore(crashed(store.path.parent, folder)))


@pytest.fixture
def store(tmp_path: Path) -> SqliteStore:
    """Return a new log in a folder."""
    (tmp_path / "log").mkdir()
    return SqliteStore(tmp_path / "log", is_quick=True)


def test_a_nick_is_its_owners_after_a_kill_as_soon_as_they_are_welcome(
    store: SqliteStore, tmp_path: Path
) -> None:
    """And a new one as soon as RENAMED comes."""
    with closing(store):
        bench = Bench(store)
        ann = come(bench, "ann", ANN)
        again = after_a_kill(store, tmp_path / "first")
        with closing(again.store):
            assert ANN == again.core._floor.register.owner_of("ann")
        assert isinstance(say(ann, wire.SetNick(2, "anna"), ANN), wire.Renamed)
        bench.core._floor.register.free("ann")
        bench.drain()
        again = after_a_kill(store, tmp_path / "second")
        with closing(again.store):
            assert ("anna",) == again.core._floor.register.nicks_of(ANN)


def test_a_room_is_its_founders_after_a_kill_as_soon_as_the_first_ack_comes(
    store: SqliteStore, tmp_path: Path
) -> None:
    """With all that was set for it."""
    with closing(store):
        ann = Bench(store).peer("ann", "r")
        ann.send("r", "first")
        again = after_a_kill(store, tmp_path / "crashed")
        with closing(again.store):
            owner = ann.bench.core._floor.rights.facts("r").owner
            assert owner
            assert owner == again.core._floor.rights.facts("r").owner


def test_whose_a_room_is_comes_before_its_first_words(monkeypatch: pytest.MonkeyPatch) -> None:
    """So a kill between the two leaves nothing; and all of a drain is one transaction."""
    bench = Bench()
    done: list[str] = []
    log: Log = bench.log
    keep, append = log.keep, log.append

    def note_keep(changes: Sequence[Change]) -> None:
        done.append(f"{len(changes)}")
        keep(changes)

    def note_append(proposals: Sequence[Proposal]) -> None:
        done.append("append")
        append(proposals)

    monkeypatch.setattr(bench.log, "keep", note_keep)
    monkeypatch.setattr(bench.log, "append", note_append)
    peers = [bench.peer(f"peer-{letter}", f"room-{letter}") for letter in "abc"]
    for peer in peers:
        peer.say(peer.next_send(peer.nick.replace("peer", "room"), "first"))
    bench.drain()
    assert ["3", "append"] == done
    assert 1 == len(peers[0].heard())
    peers[0].send("room-a", "second")
    assert ["3", "append", "append"] == done


def test_a_thousand_newcomers_cost_one_wait_for_the_disk(store: SqliteStore) -> None:
    """Who say HELLO in one drain; and who comes back costs none."""
    count = 100  # Of one bench; the live broker takes up to 2,000 in a drain.
    with closing(store):
        bench = Bench(store)
        statements: list[str] = []
        store.database.set_trace_callback(statements.append)
        for turn in range(2):
            peers = [Peer(bench, f"n{index}") for index in range(count)]
            for index, peer in enumerate(peers):
                key = index.to_bytes(32, "big")
                command = peer.hello() if not turn else wire.Bye(2)
                frames = wire.command_frames(peer.token, command)
                bench.core.receive(peer.route, frames, Transport(key=key))
            bench.drain()
            assert 1 == statements.count("PRAGMA synchronous = FULL")


def test_what_the_log_could_not_write_is_written_later() -> None:
    """People come and talk all the same; what is newer stays."""
    bench = Bench()
    bench.failing |= {"keep", "keep_soon"}
    ann = come(bench, "ann", ANN)
    bob = bench.peer("bob", "r")
    bob.send("r", "first")
    assert [] == [*bench.records.values()]
    assert isinstance(say(ann, wire.SetNick(2, "ANN"), ANN), wire.Renamed)
    bench.failing.clear()
    bench.drain()
    kept = [*bench.records.values()]
    assert [("ANN", ANN)] == [
        (each.nick, each.identity) for each in kept if isinstance(each, NickRecord)
    ]
    facts = bench.core._floor.rights.facts("r")
    assert facts.birth
    assert [RoomFacts("r", owner=facts.owner, birth=facts.birth)] == [
        each for each in kept if isinstance(each, RoomFacts)
    ]


def test_a_founder_whose_first_words_failed_leaves_nothing() -> None:
    """When the room is forgotten, what was written of it is, too."""
    bench = Bench()
    bob = bench.peer("bob", "r")
    bench.failing.add("append")
    bob.refused(bob.next_send("r", "first"))
    assert [RoomFacts] == [type(each) for each in bench.records.values()]
    bob.ask(wire.Part(3, "r"), wire.Parted)
    bench.drain(1)
    assert {} == bench.records


def test_newer_changes_outlast_what_is_put_back() -> None:
    """Of a nick, and of anything else; the oldest go where too many wait."""
    core = Bench().core
    core._floor.register.claim("ann", ANN, 1)
    failed = [*core.take_promised(), Put(Member("r", BOB))]
    core._floor.register.free("ann")
    core._floor.keep_soon([Delete(Member("r", BOB))])
    core.put_back(failed)
    # As texts: tuples of different kinds with the same content are equal.
    assert str([Delete(NickRecord("ann", b"", 0))]) == str(core.take_promised())
    assert str([Delete(Member("r", BOB))]) == str(core.take_changes())


def test_so_many_changes_wait_for_a_log_that_fails() -> None:
    core = Bench().core
    core.put_back(Put(NickRecord(f"n{index}", ANN, 0)) for index in range(floor.LATER_MAX + 3))
    waiting = core.take_changes()
    assert (floor.LATER_MAX, "n3") == (len(waiting), waiting[0].record[0])
