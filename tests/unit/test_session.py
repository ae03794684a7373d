"""The session connects, resumes, joins, asks and closes as PROTOCOL.md says. No sockets."""

from __future__ import annotations

import pytest

from client import effects
from client.events import Joined, State
from client.limits import (
    ANSWER_AGE_S_MAX,
    CLOSE_S,
    REFUSED_S_MAX,
    REQUESTS_IN_FLIGHT_MAX,
    RETRY_S,
    SILENCE_S_MAX,
)
from client.session import Phase
from common import wire
from common.errors import Code, Refused
from tests import saying
from tests.unit.log_model import LogModel
from tests.unit.session_driver import INBOX, OWNER, READY, Driver, in_room, online


# --- the way to a session ---------------------------------------------------
def test_greet_comes_first_then_the_inbox_then_hello() -> None:
    driver = Driver()
    assert driver.session.deadline() is None
    driver.take(driver.session.connected(driver.now))
    driver.greet(rooms_port=2)
    assert driver.drain_others() == [effects.Connect(2, 3), effects.Subscribe(INBOX)]
    hello = driver.last(wire.Hello)
    assert (hello.nick, hello.owner, hello.instance, hello.number) == ("anna", OWNER, 5, 1)
    welcome = wire.Welcome(hello.id, "Anna", resumed=False, motd="hi")
    driver.reply(welcome)
    assert driver.drain_others() == [effects.Resolve(READY, welcome)]
    assert driver.states() == ["connecting", "online"]
    assert (driver.session.nick, driver.session.motd) == ("Anna", "hi")
    assert driver.session.deadline() is None  # An idle client costs nothing.


def test_a_first_hello_that_is_refused_ends_the_attempt() -> None:
    driver = Driver()
    driver.take(driver.session.connected(driver.now))
    driver.greet()
    driver.refuse(driver.last(wire.Hello).id, Code.NICK_TAKEN)
    assert driver.rejected(READY) == Code.NICK_TAKEN


@pytest.mark.parametrize("code", [Code.FULL, Code.CLOSING, Code.DRAINING, Code.LOG_FAILED])
def test_a_resume_that_time_may_heal_is_tried_again(code: Code) -> None:
    driver = online()
    driver.take(driver.session.disconnected(driver.now))
    driver.take(driver.session.connected(driver.now))
    driver.greet()
    driver.refuse(driver.last(wire.Hello).id, code)
    driver.wait(RETRY_S)
    driver.welcome()
    assert driver.session.phase is Phase.ONLINE


@pytest.mark.parametrize("is_readable", [True, False])
def test_a_broker_of_another_version_is_told_so(*, is_readable: bool) -> None:
    driver = Driver()
    driver.take(driver.session.connected(driver.now))
    if is_readable:
        driver.greet(protocol=2)
    else:
        driver.refuse(0, Code.BAD_VERSION, 2)
    assert driver.rejected(READY) == Code.BAD_VERSION


def test_nothing_but_greet_goes_out_before_welcome() -> None:
    driver = Driver()
    driver.say("early")
    driver.take(driver.session.join("lobby", 100, None, "join", driver.now))
    assert driver.sent == []
    driver.take(driver.session.connected(driver.now))
    driver.greet()
    hello = driver.last(wire.Hello)
    driver.reply(wire.Welcome(hello.id, "anna", resumed=False, motd=""))
    join, send = driver.sent
    assert isinstance(join, wire.Join)
    assert not join.resume
    assert isinstance(send, wire.Send)
    driver.reply(driver.log.joined(join.id))
    assert effects.Subscribe(driver.topic) in driver.others


def test_a_silent_broker_is_greeted_again() -> None:
    driver = Driver()
    driver.take(driver.session.connected(driver.now))
    first = driver.last(wire.Greet)
    driver.wait(SILENCE_S_MAX)
    second = driver.last(wire.Greet)
    assert second.id != first.id


