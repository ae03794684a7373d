"""The session joins, leaves, repairs and asks history as PROTOCOL.md says. No sockets."""

from __future__ import annotations

from msgspec.structs import replace

from client import effects
from client.events import Entry, Joined, Left, Presence, Reset, Stalled
from client.limits import (
    HISTORY_IDLE_S,
    HISTORY_REFUSALS_MAX,
    HISTORY_STALL_S,
    HISTORY_TIMEOUT_S,
    PROOF_S,
)
from client.questions import LOST, Call
from common import spans, wire
from common.errors import Code
from common.limits import NUMBER_MAX
from common.wire import Mode
from tests.unit.log_model import LogModel
from tests.unit.session_driver import INBOX, Driver, in_room, online


def rejoined(driver: Driver, *nicks: str) -> list[object]:
    """Answer the JOIN under way with these nicks; return who is told to have come or gone."""
    joined = driver.log.joined(driver.last(wire.Join).id)
    driver.reply(replace(joined, version=9, users=len(nicks), nicks=list(nicks)))
    return [event for event in driver.drain_events() if isinstance(event, Presence)]


# --- rooms ------------------------------------------------------------------
def test_joining_subscribes_fills_and_announces() -> None:
    driver = online()
    driver.log.append(2)
    driver.take(driver.session.join("lobby", 100, None, "join", driver.now))
    driver.reply(driver.log.joined(driver.last(wire.Join).id))
    joined = Joined("lobby", "", 1, ["anna"])
    assert driver.drain_others() == [
        effects.Subscribe(driver.topic),
        effects.Resolve("join", joined),
    ]
    assert driver.drain_events() == []
    assert (driver.asked[0].mode, driver.asked[0].ticket) == (Mode.BEFORE, b"t" * 16)
    driver.page()
    assert driver.events.pop() == joined
    assert driver.seqs() == [1, 2]


def test_joining_again_tells_about_the_room_and_replays_nothing() -> None:
    driver = in_room()
    driver.take(driver.session.join("lobby", 100, None, "again", driver.now))
    driver.reply(driver.log.joined(driver.last(wire.Join).id))
    assert driver.others == [effects.Resolve("again", Joined("lobby", "", 1, ["anna"]))]
    assert driver.drain_events() == []


def test_without_a_beacon_the_room_is_joined_again_ever_more_slowly() -> None:
    driver = online()
    driver.take(driver.session.join("lobby", 100, None, "join", driver.now))
    for pause_s in (PROOF_S, 2 * PROOF_S, 4 * PROOF_S):
        driver.reply(driver.log.joined(driver.last(wire.Join).id))
        assert driver.drain_others()[0] == effects.Subscribe(driver.topic)
        driver.wait(pause_s - 0.1)
        assert driver.sent == []
        driver.wait(0.1)
        assert driver.drain_others()[0] == effects.Unsubscribe(driver.topic)
    driver.reply(driver.log.joined(driver.last(wire.Join).id))
    driver.publish(driver.log.beacon())
    assert driver.session.deadline() is None


def test_a_refused_join_fails_and_leaves_nothing() -> None:
    driver = online()
    driver.take(driver.session.join("lobby", 100, None, "join", driver.now))
    driver.refuse(driver.last(wire.Join).id, Code.TOO_MANY_ROOMS)
    assert driver.rejected("join") == Code.TOO_MANY_ROOMS
    driver.take(driver.session.part("lobby", "part", driver.now))
    assert driver.rejected("part") == Code.NOT_MEMBER


def test_a_room_that_can_not_be_joined_again_is_left() -> None:
    driver = in_room()
    driver.refuse(0, Code.NO_SESSION)
    driver.welcome()
    driver.refuse(driver.last(wire.Join).id, Code.ROOM_INVALID)
    left = Left("lobby", "room_invalid", "this cannot be a room")
    assert left in driver.drain_events()
    assert driver.drain_others() == [effects.Unsubscribe(driver.topic)]


