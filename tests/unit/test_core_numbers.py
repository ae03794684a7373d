"""SEND's numbers: each text once and in order, whatever is lost, refused or restarted."""

from __future__ import annotations

import tempfile
from collections import deque
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, note, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, rule, run_state_machine_as_test

from broker.chat.floods import Rate
from broker.log.interface import LogFailed
from common import spans, wire
from common.errors import Code
from common.limits import SENDS_IN_FLIGHT_MAX
from common.wire import Batch
from tests import saying
from tests.unit.bench import RULES, Bench, Peer
from tests.unit.logs import MemoryStore, SqliteStore, Store, kept_texts


@pytest.fixture
def bench() -> Bench:
    """Return a running broker."""
    return Bench()


def send(number: int, *texts: str, room: str = "r") -> wire.Send:
    """Return a SEND of this number."""
    return saying.send(number, room, list(texts))


def texts_in(bench: Bench) -> list[str]:
    """Return what the log holds."""
    return kept_texts(bench.store.reader(), "r")


def test_a_resend_has_the_same_place(bench: Bench) -> None:
    """A lost ACK is said again, for as many SENDs as may be in flight, and no text kept twice."""
    ann = bench.peer("ann", "r")
    acks = [ann.ask(send(n, f"{n}", "x"), wire.Ack) for n in range(1, SENDS_IN_FLIGHT_MAX + 1)]
    bench.drain(5)
    again = [ann.ask(send(n, f"{n}", "x"), wire.Ack) for n in range(1, SENDS_IN_FLIGHT_MAX + 1)]
    assert acks == again
    assert 2 * SENDS_IN_FLIGHT_MAX == len(texts_in(bench))


def test_an_older_number_is_not_kept(bench: Bench) -> None:
    """What lies before the last SENDs in flight is past; so is a number that was refused."""
    ann = bench.peer("ann", "r")
    for number in range(1, SENDS_IN_FLIGHT_MAX + 2):
        ann.ask(send(number, "x"), wire.Ack)
    assert Code.NOT_KEPT == ann.refused(send(1, "x")).code
    assert 2 == ann.ask(send(2, "x"), wire.Ack).kept[0].first
    following = SENDS_IN_FLIGHT_MAX + 2
    assert Code.TEXT_INVALID == ann.refused(send(following, "\0")).code
    assert Code.NOT_KEPT == ann.refused(send(following, "\0")).code
    assert following == ann.ask(send(following + 1, "x"), wire.Ack).kept[0].first


def test_a_gap_names_what_comes_first(bench: Bench) -> None:
    """A number too high is refused with the one expected, and does not count."""
    ann = bench.peer("ann", "r")
    for _ in range(2):
        gap = ann.refused(send(3, "c"))
        assert (3, Code.GAP, 1) == (gap.id, gap.code, gap.value)
    for number, text in ((1, "a"), (2, "b"), (3, "c")):
        ann.ask(send(number, text), wire.Ack)
    assert ["a", "b", "c"] == texts_in(bench)


def test_the_same_number_twice_in_a_drain_is_kept_once(bench: Bench) -> None:
    """The second one, whatever it says, hears the ACK of the first."""
    ann = bench.peer("ann", "r")
    ann.say(send(1, "a"))
    ann.say(send(1, "something else"))
    ann.say(send(2, "b"))
    assert [(1, 1), (2, 2)] == [
        (a.number, a.kept[0].first) for a in ann.heard() if isinstance(a, wire.Ack)
    ]
    assert ["a", "b"] == texts_in(bench)


def test_slow_down_does_not_take_the_number(bench: Bench) -> None:
    """What comes after it in the pipe is a gap; all of it goes through later, in order."""
    bench.rules = RULES._replace(rate=Rate(256.0, 256.0))
    bench.start()
    ann = bench.peer("ann", "r")
    ann.ask(send(1, *["x"] * 256), wire.Ack)
    ann.say(send(2, "a"))
    ann.say(send(3, "b"))
    slow, gap = ann.heard()
    assert isinstance(slow, wire.Error)
    assert isinstance(gap, wire.Error)
    assert [(2, Code.SLOW_DOWN), (3, Code.GAP)] == [(slow.id, slow.code), (gap.id, gap.code)]
    assert 2 == gap.value
    bench.drain(1)
    assert [257, 258] == [ann.ask(send(n, "y"), wire.Ack).kept[0].first for n in (2, 3)]


