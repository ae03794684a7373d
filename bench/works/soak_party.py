"""The crowds of a soak: processes of clients, and what is done to them as time goes by."""

from __future__ import annotations

import contextlib
import queue
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import msgspec

from bench.dialect import Unexpected
from bench.histogram import Histogram
from bench.results import Counts
from bench.works.base import Soak
from bench.works.soak_clients import Heads, Orders, Word, add_counts
from client.api import connect
from client.keys import new_keys

ROOT: Final = Path(__file__).resolve().parent.parent.parent
STEADY_MAX: Final = 64  # Clients of one process: more would wait for its interpreter.
KILL_EVERY_S: Final = 10.0
# Above the broker's heartbeat (2 s, and 4 s for the answer) and grace together: the frozen ones
# lose a connection, are taken for gone, and connect again when they wake. `Soak.broker_settings`.
FREEZE_S: Final = 12.0
ANSWER_S_MAX: Final = 150.0  # For a crowd's first and last word.
END_S_MAX: Final = 15.0


class Crowd:
    """One process of clients, as the work holds it."""

    def __init__(self, orders: Orders) -> None:
        self.orders = orders
        self.word: Word | None = None  # The latest.
        self.latencies = Histogram()  # Since they were last taken.
        self._words: queue.SimpleQueue[Word] = queue.SimpleQueue()
        self.process = subprocess.Popen(
            [sys.executable, "-m", "bench.works.soak_clients"],
            cwd=ROOT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            start_new_session=True,  # Ctrl+C is for the load tool, which ends its crowds itself.
        )
        self._thread = threading.Thread(target=self._listen, daemon=True)
        self._thread.start()
        self.say(orders)

    def say(self, words: msgspec.Struct | str) -> None:
        """Say a line; a crowd that has ended does not hear it."""
        assert self.process.stdin is not None
        with contextlib.suppress(BrokenPipeError):
            self.process.stdin.write(msgspec.json.encode(words) + b"\n")
            self.process.stdin.flush()

    def _listen(self) -> None:
        assert self.process.stdout is not None
        with contextlib.suppress(msgspec.DecodeError):  # Killed in the middle of a line.
            for line in self.process.stdout:
                self._words.put(msgspec.json.decode(line, type=Word))

    def hear(self) -> None:
        """Take what was said meanwhile."""
        with contextlib.suppress(queue.Empty):
            while True:
                self._take(self._words.get_nowait())

    def await_word(self, *, is_last: bool) -> None:
        """Wait for a word; raise `Unexpected` when none comes."""
        end_s = time.monotonic() + ANSWER_S_MAX
        while self.word is None or self.word.is_last != is_last:
            try:
                self._take(self._words.get(timeout=max(end_s - time.monotonic(), 0)))
            except queue.Empty:
                raise Unexpected(f"the clients {self.orders.name} say nothing") from None

    def _take(self, word: Word) -> None:
        self.word = word
        self.latencies.add(Histogram(word.latencies))

    def take_latencies(self) -> Histogram:
        """Return and forget the latencies heard of."""
        found, self.latencies = self.latencies, Histogram()
        return found

    def signal(self, number: int) -> None:
        """Send a signal to the process."""
        self.process.send_signal(number)

    def kill(self) -> None:
        """Kill -9 and clean up; also what is frozen, or has ended, ends so."""
        self.process.kill()
        self.process.wait(END_S_MAX)
        self._thread.join(END_S_MAX)
        self.hear()
        for pipe in (self.process.stdin, self.process.stdout):
            assert pipe is not None
            with contextlib.suppress(BrokenPipeError):
                pipe.close()


