"""The outbox numbers, coalesces and resends so that nothing is lost, doubled or reordered."""

from __future__ import annotations

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from client.effects import Failed, Kept
from client.limits import GAP_ECHO_S, SLOW_DOWN_MS_MAX
from client.outbox import Line, Outbox, refusal
from common import wire
from common.errors import Code, Malformed, Refused
from common.limits import (
    COMMAND_BYTES_MAX,
    ROOM_CHARS_MAX,
    SEND_POSTS_MAX,
    SEND_TEXTS_MAX,
    SENDS_IN_FLIGHT_MAX,
    TEXT_CHARS_MAX,
)
from common.wire import Kind
from tests import saying


def line(text: str, room: str = "lobby", kind: Kind = Kind.TEXT) -> Line:
    return Line(room, kind, text, len(text.encode()), text)


def filled(count: int) -> Outbox:
    """Return an outbox with `count` SENDs of one text each in flight."""
    outbox = Outbox()
    for n in range(1, count + 1):
        outbox.put([line(str(n))])
        assert [send.number for send in outbox.pump(0)] == [n]
    return outbox


def error(number: int, code: Code, value: int = 0) -> wire.Error:
    return wire.Error(number, code, "", survives=True, value=value)


# --- coalescing -------------------------------------------------------------
def test_a_lone_text_goes_at_once() -> None:
    outbox = Outbox()
    outbox.put([line("hello")])
    assert outbox.pump(0) == [saying.send(1, "lobby", ["hello"])]
    assert outbox.pump(0) == []


def test_what_waits_for_a_room_goes_into_one_send() -> None:
    outbox = Outbox()
    outbox.put([line("a"), line("x", "dev"), line("b"), line("y", "dev")])
    assert outbox.pump(0) == [
        wire.Send(
            1,
            [
                wire.Draft("lobby", Kind.TEXT, ["a", "b"]),
                wire.Draft("dev", Kind.TEXT, ["x", "y"]),
            ],
        )
    ]


def test_a_text_does_not_overtake_an_action() -> None:
    outbox = Outbox()
    outbox.put([line("a"), line("waves", kind=Kind.ACTION), line("b")])
    (send,) = outbox.pump(0)
    assert [(post.kind, post.texts) for post in send.posts] == [
        (Kind.TEXT, ["a"]),
        (Kind.ACTION, ["waves"]),
        (Kind.TEXT, ["b"]),
    ]


def test_a_send_has_a_bounded_number_of_texts() -> None:
    outbox = Outbox()
    outbox.put([line("x")] * (SEND_TEXTS_MAX + 1))
    assert [len(saying.texts_of(send)) for send in outbox.pump(0)] == [SEND_TEXTS_MAX, 1]


def test_a_send_has_a_bounded_number_of_posts() -> None:
    """Also when each text is for another room; the room that is next begins the next SEND."""
    outbox = Outbox()
    rooms = [f"r{index}" for index in range(SEND_POSTS_MAX + 1)]
    outbox.put([line("x", room) for room in rooms])
    first, second = outbox.pump(0)
    assert [post.room for post in first.posts] == rooms[:-1]
    assert [post.room for post in second.posts] == rooms[-1:]


@pytest.mark.parametrize("size", [1, 31, 32, 255, 256, TEXT_CHARS_MAX])
def test_a_send_fits_its_frame(size: int) -> None:
    """However long the texts and the room's name are in UTF-8."""
    outbox = Outbox()
    outbox.put([line("\U0001f600" * size, "\U00010400" * ROOM_CHARS_MAX)] * SEND_TEXTS_MAX)
    sends = outbox.pump(0)
    assert max(len(wire.encode(send)) for send in sends) <= COMMAND_BYTES_MAX
    assert len(sends) == SENDS_IN_FLIGHT_MAX or outbox.pump(0) == []


