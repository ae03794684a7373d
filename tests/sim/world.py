"""A broker and its clients in one thread: simulated time, a network that fails, one seed.

The broker's core, its real log and its history answers, and the clients' sessions, are the
shipped ones; sockets, processes and clocks are replaced by lists and a random schedule. A seed
replays a failure exactly.
"""

from __future__ import annotations

import random
from collections import Counter, deque
from collections.abc import Callable
from pathlib import Path
from typing import Any

from broker import history
from broker.core import Core, Facts, Rules
from broker.log_reader import SqliteReader
from broker.log_sqlite import SqliteLog, prepare
from broker.sessions import Rate
from client import effects
from client.events import Entry, Missing, Reset
from client.outbox import Line
from client.session import Session
from common import topics, wire
from common.wire import Kind, Mode

STEP_S = 0.02
QUIET_STEPS_MAX = 20_000
ROOMS = ("lobby", "dev", "ops")
START_MS = 1_700_000_000_000


class SimClient:
    """One session, its two links to the broker, and the books of its program."""

    def __init__(self, name: str, chance: random.Random) -> None:
        self.name = name
        self.token = chance.randbytes(16)
        self.session = Session(
            nick=name, owner=chance.randbytes(16), token=self.token, instance=1, ready="ready"
        )
        self.route: bytes | None = None  # Of the commands' link; None while it is down.
        self.is_listening = False  # The rooms' link.
        # What SUB subscribes to, also after a reconnect. In order: the hashes of bytes are random.
        self.wanted: dict[bytes, None] = {}
        self.admitted: set[bytes] = set()  # What the broker admitted on this link.
        self.to_broker: deque[list[bytes]] = deque()
        self.subscriptions: deque[tuple[bool, bytes]] = deque()
        self.replies: deque[list[bytes]] = deque()
        self.publications: deque[bytes] = deque()
        self.question: wire.History | None = None
        self.rooms: dict[str, int | None] = {}  # Joined rooms, with the history asked for.
        self.said = 0
        self.seen: dict[str, list[Entry]] = {}
        self.kept: dict[str, tuple[str, int]] = {}  # Text to room and seq.
        self.failed: set[str] = set()
        self.trouble: list[str] = []


