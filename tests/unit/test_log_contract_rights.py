"""What every log promises of rights and of rooms' names: the contract's tests, run for each."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from broker.log.interface import (
    REMOVED_MAX,
    LogFailed,
    NameTaken,
    NotInLog,
    Redacted,
    RoomRecord,
)
from broker.log.rights_records import (
    AuditEntry,
    Delete,
    Member,
    NickRecord,
    Put,
    RoomFacts,
    Sanction,
)
from broker.log.writer import DAY_MS
from common.spans import is_removed
from common.wire import Kind, Mode, Post
from tests.unit.logs import Store, proposal, said
from tests.unit.test_log_contract import ANN, BOB, store, whole

__all__ = ["store"]  # A fixture.

NICK = NickRecord("ann", ANN, 5)
FACTS = RoomFacts("r", "plans", ANN, birth=7, topic_by=2, slow_s=3)
MEMBER = Member("r", ANN, "ann", 2, 7, 5)
BAN = Sanction("", "ban", BOB, "bob", 9, "spam", "ann", ANN, 5)


def audited(number: int) -> AuditEntry:
    """Return an entry of the audit log."""
    return AuditEntry(0, number, "ann", ANN, "ban", "bob", "r", "spam")


class TestRights:
    """What is kept beside messages, and the names of rooms."""

    def test_what_is_kept_is_there_after_a_reopening(self, store: Store) -> None:
        """Each record replaces the one with the same key, and goes by its key."""
        log = store.open()
        assert ([], [], [], []) == log.load_rights()
        log.keep([Put(NICK), Put(FACTS), Put(MEMBER), Put(BAN)])
        log.keep_soon([Put(MEMBER._replace(read_seq=9)), Put(NICK._replace(used_ms=6))])
        expected = (
            [NICK._replace(used_ms=6)],
            [FACTS],
            [MEMBER._replace(read_seq=9)],
            [BAN],
        )
        assert expected == log.load_rights()
        log = store.open()
        assert expected == log.load_rights()
        for record in (NickRecord("ann", b"", 0), RoomFacts("r"), Member("r", ANN)):
            log.keep([Delete(record)])
        assert ([], [], [], [BAN]) == log.load_rights()
        log.keep([Put(NICK), Delete(NICK), Delete(BAN._replace(reason="", until_ms=0))])
        assert ([], [], [], []) == store.open().load_rights()

    def test_readers_know_who_is_banned_from_everywhere(self, store: Store) -> None:
        """By whatever nick, until the ban is over; and as soon as it is written down."""
        log = store.open()
        log.append([proposal("r", said("a"))])
        reader = store.reader()
        log.keep([Put(BAN._replace(room="r")), Put(BAN._replace(kind="mute"))])
        assert not reader.is_banned(BOB, 8)
        log.keep([Put(BAN)])
        assert [True, False] == [reader.is_banned(BOB, now_ms) for now_ms in (8, 9)]
        assert not reader.is_banned(ANN, 8)
        log.keep([Put(BAN._replace(until_ms=0, nick="bobby"))])
        assert reader.is_banned(BOB, 9)
        log.keep([Delete(BAN), Delete(BAN._replace(nick="bobby"))])
        assert not reader.is_banned(BOB, 8)
        reader.close()

    def test_the_audit_log_is_read_page_by_page(self, store: Store) -> None:
        """Newest first; with the changes that it tells of, or alone."""
        log = store.open()
        log.keep([Put(BAN)], audit=[audited(1), audited(2)])
        log.keep([], audit=[audited(3)])
        page = log.audit(2)
        assert [3, 2] == [each.ts_ms for each in page]
        assert [audited(1)] == [each._replace(id=0) for each in log.audit(9, page[-1].id)]
        assert [3, 2, 1] == [each.ts_ms for each in store.open().audit(9)]
        assert [] == store.open().audit(0)

    def test_a_room_is_founded_before_its_first_entry(self, store: Store) -> None:
        """It is known, and its first entry is number 1."""
        log = store.open()
        log.found_room("+0")
        log.found_room("+0")
        assert [RoomRecord("+0", 0, 1, 0, "")] == log.rooms() == store.open().rooms()
        log = store.open()
        log.append([proposal("+0", said("a"))])
        assert [(0, 1, 1)] == [(e.prev, e.first, e.last) for e in log.follow()]
        assert ["a"] == whole(store.reader(), "+0")

    def test_a_renamed_room_keeps_entries_and_all_else(self, store: Store) -> None:
        """Its old name is free at once, for readers too, and the change survives."""
        log, reader = store.open(), store.reader()
        log.append([proposal("r", said("a", ts=5), topic="t"), proposal("s", said("x"))])
        log.keep([Put(FACTS), Put(MEMBER), Put(BAN._replace(room="r")), Put(NICK)])
        assert 1 == log.raise_generation("r")
        assert ["a"] == whole(reader)
        log.rename_room("r", "+0")
        assert (["a"], []) == (whole(reader, "+0"), whole(reader, "r"))
        assert (1, 0) == (reader.generation("+0"), reader.generation("r"))
        assert RoomRecord("r", 0, 1, 0, "") == reader.read("r", Mode.AFTER, 0, 9).record
        log.append([proposal("r", said("new")), proposal("+0", said("b", ts=6))])
        for _ in range(2):
            assert (["a", "b"], ["new"]) == (whole(reader, "+0"), whole(reader, "r"))
            rooms = [RoomRecord("+0", 1, 1, 2, "t", 6), RoomRecord("r", 0, 1, 1, "", 1)]
            assert rooms == [each for each in sorted(log.rooms()) if each.name != "s"]
            rights = log.load_rights()
            assert [FACTS._replace(room="+0")] == rights.rooms
            assert [MEMBER._replace(room="+0")] == rights.members
            assert [BAN._replace(room="+0")] == rights.sanctions
            log, reader = store.open(), store.reader()
        with pytest.raises(NotInLog):
            log.rename_room("none", "+1")
        with pytest.raises(NameTaken):
            log.rename_room("r", "+0")
        log.rename_room("r", "q")
        log.rename_room("+0", "r")
        for _ in range(2):
            (facts,) = [each for each in log.load_rights().rooms if each.room == "r"]
            assert "+0" == facts.title, "what was closed is known by the name that it had"
            log, reader = store.open(), store.reader()
        assert (["a", "b"], ["new"]) == (whole(reader, "r"), whole(reader, "q"))

    def test_a_raised_generation_is_seen_at_once_and_stays(self, store: Store) -> None:
        """Also of a room that was made just now."""
        log, reader = store.open(), store.reader()
        log.append([proposal("r", said("a"))])
        assert [1, 2] == [log.raise_generation("r") for _ in range(2)]
        assert 2 == reader.generation("r") == log.rooms()[0].generation
        assert [2] == [record.generation for record in store.open().rooms()]
        assert 2 == store.reader().read("r", Mode.AFTER, 0, 1).record.generation
        with pytest.raises(NotInLog):
            log.raise_generation("none")

    def test_no_generation_comes_twice_under_a_name(self, store: Store) -> None:
        """Or keys of the room that had the name before would open the one that has it now."""
        log = store.open()
        log.append([proposal("r", said("a"))])
        before = [log.raise_generation("r") for _ in range(2)]
        log.rename_room("r", "+0")
        log.append([proposal("r", said("b"))])
        assert log.raise_generation("r") not in before
        log = store.open()
        assert 4 == log.raise_generation("+0")

    def test_a_full_disk_changes_nothing(self, store: Store) -> None:
        """Every call says so, and works when there is room again."""
        log, reader = store.open(), store.reader()
        log.append([proposal("r", said("a"))])
        log.keep([Put(FACTS)], audit=[audited(1)])
        rooms, rights = log.rooms(), log.load_rights()
        calls: list[Callable[[], object]] = [
            lambda: log.keep([Put(NICK)], audit=[audited(2)]),
            lambda: log.set_retention("r", 5, 5),
            lambda: log.found_room("s"),
            lambda: log.rename_room("r", "+0"),
            lambda: log.raise_generation("r"),
        ]
        store.fill_all()
        for call in calls:
            with pytest.raises(LogFailed):
                call()
            assert (rooms, 0) == (log.rooms(), reader.generation("r"))
        store.free()
        assert (rights, 1) == (log.load_rights(), len(log.audit(9)))
        assert ([], ["a"]) == (whole(reader, "+0"), whole(reader, "r"))
        assert rooms == store.open().rooms()
        log = store.open()
        for call in calls[:-1]:
            call()
        assert ["+0", "s"] == sorted(room.name for room in log.rooms())

    def test_a_room_may_have_a_retention_of_its_own(self, store: Store) -> None:
        """It survives, goes with the room's name, and ends when it is taken back."""
        log = store.open(retain_messages=2)
        log.keep([Put(FACTS)])
        facts = FACTS._replace(retain_messages=0, retain_days=1)
        assert facts == log.set_retention("r", 0, 1)
        log.set_retention("s", 3, None)
        assert facts in log.load_rights().rooms
        for room in ("q", "r", "s"):
            for text in "abcd":
                log.append([proposal(room, said(text, ts=5))])
        assert {"q": 3, "s": 2} == log.trim(5)
        log.rename_room("r", "+0")
        assert {} == log.trim(5)
        log = store.open(retain_messages=2)
        assert {} == log.trim(5)
        assert {"+0": 5} == log.trim(DAY_MS + 6)
        log.set_retention("s", None, None)
        assert {"s": 3} == log.trim(5)