def test_after_part_nothing_of_the_room_is_delivered() -> None:
    driver = in_room()
    driver.take(driver.session.part("lobby", "part", driver.now))
    driver.publish(driver.log.append(1))
    assert driver.drain_events() == []
    driver.reply(wire.Parted(driver.last(wire.Part).id, "lobby"))
    assert driver.drain_events() == [Left("lobby")]
    assert driver.drain_others() == [
        effects.Unsubscribe(driver.topic),
        effects.Resolve("part", None),
    ]


def test_a_part_during_a_restart_is_a_part() -> None:
    driver = in_room()
    driver.take(driver.session.part("lobby", "part", driver.now))
    driver.refuse(driver.last(wire.Part).id, Code.NO_SESSION)
    driver.welcome()
    (part,) = driver.sent
    assert isinstance(part, wire.Part)
    driver.refuse(part.id, Code.NOT_MEMBER)
    assert driver.drain_events()[-1] == Left("lobby")


def test_joining_while_leaving_joins() -> None:
    driver = in_room()
    driver.take(driver.session.part("lobby", "part", driver.now))
    part = driver.last(wire.Part)
    driver.join("join")
    driver.reply(wire.Parted(part.id, "lobby"))
    driver.publish(driver.log.append(1))
    assert driver.seqs() == [1]


def test_a_join_that_nobody_waits_for_any_more_is_undone() -> None:
    driver = online()
    driver.take(driver.session.join("lobby", 100, None, "join", driver.now))
    join = driver.last(wire.Join)
    driver.take(driver.session.abandon("join", driver.now))
    driver.reply(driver.log.joined(join.id))
    assert driver.last(wire.Part).room == "lobby"
    assert driver.others == []


def test_a_frame_of_another_log_is_checked_with_join() -> None:
    driver = in_room()
    driver.publish(driver.log.append(2))
    driver.log = LogModel(epoch=8)
    for _ in range(3):
        driver.publish(driver.log.append(1))
    assert len(driver.sent) == 1
    driver.drain_events()
    driver.reply(driver.log.joined(driver.last(wire.Join).id))
    driver.page()
    events = driver.drain_events()
    assert events[0] == Reset("lobby")
    assert events[-1] == Joined("lobby", "", 1, ["anna"])
    assert len(events) == 5


def test_a_late_frame_of_the_old_log_is_checked_only_once() -> None:
    driver = in_room()
    old = LogModel(epoch=6).append(1)
    driver.publish(old)
    driver.reply(driver.log.joined(driver.last(wire.Join).id))
    driver.publish(old)
    assert driver.sent == []
    assert driver.drain_events() == []


def test_what_is_not_of_the_protocol_is_counted() -> None:
    driver = in_room()
    frames = [b"", b"lobby", driver.topic + b"\xc1", driver.topic + b"\x93\x01\x02\x03"]
    driver.take(driver.session.publications(frames, driver.now))
    assert driver.session.malformed_count == 4


# --- presence ---------------------------------------------------------------
def presence(prev: int, version: int, users: int, **who: list[str]) -> wire.Presence:
    changes = wire.Changes(who.get("joined", []), who.get("left", []), [], who.get("returned", []))
    return wire.Presence("lobby", prev, version, users, changes)


def test_who_came_and_went_is_told() -> None:
    driver = in_room()
    driver.publish(presence(1, 2, 2, joined=["bob"]))
    driver.publish(presence(1, 2, 2, joined=["bob"]))
    driver.publish(presence(2, 3, 1, left=["bob"]))
    assert driver.drain_events() == [
        Presence("lobby", 2, ["bob"], [], []),
        Presence("lobby", 1, [], ["bob"], []),
    ]