class World:
    """Everything. Each step does one random thing; `heal` ends the trouble."""

    core: Core

    def __init__(
        self,
        seed: int,
        folder: Path,
        *,
        clients: int,
        rate: Rate,
        loss: float = 0.0,
        has_unnoticed_losses: bool = False,
    ) -> None:
        """Begin; `loss` is the share of publications that are dropped on a full queue.

        Unnoticed losses are single commands, replies and questions that vanish though no link
        seems to break: a reconnect that nobody saw, a reply to a peer that was too slow.
        """
        self.chance = random.Random(seed)
        self.now_s = 1_000.0
        self._path = prepare(folder)
        self._rate = rate
        self._routes = 0
        self.loss = loss
        self.restarts = 0
        self.lost_publications = 0
        self.refusals: Counter[str] = Counter()  # Of all brokers before this one.
        self._perform: dict[type[effects.Effect], Callable[[SimClient, Any], None]] = {
            effects.Transmit: self._transmit,
            effects.Subscribe: self._subscribed,
            effects.Unsubscribe: self._unsubscribed,
            effects.AskHistory: self._ask_history,
            effects.DropHistory: self._drop_history,
            effects.Emit: self._emit,
            effects.Kept: self._kept,
            effects.Failed: self._failed,
        }
        self._actions: dict[Callable[[SimClient], object], int] = {  # How often each is done.
            lambda _: self.drain(): 300,
            self.deliver: 250,
            self.answer: 100,
            self.connect: 100,
            self._say_somewhere: 150,
            self._join_somewhere: 30,
            self.cut: 20,
            self.deafen: 20,
            self._lose_question: 10,
            self._lose_command: 10 * has_unnoticed_losses,
            self._lose_reply: 10 * has_unnoticed_losses,
            lambda _: self.crash(): 5,
            lambda _: self.drain(crash_after_commit=True): 5,
            lambda _: self.pass_time(self.chance.choice([0.1, 1.0, 4.0])): 10,
        }
        self.clients = [SimClient(f"c{index}", self.chance) for index in range(clients)]
        self._start_broker()

    # --- the broker ---------------------------------------------------------
    def _start_broker(self) -> None:
        self.refusals.update(self.core.refusals if self.restarts else {})
        self.log = SqliteLog(self._path, retain_messages=0, retain_days=0)
        self.reader = SqliteReader(self._path)
        self.core = Core(
            Rules(clients_max=100, rooms_max=100, grace_s=2.0, rate=self._rate, motd=""),
            Facts("sim", 1, 2, "", ""),
            self.log.rooms(),
            secret=self.log.secret,
            epoch=self.log.epoch,
            recall=self.log.recall,
            now_ms=self.now_ms,
            now_s=self.now_s,
        )

    @property
    def now_ms(self) -> int:
        """Return the wall clock."""
        return START_MS + int(self.now_s * 1_000)

    def crash(self) -> None:
        """End the broker without a word and start another on the same log."""
        self.restarts += 1
        for client in self.clients:
            self.cut(client)
            self.deafen(client)
        self.log.close()
        self.reader.close()
        self._start_broker()

    def drain(self, *, crash_after_commit: bool = False) -> None:
        """Let the broker take what has arrived, up to a random amount, as one drain."""
        core = self.core
        core.clock(self.now_ms, self.now_s)
        for client in self.chance.sample(self.clients, len(self.clients)):
            while client.subscriptions and self.chance.random() < 0.9:
                self._take_subscription(client)
            while client.to_broker and self.chance.random() < 0.8:
                assert client.route is not None
                core.receive(client.route, client.to_broker.popleft())
        core.tick()
        proposals = core.take_proposals()
        if proposals:
            self.log.append(proposals)
        if crash_after_commit:
            self.crash()
            return
        core.committed(self.log.follow())
        done = core.take_effects()
        for publication in done.publications:
            self._publish(publication)
        routes = {client.route: client for client in self.clients if client.route}
        for route, frames in done.replies:
            if route in routes:
                routes[route].replies.append(frames)
        for sender in done.forgotten:
            self.log.forget(sender)

    def _take_subscription(self, client: SimClient) -> None:
        is_on, topic = client.subscriptions.popleft()
        if not is_on:
            client.admitted.discard(topic)
            self.core.unsubscribed(topic)
            return
        greetings = self.core.subscribed(topic)
        if greetings is not None:
            client.admitted.add(topic)
            for greeting in greetings:
                self._tell(client, greeting)

    def _publish(self, publication: bytes) -> None:
        topic, _ = topics.split_publication(publication)
        for client in self.clients:
            if topic in client.admitted:
                self._tell(client, publication)

    def _tell(self, client: SimClient, publication: bytes) -> None:
        if self.loss and self.chance.random() < self.loss:  # A full queue: dropped silently.
            self.lost_publications += 1
        else:
            client.publications.append(publication)

    # --- the network --------------------------------------------------------
    def connect(self, client: SimClient) -> None:
        """Bring both links up, where they are down."""
        if client.route is None:
            self._routes += 1
            client.route = b"route%d" % self._routes
            self._do(client, client.session.connected(self.now_s))
        if not client.is_listening:
            client.is_listening = True
            client.subscriptions.extend((True, topic) for topic in client.wanted)

    def cut(self, client: SimClient) -> None:
        """Break the commands' link; what is on it is lost."""
        if client.route is not None:
            client.route = None
            client.to_broker.clear()
            client.replies.clear()
            self._do(client, client.session.disconnected(self.now_s))

    def deafen(self, client: SimClient) -> None:
        """Break the rooms' link; the broker sees every subscription end."""
        if client.is_listening:
            client.is_listening = False
            while client.subscriptions and client.subscriptions[0][1] not in client.wanted:
                self._take_subscription(client)
            waiting = {topic for _, topic in client.subscriptions}
            judged = [topic for topic in client.wanted if topic not in waiting]
            client.subscriptions.clear()
            client.publications.clear()
            client.admitted.clear()
            for topic in judged:
                self.core.unsubscribed(topic)

    # --- clients ------------------------------------------------------------
    def _do(self, client: SimClient, wanted: list[effects.Effect]) -> None:
        for effect in wanted:
            perform = self._perform.get(type(effect))
            if perform is not None:
                perform(client, effect)

    def _transmit(self, client: SimClient, effect: effects.Transmit) -> None:
        if client.route is not None:
            client.to_broker.append(wire.command_frames(client.token, effect.command))

    def _ask_history(self, client: SimClient, effect: effects.AskHistory) -> None:
        client.question = effect.question

    def _drop_history(self, client: SimClient, _effect: effects.DropHistory) -> None:
        client.question = None

    def _emit(self, client: SimClient, effect: effects.Emit) -> None:
        for event in effect.events:
            if isinstance(event, Entry):
                client.seen.setdefault(event.room, []).append(event)
            elif isinstance(event, Missing | Reset):
                client.trouble.append(repr(event))

    def _kept(self, client: SimClient, effect: effects.Kept) -> None:
        for seq, ticket in enumerate(effect.tickets, effect.first):
            client.kept[str(ticket)] = (effect.room, seq)

    def _failed(self, client: SimClient, effect: effects.Failed) -> None:
        client.failed.update(map(str, effect.tickets))

    def _subscribed(self, client: SimClient, effect: effects.Subscribe) -> None:
        assert effect.topic not in client.wanted, "SUB never asks twice"
        client.wanted[effect.topic] = None
        if client.is_listening:
            client.subscriptions.append((True, effect.topic))

    def _unsubscribed(self, client: SimClient, effect: effects.Unsubscribe) -> None:
        del client.wanted[effect.topic]
        if client.is_listening:
            client.subscriptions.append((False, effect.topic))

    def join(self, client: SimClient, room: str, history_count: int | None) -> None:
        """Let the program join a room."""
        if room not in client.rooms:
            client.rooms[room] = history_count
            joining = client.session.join(room, history_count, None, "join", self.now_s)
            self._do(client, joining)

    def say(self, client: SimClient, *rooms: str) -> None:
        """Let the program say some texts, each in one of these rooms."""
        lines = []
        for _ in range(self.chance.randint(1, 5)):
            client.said += 1
            text = f"{client.name} {client.said}"
            room = self.chance.choice(rooms)
            lines.append(Line(room, Kind.TEXT, text, len(text), text))
        self._do(client, client.session.say(lines, self.now_s))

    def deliver(self, client: SimClient) -> None:
        """Hand over some of what has arrived at a client."""
        session = client.session
        while client.replies and self.chance.random() < 0.8:
            self._do(client, session.reply(wire.parse_reply(client.replies.popleft()), self.now_s))
        count = self.chance.randint(0, len(client.publications))
        frames = [client.publications.popleft() for _ in range(count)]
        if frames:
            self._do(client, session.publications(frames, self.now_s))

    def answer(self, client: SimClient) -> None:
        """Answer the client's question to history."""
        if client.question is None:
            return
        frames = history.answer(self.reader, wire.command_frames(wire.NO_TOKEN, client.question))
        client.question = None
        reply = wire.parse_reply(frames)
        if isinstance(reply, wire.Page):
            batches = [wire.decode_batch(frame) for frame in frames[2:]]
            if reply.more and batches:  # As the connection does.
                last = wire.last_seq(batches[-1])
                self._do(client, client.session.page_arrived(reply, last, self.now_s))
            self._do(client, client.session.page(reply, batches, self.now_s))
        elif isinstance(reply, wire.Error):
            self._do(client, client.session.history_refused(reply, self.now_s))

    def pass_time(self, seconds: float) -> None:
        """Let the clock run, and everybody look at it."""
        self.now_s += seconds
        for client in self.clients:
            self._do(client, client.session.tick(self.now_s))

    # --- the schedule -------------------------------------------------------
    def step(self) -> None:
        """Do one random thing."""
        client = self.chance.choice(self.clients)
        (action,) = self.chance.choices(list(self._actions), list(self._actions.values()))
        action(client)
        self.pass_time(STEP_S)

    def _join_somewhere(self, client: SimClient) -> None:
        self.join(client, self.chance.choice(ROOMS), self.chance.choice([None, None, 0, 3, 100]))

    def _say_somewhere(self, client: SimClient) -> None:
        if client.rooms:
            self.say(client, *sorted(client.rooms))

    def _lose_command(self, client: SimClient) -> None:
        """Lose one, as a reconnect that nobody noticed does."""
        if client.to_broker:
            client.to_broker.popleft()

    def _lose_reply(self, client: SimClient) -> None:
        if client.replies:
            client.replies.popleft()

    def _lose_question(self, client: SimClient) -> None:
        client.question = None

    def is_quiet(self) -> bool:
        """Tell whether everybody has heard everything and has nothing left to say."""
        heads = {record.name: record.head for record in self.log.rooms()}
        return all(
            client.said == len(client.kept) + len(client.failed)
            and all(
                not heads.get(room)
                or (client.seen.get(room) and client.seen[room][-1].seq == heads[room])
                or (history_count == 0 and room not in client.seen)
                for room, history_count in client.rooms.items()
            )
            for client in self.clients
        )

    def heal(self) -> None:
        """End all trouble, and let everything run until it is quiet, and then some."""
        self.loss = 0.0
        quiet_until_s = float("inf")
        for _ in range(QUIET_STEPS_MAX):
            for client in self.clients:
                self.connect(client)
                self.deliver(client)
                self.answer(client)
            self.drain()
            self.pass_time(STEP_S)
            if not self.is_quiet():
                quiet_until_s = float("inf")
            elif quiet_until_s == float("inf"):
                quiet_until_s = self.now_s + 35.0  # Longer than any beacon takes.
            elif self.now_s > quiet_until_s:
                return
        states = {client.name: client.session.phase for client in self.clients}
        raise AssertionError(f"never quiet: {states}")

    def roster(self, room: str) -> set[str]:
        """Return who is in a room, as the broker knows it."""
        return {each.user.nick for each in self.core.sessions if room in each.rooms}

    def roster_of(self, client: SimClient, room: str) -> set[str] | None:
        """Return who is in a room, as a client knows it."""
        return client.session._memberships._rooms[room].roster.nicks

    def read_log(self, room: str) -> list[tuple[int, str]]:
        """Return all entries of a room: seq and text."""
        entries: list[tuple[int, str]] = []
        more = True
        while more:
            page = self.reader.read(room, Mode.AFTER, entries[-1][0] if entries else 0, 4_096)
            for body in page.batches:
                batch = wire.decode_batch(body)
                texts = [text for post in batch.posts for text in post.texts]
                entries += enumerate(texts, batch.first)
            more = page.more
        return entries

    def close(self) -> None:
        """Release the log."""
        self.log.close()
        self.reader.close()