# --- resuming ---------------------------------------------------------------
def test_after_no_session_rooms_come_before_texts() -> None:
    driver = in_room()
    driver.say("one")
    driver.take(driver.session.ask(lambda n: wire.Who(n, "lobby"), "who", driver.now))
    who = driver.sent[-1]
    assert isinstance(who, wire.Who)
    driver.refuse(1, Code.NO_SESSION)
    driver.say("two")
    driver.greet()
    hello = driver.last(wire.Hello)
    assert hello.number == 1
    driver.reply(wire.Welcome(hello.id, "anna", resumed=False, motd=""))
    assert [type(command) for command in driver.sent] == [wire.Join, wire.Who, wire.Send, wire.Send]
    join, who_again, one, two = driver.sent
    assert isinstance(join, wire.Join)
    assert join.resume
    assert isinstance(who_again, wire.Who)
    assert who_again.id != who.id
    assert isinstance(one, wire.Send)
    assert isinstance(two, wire.Send)
    assert (one.number, saying.texts_of(one), two.number, saying.texts_of(two)) == (
        1,
        ["one"],
        2,
        ["two"],
    )
    driver.reply(wire.Members(who.id, "lobby", 1, 1, []))
    assert driver.drain_others() == []  # A late answer to the old question.


def test_a_lost_connection_is_told_and_resumed() -> None:
    driver = in_room()
    driver.take(driver.session.disconnected(driver.now))
    assert driver.states() == ["offline"]
    assert driver.session.deadline() is None  # Nothing to do until libzmq reconnects.
    driver.take(driver.session.connected(driver.now))
    driver.welcome(resumed=True)
    assert driver.states() == ["online"]
    driver.reply(driver.log.joined(driver.last(wire.Join).id))
    assert driver.others == []  # The session was still known, so the subscription works.
    assert driver.drain_events() == []


def test_what_was_missed_meanwhile_is_repaired() -> None:
    driver = in_room()
    driver.take(driver.session.disconnected(driver.now))
    driver.log.append(3)
    driver.take(driver.session.connected(driver.now))
    driver.welcome(resumed=True)
    driver.reply(driver.log.joined(driver.last(wire.Join).id))
    driver.page()
    assert driver.seqs() == [1, 2, 3]


def test_a_broker_that_forgot_the_session_gets_a_fresh_subscription() -> None:
    """It may have refused the topic when SUB reconnected, and SUB never asks twice."""
    driver = in_room()
    driver.refuse(0, Code.NO_SESSION)
    driver.welcome(resumed=False)
    driver.reply(driver.log.joined(driver.last(wire.Join).id))
    assert driver.drain_others() == [
        effects.Unsubscribe(driver.topic),
        effects.Subscribe(driver.topic),
    ]


def test_another_topic_is_swapped_and_the_old_one_ignored() -> None:
    driver = in_room()
    driver.refuse(0, Code.NO_SESSION)
    driver.welcome(resumed=True)
    other = b"lobby\0" + b"K" * 16
    joined = driver.log.joined(driver.last(wire.Join).id)
    changed = wire.Joined(
        joined.id, "lobby", other, b"", joined.epoch, joined.first, joined.head, "", 1, 1, ["anna"]
    )
    driver.reply(changed)
    assert driver.drain_others() == [effects.Unsubscribe(driver.topic), effects.Subscribe(other)]
    batch = driver.log.append(1)
    driver.publish(batch)
    assert driver.seqs() == []
    driver.publish(batch, other)
    assert driver.seqs() == [1]


def test_moved_ports_are_followed() -> None:
    driver = online()
    driver.refuse(0, Code.NO_SESSION)
    driver.greet(rooms_port=77)
    assert driver.drain_others() == [effects.Connect(77, 3)]


def test_silence_leads_to_a_resume() -> None:
    driver = in_room()
    driver.say("hello")
    driver.sent.clear()
    driver.wait(SILENCE_S_MAX - 0.1)
    assert driver.sent == []
    driver.wait(0.1)
    driver.last(wire.Greet)
    assert driver.states() == ["offline"]


