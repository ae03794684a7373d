"""What the simulation has found, each as the smallest case that shows it.

A seed means something else as soon as the simulation changes; these do not. `make sim`.
"""

from __future__ import annotations

import errno
import os
import shutil
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from sqlite3 import Connection

import pytest

from broker.chat import core, roster
from broker.chat.floods import Rate
from broker.chat.presence import PRESENCE_TICK_S
from broker.chat.sessions import User
from broker.log import compaction as log_compaction
from broker.log import index as log_index
from broker.log import progress, segments
from broker.log import senders as log_senders
from broker.log.interface import LogFailed, marks_of
from broker.log.writer import DAY_MS, SqliteLog, prepare
from client.effects import Resolve
from client.events import Removed
from client.outbox import POSTS_BYTES_MAX, Line, Outbox
from client.room import Room
from client.roster import Roster as MemberRoster
from common import wire
from common.limits import COMMAND_BYTES_MAX, ROOM_CHARS_MAX, SEND_POSTS_MAX, SENDS_IN_FLIGHT_MAX
from common.order import Done, Order, Role
from common.wire import Changes, Kind, Presence
from tests.unit.bench import RULES, Bench
from tests.unit.logs import SqliteStore, kept_texts, proposal, said, sent
from tests.unit.session_driver import in_room

ANN, BOB = b"a" * 16, b"b" * 16
NOTHING = Changes([], [], [], [])


def test_two_topics_in_a_row_are_two_posts() -> None:
    """As one post they were refused, with whatever else was in the SEND (seed 875)."""
    outbox = Outbox()
    outbox.put([Line("r", Kind.TOPIC, text, 1, text) for text in "ab"])
    posts = [post for send in outbox.pump(0.0) for post in send.posts]
    assert [["a"], ["b"]] == [post.texts for post in posts]


def test_an_empty_log_in_the_place_of_another_is_another(tmp_path: Path) -> None:
    """It kept its epoch, and clients put its entries behind those of the other one (seed 91)."""
    progress.note(tmp_path, 7, 16)
    assert not progress.is_continued(tmp_path, 7, 0)


def test_a_folder_without_a_note_and_without_entries_is_new(tmp_path: Path) -> None:
    assert progress.is_continued(tmp_path, 7, 0)
    assert not progress.is_continued(tmp_path, 7, 1)


def test_marks_come_in_the_order_of_their_numbers() -> None:
    """SEND 1 ends in a later room's batch than SEND 2: the log forgot 2 before 1 (seed 1404)."""
    last = proposal("b", said("x"), sends=[sent(ANN, 1, (0, 0, 1), (1, 0, 1))])
    marks = marks_of([proposal("a", said("x", "y"), sends=[sent(ANN, 2, (0, 1, 1))]), last], [1, 1])
    assert [1, 2] == list(marks[ANN])