def test_a_whole_window_passes_after_a_wait(bench: Bench) -> None:
    """Of what a client says again each SEND is refused once, and not once for each before it."""
    bench.rules = RULES._replace(rate=Rate(1_000.0, 256.0))
    bench.start()
    ann = bench.peer("ann", "r")
    ann.ask(send(1, *["x"] * 256), wire.Ack)
    window = [send(number, *["y"] * 16) for number in range(2, 18)]
    for each in window:
        ann.say(each)
    slow = ann.heard()[0]
    assert isinstance(slow, wire.Error)
    bench.drain(slow.value / 1_000)
    for each in window:
        ann.say(each)
    assert {wire.Ack} == {type(answer) for answer in ann.heard()}


def test_every_other_refusal_takes_the_number(bench: Bench) -> None:
    """A pipe of SENDs in which one is refused goes on with the next."""
    ann = bench.peer("ann", "r")
    ann.say(send(1, "a"))
    ann.say(send(2, "b", room="foreign"))
    ann.say(send(3, "\0"))
    ann.say(send(4, "d"))
    answers = {
        (each.id if isinstance(each, wire.Error) else each.number, type(each))
        for each in ann.heard()
        if isinstance(each, wire.Error | wire.Ack)
    }
    assert {(1, wire.Ack), (2, wire.Error), (3, wire.Error), (4, wire.Ack)} == answers
    assert ["a", "d"] == texts_in(bench)


def test_a_failed_log_refuses_and_leaves_no_hole(bench: Bench) -> None:
    """Every SEND of the drain hears LOG_FAILED; the next one works, and seqs go on."""
    ann, bob = bench.peer("ann", "r"), bench.peer("bob", "r", "new")
    ann.ask(send(1, "a"), wire.Ack)
    bench.published.clear()
    bench.store.fill()
    ann.say(send(2, "lost"))
    ann.say(send(3, "lost"))
    bob.say(send(1, "lost", room="new"))
    codes = [(a.id, a.code) for a in ann.heard() if isinstance(a, wire.Error)]
    assert [(2, Code.LOG_FAILED), (3, Code.LOG_FAILED)] == codes
    (answer,) = bob.heard()
    assert isinstance(answer, wire.Error)
    assert Code.LOG_FAILED == answer.code
    assert [] == bench.take(Batch)
    bench.store.free()
    assert Code.NOT_KEPT == ann.refused(send(2, "lost")).code
    assert 2 == ann.ask(send(4, "b"), wire.Ack).kept[0].first
    assert 1 == bob.ask(send(2, "c", room="new"), wire.Ack).kept[0].first
    assert ["a", "b"] == texts_in(bench)
    assert 3 == bench.core.entries_count