@pytest.mark.parametrize("size", [1, 31, 32, 255, 256, TEXT_CHARS_MAX])
def test_a_send_for_many_rooms_fits_its_frame(size: int) -> None:
    """Nothing of a room is passed over because it does not fit any more."""
    outbox = Outbox()
    rooms = ["\U00010400" * (ROOM_CHARS_MAX - 3) + f"{index:03}" for index in range(60)]
    outbox.put([line("\U0001f600" * size, room) for room in rooms * 2])
    sends = outbox.pump(0)
    assert max(len(wire.encode(send)) for send in sends) <= COMMAND_BYTES_MAX
    said = list(dict.fromkeys(post.room for send in sends for post in send.posts))
    assert said == rooms[: len(said)]


def test_the_window_closes_and_opens_again() -> None:
    outbox = filled(SENDS_IN_FLIGHT_MAX)
    outbox.put([line("a"), line("b")])
    assert outbox.pump(0) == []
    assert outbox.acked(saying.acknowledgement(1, 7)) == [Kept(["1"], "lobby", 7, 1)]
    assert [saying.texts_of(send) for send in outbox.pump(0)] == [["a", "b"]]


def test_rooms_take_turns() -> None:
    outbox = Outbox()
    outbox.put([line("x")] * (SEND_TEXTS_MAX * 20) + [line("y", "dev")])
    first, second = outbox.pump(0)[:2]
    assert [(post.room, len(post.texts)) for post in first.posts] == [("lobby", SEND_TEXTS_MAX)]
    assert [(post.room, len(post.texts)) for post in second.posts] == [
        ("dev", 1),
        ("lobby", SEND_TEXTS_MAX - 1),
    ]


# --- answers ----------------------------------------------------------------
def test_an_acknowledgement_returns_its_tickets_once() -> None:
    outbox = Outbox()
    outbox.put([line("a"), line("b")])
    outbox.pump(0)
    assert not outbox.is_empty
    ack = saying.acknowledgement(1, 41, 7)
    assert outbox.acked(ack) == [Kept(["a", "b"], "lobby", 41, 7)]
    assert outbox.acked(ack) == []
    assert outbox.is_empty


def test_each_post_of_an_acknowledgement_is_kept_or_failed() -> None:
    outbox = Outbox()
    outbox.put([line("a"), line("x", "dev"), line("y", "dev"), line("o", "ops")])
    outbox.pump(0)
    ack = wire.Ack(1, [wire.Place(5, 7), wire.Place(0, 0, Code.NOT_MEMBER), wire.Place(9, 8)])
    lobby, dev, ops = outbox.acked(ack)
    assert (lobby, ops) == (Kept(["a"], "lobby", 5, 7), Kept(["o"], "ops", 9, 8))
    assert isinstance(dev, Failed)
    assert isinstance(dev.error, Refused)
    assert (dev.tickets, dev.error.code) == (["x", "y"], Code.NOT_MEMBER)
    assert outbox.is_empty


def test_an_acknowledgement_of_another_send_settles_nothing() -> None:
    outbox = filled(1)
    with pytest.raises(Malformed):
        outbox.acked(wire.Ack(1, []))
    assert [send.number for send in outbox.resume(0)] == [1]


def test_the_lowest_number_is_what_hello_tells() -> None:
    outbox = filled(3)
    assert outbox.lowest == 1
    outbox.acked(saying.acknowledgement(1, 1))
    assert outbox.lowest == 2
    outbox.acked(saying.acknowledgement(2, 1))
    outbox.acked(saying.acknowledgement(3, 1))
    assert outbox.lowest == 4


def test_a_refusal_fails_its_texts_and_no_others() -> None:
    outbox = filled(3)
    assert outbox.refused(error(2, Code.LOG_FAILED), 0) == (["2"], [])
    assert outbox.refused(error(2, Code.LOG_FAILED), 0) == ([], [])
    assert [send.number for send in outbox.resume(0)] == [1, 3]