def test_an_old_row_of_marks_does_not_drive_out_newer_ones(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A row stays while it has a sender that is not folded; others are read twice (seed 1060)."""
    monkeypatch.setattr(log_senders, "FOLD_SENDERS", 1)

    def say(log: SqliteLog, sender: bytes, number: int) -> None:
        log.append([proposal("r", said("x"), sends=[sent(sender, number)])])

    with closing(SqliteStore(tmp_path)) as store:
        log = store.open()
        say(log, ANN, 1)
        say(log, BOB, 1)
        log.trim(1)  # Both are in one row now, which stays for Bob's sake, and Ann is folded.
        log = store.open()
        for number in range(2, SENDS_IN_FLIGHT_MAX + 2):
            say(log, ANN, number)
        log.trim(1)  # Folds Ann again.
        assert list(range(2, SENDS_IN_FLIGHT_MAX + 2)) == list(store.open().recall(ANN))


def test_a_part_is_not_sent_again_once_its_room_is_joined_again() -> None:
    """The answer to PART was lost; after a reconnect it undid the JOIN (seed 10411)."""
    driver = in_room()
    driver.take(driver.session.part("lobby", "part", driver.now))
    driver.join("again")
    driver.drain_others()
    driver.take(driver.session.disconnected(driver.now))
    driver.take(driver.session.connected(driver.now))
    driver.welcome()
    assert [wire.Join] == [type(each) for each in driver.sent]
    assert Resolve("part", None) in driver.drain_others()


def test_who_moves_to_another_user_hears_the_end_of_the_first() -> None:
    """It was shown its own passing nick, and nobody told it that it is gone."""
    bench = Bench()
    bench.peer("ann", "r", owner="ann")
    other = bench.peer("ben", owner="ann")
    bench.published.clear()
    assert ["ann", "ben"] == other.join("r").nicks
    other.ask(wire.SetNick(9, "ann"), wire.Renamed)
    bench.drain(PRESENCE_TICK_S)
    changes = [each.changes for each in bench.take(Presence) if isinstance(each, Presence)]
    assert ["ben"] == [nick for each in changes if each is not None for nick in each.left]


def test_who_is_shown_a_count_hears_that_it_has_changed(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of somebody who came and went in a tick it was shown the coming (seeds 11179, 101126)."""
    for module in (core, roster):
        monkeypatch.setattr(module, "PRESENCE_NAMES_MAX", 1)
    bench = Bench()
    ann = bench.peer("ann", "r")
    bench.peer("ben", "r")
    cid = bench.peer("cid")
    cid.join("r")
    shown = ann.join("r", resume=True)
    cid.ask(wire.Part(9, "r"), wire.Parted)
    bench.published.clear()
    bench.drain(PRESENCE_TICK_S)
    told = [each for each in bench.take(Presence) if isinstance(each, Presence)]
    assert (3, None) == (shown.users, shown.nicks)
    assert [2] == [each.users for each in told if each.version > shown.version]


def test_a_start_makes_the_segments_durable_before_the_index_knows_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A kill before the sync, a start, a power cut: the index knew what was lost (seed 208)."""
    order: list[str] = []
    killed = tmp_path / "killed"
    (tmp_path / "log").mkdir()
    with closing(SqliteStore(tmp_path / "log")) as store:
        store.open().append([proposal("r", said("x"), sends=[sent(ANN, 1)])])
        shutil.copytree(tmp_path / "log", killed)
    right_write = log_index.Waiting.write

    def write_again(folder: Path, start: int, end: int) -> None:
        order.append("segment")
        segments.write_again(folder, start, end)

    def write(waiting: log_index.Waiting, connection: Connection, indexed: int) -> None:
        order.append("index")
        right_write(waiting, connection, indexed)

    monkeypatch.setattr(log_index, "write_again", write_again)
    monkeypatch.setattr(log_index.Waiting, "write", write)
    prepare(killed)
    assert ["segment", "index"] == order


def test_a_beacon_tells_names_as_its_version_has_them(monkeypatch: pytest.MonkeyPatch) -> None:
    """Somebody came and went between two tellings; members had a count for ever (seed 46463)."""
    monkeypatch.setattr(roster, "PRESENCE_NAMES_MAX", 1)
    users = roster.Roster(1)
    users.add(User("ann", ANN))
    told = users.flush("r")
    assert told is not None
    assert told.changes is not None
    users.add(User("ben", BOB))
    assert Presence("r", told.version, told.version, 2, NOTHING) == users.head("r")


def test_who_has_no_names_asks_when_the_room_has_some() -> None:
    """It missed the telling of that very version, and had only a count since (seed 46463)."""
    here = MemberRoster("r")
    here.begin(7, 2, ["ann", "ben"])
    assert (True, False) == (here.apply(Presence("r", 8, 8, 3, None))[0] is not None, False)
    assert here.nicks is None
    assert (None, True) == here.apply(Presence("r", 8, 8, 2, NOTHING))
    here.replace(8, 2, ["ann", "ben"])
    assert (None, False) == here.apply(Presence("r", 8, 8, 2, NOTHING))


@pytest.fixture
def begun(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[SqliteStore]:
    """Return a log whose disk was full when a segment was begun: that one has no record yet."""
    for module in (segments, log_compaction):
        monkeypatch.setattr(module, "SEGMENT_BYTES_MAX", 1)
    (tmp_path / "log").mkdir()
    with closing(SqliteStore(tmp_path / "log")) as store:
        log = store.open(retain_days=1)
        log.append([proposal("r", said("one", ts=1))])
        store.fill()
        with pytest.raises(LogFailed):
            log.append([proposal("r", said("refused", ts=2))])
        assert [1, 2] == segments.numbers(tmp_path / "log")
        yield store


def texts_after_a_kill(tmp_path: Path) -> list[str]:
    """Return what is read of the log when live ends now, and another one begins."""
    shutil.copytree(tmp_path / "log", tmp_path / "killed")
    with closing(SqliteStore(tmp_path / "killed")) as store:
        store.open().append([proposal("r", said("last", ts=9))])
        return kept_texts(store.reader(), "r")


def test_the_index_knows_the_last_record_and_no_segment_without_one(
    begun: SqliteStore, tmp_path: Path
) -> None:
    """The next record seemed to follow nothing: no start after a kill (seed 4068)."""
    begun.opened.trim(3)  # Tells the index.
    begun.free()
    begun.opened.append([proposal("r", said("two", ts=4))])
    assert ["one", "two", "last"] == texts_after_a_kill(tmp_path)


def test_a_segment_stays_until_another_one_has_a_record(begun: SqliteStore, tmp_path: Path) -> None:
    """All of it was past retention, and the file gone: no start after a kill (seed 13447)."""
    for _ in range(3):
        begun.opened.trim(30 * DAY_MS)
    assert [1, 2] == segments.numbers(tmp_path / "log")
    assert ["last"] == texts_after_a_kill(tmp_path)


def test_what_a_failed_write_left_is_cut_off_before_a_segment_follows(
    begun: SqliteStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Or no segment follows: the rest of a record looked damaged then (seed 720)."""
    begun.free()
    begun.opened.append([proposal("r", said("two", ts=4))])
    with segments.path_of(tmp_path / "log", 2).open("ab") as file:
        file.write(b"HUBS and more of a record")
    full, right = begun.opened._segments._file, os.ftruncate

    def ftruncate(file: int, size_bytes: int) -> None:
        if file == full:
            raise OSError(errno.EDQUOT, os.strerror(errno.EDQUOT))
        right(file, size_bytes)

    with monkeypatch.context() as failing:
        failing.setattr(os, "ftruncate", ftruncate)
        with pytest.raises(LogFailed):
            begun.opened.append([proposal("r", said("refused", ts=5))])
        assert [1, 2] == segments.numbers(tmp_path / "log")
    begun.opened.append([proposal("r", said("three", ts=6))])
    assert ["one", "two", "three", "last"] == texts_after_a_kill(tmp_path)


def test_a_segment_without_a_record_damages_nothing_before_it(
    begun: SqliteStore, tmp_path: Path
) -> None:
    """It could not be removed either, and then came a crash in the midst of a record (seed 720)."""
    with segments.path_of(tmp_path / "log", 1).open("ab") as file:
        file.write(b"HUBS and more of a record")
    assert [1, 2] == segments.numbers(tmp_path / "log")
    begun.opened.trim(3)
    assert ["one", "last"] == texts_after_a_kill(tmp_path)


def test_what_is_in_flight_when_a_room_moves_goes_again_by_the_new_name() -> None:
    """Refused one by one by the old one, texts came behind later ones (seed 9)."""
    outbox = Outbox()
    outbox.put([Line("r", Kind.TEXT, "one", 3, "one"), Line("s", Kind.TEXT, "two", 3, "two")])
    (sent_first,) = outbox.pump(0.0)
    outbox.move("r", "+r")
    (again,) = outbox.resume(1.0)
    assert again.number == sent_first.number
    assert [("+r", ["one"]), ("s", ["two"])] == [(each.room, each.texts) for each in again.posts]


def test_a_send_in_flight_never_grows_too_large_by_a_new_name() -> None:
    outbox = Outbox()
    names = [f"r{number}" for number in range(SEND_POSTS_MAX)]
    size = (POSTS_BYTES_MAX - 32 * len(names)) // len(names)
    outbox.put([Line(name, Kind.TEXT, "x" * size, size, name) for name in names])
    (first,) = outbox.pump(0.0)
    for name in names:
        outbox.move(name, "+" + name + "x" * (ROOM_CHARS_MAX - 8))
    (again,) = outbox.resume(1.0)
    assert len(wire.encode(again)) <= COMMAND_BYTES_MAX
    assert again.posts != first.posts


def test_a_room_of_a_name_that_a_closed_one_had_has_other_keys() -> None:
    """Who had not heard yet that the first one was closed heard the words of the second one in it.

    So they took them for its entries, and missed those that it has by these numbers (seed 72).
    """
    bench = Bench()
    anna, cy = bench.peer("anna"), bench.peer("cy")
    before = anna.join("plans")
    anna.order("plans", "private")
    after = cy.join("plans")
    assert Role.OWNER == after.role
    assert ("plans", 0) == (after.room, after.head)
    assert before.subscription != after.subscription
    assert before.ticket != after.ticket
    bench.start()  # And keeps them, though nothing was said there.
    assert after.subscription == bench.peer("cy").join("plans").subscription


def test_a_room_that_cannot_have_keys_of_its_own_is_not_there() -> None:
    bench = Bench()
    anna, cy = bench.peer("anna"), bench.peer("cy")
    before = anna.join("plans")
    anna.order("plans", "private")
    bench.failing.add("raise_generation")
    assert "log_failed" == cy.shut_out("plans").code
    bench.failing.clear()
    assert before.subscription != cy.join("plans").subscription


def test_orders_that_wait_for_their_turn_come_to_it() -> None:
    """Each attempt took away what the other one waited for, for ever (seed 329)."""
    bench = Bench(rules=RULES._replace(rate=Rate(per_s=40, burst=40)))
    anna = bench.peer("anna", "plans")
    waits_s = dict.fromkeys(range(10, 14), 0.0)
    for _ in range(200):
        due = min(waits_s, key=waits_s.__getitem__)
        bench.drain(max(0.0, waits_s[due] - bench.now_s))
        anna.heard()
        anna.say(Order(due, "plans", "slow", value=due))
        (answer,) = anna.heard()
        if isinstance(answer, Done):
            del waits_s[due]
        else:
            assert isinstance(answer, wire.Error)
            waits_s[due] = bench.now_s + answer.value / 1_000
        if not waits_s:
            return
    pytest.fail(f"never done: {waits_s}")


def test_a_removal_is_told_again_after_the_snapshot_that_has_the_text() -> None:
    """Its page had been read before; the word came first, and was not heeded again (seed 1473)."""
    room = Room("r", 100, None)
    room.joined(wire.Joined(1, "r", b"", b"", 7, 1, 3, "", 1, 1, None))
    ask = room.replica.wants()
    assert ask is not None
    assert [Removed("r", 2)] == room.remove(2)
    posts = [wire.Post(1, "anna", Kind.TEXT, ["a", "b", "c"])]
    page = wire.Page(1, "r", 7, 1, 3, more=False)
    assert 3 == len(room.replica.page(ask, page, [wire.Batch("r", 7, 0, 1, posts)]))
    assert [Removed("r", 2)] == room.remove(2)
    assert [] == room.remove(2)