def test_a_hole_in_the_versions_asks_who_once() -> None:
    driver = in_room()
    driver.publish(presence(3, 4, 3, joined=["bob"]))
    driver.publish(presence(4, 5, 4, joined=["cy"]))
    (who,) = driver.sent
    assert isinstance(who, wire.Who)
    driver.reply(wire.Members(who.id, "lobby", 5, 4, ["anna", "bob", "cy", "dee"]))
    assert driver.drain_events() == [Presence("lobby", 4, ["bob", "cy", "dee"], [], [])]
    driver.publish(presence(5, 6, 3, left=["bob"]))
    assert driver.drain_events() == [Presence("lobby", 3, [], ["bob"], [])]


def test_those_who_are_back_after_a_restart_are_counted_not_announced() -> None:
    driver = in_room()
    driver.publish(presence(1, 2, 2, joined=["bob"]))
    driver.refuse(0, Code.NO_SESSION)
    driver.welcome(resumed=False)
    driver.drain_events()
    driver.reply(driver.log.joined(driver.last(wire.Join).id))
    driver.publish(presence(1, 2, 2, returned=["bob"]))
    assert driver.drain_events() == [
        Presence("lobby", 1, [], [], [], ["anna"]),
        Presence("lobby", 2, [], [], [], ["anna", "bob"]),
    ]


def test_a_large_room_is_a_count_and_nobody_asks_who() -> None:
    driver = in_room()
    driver.publish(wire.Presence("lobby", 7, 8, 300, None))
    assert driver.sent == []
    assert driver.drain_events() == [Presence("lobby", 300, [], [], [])]
    driver.publish(presence(8, 9, 256, left=["bob"]))
    driver.last(wire.Who)


# --- history ----------------------------------------------------------------
def test_people_ask_before_rooms_and_page_by_page() -> None:
    driver = in_room()
    for _ in range(4):
        driver.publish(driver.log.append(2000))
    driver.log.append(1)
    driver.publish(driver.log.beacon())
    driver.take(
        driver.session.history(Call("lobby", None, NUMBER_MAX, 7000, "history"), driver.now)
    )
    driver.drain_events()
    assert driver.asked[0].mode is Mode.AFTER  # Was under way already.
    driver.page()
    assert [driver.asked[0].mode, driver.asked[0].limit] == [Mode.BEFORE, 4096]
    driver.page()
    assert [driver.asked[0].at, driver.asked[0].limit] == [2001, 999]
    driver.page()
    (resolve,) = driver.others
    assert isinstance(resolve, effects.Resolve)
    assert isinstance(resolve.value, list)
    assert [entry.seq for entry in resolve.value] == list(range(1002, 8002))


def test_the_next_page_is_asked_for_before_this_one_is_read() -> None:
    """The broker reads on meanwhile; a page that can't be read then is asked for again."""
    driver = in_room()
    for _ in range(6):
        driver.log.append(2000)
    driver.publish(driver.log.beacon())
    driver.drain_events()
    ask = driver.asked.pop()
    page, batches = driver.log.page(ask.mode, ask.at, ask.limit, request_id=ask.id)
    last = spans.last_seq(batches[-1])
    driver.take(driver.session.page_arrived(page, last, driver.now))
    assert [(Mode.AFTER, last)] == [(each.mode, each.at) for each in driver.asked]
    assert not driver.events
    ahead = driver.asked.pop()
    driver.wait(HISTORY_TIMEOUT_S)  # `page` was not called: a batch of it was malformed.
    assert [ask.at] == [each.at for each in driver.asked]
    late, batches = driver.log.page(ahead.mode, ahead.at, ahead.limit, request_id=ahead.id)
    driver.take(driver.session.page(late, batches, driver.now))
    assert not driver.events
    while driver.asked:
        driver.page()
    seqs = [event.seq for event in driver.events if isinstance(event, Entry)]
    assert list(range(seqs[0], 12_000 + seqs[0])) == seqs


def test_history_of_a_room_that_is_not_joined_is_refused() -> None:
    driver = online()
    driver.take(driver.session.history(Call("dev", None, 9, 9, "history"), driver.now))
    assert driver.rejected("history") == Code.NOT_MEMBER


