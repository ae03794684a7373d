"""A broker and its clients in one thread: simulated time, a network and a disk that fail, one seed.

The broker's core, its log and its history answers, and the clients' sessions, are the shipped
ones; sockets, processes and clocks are replaced by lists and a random schedule. A seed replays a
failure exactly: nothing here looks at a clock, or at the order of a set.
"""

from __future__ import annotations

from collections import Counter

from client import limits
from client.session import Phase
from tests.sim.client import SimClient
from tests.sim.schedule import STEP_S, Schedule

DROP_AFTER_S = 150.0
PROBE_AFTER_S = 100.0  # By then whatever was lost is repaired, or never will be.
QUIET_AFTER_S = 240.0  # Longer than any beacon takes, twice.
GIVE_UP_AFTER_S = 1_000.0
ROUNDS_MAX = 4_000  # To come to rest takes some 300.


class World(Schedule):
    """A schedule that ends: `heal` stops the trouble, lets everything come to rest, and judges."""

    def heal(self) -> None:
        """End all trouble, let everything come to rest, and judge."""
        self.trace.note("operator", "all trouble ends")
        self.disk.heal()
        self.network.widen()
        self._live_frozen_until_s = self._history_frozen_until_s = 0.0
        for client in self.clients:
            client.frozen_until_s = 0.0
        begun_s = self.now_s
        probed: dict[str, str] = {}
        is_dropped = False
        rounds = 0
        while self.now_s < begun_s + QUIET_AFTER_S or not self._is_quiet():
            rounds += 1
            if self.now_s > begun_s + GIVE_UP_AFTER_S or rounds > ROUNDS_MAX:
                phases = {each.name: each.session.phase.name for each in self.clients}
                self.judge.blame(f"{self.judge.unsettled_count} texts never settle: {phases}")
            self._round()
            if not probed and self.now_s > begun_s + PROBE_AFTER_S:
                probed = self._probe()
            if probed and not is_dropped and self.now_s > begun_s + DROP_AFTER_S:
                is_dropped = True
                self._drop_last(probed)
            self._pass(max(STEP_S, self._pause_s()))
        self._judge({room for room, text in probed.items() if text in self.judge.kept})

    def _round(self) -> None:
        self._start()
        for pipe in [each for each in self.network.pipes if each.is_broken]:
            self.broker.hang_up(pipe)
        for client in list(self.clients):
            self._connect(client)
            client.deliver(self.now_s, 1)
            self._answer(client)
            self._settle(client)
        self._do_drain(share=1)
        self._do_trim()

    def _pause_s(self) -> float:
        """Return how long nothing happens."""
        core = self.broker.core
        if core is None or not self._is_idle():
            return 0.0
        times = [core.next_deadline_s(), self.now_s + 10.0]
        times += [each.session.deadline() or float("inf") for each in self.clients]
        return min(times) - self.now_s

    def _is_idle(self) -> bool:
        network = self.network
        is_busy = any(pipe.frames or pipe.subscriptions for pipe in network.pipes) or any(
            link.up or link.down for link in network.links.values()
        )
        return not is_busy and all(
            each.question is None and each.page is None and each.link and each.pipe
            for each in self.clients
        )

    def _is_quiet(self) -> bool:
        return not self.judge.unsettled_count and self._is_idle()

    def _probe(self) -> dict[str, str]:
        """Let somebody say something in each room, so that there is something to be heard.

        Return what, by room.
        """
        probed: dict[str, str] = {}
        for room in sorted({room for each in self.clients for room in each.stays}):
            there = [each for each in self.clients if room in each.stays and not each.is_closing]
            if there:
                (probed[room],) = there[0].say([room], 1, self.now_s)
        return probed

    def _drop_last(self, probed: dict[str, str]) -> None:
        """Let an operator remove one of these texts, which everybody has heard."""
        for name, text in probed.items() if self.weather.is_secure else ():
            if text in self.judge.kept:
                self._drop(name, text, self.judge.kept[text][1])
                return

    def _judge(self, probed: set[str]) -> None:
        judge = self.judge
        judge.settled()
        there: dict[str, set[str]] = {}
        for client in self.clients:
            if client.session.phase is not Phase.ONLINE:
                judge.blame(f"{client.name} is {client.session.phase.name} though all is well")
            for room in client.stays:
                there.setdefault(room, set()).add(client.nick)
        # Who is sent away while a room moves may not learn of it, and believes that they are there.
        moved = {
            room
            for each in self.clients
            for room, stay in each.stays.items()
            if len(stay.names) > 1
        }
        for client in self.clients:
            for room, stay in client.stays.items():
                judge.complete(stay, is_probed=room in probed)
                judge.removals(stay)
                if room not in moved:
                    roster = client.session._memberships._rooms[room].roster
                    judge.presence(stay, there[room], roster.users, roster.nicks)
                self._bound(client)
        self._judge_answers(there, moved)
        self.broker.stop()
        judge.files(self._folder)
        judge.doors.remains(self._folder)

    def _judge_answers(self, there: dict[str, set[str]], moved: set[str]) -> None:
        """Let everybody ask about their rooms once more, and compare."""
        judge = self.judge
        for client in self.clients:
            for room in client.stays:
                client.join(room, None, None, self.now_s)
        for _ in range(5):
            self._round()
            self._pass(STEP_S)
        for client in self.clients:
            for room, stay in client.stays.items():
                summary = client.summaries[room]
                nicks = None if summary.nicks is None else set(summary.nicks)
                judge.topic(stay, summary.topic)
                if room not in moved:
                    judge.presence(stay, there[room], summary.users, nicks)

    def _bound(self, client: SimClient) -> None:
        """Check a client's queues."""
        session, bound = client.session, self.judge.bound
        flights = session._outbox._flights
        if flights:
            bound("SENDs in flight", max(flights) - min(flights) + 1, 16)
        bound("requests in flight", len(session._requests._by_id), limits.REQUESTS_IN_FLIGHT_MAX)
        for room in session._memberships._rooms.values():
            bound("batches held", len(room.replica._held), limits.HELD_BATCHES_MAX)

    @property
    def refusals(self) -> Counter[str]:
        """What the brokers refused that have ended, by code."""
        return self.broker.refusals

    def close(self) -> None:
        """Release whatever is open."""
        self.broker.kill_all()