class TestRemoving:
    """A text is gone, and its place stays."""

    def test_a_removed_text_is_gone_for_every_reader(self, store: Store) -> None:
        """Its place, time and nick stay, and all around it; again does no harm."""
        log, reader = store.open(), store.reader()
        log.append([proposal("r", said("a", "bö", "c", ts=5), said("d", ts=6, nick="bob"))])
        log.append([proposal("r", said("e", ts=7)), proposal("s", said("x"))])
        assert ["a", "bö", "c", "d", "e"] == whole(reader)
        assert Redacted("ann", 5) == log.redact("r", 2)
        assert Redacted("bob", 6) == log.redact("r", 4)
        for _ in range(2):
            texts = whole(reader)
            assert ["a", "\0\0\0", "c", "\0", "e"] == texts
            assert [1, 3] == [index for index, text in enumerate(texts) if is_removed(text)]
            assert Redacted("ann", 5) == log.redact("r", 2)
            log, reader = store.open(), store.reader()
        assert ["x"] == whole(reader, "s")
        log.append([proposal("r", said("f", ts=8))])
        assert [(5, 6, 6)] == [(e.prev, e.first, e.last) for e in log.follow()]

    def test_a_removed_topic_is_none(self, store: Store) -> None:
        """Neither the room nor its history tells it; one that was set since stays."""
        log, reader = store.open(), store.reader()
        for topic in ("old", "new"):
            log.append([proposal("r", Post(5, "ann", Kind.TOPIC, [topic]), topic=topic)])
        assert Redacted("ann", 5) == log.redact("r", 1)
        assert ("new", "new") == (
            log.rooms()[0].topic,
            reader.read("r", Mode.AFTER, 0, 9).record[4],
        )
        assert Redacted("ann", 5, is_topic=True) == log.redact("r", 2)
        assert Redacted("ann", 5) == log.redact("r", 2)
        for _ in range(2):
            assert ("", "") == (log.rooms()[0].topic, reader.read("r", Mode.AFTER, 0, 9).record[4])
            log, reader = store.open(), store.reader()

    def test_the_last_removals_are_known_from_the_next_opening_on(self, store: Store) -> None:
        """In their order, so many, each once, and whatever the room is called then."""
        log = store.open()
        count = REMOVED_MAX + 2
        log.append([proposal("r", said(*"x" * count)), proposal("s", said("y"))])
        for seq in (2, 1, *range(3, count + 1), 5):
            log.redact("r", seq)
        log.redact("s", 1)
        log.rename_room("s", "t")
        expected = [*range(3, 5), *range(6, count + 1), 5][-REMOVED_MAX:]
        log = store.open()
        found = {room.name: list(room.removed) for room in log.rooms()}
        assert {"r": expected, "t": [1]} == found
        log.redact("r", 1)
        found = {room.name: list(room.removed) for room in store.open().rooms()}
        assert {"r": [*expected[1:], 1], "t": [1]} == found

    def test_what_is_not_there_is_not_removed(self, store: Store) -> None:
        """No such room, no such entry, or dropped by retention."""
        log = store.open(retain_messages=1)
        log.append([proposal("r", said("a"))])
        log.append([proposal("r", said("b"))])
        assert {"r": 2} == log.trim(0)
        for room, seq in (("none", 1), ("r", 0), ("r", 1), ("r", 3), ("r", -1), ("r", 2**60)):
            with pytest.raises(NotInLog):
                log.redact(room, seq)
        assert ["b"] == whole(store.reader())

    def test_a_full_disk_removes_nothing(self, store: Store) -> None:
        """It says so, and works later."""
        log = store.open()
        log.append([proposal("r", said("a"))])
        store.fill_all()
        with pytest.raises(LogFailed):
            log.redact("r", 1)
        store.free()
        assert ["a"] == whole(store.reader())
        assert [()] == [room.removed for room in log.rooms()]
        log.redact("r", 1)
        assert ["\0"] == whole(store.reader())