def test_an_overdue_question_is_asked_again_on_a_fresh_socket() -> None:
    driver = in_room()
    driver.log.append(1)
    driver.publish(driver.log.beacon())
    first = driver.asked.pop()
    driver.wait(HISTORY_TIMEOUT_S)
    assert driver.drain_others() == [effects.DropHistory()]
    assert driver.asked[0].at == first.at
    driver.page()
    assert driver.seqs() == [1]
    driver.wait(HISTORY_IDLE_S)
    assert driver.drain_others() == [effects.DropHistory()]
    assert driver.session.deadline() is None


def test_an_old_ticket_is_renewed_with_join() -> None:
    driver = in_room()
    driver.log.append(1)
    driver.publish(driver.log.beacon())
    ask = driver.asked.pop()
    error = wire.Error(ask.id, Code.BAD_TICKET, "", survives=True)
    driver.take(driver.session.history_refused(error, driver.now))
    assert driver.asked == []
    driver.reply(driver.log.joined(driver.last(wire.Join).id))
    driver.wait(1)
    driver.page()
    assert driver.seqs() == [1]


def test_a_call_whose_ticket_has_expired_waits_for_the_new_one() -> None:
    """Asked again at once it would only be refused again, until it is given up."""
    driver = in_room()
    driver.take(driver.session.history(Call("lobby", None, NUMBER_MAX, 9, "call"), driver.now))
    for _ in range(HISTORY_REFUSALS_MAX - 1):  # A broker whose tickets are always old ends it.
        error = wire.Error(driver.asked.pop().id, Code.BAD_TICKET, "", survives=True)
        driver.take(driver.session.history_refused(error, driver.now))
        driver.wait(0.1)
        assert driver.asked == []
        driver.take(driver.session.history(Call("dev", None, 9, 9, "other"), driver.now))
        assert driver.rejected("other") == Code.NOT_MEMBER  # Nobody waits behind it.
        driver.drain_others()
        driver.reply(driver.log.joined(driver.last(wire.Join).id))
    driver.page()
    (resolve,) = driver.drain_others()
    assert isinstance(resolve, effects.Resolve)
    assert resolve.ticket == "call"


def test_a_log_that_cannot_be_read_is_told_once_and_asked_ever_more_slowly() -> None:
    """Neither does the client ask at full speed for ever, nor does it wait in silence."""
    driver = in_room()
    driver.log.append(1)
    driver.publish(driver.log.beacon())
    asked_at_s = []
    end_s = driver.now + 60
    while driver.now < end_s:
        if driver.asked:
            asked_at_s.append(driver.now)
            driver.asked.clear()
            error = wire.Error(0, Code.LOG_FAILED, "no", survives=True)
            driver.take(driver.session.history_refused(error, driver.now))
        driver.wait(0.1)
    assert 6 <= len(asked_at_s) <= 10
    assert HISTORY_IDLE_S - 0.5 < asked_at_s[-1] - asked_at_s[-2]
    assert driver.drain_events() == [Stalled("lobby", "no")]
    driver.wait(HISTORY_IDLE_S)
    driver.page()
    assert driver.seqs() == [1]


def test_history_tells_what_is_damaged_among_the_rest() -> None:
    """A person who asks sees a line in its place, with the seq where it began."""
    driver = in_room()
    for _ in range(4):
        driver.log.append(2)
    driver.log.damaged = {2, 4}
    for after, expected in ((None, [2, 3, 5, 7, 8]), (0, [1, 2, 3, 5, 7, 8])):
        limit = 5 if after is None else 99
        driver.take(
            driver.session.history(Call("lobby", after, NUMBER_MAX, limit, "call"), driver.now)
        )
        while driver.asked:
            driver.page()
        (resolve,) = driver.drain_others()
        assert isinstance(resolve, effects.Resolve)
        assert isinstance(resolve.value, list)
        assert expected == [entry.seq for entry in resolve.value]
        notices = [entry for entry in resolve.value if not entry.nick]
        assert [("notice", LOST.format(2))] * 2 == [(each.kind, each.text) for each in notices]
        assert after is None or all(each.ts for each in notices)


