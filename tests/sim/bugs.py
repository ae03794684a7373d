"""Known mistakes, to be made on purpose: each must be caught by the checkers.

Each replaces a piece of the product by one that is wrong in one respect. `seeds` says how many
seeds it may take at most until a run fails; tests/sim/test_bugs.py holds it to that.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack
from typing import Any, NamedTuple
from unittest import mock

import msgspec

import broker.keys
import broker.log.administration
import broker.log.index
import broker.log.segments
import broker.log.writer
from broker.chat.core import Core
from broker.chat.floor import Floor
from broker.chat.nicks import Register
from broker.chat.orders import Orders
from broker.chat.rooms import Rooms
from broker.chat.sessions import Session, Sessions
from broker.chat.speech import Speech
from broker.log import progress, records
from broker.log.administration import Administration
from broker.log.index import read_indexed
from broker.log.interface import Committed, LogFailed, Proposal, Redacted
from broker.log.reader import SqliteReader
from broker.log.retention import Retention
from broker.log.segments import HighWater, Record, SegmentReader, SegmentWriter
from broker.log.writer import SqliteLog
from client.events import Missing
from client.memberships import Memberships
from client.outbox import Outbox
from client.replica import LIVE, Replica, expand
from client.room import Room
from client.roster import Roster
from common import wire
from tests.sim.broker import Broker
from tests.sim.disk import Connection
from tests.sim.weather import Weather, weather


class Bug(NamedTuple):
    """A mistake: what is replaced, by what, and within how many seeds it must be caught."""

    place: Any
    name: str
    wrong: Callable[[Any], Any]  # Takes what is right, and returns what is wrong.
    seeds: int  # Of those whose weather has
    needs: str = ""  # these faults ("-" before what must not be),
    is_narrow: bool = False  # and few entries kept in small segments.
    times: int = 1  # How much more often than usual the faults are that it needs.

    def weathers(self, steps: int) -> Iterator[tuple[int, Weather]]:
        """Yield the seeds that may show it, and what they have in store."""
        needed = {each for each in self.needs.split() if not each.startswith("-")}
        barred = {each[1:] for each in self.needs.split() if each.startswith("-")}
        seeds = ((seed, self._weather(seed, steps)) for seed in itertools.count())
        return itertools.islice(
            (
                each
                for each in seeds
                if needed <= each[1].weights.keys() and barred.isdisjoint(each[1].weights)
            ),
            self.seeds,
        )

    def _weather(self, seed: int, steps: int) -> Weather:
        chosen = weather(seed, steps=steps)
        if self.is_narrow:
            limits = chosen.limits | {"SEGMENT_BYTES_MAX": 1_024}
            chosen = chosen._replace(retain_messages=5, retain_days=0, limits=limits)
        needed = self.needs.split()
        weights = {
            name: weight * (self.times if name in needed else 1)
            for name, weight in chosen.weights.items()
        }
        return chosen._replace(weights=weights)

    def plant(self, stack: ExitStack) -> None:
        """Make the mistake until the stack is unwound."""
        right = vars(self.place)[self.name]
        stack.enter_context(mock.patch.object(self.place, self.name, self.wrong(right)))


def _acknowledge_early(commit: Any) -> Any:  # noqa: ANN401 - any function of the product
    def late(self: SqliteLog, contents: records.Contents, bodies: Sequence[bytes]) -> None:
        waiting = vars(self).setdefault("_late", [])
        if waiting:
            commit(self, *waiting.pop())
        waiting.append((contents, list(bodies)))

    return late


def _publish_early(commit: Any) -> Any:  # noqa: ANN401
    def early(self: Broker, core: Core, proposals: list[Proposal]) -> None:
        for each in proposals:
            room = core.rooms.get(each.room)
            assert room is not None
            batch = wire.Batch(each.room, self.log.epoch, room.head, room.head + 1, each.posts)
            core._floor.effects.publications.append(room.subscription + wire.encode(batch))
        self.carry_out(core.take_effects())
        commit(self, core, proposals)

    return early


def _lose_topic(commit: Any) -> Any:  # noqa: ANN401
    def without(self: SqliteLog, contents: records.Contents, bodies: Sequence[bytes]) -> None:
        contents.topics.clear()
        commit(self, contents, bodies)

    return without


def _acknowledge_failure(commit: Any) -> Any:  # noqa: ANN401
    def hiding(self: SqliteLog, contents: records.Contents, bodies: Sequence[bytes]) -> None:
        try:
            commit(self, contents, bodies)
        except LogFailed:
            self._roll_back()

    return hiding


def _raise_high_water(commit: Any) -> Any:  # noqa: ANN401
    def early(self: SqliteLog, contents: records.Contents, bodies: Sequence[bytes]) -> None:
        size_bytes = records.HEAD_BYTES + len(wire.encode(contents)) + sum(map(len, bodies))
        self._high_water.set(self._segments.end + size_bytes)
        commit(self, contents, bodies)

    return early


def _miss_epoch(joined: Any) -> Any:  # noqa: ANN401
    def blind(self: Replica, reply: wire.Joined, _cursor_then: int) -> Any:  # noqa: ANN401
        if self.epoch is not None:
            self.epoch = reply.epoch
        return joined(self, reply, 0)

    return blind


def _ignore_hole(_live: Any) -> Any:  # noqa: ANN401
    def greedy(self: Replica, batch: wire.Batch, events: list[Any]) -> None:
        if self._phase is LIVE:
            self._deliver(batch, events)

    return greedy


def _deliver_twice(_deliver: Any) -> Any:  # noqa: ANN401
    def twice(self: Replica, batch: wire.Batch, events: list[Any]) -> None:
        entries, last = expand(self.room, batch, 0)
        events += entries
        self.cursor = max(self.cursor, last)
        self.target = max(self.target, last)

    return twice


def _miss_silently(_miss: Any) -> Any:  # noqa: ANN401
    def silent(self: Replica, seq: int, _events: list[Any]) -> None:
        self.cursor = seq
        self.target = max(self.target, seq)

    return silent


def _miscount(_miss: Any) -> Any:  # noqa: ANN401
    def wrong(self: Replica, seq: int, events: list[Any]) -> None:
        events.append(Missing(self.room, seq - self.cursor + 1))
        self.cursor = seq
        self.target = max(self.target, seq)

    return wrong


def _take_gap(send: Any) -> Any:  # noqa: ANN401
    def lax(self: Core, session: Session, command: wire.Send) -> None:
        session.expected = max(session.expected, command.number)
        send(self, session, command)

    return lax


def _ignore_version(apply: Any) -> Any:  # noqa: ANN401
    def lax(self: Roster, event: wire.Presence) -> Any:  # noqa: ANN401
        if event.version > self.version:
            self.version = event.prev
        return apply(self, event)

    return lax


def _skip_sync(init: Any) -> Any:  # noqa: ANN401
    def hasty(self: SegmentWriter, *rest: Any) -> None:  # noqa: ANN401
        init(self, *rest)
        self._sync = lambda _file: None

    return hasty


def _count_torn(_whole_record: Any) -> Any:  # noqa: ANN401
    def lax(self: SegmentReader, position: int) -> Record | None:
        head = records.parse_head(self.read(position, records.HEAD_BYTES))
        if head is None:
            return None
        start = position + head.size_bytes + head.contents_bytes
        try:
            packed = self.read(position + head.size_bytes, head.contents_bytes)
            contents = msgspec.msgpack.decode(packed, type=records.Contents)
        except msgspec.DecodeError:
            return None
        return Record(contents, start, position + head.record_bytes, head.before)

    return lax


def _forget_tail(_recover: Any) -> Any:  # noqa: ANN401
    def short(connection: Any, folder: Any) -> int:  # noqa: ANN401
        indexed = read_indexed(connection)
        high_water = HighWater(folder, is_writer=True)
        high_water.set(indexed)
        high_water.close()
        return indexed

    return short


def _keep_less(cut: Any) -> Any:  # noqa: ANN401
    def eager(self: Retention, name: str, now_ms: int) -> int:
        usual = self._everywhere
        less = usual._replace(messages=max(1, (usual.messages or 0) - 3))
        with mock.patch.object(self, "_everywhere", less):
            found: int = cut(self, name, now_ms)
        return found

    return eager


def _reverse(committed: Any) -> Any:  # noqa: ANN401
    def backwards(self: Core, batches: Iterable[Committed]) -> None:
        committed(self, list(batches)[::-1])

    return backwards


def _remove_early(execute: Any) -> Any:  # noqa: ANN401
    def careless(self: Connection, statement: str, *rest: Any) -> Any:  # noqa: ANN401
        asked = "PRAGMA synchronous = NORMAL" if statement.endswith("= FULL") else statement
        return execute(self, asked, *rest)

    return careless


def _keep_keys(_change_keys: Any) -> Any:  # noqa: ANN401
    def same(self: Orders, room: Any) -> None:  # noqa: ANN401
        self._found(room.name)

    return same


def _open_door(_check_door: Any) -> Any:  # noqa: ANN401
    return lambda *_, **__: None


def _write_later(keep: Any) -> Any:  # noqa: ANN401
    def lazy(self: Floor, changes: Sequence[Any], audit: Any = None) -> None:  # noqa: ANN401
        keep(self, [], audit)
        self.keep_soon(changes)

    return lazy


def _cut_off_page(move: Any) -> Any:  # noqa: ANN401
    def forgetful(self: Memberships, room: Room, to: str, title: str) -> None:
        move(self, room, to, title)
        room.replica.cursor = room.replica.target = room.replica.target + 1

    return forgetful


def _remove_half(redact: Any) -> Any:  # noqa: ANN401
    def half(self: Administration, room: str, seq: int) -> Redacted:
        removed: Redacted = redact(self, room, seq) if seq % 2 else Redacted("somebody", seq)
        return removed

    return half


def _nothing(_right: Any) -> Any:  # noqa: ANN401
    return lambda *_: []


BUGS: dict[str, Bug] = {
    "acknowledge before the commit": Bug(SqliteLog, "_commit", _acknowledge_early, 5),
    "publish before the commit": Bug(Broker, "commit", _publish_early, 5),
    "acknowledge a commit that failed": Bug(SqliteLog, "_commit", _acknowledge_failure, 20),
    "skip the sync": Bug(SegmentWriter, "__init__", _skip_sync, 5),
    "count a torn record": Bug(
        SegmentReader, "whole_record", _count_torn, 40, "cut_power crash_in_drain -order", times=10
    ),
    "raise the high-water mark before the commit": Bug(
        SqliteLog, "_commit", _raise_high_water, 100
    ),
    "forget at the start what the index does not know": Bug(
        broker.log.writer, "recover", _forget_tail, 10
    ),
    "remove a segment before the index does without it": Bug(
        Connection, "execute", _remove_early, 100, "cut_power", is_narrow=True
    ),
    "forget what was sent": Bug(SqliteLog, "recall", lambda _: lambda *_: {}, 40),
    "forget at a start what was sent": Bug(
        broker.log.index, "add_marks", lambda _: lambda *_: None, 40
    ),
    "take a SEND before the one that is missing": Bug(
        Speech, "send", _take_gap, 80, "lose_command"
    ),
    "do not send again after a reconnect": Bug(Outbox, "resume", _nothing, 40),
    "count the SENDs in flight, not their numbers": Bug(
        Outbox,
        "lowest",
        lambda _: property(lambda self: self._number - len(self._flights)),
        120,
        "lose_reply",
    ),
    "publish in another order than the log's": Bug(Core, "committed", _reverse, 20),
    "skip the beacon": Bug(Rooms, "beacons", _nothing, 40),
    "ignore a hole": Bug(Replica, "live", _ignore_hole, 10),
    "deliver an overlap twice": Bug(Replica, "_deliver", _deliver_twice, 10),
    "miss the change of the epoch": Bug(Replica, "joined", _miss_epoch, 60, "restore"),
    "take a backup for the log": Bug(
        progress, "is_continued", lambda _: lambda *_: True, 60, "restore"
    ),
    "read forwards from one entry too far": Bug(
        SqliteReader,
        "_after",
        lambda right: lambda self, view, seq, limit: right(self, view, seq + 1, limit),
        20,
    ),
    "read backwards from one entry too far": Bug(
        SqliteReader,
        "_before",
        lambda right: lambda self, view, seq, limit: right(self, view, seq - 1, limit),
        20,
    ),
    "trim without a word": Bug(Replica, "_miss", _miss_silently, 40),
    "count wrongly what is missing": Bug(Replica, "_miss", _miscount, 40),
    "keep less than asked": Bug(Retention, "_cut", _keep_less, 20),
    "lose a topic": Bug(SqliteLog, "_commit", _lose_topic, 40),
    "ignore a hole in presence": Bug(Roster, "apply", _ignore_version, 80),
    "let somebody who was taken out keep the keys": Bug(
        Orders, "_change_keys", _keep_keys, 150, "order"
    ),
    "let everybody into closed rooms": Bug(Floor, "check_door", _open_door, 150, "order"),
    "take any ticket": Bug(broker.keys, "is_ticket", lambda _: lambda *_, **__: True, 60, "order"),
    "give a room the keys that one of its name had": Bug(Orders, "renew", _open_door, 150),
    "pass over what is said when a room moves": Bug(Memberships, "_move", _cut_off_page, 40),
    "write down an order when there is time": Bug(Floor, "keep", _write_later, 60),
    "keep nicks in memory": Bug(Register, "take_promised", _nothing, 60),
    "give a nick to whoever comes": Bug(Register, "check", _open_door, 40, "order rename"),
    "leave a removed text where it is": Bug(
        broker.log.administration, "finish_redactions", _nothing, 60
    ),
    "remove every other text": Bug(Administration, "redact", _remove_half, 40),
    "tell nobody of a removed text": Bug(Room, "remove", _nothing, 40),
    "keep those who have gone": Bug(Sessions, "expired", _nothing, 60, "leave"),
}