@pytest.mark.parametrize("code", [Code.NO_SESSION, Code.CLOSING, Code.SESSION_TAKEN])
def test_what_does_not_consume_the_number_keeps_the_send(code: Code) -> None:
    outbox = filled(2)
    assert outbox.refused(error(1, code), 0) == ([], [])
    assert [send.number for send in outbox.resume(0)] == [1, 2]


def test_a_gap_is_filled_once_though_every_send_reports_it() -> None:
    outbox = filled(4)
    assert [s.number for s in outbox.refused(error(3, Code.GAP, 2), 10)[1]] == [2, 3, 4]
    assert outbox.refused(error(4, Code.GAP, 2), 10) == ([], [])
    later = 10 + GAP_ECHO_S
    assert [s.number for s in outbox.refused(error(4, Code.GAP, 2), later)[1]] == [2, 3, 4]


def test_slow_down_holds_everything_and_then_resends_from_there() -> None:
    outbox = filled(4)
    outbox.put([line("next")])
    assert outbox.refused(error(2, Code.SLOW_DOWN, 500), 10) == ([], [])
    assert outbox.refused(error(3, Code.GAP, 2), 10) == ([], [])
    outbox.acked(saying.acknowledgement(1, 1))
    assert outbox.pump(10.4) == []
    assert outbox.deadline_s == 10.5
    assert outbox.oldest_sent_s is None  # The broker said wait: its silence is no fault.
    assert [send.number for send in outbox.pump(10.5)] == [2, 3, 4, 5]
    assert outbox.deadline_s is None
    assert outbox.oldest_sent_s == 10.5


def test_of_several_slow_downs_the_lowest_number_and_the_longest_wait_count() -> None:
    outbox = filled(3)
    outbox.refused(error(3, Code.SLOW_DOWN, 500), 0)
    outbox.refused(error(2, Code.SLOW_DOWN, 100), 0)
    assert outbox.pump(0.4) == []
    assert [send.number for send in outbox.pump(0.5)] == [2, 3]


@pytest.mark.parametrize(("value", "until_s"), [(10**15, SLOW_DOWN_MS_MAX / 1000), (-5, 0.0)])
def test_a_mistaken_wait_is_bounded(value: int, until_s: float) -> None:
    outbox = filled(1)
    outbox.refused(error(1, Code.SLOW_DOWN, value), 0)
    assert outbox.deadline_s == until_s


def test_a_resume_sends_all_again_and_forgets_the_wait() -> None:
    outbox = filled(3)
    outbox.acked(saying.acknowledgement(2, 1))
    outbox.refused(error(3, Code.SLOW_DOWN, 500), 0)
    assert [send.number for send in outbox.resume(1)] == [1, 3]
    assert outbox.deadline_s is None


def test_giving_up_returns_every_ticket() -> None:
    outbox = filled(SENDS_IN_FLIGHT_MAX)
    outbox.put([line("waiting")])
    assert len(outbox.abandon()) == SENDS_IN_FLIGHT_MAX + 1
    assert outbox.is_empty


# --- every schedule ---------------------------------------------------------
ROOMS = ("lobby", "dev", "ops")