def test_while_the_program_does_not_read_only_people_ask() -> None:
    driver = in_room()
    driver.take(driver.session.pause(driver.now, is_paused=True))
    driver.log.append(1)
    driver.publish(driver.log.beacon())
    assert driver.asked == []
    assert driver.session.deadline() is None
    driver.take(driver.session.history(Call("lobby", 0, 9, 9, "history"), driver.now))
    driver.page()
    assert driver.asked == []
    driver.take(driver.session.pause(driver.now, is_paused=False))
    driver.page()
    assert driver.seqs() == [1]


def test_no_beacon_is_awaited_while_rooms_are_not_read() -> None:
    driver = online()
    driver.take(driver.session.join("lobby", 100, None, "join", driver.now))
    driver.reply(driver.log.joined(driver.last(wire.Join).id))
    driver.take(driver.session.pause(driver.now, is_paused=True))
    driver.wait(10 * PROOF_S)
    assert driver.sent == []
    driver.take(driver.session.pause(driver.now, is_paused=False))
    assert driver.session.deadline() == driver.now + PROOF_S


def test_a_log_that_was_rolled_back_starts_over() -> None:
    driver = in_room()
    driver.publish(driver.log.append(5))
    driver.refuse(0, Code.NO_SESSION)
    driver.welcome()
    driver.log = LogModel()
    driver.log.append(3)
    driver.drain_events()
    driver.reply(driver.log.joined(driver.last(wire.Join).id))
    assert driver.drain_events()[0] == Reset("lobby")
    driver.page()
    assert driver.seqs() == [1, 2, 3]


def test_history_that_lags_is_asked_again_but_not_at_once() -> None:
    driver = in_room()
    lagging = driver.log.page(Mode.AFTER, 0, 9)
    driver.log.append(1)
    driver.publish(driver.log.beacon())
    page, batches = lagging
    ask = driver.asked.pop()
    late = wire.Page(ask.id, "lobby", page.epoch, page.first, page.head, more=False)
    driver.take(driver.session.page(late, batches, driver.now))
    assert driver.asked == []
    driver.wait(HISTORY_STALL_S)
    driver.page()
    assert driver.seqs() == [1]


# --- who is there, told anew ------------------------------------------------
def test_new_keys_of_a_room_tell_who_is_out() -> None:
    """As after a ban: also on the first connection, which was no resume."""
    driver = in_room()
    for nicks, joined, left in ((("anna", "bob"), ["bob"], []), (("anna",), [], ["bob"])):
        driver.publish(wire.Notice("rejoin", "lobby", text="lobby"), INBOX)
        assert [Presence("lobby", len(nicks), joined, left, [])] == rejoined(driver, *nicks)


def test_after_a_restart_of_the_broker_nobody_is_news_until_the_next_join() -> None:
    driver = in_room()
    driver.publish(wire.Notice("rejoin", "lobby", text="lobby"), INBOX)
    rejoined(driver, "anna", "bob")
    driver.refuse(0, Code.NO_SESSION)
    driver.welcome(resumed=False)
    assert [Presence("lobby", 1, [], [], [], ["anna"])] == rejoined(driver, "anna")
    back = wire.Presence("lobby", 9, 10, 2, wire.Changes([], [], [], ["bob"]))
    driver.publish(back)
    assert Presence("lobby", 2, [], [], [], ["anna", "bob"]) == driver.drain_events()[-1]
    driver.publish(wire.Notice("rejoin", "lobby", text="lobby"), INBOX)
    joined = driver.log.joined(driver.last(wire.Join).id)
    driver.reply(replace(joined, version=11))
    assert Presence("lobby", 1, [], ["bob"], []) == driver.drain_events()[-1]