def test_one_answer_that_never_comes_leads_to_a_resume_too() -> None:
    driver = in_room()
    driver.say("hello")
    sent_s = driver.now
    while driver.now < sent_s + ANSWER_AGE_S_MAX:
        assert driver.session.phase is Phase.ONLINE
        driver.wait(1)
        driver.reply(wire.Renamed(1, "anna"))
    assert driver.session.phase is Phase.GREETING


def test_a_notice_without_session_resumes_once() -> None:
    """With its inbox opened anew: the broker may have forgotten that it was open."""
    driver = in_room()
    driver.drain_others()
    driver.publish(wire.Notice("no_session"), INBOX)
    assert driver.drain_others() == [effects.Unsubscribe(INBOX), effects.Subscribe(INBOX)]
    greet = driver.last(wire.Greet)
    driver.publish(wire.Notice("no_session"), INBOX)
    assert driver.sent == []
    driver.sent.append(greet)
    driver.welcome()
    assert driver.session.phase is Phase.ONLINE


def test_a_closing_broker_is_reported_and_awaited() -> None:
    driver = in_room()
    driver.say("kept for later")
    driver.publish(wire.Notice("closing"), INBOX)
    driver.refuse(1, Code.CLOSING)
    assert driver.states() == ["closing"]
    driver.take(driver.session.disconnected(driver.now))
    driver.take(driver.session.connected(driver.now))
    driver.greet()
    driver.refuse(driver.last(wire.Hello).id, Code.CLOSING)
    assert driver.states() == ["offline", "closing"]
    driver.wait(RETRY_S)
    driver.welcome()
    assert saying.texts_of(driver.last(wire.Send)) == ["kept for later"]


def test_a_word_of_closing_after_the_end_is_told_and_changes_nothing() -> None:
    driver = in_room()
    driver.take(driver.session.disconnected(driver.now))
    driver.publish(wire.Notice("closing"), INBOX)
    assert driver.states() == ["offline", "closing", "offline"]
    assert driver.session.state == "offline"


def test_many_rooms_are_joined_again_in_portions_and_before_the_texts() -> None:
    driver = online()
    rooms_count = REQUESTS_IN_FLIGHT_MAX + 10
    logs = {f"r{n}": LogModel(f"r{n}") for n in range(rooms_count)}

    def answer_all() -> int:
        joins = [command for command in driver.sent if isinstance(command, wire.Join)]
        driver.sent.clear()
        for join in joins:
            driver.reply(logs[join.room].joined(join.id))
        return len(joins)

    for name in logs:
        driver.take(driver.session.join(name, 0, None, name, driver.now))
    assert [answer_all(), answer_all()] == [REQUESTS_IN_FLIGHT_MAX, 10]
    driver.say("hello")
    driver.refuse(1, Code.NO_SESSION)
    driver.welcome()
    assert len(driver.sent) == REQUESTS_IN_FLIGHT_MAX
    driver.wait(SILENCE_S_MAX - 0.1)
    assert driver.session.phase is Phase.ONLINE
    assert answer_all() == REQUESTS_IN_FLIGHT_MAX
    assert [type(command) for command in driver.sent] == [wire.Join] * 10 + [wire.Send]


def test_a_nick_that_was_taken_meanwhile_needs_another() -> None:
    driver = in_room()
    driver.refuse(0, Code.NO_SESSION)
    driver.greet()
    driver.refuse(driver.last(wire.Hello).id, Code.NICK_TAKEN)
    assert driver.states() == ["refused"]
    assert driver.session.deadline() is None
    driver.take(driver.session.rename("annie", "rename", driver.now))
    driver.greet()
    driver.refuse(driver.last(wire.Hello).id, Code.NICK_TAKEN)
    assert driver.rejected("rename") == Code.NICK_TAKEN
    driver.take(driver.session.rename("ann", "again", driver.now))
    driver.greet()
    hello = driver.last(wire.Hello)
    assert hello.nick == "ann"
    driver.reply(wire.Welcome(hello.id, "ann", resumed=False, motd=""))
    assert driver.states() == ["online"]
    driver.reply(wire.Renamed(driver.last(wire.SetNick).id, "ann"))
    assert effects.Resolve("again", "ann") in driver.others


