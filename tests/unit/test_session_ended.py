"""What becomes of a client whose session was ended, or may not be resumed. No sockets."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from client import effects
from client.questions import Call
from common import order, wire
from common.errors import Code, Refused
from tests.unit.session_driver import INBOX, Driver, in_room


@pytest.mark.parametrize("code", ["kicked", "banned", "not_allowed"])
def test_whose_session_was_ended_hears_nothing_more(code: str) -> None:
    """Neither what is published on, nor a page that was asked for; another nick brings it back."""
    driver = in_room()
    driver.log.append(1)
    driver.publish(driver.log.append(1))
    question = driver.asked.pop()
    driver.take(driver.session.join("lobby", None, None, "again", driver.now))
    late = driver.log.joined(driver.last(wire.Join).id)
    driver.publish(wire.Notice(code, nick="boss"), INBOX)
    driver.drain_events()
    assert effects.Unsubscribe(driver.topic) in driver.others
    assert effects.DropHistory() in driver.drain_others()
    page, batches = driver.log.page(question.mode, question.at, 9, request_id=question.id)
    driver.take(driver.session.page(page, batches, driver.now))
    driver.publish(driver.log.append(1))
    driver.reply(late)
    driver.wait(60)
    assert (driver.drain_events(), driver.drain_others(), driver.asked) == ([], [], [])

    driver.take(driver.session.rename("hannah", "nick", driver.now))
    driver.welcome()
    driver.reply(driver.log.joined(driver.last(wire.Join).id))
    assert effects.Subscribe(driver.topic) in driver.others
    driver.publish(driver.log.beacon())
    while driver.asked:
        driver.page()
    assert driver.seqs() == [1, 2, 3]


CALLS: dict[str, Callable[[Driver], list[effects.Effect]]] = {
    "who": lambda d: d.session.ask(lambda at: wire.Who(at, "lobby"), "who", d.now),
    "rooms": lambda d: d.session.ask(wire.Rooms, "rooms", d.now),
    "order": lambda d: d.session.ask(
        lambda at: order.Order(at, "lobby", "kick", "bob"), "order", d.now
    ),
    "talk": lambda d: d.session.talk("bob", None, None, "talk", d.now),
    "again": lambda d: d.session.join("lobby", None, None, "again", d.now),
    "new": lambda d: d.session.join("new", None, None, "new", d.now),
    "history": lambda d: d.session.history(Call("lobby", None, 9, 5, "history"), d.now),
}


@pytest.mark.parametrize("is_under_way", [True, False])
@pytest.mark.parametrize("name", CALLS)
def test_calls_of_whose_session_was_ended_are_refused_at_once(
    name: str,
    is_under_way: bool,  # noqa: FBT001 - a parameter
) -> None:
    """With the reason. They would wait for a session that does not come by itself."""
    driver = in_room()
    notice = wire.Notice("kicked", nick="boss", text="spam")
    if not is_under_way:
        driver.publish(notice, INBOX)
        driver.drain_others()
    driver.take(CALLS[name](driver))
    if is_under_way:
        driver.publish(notice, INBOX)
    (error,) = [
        effect.error
        for effect in driver.drain_others()
        if isinstance(effect, effects.Reject) and effect.ticket == name
    ]
    assert isinstance(error, Refused)
    assert (error.code, error.exit_status) == ("not_allowed", 77)
    assert str(error) == "an operator ended your session: spam"
    driver.sent.clear()
    driver.take(driver.session.rename("hannah", "nick", driver.now))
    driver.welcome()
    # And no call is made again.
    assert [wire.Join, wire.SetNick] == [type(command) for command in driver.sent]


def test_a_room_is_left_though_the_session_was_ended() -> None:
    driver = in_room()
    driver.publish(wire.Notice("banned", nick="boss", value=60), INBOX)
    driver.drain_others()
    driver.take(driver.session.part("lobby", "part", driver.now))
    assert effects.Resolve("part", None) in driver.drain_others()
    driver.wait(60)
    driver.welcome()
    assert not [command for command in driver.sent if type(command) is wire.Join]


@pytest.mark.parametrize("code", ["kicked", "banned", "not_allowed"])
def test_texts_of_whose_session_was_ended_fail_at_once(code: str) -> None:
    """Those on their way may have been kept; what is said later is not sent."""
    driver = in_room()
    driver.say("flying")
    driver.publish(wire.Notice(code, nick="boss", text="spam", value=60), INBOX)
    driver.say("late")
    failed = {
        ticket: effect.error
        for effect in driver.drain_others()
        if isinstance(effect, effects.Failed)
        for ticket in effect.tickets
    }
    assert failed.keys() == {"flying", "late"}
    for ticket, error in failed.items():
        assert isinstance(error, Refused)
        assert (error.exit_status, "spam" in error.detail) == (77, True)
        assert ("not known" in error.detail) is (ticket == "flying")
    driver.sent.clear()
    driver.wait(60)
    if code == "banned":
        driver.welcome()
        driver.reply(driver.log.joined(driver.last(wire.Join).id))
    assert not [command for command in driver.sent if type(command) is wire.Send]


def test_texts_wait_for_another_nick_where_a_resume_was_refused() -> None:
    driver = in_room()
    driver.say("mine")
    driver.take(driver.session.disconnected(driver.now))
    driver.take(driver.session.connected(driver.now))
    driver.greet()
    driver.refuse(driver.last(wire.Hello).id, Code.NICK_TAKEN)
    assert not [each for each in driver.drain_others() if isinstance(each, effects.Failed)]
    driver.take(driver.session.rename("hannah", "nick", driver.now))
    driver.welcome()
    assert ["mine"] == driver.last(wire.Send).posts[0].texts
