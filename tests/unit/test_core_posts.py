"""A SEND with posts for several rooms: taken, sequenced and acknowledged as one."""

from __future__ import annotations

import pytest

from broker.chat.floods import Rate
from common import spans, wire
from common.errors import Code
from common.limits import SEND_TEXTS_MAX, TOPIC_CHARS_MAX
from common.wire import Batch, Kind
from tests.unit.bench import RULES, Bench
from tests.unit.logs import kept_texts


@pytest.fixture
def bench() -> Bench:
    """Return a running broker."""
    return Bench()


def texts_in(bench: Bench, room: str) -> list[str]:
    """Return what the log holds."""
    return kept_texts(bench.store.reader(), room)


def to_rooms(number: int, *posts: tuple[str, str]) -> wire.Send:
    """Return a SEND of texts to rooms."""
    return wire.Send(number, [wire.Draft(room, Kind.TEXT, [text]) for room, text in posts])


def test_a_send_to_several_rooms_is_sequenced_and_acknowledged_as_one(bench: Bench) -> None:
    """One ACK tells the place of each post, in the order of the SEND; so does a resend's."""
    ann = bench.peer("ann", "r", "s")
    ann.send("s", "first")
    bench.published.clear()
    over_both = to_rooms(2, ("r", "a"), ("s", "b"), ("r", "c"))
    ack = ann.ask(over_both, wire.Ack)
    assert wire.Ack(2, [wire.Place(n, bench.now_ms) for n in (1, 2, 2)]) == ack
    published = [body for body in bench.take(Batch) if isinstance(body, Batch)]
    assert [("r", 2), ("s", 2)] == sorted((b.room, spans.last_seq(b)) for b in published)
    bench.drain(5)
    assert ack == ann.ask(over_both, wire.Ack)
    bench.start()
    ann.ask(ann.hello(number=2), wire.Welcome)
    assert ack == ann.ask(over_both, wire.Ack)
    assert (["a", "c"], ["first", "b"]) == (texts_in(bench, "r"), texts_in(bench, "s"))


def test_what_cannot_be_kept_does_not_hold_up_the_rest_of_a_send(bench: Bench) -> None:
    """A post for a room that is not joined has no place but a code; a resend hears the same."""
    ann = bench.peer("ann", "r", "s")
    bench.peer("bob", "foreign")
    over_three = to_rooms(1, ("foreign", "no"), ("r", "a"), ("none", "no"), ("s", "b"))
    ack = ann.ask(over_three, wire.Ack)
    refused = wire.Place(0, 0, Code.NOT_MEMBER)
    kept = wire.Place(1, bench.now_ms)
    assert [refused, kept, refused, kept] == ack.kept
    ann.join("foreign")
    assert ack == ann.ask(over_three, wire.Ack)
    assert (["a"], ["b"], []) == (
        texts_in(bench, "r"),
        texts_in(bench, "s"),
        texts_in(bench, "foreign"),
    )
    none = to_rooms(2, ("none", "no"), ("nowhere", "no"))
    assert Code.NOT_MEMBER == ann.refused(none).code
    assert Code.NOT_KEPT == ann.refused(none).code
    assert 2 == ann.ask(to_rooms(3, ("r", "c")), wire.Ack).kept[0].first


def test_a_bad_text_refuses_the_whole_send(bench: Bench) -> None:
    """A NUL or a topic that is none, in whichever post: nothing of the SEND is kept."""
    ann = bench.peer("ann", "r", "s")
    long = wire.Draft("s", Kind.TOPIC, ["t" * (TOPIC_CHARS_MAX + 1)])
    good = wire.Draft("r", Kind.TEXT, ["a"])
    two = wire.Draft("s", Kind.TOPIC, ["t", "t"])
    nul = wire.Draft("foreign", Kind.TEXT, ["\0"])
    for number, bad in enumerate((long, two, nul), 1):
        assert Code.TEXT_INVALID == ann.refused(wire.Send(number, [good, bad])).code
    assert ([], []) == (texts_in(bench, "r"), texts_in(bench, "s"))
    assert [] == bench.core.take_proposals()


def test_a_send_has_so_many_texts_in_all(bench: Bench) -> None:
    """One text too many in all posts together is a bug of the client; the number stays free."""
    ann = bench.peer("ann", "r", "s")
    half = SEND_TEXTS_MAX // 2
    drafts = [wire.Draft(room, Kind.TEXT, ["x"] * half) for room in ("r", "s")]
    more = [*drafts, wire.Draft("r", Kind.TEXT, ["x"])]
    refused = ann.refused(wire.Send(1, more))
    assert (1, Code.BAD_PAYLOAD) == (refused.id, refused.code)
    assert [1, 1] == [place.first for place in ann.ask(wire.Send(1, drafts), wire.Ack).kept]


def test_an_allowance_is_charged_for_all_posts(bench: Bench) -> None:
    """Who spreads texts over rooms is no cheaper than who says them in one."""
    bench.rules = RULES._replace(rate=Rate(100.0, 10.0))
    bench.start()
    ann = bench.peer("ann", "r", "s")
    bench.drain(1)
    ann.ask(to_rooms(1, *[("r", "a"), ("s", "b")] * 5), wire.Ack)
    slow = ann.refused(to_rooms(2, ("r", "a"), ("s", "b")))
    assert (Code.SLOW_DOWN, 101) == (slow.code, slow.value)  # Until the burst is full again.


def test_an_ack_waits_for_the_last_of_its_batches(bench: Bench) -> None:
    """A log that brings batches one by one, as a replicated one does, acknowledges at the last."""
    ann, bob = bench.peer("ann", "r", "s", "t"), bench.peer("bob", "r", "s")
    ann.say(to_rooms(1, ("r", "a"), ("t", "b"), ("s", "c")))
    bob.say(to_rooms(1, ("s", "d"), ("r", "e")))
    ann.say(to_rooms(2, ("r", "f")))
    bench.log.append(bench.core.take_proposals())
    heard = []
    for batch in bench.log.follow():
        bench.core.committed([batch])
        replies = [wire.parse_reply(frames) for _, frames in bench.core.take_effects().replies]
        heard.append([ack.number for ack in replies if isinstance(ack, wire.Ack)])
        assert len(heard[-1]) == len(replies)
    assert [[2], [], [1, 1]] == heard


def test_texts_of_a_drain_are_counted_until_it_ends(bench: Bench) -> None:
    """Live ends a drain that has too many: a SEND may have 256, and a resend makes none."""
    ann = bench.peer("ann", "r", "s")
    ann.say(to_rooms(1, ("r", "a"), ("none", "b"), ("s", "c")))
    ann.say(to_rooms(1, ("r", "a"), ("none", "b"), ("s", "c")))
    ann.say(to_rooms(2, ("r", "d")))
    assert 4 == bench.core.texts_count
    bench.drain()
    assert 0 == bench.core.texts_count