def test_a_nick_asked_for_while_offline_is_tried_when_the_old_one_is_taken() -> None:
    driver = in_room()
    driver.take(driver.session.disconnected(driver.now))
    driver.take(driver.session.rename("annie", "rename", driver.now))
    driver.take(driver.session.connected(driver.now))
    driver.greet()
    driver.refuse(driver.last(wire.Hello).id, Code.NICK_TAKEN)
    driver.greet()
    assert driver.last(wire.Hello).nick == "annie"


def test_a_stolen_session_is_refused_and_keeps_its_texts() -> None:
    driver = in_room()
    driver.say("hello")
    driver.refuse(1, Code.SESSION_TAKEN)
    assert driver.states() == ["refused"]
    assert driver.session.abandon_all() == ["hello"]


# --- texts ------------------------------------------------------------------
def test_an_acknowledged_text_gets_its_place() -> None:
    driver = in_room()
    driver.say("a", "b")
    assert saying.texts_of(driver.last(wire.Send)) == ["a", "b"]
    driver.reply(saying.acknowledgement(1, 8, 1234))
    driver.reply(saying.acknowledgement(1, 8, 1234))
    assert driver.drain_others() == [effects.Kept(["a", "b"], "lobby", 8, 1234)]


def test_a_refused_text_fails_with_its_code() -> None:
    driver = in_room()
    driver.say("a")
    driver.refuse(1, Code.LOG_FAILED)
    (failed,) = driver.drain_others()
    assert isinstance(failed, effects.Failed)
    assert failed.tickets == ["a"]
    assert isinstance(failed.error, Refused)
    assert failed.error.code == Code.LOG_FAILED


def test_slow_down_is_waited_out() -> None:
    driver = in_room()
    driver.say("a")
    driver.refuse(1, Code.SLOW_DOWN, 7000)
    driver.sent.clear()
    driver.wait(6.9)
    assert driver.sent == []  # And no resume, though nothing was answered for so long.
    driver.wait(0.1)
    assert driver.last(wire.Send).number == 1


def test_a_gap_below_what_is_out_needs_hello() -> None:
    """The broker forgot numbers that it had refused; HELLO tells it where we are."""
    driver = in_room()
    driver.say("a")
    driver.refuse(1, Code.LOG_FAILED)
    driver.say("b")
    driver.refuse(2, Code.GAP, 1)
    driver.greet()
    assert driver.last(wire.Hello).number == 2


def test_an_answer_that_settles_counts_during_a_resume_too() -> None:
    driver = in_room()
    driver.say("a")
    driver.publish(wire.Notice("no_session"), INBOX)
    driver.refuse(1, Code.TEXT_INVALID)
    driver.welcome()
    assert not [command for command in driver.sent if isinstance(command, wire.Send)]


# --- requests ---------------------------------------------------------------
def test_rooms_are_listed_over_several_pages() -> None:
    driver = online()
    driver.take(driver.session.ask(wire.Rooms, "rooms", driver.now))
    one, two = wire.RoomInfo("a", 1, 2, ""), wire.RoomInfo("b", 1, 2, "")
    driver.reply(wire.RoomList(driver.last(wire.Rooms).id, [one], more=True))
    second = driver.last(wire.Rooms)
    assert second.after == "a"
    driver.reply(wire.RoomList(second.id, [two], more=False))
    assert driver.others == [effects.Resolve("rooms", [one, two])]


