"""Whatever is lost, cut off or restarted, a session's texts are kept once and its room is whole."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from client import effects
from client.events import Entry, Missing, Reset
from client.session import Phase
from common import wire
from common.errors import Code
from common.limits import SENDS_IN_FLIGHT_MAX
from tests import saying
from tests.unit.log_model import LogModel
from tests.unit.session_driver import Driver


class Broker:
    """One room, one session, and a log that survives restarts."""

    def __init__(self, log: LogModel) -> None:
        self.log = log
        self.committed: dict[int, wire.Ack] = {}
        self.texts: list[str] = []
        self.expected: int | None = None  # None: there is no session.
        self.is_member = False

    def restart(self) -> None:
        self.expected = None
        self.is_member = False

    def handle(self, command: wire.Payload) -> tuple[wire.Payload, list[wire.Publication]]:
        """Return the answer, and what is published."""
        if isinstance(command, wire.Greet):
            return wire.Greeting(command.id, "", 1, 2, 3, 7, 0, 1, 9, 1, "", ""), []
        if isinstance(command, wire.Hello):
            was_known = self.expected is not None
            if self.expected is None:
                after_log = max(self.committed, default=0) + 1
                self.expected = max(after_log, command.number)
            return wire.Welcome(command.id, command.nick, was_known, ""), []
        request_id = getattr(command, "id", getattr(command, "number", 0))
        if self.expected is None:
            return wire.Error(request_id, Code.NO_SESSION, "", survives=False), []
        if isinstance(command, wire.Join):
            self.is_member = True
            return self.log.joined(command.id), []
        assert isinstance(command, wire.Send)
        return self.send(command)

    def send(self, send: wire.Send) -> tuple[wire.Payload, list[wire.Publication]]:
        assert self.expected is not None
        number = send.number
        if number > self.expected:
            code, value = Code.GAP, self.expected
        elif number < self.expected:
            recent = sorted(self.committed)[-SENDS_IN_FLIGHT_MAX:]
            if number in recent:
                return self.committed[number], []
            code, value = Code.NOT_KEPT, 0
        elif not self.is_member:
            self.expected += 1
            code, value = Code.NOT_MEMBER, 0
        else:
            self.expected += 1
            texts = saying.texts_of(send)
            batch = self.log.append(len(texts))
            self.committed[number] = saying.acknowledgement(number, batch.first)
            self.texts += texts
            return self.committed[number], [batch]
        return wire.Error(number, code, "", survives=True, value=value), []


class World:
    """A driver and a broker with a wire between them that can break anywhere."""

    def __init__(self) -> None:
        self.driver = Driver()
        self.broker = Broker(self.driver.log)
        self.replies: list[wire.Payload] = []
        self.frames: list[wire.Publication] = []
        self.is_up = False
        self.said = 0

    def connect(self) -> None:
        if not self.is_up:
            self.is_up = True
            self.driver.take(self.driver.session.connected(self.driver.now))

    def disconnect(self) -> None:
        if self.is_up:
            self.is_up = False
            self.driver.sent.clear()
            self.replies.clear()
            self.driver.take(self.driver.session.disconnected(self.driver.now))

    def restart(self) -> None:
        """Restart the broker so fast that the client's socket may not notice."""
        self.broker.restart()

    def say(self) -> None:
        self.said += 1
        self.driver.say(str(self.said))

    def others_say(self) -> None:
        self.frames.append(self.driver.log.append(2))

    def carry(self) -> None:
        """Bring one command to the broker."""
        if self.is_up and self.driver.sent:
            reply, published = self.broker.handle(self.driver.sent.pop(0))
            self.replies.append(reply)
            self.frames += published

    def answer(self) -> None:
        if self.replies:
            self.driver.reply(self.replies.pop(0))

    def publish(self) -> None:
        if self.frames:
            self.driver.publish(self.frames.pop(0))

    def lose_frame(self) -> None:
        if self.frames:
            self.frames.pop(0)

    def lose_reply(self) -> None:
        if self.replies:
            self.replies.pop(0)

    def page(self) -> None:
        if self.driver.asked:
            self.driver.page()

    def lose_page(self) -> None:
        self.driver.asked.clear()

    def pause(self) -> None:
        self.driver.take(self.driver.session.pause(self.driver.now, is_paused=True))

    def go_on(self) -> None:
        self.driver.take(self.driver.session.pause(self.driver.now, is_paused=False))

    def wait(self) -> None:
        self.driver.wait(1.0)

    def settle(self) -> None:
        """Let everything arrive from here on."""
        self.connect()
        self.go_on()
        for _ in range(60):
            for _ in range(40):
                for act in (self.carry, self.answer, self.publish, self.page):
                    act()
            self.frames.append(self.driver.log.beacon())
            self.wait()

    def check_clock(self) -> None:
        """Fail for a deadline that stays in the past: it would make the thread spin."""
        self.driver.wait(0)
        deadline = self.driver.session.deadline()
        assert deadline is None or deadline > self.driver.now


ACTS = [
    *[World.carry] * 4,
    *[World.answer] * 4,
    *[World.publish] * 2,
    *[World.say] * 2,
    World.others_say,
    World.page,
    World.connect,
    World.disconnect,
    World.restart,
    World.lose_frame,
    World.lose_reply,
    World.lose_page,
    World.pause,
    World.go_on,
    World.wait,
]


@settings(max_examples=300, deadline=None)
@given(st.lists(st.sampled_from(ACTS), max_size=150))
def test_texts_are_kept_once_and_the_room_is_whole(acts: list[object]) -> None:
    world = World()
    driver = world.driver
    world.connect()
    driver.take(driver.session.join("lobby", None, None, "join", driver.now))
    for act in acts:
        assert callable(act)
        act(world)
        world.check_clock()
    world.settle()

    assert driver.session.phase is Phase.ONLINE
    assert not driver.session.abandon_all()
    failed = [
        ticket
        for effect in driver.others
        if isinstance(effect, effects.Failed)
        for ticket in effect.tickets
    ]
    kept = [
        ticket
        for effect in driver.others
        if isinstance(effect, effects.Kept)
        for ticket in effect.tickets
    ]
    assert sorted([*kept, *failed], key=str) == sorted(map(str, range(1, world.said + 1)))
    assert world.broker.texts == sorted(set(world.broker.texts), key=int), "once, in order"
    assert set(map(str, kept)) <= set(world.broker.texts)
    assert not failed, "the room was joined all the time"
    assert not [event for event in driver.events if isinstance(event, Missing | Reset)]
    assert [e.seq for e in driver.events if isinstance(e, Entry)] == driver.log.seqs