class Party:
    """All crowds, and what is done to them as time goes by."""

    def __init__(self, broker: str, options: Soak, server_key: str = "") -> None:
        self._broker = broker
        self._server_key = server_key
        self._options = options
        self._rooms = [f"soak-{index:04d}" for index in range(options.rooms)]
        self._sender = 0
        self.counts = Counts()  # Of those who were killed: what they had told by then.
        self.trouble: list[str] = []
        self.kills = self.freezes = 0
        self.gone = 0  # See `Word`, as the next two.
        self.settled_s = 0.0
        self.late: list[str] = []
        self._gone_comings = 0
        self.crowds: list[Crowd] = []
        self._frozen: Crowd | None = None
        self._killed_s = self._frozen_s = 0.0
        self._freezers: list[Crowd] = []
        self._mortals: Crowd

    def invite(self) -> None:
        """Start every process, and wait until everybody is in."""
        options = self._options
        frozen = min(options.freeze, options.clients // 4)
        killed = max(options.clients // 20, 1)
        visitors = options.clients // 5 if options.churn else 0
        steady = max(options.clients - 2 * frozen - killed - visitors, 1)
        self._freezers = [self._make(f"ice{turn}", frozen) for turn in range(2) if frozen]
        self._mortals = self._make("mortal", killed, rate=options.rate / 20)
        if visitors:
            self._make("visitor", visitors, rate=options.rate / 20, churn=options.churn)
        for start in range(0, steady, STEADY_MAX):
            count = min(STEADY_MAX, steady - start)
            share = options.rate * 0.9 * count / steady
            self._make(f"steady{start}", count, rate=share, is_timed=True)
        for crowd in self.crowds:
            crowd.await_word(is_last=False)

    @property
    def rooms(self) -> list[str]:
        """The rooms of this run."""
        return self._rooms

    def _make(
        self, name: str, clients: int, *, rate: float = 0, churn: float = 0, is_timed: bool = False
    ) -> Crowd:
        orders = Orders(
            self._broker,
            name,
            self._sender,
            self._rooms,
            clients,
            self._options.size,
            rate,
            churn,
            is_timed,
            self._server_key,
        )
        self._sender += clients
        crowd = Crowd(orders)
        self.crowds.append(crowd)
        return crowd

    def act(self, now_s: float) -> None:
        """Kill and freeze as is due; `now_s` counts from the start."""
        for crowd in self.crowds:
            crowd.hear()
            if crowd.process.poll() is not None:
                raise Unexpected(f"the clients {crowd.orders.name} ended by themselves")
        if now_s >= self._killed_s + KILL_EVERY_S:
            self._killed_s = now_s
            self._replace(self._mortals)
        if self._freezers and now_s >= self._frozen_s + FREEZE_S:
            self._frozen_s = now_s
            self._freeze_next()

    def _replace(self, crowd: Crowd) -> None:
        crowd.kill()
        self.kills += 1
        self._book(crowd)
        self.crowds.remove(crowd)
        # The dead keep their nicks for the grace period, so the next ones have others.
        self._mortals = self._make(
            f"mortal{self.kills}", crowd.orders.clients, rate=crowd.orders.rate
        )

    def _freeze_next(self) -> None:
        was_frozen = self._frozen
        self.thaw()
        self._frozen = self._freezers[1 if was_frozen is self._freezers[0] else 0]
        self._frozen.signal(signal.SIGSTOP)
        self.freezes += 1

    def thaw(self) -> None:
        """Let the frozen ones go on."""
        if self._frozen is not None:
            self._frozen.signal(signal.SIGCONT)
            self._frozen = None

    def finish(self) -> None:
        """Let everybody fall silent, read to the end, and tell their last word."""
        self.thaw()
        for crowd in self.crowds:
            crowd.say("quiet")
        heads = self._settled_heads()
        for crowd in self.crowds:
            crowd.say(heads)
        for crowd in self.crowds:
            crowd.await_word(is_last=True)
            self._book(crowd)

    def _settled_heads(self) -> Heads:
        """Return the newest seq of each room, once nobody speaks any more."""
        before: dict[str, int] = {}
        curve = new_keys(self._server_key) if self._server_key else None
        with connect(self._broker, nick="soak-end", timeout_s=END_S_MAX, curve=curve) as client:
            end_s = time.monotonic() + ANSWER_S_MAX
            while time.monotonic() < end_s:
                heads = {info.room: info.head for info in client.rooms()}
                if heads == before:
                    break
                before = heads
                time.sleep(1)  # What the crowds have posted by then is on its way for less.
        return Heads({room: before.get(room, 0) for room in self._rooms})

    def _book(self, crowd: Crowd) -> None:
        if crowd.word is not None:
            add_counts(self.counts, crowd.word.counts)
            self.trouble += crowd.word.trouble
            self.gone += crowd.word.gone
            self.settled_s = max(self.settled_s, crowd.word.settled_s)
            self.late += crowd.word.late
            self._gone_comings += crowd.word.comings
            crowd.word = None

    def totals(self) -> tuple[Counts, int]:
        """Return the counts of everybody so far, and how many clients have come."""
        counts = Counts()
        add_counts(counts, self.counts)
        comings = self._gone_comings
        for crowd in self.crowds:
            if crowd.word is not None:
                add_counts(counts, crowd.word.counts)
                comings += crowd.word.comings
        return counts, comings

    def close(self) -> None:
        """End every process."""
        for crowd in self.crowds:
            crowd.kill()


@contextlib.contextmanager
def gathered(broker: str, options: Soak, server_key: str = "") -> Iterator[Party]:
    """Have everybody come, and end every process afterwards."""
    party = Party(broker, options, server_key)
    try:
        party.invite()
        yield party
    finally:
        party.close()