def test_who_comes_while_the_log_cannot_be_read_is_asked_to_come_again(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without the memory of what was sent before, a resend would be kept twice."""
    ann = bench.peer("ann", "r")
    first = ann.send("r", "a")
    bench.start()

    def fail(_: bytes) -> dict[int, bytes]:
        raise LogFailed("the log cannot be read: disk I/O error")

    ann.open_inbox()
    with monkeypatch.context() as broken:
        broken.setattr(bench.core._entrance, "_recall", fail)
        assert Code.LOG_FAILED == ann.refused(ann.hello(1)).code
    assert 0 == len(bench.core.sessions)
    ann.ask(ann.hello(1), wire.Welcome)
    ann.join("r")
    assert first == ann.ask(send(1, "a"), wire.Ack)
    assert ["a"] == texts_in(bench)


def test_a_room_of_which_nothing_was_kept_is_forgotten(bench: Bench) -> None:
    """A failed first SEND does not keep an empty room alive."""
    ann = bench.peer("ann", "r")
    bench.store.fill()
    ann.refused(send(1, "lost"))
    ann.ask(wire.Part(1, "r"), wire.Parted)
    bench.drain(0.2)
    assert 0 == len(bench.core.rooms)


def test_several_rooms_share_a_drain(bench: Bench) -> None:
    """Each has its own batch and its own places; each sender its own ACKs."""
    ann, bob = bench.peer("ann", "r", "s"), bench.peer("bob", "r", "s")
    for number, room in enumerate(["r", "s", "r"], 1):
        ann.say(send(number, f"ann {room}", room=room))
        bob.say(send(number, f"bob {room}", room=room))
    places = [
        [(a.number, a.kept[0].first) for a in peer.heard() if isinstance(a, wire.Ack)]
        for peer in (ann, bob)
    ]
    assert sorted(places[0]) == [(1, 1), (2, 1), (3, 3)]
    assert sorted(places[1]) == [(1, 2), (2, 2), (3, 4)]
    assert [("r", 4), ("s", 2)] == sorted((b.room, spans.last_seq(b)) for b in batches(bench))


def batches(bench: Bench) -> Iterator[Batch]:
    """Yield and forget the batches that were published."""
    for publication in bench.take(Batch):
        assert isinstance(publication, Batch)
        yield publication


def test_a_full_batch_is_followed_by_another(bench: Bench) -> None:
    """A drain larger than a batch is several, one after the other, and every ACK is right."""
    ann = bench.peer("ann", "r")
    bench.published.clear()
    for number in range(1, 31):
        ann.say(send(number, *["x" * 4_000] * 16))
    acks = [each for each in ann.heard() if isinstance(each, wire.Ack)]
    assert [(n, 16 * n - 15) for n in range(1, 31)] == [(a.number, a.kept[0].first) for a in acks]
    published = list(batches(bench))
    assert len(published) > 1
    prevs = [batch.prev for batch in published]
    assert prevs == [0, *[spans.last_seq(batch) for batch in published[:-1]]]


def test_a_restart_acknowledges_what_was_kept(bench: Bench) -> None:
    """After a crash a resend of the same process has its old place, the next number a new one."""
    ann = bench.peer("ann", "r")
    before = [ann.ask(send(n, f"{n}"), wire.Ack) for n in (1, 2, 3)]
    bench.start()
    assert not ann.ask(ann.hello(number=2), wire.Welcome).resumed
    ann.join("r")
    assert before[1:] == [ann.ask(send(n, f"{n}"), wire.Ack) for n in (2, 3)]
    assert 4 == ann.ask(send(4, "4"), wire.Ack).kept[0].first
    assert ["1", "2", "3", "4"] == texts_in(bench)


def test_another_process_begins_anew(bench: Bench) -> None:
    """With the same token but another instance, numbers of before mean nothing."""
    ann = bench.peer("ann", "r")
    ann.ask(send(1, "a"), wire.Ack)
    ann.ask(wire.Bye(1), wire.Goodbye)
    ann.instance += 1_000_000
    ann.ask(ann.hello(), wire.Welcome)
    ann.join("r")
    assert 2 == ann.ask(send(1, "b"), wire.Ack).kept[0].first


@pytest.mark.parametrize("is_sent_before", [True, False])
def test_bye_and_hello_in_one_drain_forget_nothing(bench: Bench, *, is_sent_before: bool) -> None:
    """A session that ends and begins again at once is acknowledged as if it had stayed."""
    ann = bench.peer("ann", "r")
    if is_sent_before:
        ann.ask(send(1, "a"), wire.Ack)
    else:
        ann.say(send(1, "a"))
    ann.say(wire.Bye(1))
    ann.say(ann.hello(number=1))
    ann.say(wire.Join(1, "r"))
    ann.say(send(1, "a"))
    ann.say(send(2, "b"))
    ann.heard()
    for number, text in ((1, "a"), (2, "b")):
        assert number == ann.ask(send(number, text), wire.Ack).kept[0].first
    assert 3 == ann.ask(send(3, "c"), wire.Ack).kept[0].first
    assert 3 == ann.ask(send(3, "c"), wire.Ack).kept[0].first
    assert ["a", "b", "c"] == texts_in(bench)


def test_the_acks_of_a_session_that_ended_meanwhile_are_harmless(bench: Bench) -> None:
    """SEND and BYE in one drain: the text is kept, and its ACK goes where the SEND came from."""
    ann = bench.peer("ann", "r")
    ann.say(send(1, "a"))
    ann.say(wire.Bye(2))
    assert [wire.Goodbye, wire.Ack] == [type(each) for each in ann.heard()]
    bench.drain(10)
    assert ["a"] == texts_in(bench)


class Sender:
    """A client as PROTOCOL.md wants it: unacknowledged SENDs go out again in order."""

    def __init__(self, peer: Peer) -> None:
        self.peer = peer
        self.said = 0
        self.unacknowledged: deque[wire.Send] = deque()
        self.failed: list[str] = []

    def say(self) -> None:
        """Say the next text."""
        if len(self.unacknowledged) < SENDS_IN_FLIGHT_MAX:
            self.said += 1
            self.unacknowledged.append(send(self.said, f"{self.peer.nick}{self.said}"))

    def resume(self) -> None:
        """Say HELLO and JOIN; SENDs come after it."""
        lowest = self.unacknowledged[0].number if self.unacknowledged else self.said + 1
        self.peer.say(self.peer.hello(number=lowest))
        self.peer.say(wire.Join(1, "r", resume=True))

    def take(self, answer: wire.Payload) -> None:
        """Take an answer that was not lost on the way."""
        if isinstance(answer, wire.Ack):
            self.done(answer.number)
        elif isinstance(answer, wire.Error) and answer.code in {Code.LOG_FAILED, Code.NOT_KEPT}:
            self.failed += [
                s.posts[0].texts[0] for s in self.unacknowledged if s.number == answer.id
            ]
            self.done(answer.id)
        elif isinstance(answer, wire.Error) and answer.code == Code.NO_SESSION:
            self.resume()

    def done(self, number: int) -> None:
        """Do not send this one again."""
        self.unacknowledged = deque(s for s in self.unacknowledged if s.number != number)


class Delivery(RuleBasedStateMachine):
    """Two senders; frames and answers are lost, the disk fills, the broker is killed."""

    def __init__(self) -> None:
        super().__init__()
        self.bench = Bench(self.new_store(), RULES._replace(grace_s=1.0))
        self.senders = [Sender(self.bench.peer(nick, "r")) for nick in ("a", "b")]

    def new_store(self) -> Store:
        """Return the log to work with."""
        return MemoryStore()

    @rule(which=st.integers(0, 1), count=st.integers(1, 5))
    def say(self, which: int, count: int) -> None:
        """Say some texts; they are not sent yet."""
        for _ in range(count):
            self.senders[which].say()

    @rule(which=st.integers(0, 1), lost=st.sets(st.integers(0, 6), max_size=3))
    def transmit(self, which: int, lost: set[int]) -> None:
        """Send everything unacknowledged, of which some is lost."""
        sender = self.senders[which]
        for index, each in enumerate(sender.unacknowledged):
            if index not in lost:
                sender.peer.say(each)

    @rule(lost=st.sets(st.integers(0, 6), max_size=4), after_s=st.sampled_from([0.0, 0.3, 2.0]))
    def drain(self, lost: set[int], after_s: float) -> None:
        """Let the broker work; some of its answers are lost."""
        self.bench.drain(after_s)
        for sender in self.senders:
            for index, answer in enumerate(self.bench.replies.pop(sender.peer.route, [])):
                if index not in lost:
                    sender.take(answer)

    @rule(which=st.integers(0, 1), is_new_route=st.booleans())
    def resume(self, which: int, *, is_new_route: bool) -> None:
        """Reconnect, or only lose patience."""
        sender = self.senders[which]
        if is_new_route:
            sender.peer.route += b"'"
        sender.resume()

    @rule(which=st.integers(0, 1))
    def leave_and_come(self, which: int) -> None:
        """End the session and begin it again, all in the same drain."""
        self.senders[which].peer.say(wire.Bye(1))
        self.senders[which].resume()

    @rule(which=st.integers(0, 1), is_open=st.booleans())
    def inbox(self, which: int, *, is_open: bool) -> None:
        """Lose the subscription, after which the session ends by itself, or have it again."""
        if is_open:
            self.senders[which].peer.open_inbox()
        else:
            self.senders[which].peer.close_inbox()

    @rule(is_full=st.booleans())
    def disk(self, *, is_full: bool) -> None:
        """Fill the disk, or free it."""
        if is_full:
            self.bench.store.fill()
        else:
            self.bench.store.free()

    @rule(is_committed=st.booleans())
    def kill(self, *, is_committed: bool) -> None:
        """Kill the broker, before or after the commit; nobody hears of what it was doing."""
        if is_committed:
            self.bench.drain()
        self.bench.start()

    def teardown(self) -> None:
        """At last nothing is lost any more: then the log has all that did not fail, once."""
        self.bench.store.free()
        # Each round settles one SEND at least: HELLO passes over numbers settled long ago.
        for _ in range(SENDS_IN_FLIGHT_MAX + 2):
            for index in (0, 1):
                self.senders[index].peer.open_inbox()
                self.senders[index].resume()
                self.transmit(index, set())
            self.drain(set(), 0.0)
        log = texts_in(self.bench)
        note(f"log {log}")
        for sender in self.senders:
            assert not sender.unacknowledged
            nick = sender.peer.nick
            expected = [f"{nick}{number}" for number in range(1, sender.said + 1)]
            kept = [text for text in log if text[0] == nick]
            assert [text for text in expected if text not in sender.failed] == kept


class DeliveryToDisk(Delivery):
    """The same with the embedded log."""

    def new_store(self) -> Store:
        """Return a log in a folder of its own."""
        self._folder = tempfile.TemporaryDirectory()
        return SqliteStore(Path(self._folder.name), is_quick=True)

    def teardown(self) -> None:
        """Check, and remove the folder."""
        try:
            super().teardown()
        finally:
            self.bench.store.close()
            self._folder.cleanup()


@pytest.mark.parametrize(("machine", "examples"), [(Delivery, 120), (DeliveryToDisk, 15)])
def test_every_text_is_kept_once_and_in_order(machine: type[Delivery], examples: int) -> None:
    """Whatever is lost, refused, killed or resent: acknowledged means once, failed means not."""
    run_state_machine_as_test(
        machine,
        settings=settings(
            max_examples=examples,
            stateful_step_count=30,
            deadline=None,
            print_blob=True,
            suppress_health_check=list(HealthCheck),
        ),
    )