def test_a_request_that_came_too_fast_is_sent_later() -> None:
    driver = online()
    driver.take(driver.session.join("lobby", 100, None, "join", driver.now))
    driver.refuse(driver.last(wire.Join).id, Code.SLOW_DOWN, 300)
    driver.wait(0.2)
    assert driver.sent == []
    driver.wait(0.1)
    driver.reply(driver.log.joined(driver.last(wire.Join).id))
    assert driver.others[-1] == effects.Resolve("join", Joined("lobby", "", 1, ["anna"]))


def test_a_rename_and_a_status() -> None:
    driver = online()
    driver.take(driver.session.rename("bob", "rename", driver.now))
    driver.reply(wire.Renamed(driver.last(wire.SetNick).id, "bob"))
    assert driver.session.nick == "bob"
    driver.take(driver.session.ask(wire.Greet, "status", driver.now))
    greeting = wire.Greeting(driver.last(wire.Greet).id, "0", 1, 2, 3, 7, 0, 1, 9, 1, "", "")
    driver.reply(greeting)
    assert driver.others == [effects.Resolve("rename", "bob"), effects.Resolve("status", greeting)]
    assert driver.session.phase is Phase.ONLINE


# --- closing ----------------------------------------------------------------
def test_close_settles_texts_and_says_bye() -> None:
    driver = in_room()
    driver.say("last words")
    driver.sent.clear()
    driver.take(driver.session.close(driver.now))
    assert driver.sent == []
    driver.reply(saying.acknowledgement(1, 1, 1))
    driver.others.clear()
    driver.reply(wire.Goodbye(driver.last(wire.Bye).id))
    assert driver.others == [effects.Stop()]


def test_close_waits_for_a_bounded_time() -> None:
    driver = in_room()
    driver.say("last words")
    driver.take(driver.session.close(driver.now))
    driver.wait(CLOSE_S)
    assert driver.others == [effects.Stop()]
    assert driver.session.abandon_all() == ["last words"]


def test_close_without_a_broker_is_at_once() -> None:
    driver = Driver()
    driver.take(driver.session.close(driver.now))
    assert driver.others == [effects.Stop()]
    assert driver.session.abandon_all() == [READY]
    assert driver.drain_events() == [State("connecting", "")]


@pytest.mark.parametrize(
    ("code", "text", "detail"),
    [
        ("kicked", "spam", "an operator ended your session: spam"),
        ("banned", "", "an operator banned you"),
    ],
)
def test_who_is_sent_away_from_the_broker_does_not_come_back_by_itself(
    code: str, text: str, detail: str
) -> None:
    """It would be in again at once; the person reads why, and may try again."""
    driver = online()
    driver.publish(wire.Notice(code, nick="boss", text=text), INBOX)
    assert State("refused", detail) == driver.drain_events()[-1]


@pytest.mark.parametrize(("ban_s", "pause_s"), [(4, 4), (10 * REFUSED_S_MAX, REFUSED_S_MAX)])
def test_a_ban_ends_by_itself(ban_s: int, pause_s: int) -> None:
    """The client asks when the time is over, or once an hour; a ban for ever stays as it is."""
    driver = online()
    driver.publish(wire.Notice("banned", nick="boss", text="spam", value=ban_s), INBOX)
    (told,) = driver.drain_events()
    assert isinstance(told, State)
    assert ("refused", ban_s) == (told.state, told.wait_s)
    for _ in range(2):
        driver.wait(pause_s - 0.1)
        assert driver.sent == []
        driver.wait(0.1)
        driver.greet()
        driver.refuse(driver.last(wire.Hello).id, Code.BANNED, ban_s * 1_000)
    assert driver.drain_events() == []
    driver.wait(pause_s)
    driver.greet()
    driver.refuse(driver.last(wire.Hello).id, Code.BANNED)
    assert driver.drain_events() == [State("refused", "you are banned")]
    assert driver.session.deadline() is None


def test_who_was_banned_is_in_again_when_it_is_over() -> None:
    driver = online()
    driver.publish(wire.Notice("banned", nick="boss", value=4), INBOX)
    driver.wait(4)
    driver.welcome()
    assert driver.states() == ["refused", "online"]
