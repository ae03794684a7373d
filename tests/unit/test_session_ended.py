"""What becomes of a client whose session was ended, or may not be resumed. No sockets."""

from __future__ import annotations

import pytest

from client import effects
from common import wire
from tests.unit.session_driver import INBOX, in_room


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
