"""An honest client whose inbox gave way to strays between its SUB and its HELLO: it stays.

The client's session and the broker's core as they are; between them, what libzmq does.
"""

from __future__ import annotations

import pytest

from broker.chat.sessions import INBOXES_SPARE, POKE_S
from client import effects
from client.session import Phase, Session
from common import topics, wire
from tests.unit.bench import RULES, Bench

TOKEN = b"T" * 16
INBOX = topics.inbox(TOKEN)
ROUTE = b"honest"
CLIENTS_MAX = 10


class Honest:
    """A client at a bench."""

    def __init__(self, bench: Bench) -> None:
        self.bench = bench
        self.is_deaf = False  # What is published to it is lost, as when its queue is full.
        self.strays_count = 0  # So many subscribe before its next HELLO.
        self.heard_count = 0
        self.session = Session(
            nick="anna", owner=lambda: b"O" * 16, token=TOKEN, instance=5, ready=1
        )
        self.do(self.session.connected(bench.now_s))

    def do(self, wanted: list[effects.Effect]) -> None:
        """Carry out what the session wants."""
        core = self.bench.core
        self.bench.set_clock()
        for effect in wanted:
            if isinstance(effect, effects.Subscribe):
                core.subscribed(effect.topic)
            elif isinstance(effect, effects.Unsubscribe):
                core.unsubscribed(effect.topic)
            elif isinstance(effect, effects.Transmit):
                if isinstance(effect.command, wire.Hello):
                    self.let_strays_in()
                core.receive(ROUTE, wire.command_frames(TOKEN, effect.command))

    def let_strays_in(self) -> None:
        """Open inboxes that nobody will ever claim."""
        for number in range(self.strays_count):
            self.bench.core.subscribed(topics.inbox((number + 1).to_bytes(5, "big") + b"." * 11))

    def live(self, seconds: float) -> None:
        """Let time pass, and take what comes."""
        end_s = self.bench.now_s + seconds
        while self.bench.now_s < end_s:
            self.bench.drain(0.05)
            now_s = self.bench.now_s
            for reply in self.bench.replies.pop(ROUTE, []):
                self.do(self.session.reply(reply, now_s))
            published, self.bench.published = self.bench.published, []
            frames = [each.topic + wire.encode(each.body) for each in published]
            frames = [frame for frame in frames if frame.startswith(INBOX)]
            self.heard_count += len(frames)
            if not self.is_deaf:
                self.do(self.session.publications(frames, now_s))
            self.do(self.session.tick(now_s))

    @property
    def is_in(self) -> bool:
        """Whether both sides think that it is there."""
        has_session = self.bench.core.sessions.get(TOKEN) is not None
        return has_session and self.session.phase is Phase.ONLINE


@pytest.fixture(name="honest")
def client_that_strays_push_out() -> Honest:
    """Return a client that has said HELLO, but whose inbox the broker has forgotten."""
    bench = Bench(rules=RULES._replace(clients_max=CLIENTS_MAX))
    honest = Honest(bench)
    honest.strays_count = CLIENTS_MAX + INBOXES_SPARE
    honest.live(POKE_S / 2)
    session = bench.core.sessions.get(TOKEN)
    assert session is not None
    assert 0 == session.inbox_count
    return honest


def test_it_is_asked_to_open_its_inbox_anew_and_stays(honest: Honest) -> None:
    """Idle as it is, and though the strays go on: its session never ends."""
    honest.live(10 * RULES.grace_s)
    assert honest.is_in
    assert [] == honest.bench.forgotten
    assert 1 == honest.heard_count


def test_it_comes_again_when_it_did_not_hear_the_first_word(honest: Honest) -> None:
    """Its session ends, but it is told that, and begins another that lasts."""
    honest.is_deaf = True
    honest.live(RULES.grace_s - POKE_S)
    honest.is_deaf = False
    honest.live(3 * RULES.grace_s)
    assert honest.is_in
    assert 1 == len(honest.bench.forgotten)
    honest.live(10 * RULES.grace_s)
    assert honest.is_in
    assert 1 == len(honest.bench.forgotten)