class Broker:
    """What a broker does with numbers, over a wire that loses what it is told to lose."""

    def __init__(self, outbox: Outbox) -> None:
        self.outbox = outbox
        self.expected = 1
        self.kept: dict[int, list[wire.Draft]] = {}
        self.wire: list[wire.Send] = []
        self.answers: list[wire.Ack | wire.Error] = []
        self.posted: list[str] = []
        self.settled: list[object] = []
        self.failed: list[object] = []
        self.now = 0.0

    def step(self, name: str) -> None:
        """Do one thing of a schedule; a name that is no other's is what `serve` does."""
        if name == "post":
            self.post(1)
        elif name == "burst":
            self.post(300)
        elif name == "restart":
            self.restart()
        elif name == "wait":
            self.now += 0.2
        elif name in ("answer", "deafen"):
            self.answer(is_lost=name == "deafen")
        else:
            self.serve(name)
        self.wire += self.outbox.pump(self.now)

    def post(self, count: int) -> None:
        for _ in range(count):
            self.posted.append(str(len(self.posted)))
            self.outbox.put([line(self.posted[-1], ROOMS[len(self.posted) % len(ROOMS)])])

    def serve(self, mood: str) -> None:
        """Take one SEND from the wire."""
        if not self.wire:
            return
        send = self.wire.pop(0)
        number = send.number
        if mood == "lose":
            return
        if number > self.expected:
            self.answers.append(error(number, Code.GAP, self.expected))
        elif number < self.expected:
            known = number in self.kept
            self.answers.append(self.ack(number) if known else error(number, Code.NOT_KEPT))
        elif mood == "slow":
            self.answers.append(error(number, Code.SLOW_DOWN, 100))
        elif mood == "refuse":
            self.expected += 1
            self.answers.append(error(number, Code.TEXT_INVALID))
        else:
            self.expected += 1
            self.kept[number] = send.posts
            self.answers.append(self.ack(number))

    def ack(self, number: int) -> wire.Ack:
        return wire.Ack(number, [wire.Place(1, 1)] * len(self.kept[number]))

    def answer(self, *, is_lost: bool) -> None:
        """Hand one answer to the outbox."""
        if not self.answers:
            return
        answer = self.answers.pop(0)
        if is_lost:
            return
        if isinstance(answer, wire.Ack):
            for effect in self.outbox.acked(answer):
                (self.settled if isinstance(effect, Kept) else self.failed).extend(effect.tickets)
        else:
            tickets, sends = self.outbox.refused(answer, self.now)
            self.failed += tickets
            self.wire += sends

    def restart(self) -> None:
        """Come back knowing what the log knows, and take HELLO."""
        self.wire.clear()
        self.answers.clear()
        self.expected = max([self.outbox.lowest, *(number + 1 for number in self.kept)])
        self.wire += self.outbox.resume(self.now)


@settings(max_examples=300, deadline=None)
@given(
    st.lists(
        st.sampled_from(
            [
                *["post", "post", "burst", "serve", "serve", "serve", "answer", "answer"],
                *["lose", "slow", "refuse", "deafen", "restart", "wait"],
            ]
        ),
        max_size=120,
    )
)
def test_every_text_is_kept_once_and_in_order_or_refused(steps: list[str]) -> None:
    outbox = Outbox()
    broker = Broker(outbox)
    for step in steps:
        broker.step(step)
    for _ in range(20):  # What was lost on the way is found by silence, hence by a resume.
        broker.now += 5
        broker.restart()
        for _ in range(200):
            broker.step("serve")
            broker.step("answer")
        if outbox.is_empty:
            break

    assert outbox.is_empty
    kept = []
    for room in ROOMS:
        posts = [post for number in sorted(broker.kept) for post in broker.kept[number]]
        in_room = [text for post in posts if post.room == room for text in post.texts]
        assert in_room == sorted(set(in_room), key=int), "once, in order"
        kept += in_room
    assert set(broker.settled) <= set(kept), "acknowledged means kept"
    assert sorted([*broker.settled, *broker.failed], key=str) == sorted(broker.posted), (
        "each settled once"
    )


def test_a_send_is_the_same_whenever_it_is_sent() -> None:
    """The broker compares nothing: a resend with other texts would be a silent loss."""
    outbox = filled(2)
    outbox.put([line("more")])
    first = [msgspec.msgpack.encode(send) for send in outbox.resume(0)]
    assert [msgspec.msgpack.encode(send) for send in outbox.resume(1)] == first


def test_a_wait_is_told_as_people_write_it() -> None:
    told = refusal(Code.BANNED, "you are banned", 86_391_000)
    assert (told.detail, told.value) == ("you are banned (24 h left)", 86_391_000)
