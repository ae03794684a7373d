"""The broker's processes: the shipped core, log and history, without sockets and clocks.

What `broker.live` and `broker.history` do around them in earnest is here as plain steps.
"""

from __future__ import annotations

import random
import sqlite3
from collections import Counter, deque
from collections.abc import Callable
from pathlib import Path

from broker import history
from broker.chat.core import Core, Effects, Facts, Rules
from broker.chat.peer import Peer
from broker.log import index as log_index
from broker.log import writer as log_writer
from broker.log.interface import LogFailed, LogUnusable, Proposal
from broker.log.reader import SqliteReader
from broker.log.rights_records import Change
from broker.log.writer import SqliteLog, prepare
from common import wire
from common.errors import Code, Refused
from tests.sim.checkers import Judge
from tests.sim.disk import Disk, Killed
from tests.sim.doors import OPERATOR
from tests.sim.log_file import MAGIC
from tests.sim.network import Network, Pipe
from tests.sim.trace import Trace, shown
from tests.sim.weather import Weather

OPERATOR_ROUTE = b"operator"
KEEP_AGAIN_S = 1.0  # As in `broker.live`.
SEGMENT_NAME = "hubbub-{:08d}.segment"


class Broker:
    """Live and history. `core` is None while live is down, `reader` while history is."""

    def __init__(
        self,
        folder: Path,
        weather: Weather,
        *,
        disk: Disk,
        network: Network,
        judge: Judge,
        chance: random.Random,
        trace: Trace,
    ) -> None:
        self.path = folder / log_writer.FILE_NAME
        self.core: Core | None = None
        self.reader: SqliteReader | None = None
        self.log: SqliteLog
        self.starts = 0
        self.refusals: Counter[str] = Counter()  # Of all cores before this one.
        self.is_prepared = False  # Did the supervisor look at the log since it was started?
        self.admin: deque[list[bytes]] = deque()  # What an operator asks for, at the broker's host.
        self._keep_at_s = 0.0  # Not before, after a failure.
        network.callers[OPERATOR_ROUTE] = OPERATOR
        self._folder = folder
        self._weather = weather
        self._disk = disk
        self._network = network
        self._judge = judge
        self._chance = chance
        self._trace = trace
        # Refused because the disk failed: texts, and the place where their record would be.
        self._doubtful: list[tuple[set[str], str, int]] = []

    # --- beginning and end --------------------------------------------------
    def start(self, now_ms: int, now_s: float) -> None:
        """Start what is down; it stays down when the disk fails."""
        self._now_ms = now_ms
        failures = self._disk.failures["told"]
        try:
            if not self.is_prepared:
                self._disk.owner = "supervisor"
                prepare(self._folder)
                self.is_prepared = True
            if self.core is None:
                self._start_live(now_ms, now_s)
            if self.reader is None:
                self._disk.owner = "history"
                self.reader = SqliteReader(self.path)
                self._trace.note("history", "starts")
        except (OSError, sqlite3.Error, LogFailed, LogUnusable) as error:
            why = str(error).replace(str(self._folder), "DATA")  # It differs from run to run.
            self._trace.note("broker", f"does not start: {why}")
            if self._disk.failures["told"] == failures:
                self._judge.blame(f"the broker does not start on a disk that is whole: {why}")
            self._disk.kill(self._disk.owner)

    def _start_live(self, now_ms: int, now_s: float) -> None:
        weather = self._weather
        self._disk.owner = "live"
        self.log = SqliteLog(
            self.path,
            retain_messages=weather.retain_messages,
            retain_days=weather.retain_days,
        )
        self.starts += 1
        self._judge_start()
        self.core = Core(
            Rules(
                clients_max=100, rooms_max=100, grace_s=weather.grace_s, rate=weather.rate, motd=""
            ),
            Facts("sim", 1, 2, "", ""),
            self.log.rooms(),
            secret=self.log.secret,
            epoch=self.log.epoch,
            recall=self.log.recall,
            keeper=self.log,
            now_ms=now_ms,
            now_s=now_s,
        )
        self._keep_at_s = 0.0
        self._judge.doors.are_nicks_written = True
        heads = {record.name: record.head for record in self.log.rooms()}
        self._trace.note("live", f"starts with {heads}")

    def _judge_start(self) -> None:
        """Check what the start found, against what was durable before it."""
        judge = self._judge
        judge.doors.start = self.starts
        gone = judge.witness.survey(self._durable())
        if gone:
            judge.blame(f"durable before the start, and gone: {gone}")
        for record in self.log.rooms():
            has = judge.witness.head(judge.witness.room(record.name))
            if record.head != has:
                judge.blame(f"{record.name} starts with {record.head}, the disk has {has}")
        stored = {
            each.text for entries in judge.witness.rooms.values() for each in entries.values()
        }
        for texts, _, _ in self._doubtful:
            judge.excused |= texts & stored
        self._doubtful.clear()
        judge.doors.file(self.path)

    def _durable(self) -> dict[str, bytearray]:
        return {
            name: file.durable
            for name, file in self._disk.files.items()
            if (self._folder / name).exists()
        }

    def stop(self) -> None:
        """End everything as the supervisor does."""
        if self.core is not None:
            self.core.close()
            self.carry_out(self.core.take_effects())
            self.log.close()
        if self.reader is not None:
            self.reader.close()
        self._fall(("live", "history", "supervisor"), "stops")

    def kill_live(self) -> None:
        """End live without a word."""
        self._fall(("live",), "is killed")

    def kill_history(self) -> None:
        """End history without a word."""
        self._disk.kill("history")
        self.reader = None
        self._trace.note("history", "is killed")

    def kill_all(self) -> None:
        """End every process without a word."""
        self._fall(("live", "history", "supervisor"), "is killed, with all others")

    def cut_power(self) -> None:
        """End everything, and lose what the disk had not."""
        self._doubt()
        self._disk.cut_power(("live", "history", "supervisor"))
        self._fall(("live", "history", "supervisor"), "has no power")

    def _fall(self, owners: tuple[str, ...], what: str) -> None:
        self._trace.note("live", what)
        self._doubt()
        for owner in owners:
            self._disk.kill(owner)
        if self.core is not None:
            self.refusals.update(self.core.refusals)
        self.core = None
        self.admin.clear()
        self._judge.doors.settle(set())
        if "history" in owners:
            self.reader = None
            self.is_prepared = False
        self._network.fall()

    @property
    def is_doubtful(self) -> bool:
        """Whether refused texts may be in the files all the same."""
        return bool(self._doubtful)

    def _doubt(self) -> None:
        """Keep only those refusals in doubt whose record is perhaps still on the disk."""
        self._doubtful = [each for each in self._doubtful if self._disk.may_hold(*each[1:], MAGIC)]

    # --- live ---------------------------------------------------------------
    def drain(self, now_ms: int, now_s: float, share: float, kill: Callable[[str], bool]) -> None:
        """Do one round as `broker.live` does; `kill` says where it ends in the middle.

        Raises `Killed`.
        """
        core = self.core
        assert core is not None
        self._now_ms = now_ms
        core.clock(now_ms, now_s)
        try:
            self._take(core, share)
            core.tick()
            proposals = core.take_proposals()
            self._bound(core, proposals)
            if now_s >= self._keep_at_s:
                self._keep(core, core.take_promised(), self.log.keep, now_s)
            if kill("before the commit"):
                raise Killed
            self.commit(core, proposals)
            if now_s >= self._keep_at_s:
                self._keep(core, core.take_changes(), self.log.keep_soon, now_s)
            if kill("after the commit"):
                raise Killed
            self.tell(core, kill)
            self._network.sweep()
            links = self._network.links.items()
            busy = {self._network.callers[route] for route, link in links if link.up}
            self._judge.doors.settle(busy)
        except Killed:
            self._undelivered(core.take_effects())
            raise

    def _keep(
        self, core: Core, changes: list[Change], keep: Callable[[list[Change]], None], now_s: float
    ) -> None:
        """Write down what is not messages, as `broker.live` does."""
        if not changes:
            return
        self._disk.owner = "live"
        try:
            keep(changes)
        except LogFailed as error:
            self._trace.note("live", f"cannot write down {len(changes)} changes: {error}")
            core.put_back(changes)
            self._keep_at_s = now_s + KEEP_AGAIN_S
            # What is put back is written when there is time: until the next start nobody knows.
            self._judge.doors.are_nicks_written = False

    def _undelivered(self, done: Effects) -> None:
        """Let the judge know what was decided, though nobody hears it."""
        for route, frames in done.replies:
            self._judge.refusal(self._network.callers[route], frames)

    def _take(self, core: Core, share: float) -> None:
        chance, network = self._chance, self._network
        for pipe in chance.sample(network.pipes, len(network.pipes)):
            while pipe.subscriptions and (share == 1 or chance.random() < share):
                self._take_subscription(core, pipe)
        links = list(network.links.values())
        for link in chance.sample(links, len(links)):
            peer = Peer(network.keys[network.callers[link.route]])
            while link.up and (share == 1 or chance.random() < share):
                self._disk.owner = "live"
                core.receive(link.route, link.up.popleft(), peer)
        while self.admin:
            self._disk.owner = "live"
            core.receive(OPERATOR_ROUTE, self.admin.popleft(), Peer(is_admin=True))

    def _take_subscription(self, core: Core, pipe: Pipe) -> None:
        is_on, topic = pipe.subscriptions.popleft()
        if not is_on:
            pipe.heard.pop(topic, None)
            pipe.admitted.pop(topic, None)
            core.unsubscribed(topic)
            return
        pipe.heard[topic] = None
        greetings = core.subscribed(topic, self._network.keys[pipe.who])
        if greetings is None:
            self._trace.note("live", f"refuses a subscription of {pipe.who}")
            return
        pipe.admitted[topic] = None
        for greeting in greetings:
            self._judge.heard(pipe.who, greeting)
            self._network.tell(pipe, greeting)

    def commit(self, core: Core, proposals: list[Proposal]) -> None:
        """Append what was proposed, and tell the core."""
        if not proposals:
            return
        texts = {text for each in proposals for post in each.posts for text in post.texts}
        self._disk.owner = "live"
        try:
            self.log.append(proposals)
        except (LogFailed, LogUnusable) as error:
            self._trace.note("live", f"cannot commit {len(texts)} texts: {error}")
            end = self.log._segments.end
            name = SEGMENT_NAME.format(end >> 40)
            self._doubtful.append((texts, name, end & (1 << 40) - 1))
            if isinstance(error, LogUnusable):
                raise Killed from error  # Live ends; whoever starts next finds what is kept.
            core.failed(proposals)
        else:
            self._doubtful.clear()
            self._judge.witness.follow(self._durable())
            self._trace.note("live", f"commits {len(texts)} texts")

    def tell(self, core: Core, kill: Callable[[str], bool]) -> None:
        """Publish and answer what is committed."""
        self._judge.witness.follow(self._durable())
        core.committed(self.log.follow())
        self.carry_out(core.take_effects(), kill)

    def carry_out(self, done: Effects, kill: Callable[[str], bool] = lambda _: False) -> None:
        """Publish, reply, forget, in this order."""
        for publication in done.publications:
            self._judge.published(publication)
            topic_bytes = 11 if publication.startswith(b"\0") else publication.index(b"\0") + 17
            topic = publication[:topic_bytes]
            for pipe in self._network.pipes:
                if topic in pipe.admitted and not pipe.is_broken:
                    self._judge.heard(pipe.who, publication)
            self._network.publish(topic, publication)
            if self._trace.is_on:
                item = wire.parse_publication(publication[topic_bytes:])
                self._trace.note("live", f"publishes {shown(item)}")
        if kill("before the replies"):
            self._undelivered(done)
            raise Killed
        for route, frames in done.replies:
            self._judge.replied(self._network.callers[route], frames)
            self._network.reply(route, frames)
        for sender in done.forgotten:
            self.log.forget(sender)

    def hang_up(self, pipe: Pipe) -> None:
        """See that a connection to XPUB has ended."""
        self._network.pipes.remove(pipe)
        pipe.is_broken = True
        self._trace.note("live", f"sees that {pipe.who} listens no more")
        if self.core is not None:
            for topic in pipe.heard:
                self.core.unsubscribed(topic)

    def trim(self, now_ms: int) -> None:
        """Keep house."""
        if self.core is None:
            return
        self._disk.owner = "live"
        try:
            firsts = self.log.trim(now_ms)
        except LogFailed as error:
            self._trace.note("live", f"{error}")
            return
        weather = self._weather
        for room, first in firsts.items():
            self._trace.note("live", f"trims {room} up to {first - 1}")
            self._judge.trimmed(
                room, first, weather.retain_messages, by_count_only=not weather.retain_days
            )
        self.core.trimmed(firsts)

    def _bound(self, core: Core, proposals: list[Proposal]) -> None:
        """Check the broker's queues."""
        bound, sessions = self._judge.bound, core.sessions
        bound("inboxes without a session", len(sessions._unclaimed), 100 + 4_096)
        bound("senders in memory", len(self.log._senders._living), len(sessions) + 1_000)
        waiting_max = log_index.WAITING_MAX + 1_000
        bound("batches that wait for the index", len(self.log._waiting.rows), waiting_max)
        for proposal in proposals:
            bound("entries in a batch", proposal.count, 4_096)
            bound("bytes of a batch", proposal.size_bytes, 256 * 1024)
        for session in sessions:
            bound("numbers remembered of a sender", len(session.kept), 16)
        for timers in (sessions._graces, sessions._pokes, core.rooms._beacons):
            bound("timers", len(timers._heap), 2 * len(timers._entries) + 65)

    # --- history ------------------------------------------------------------
    def answer(self, who: str, question: wire.History) -> list[bytes] | None:
        """Answer a question as `broker.history` does; None while history is down."""
        if self.reader is None:
            return None
        self._disk.owner = "history"
        try:
            frames = history.answer(
                self.reader,
                wire.command_frames(wire.NO_TOKEN, question),
                now_ms=self._now_ms,
                key=self._network.keys[who],
            )
        except (sqlite3.Error, LogFailed) as error:
            self._trace.note("history", f"cannot read: {error}")
            return wire.refusal_frames(0, Refused(Code.LOG_FAILED, "the log cannot be read"))
        self._judge.witness.follow(self._durable())  # A start may be making more durable just now.
        self._judge.answered(who, frames)
        return frames
