"""A real broker with crowds of real clients who talk all the time, and strokes at them.

Whoever sits in a crowd that is killed does not come back; a new crowd with new nicks does. At
the end everything must agree: what was acknowledged, what each client was shown, what history
tells over the wire, and what is in the files.
"""

from __future__ import annotations

import contextlib
import os
import signal
import threading
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import TracebackType
from typing import Self

import msgspec

from client.api import Client, connect
from client.events import Entry, Joined
from common.errors import Unreachable
from tests.broker_process import BrokerProcess
from tests.crowd import Crowd
from tests.gathering import read_posts
from tests.persons import keys_of
from tests.torture.books import Line, Verdict, judge
from tests.torture.plan import FREEZE, Trouble
from tests.torture.talkers import Finished, Goal, Goals, Orders
from tests.torture.yard import Yard
from tests.waiting import DEADLINE_S, eventually

ROOMS = 6
ROOMS_PER_MEMBER = 2
# Clients that were killed have left after so long: a run sees many of them leave.
FLAGS = ("--grace", "1", "--heartbeat", "1")
BROKEN_S = 1.0
AUDITOR = "auditor"  # Reads everything at the end, and may be seen to come and go.
_never = threading.Event()


class Report(msgspec.Struct):
    """How a run went."""

    seed: int
    troubles: dict[str, int]  # By what and whom.
    verdict: Verdict
    clients: int = 0  # That there were in all, and at the end.
    clients_last: int = 0
    unfinished: dict[str, str] = msgspec.field(default_factory=dict)  # Nick to what it lacks.
    wire_differs: list[str] = msgspec.field(default_factory=list)  # Rooms where history is wrong.
    seconds: float = 0.0
    orders: dict[str, int] = msgspec.field(default_factory=dict)  # That held, of all yards.
    disorder: list[str] = msgspec.field(default_factory=list)  # Orders that did not, and how.
    back_s: float = 0.0  # After a cut: from the mending until all are acknowledged something.

    @property
    def is_clean(self) -> bool:
        """Whether every promise was kept."""
        wrongs = (self.unfinished, self.wire_differs, self.disorder)
        return self.verdict.is_clean and not any(wrongs)


class Group:
    """A crowd, its books, and who is in it."""

    def __init__(
        self,
        number: int,
        broker: str,
        folder: Path,
        members: int,
        *,
        prefix: Sequence[str] = (),
        is_talking: bool = True,
        server_key: str = "",
    ) -> None:
        self.ledger = folder / f"ledger{number}"
        self.views = folder / f"views{number}"
        rooms = [f"room{index}" for index in range(ROOMS)]
        self.members = {
            f"c{number}m{index}": [rooms[(number + index + i) % ROOMS] for i in range(2)]
            for index in range(members)
        }
        orders = Orders(
            broker,
            str(self.ledger),
            str(self.views),
            self.members,
            is_talking=is_talking,
            server_key=server_key,
        )
        self.is_talking = is_talking
        self.crowd = Crowd(orders, "tests.torture.talkers", prefix)
        self._is_joined = False

    @property
    def pid(self) -> int:
        """The process's number."""
        return self.crowd.process.pid

    def await_joined(self) -> None:
        """Wait until everybody is in their rooms, and talks."""
        if not self._is_joined:
            self.crowd.await_line("joined")
            self._is_joined = True

    def kill(self) -> None:
        """Kill -9 the process with all its clients."""
        self.crowd.__exit__(None, None, None)

    def ask(self, word: str, question: object = None) -> str:
        """Say a word to the process, and return its answer."""
        words = "" if question is None else msgspec.json.encode(question).decode()
        answer, _, rest = self.crowd.ask(f"{word} {words}".strip()).partition(" ")
        assert answer.startswith(word), f"a crowd answered {answer!r} to {word}"
        return rest

    def booked(self, word: str) -> list[list[str]]:
        """Return the lines of the views' book that begin with a word, without it."""
        lines = lines_of([self.views])
        return [line.split(" ")[1:] for line in lines if line.startswith(f"{word} ")]

    def kept(self) -> int:
        """Return how much was acknowledged so far."""
        return sum(line.startswith("kept ") for line in lines_of([self.ledger]))


class Stage:
    """A broker and the crowds at it. Ends them with the `with` block."""

    def __init__(self, broker: BrokerProcess, folder: Path, *, members: int = 6) -> None:
        self.broker = broker
        self.groups: list[Group] = []  # That live.
        self.yards: list[Yard] = []
        self._folder = folder
        self._members = members
        self._count = 0
        self._strokes: Counter[str] = Counter()
        self._started_s = time.monotonic()

    def add(
        self, *, prefix: Sequence[str] = (), broker: str = "", is_talking: bool = True
    ) -> Group:
        """Start one more crowd, and wait for nothing."""
        self._count += 1
        group = Group(
            self._count,
            broker or self.broker.address,
            self._folder,
            self._members,
            prefix=prefix,
            is_talking=is_talking,
            server_key=self.broker.server_key,
        )
        self.groups.append(group)
        return group

    def add_yard(self, seed: int) -> None:
        """Let somebody give orders from here on."""
        yard = Yard(len(self.yards) + 1, self.broker, seed)
        self.yards.append(yard)
        yard.start()

    def await_joined(self) -> None:
        """Wait until everybody talks."""
        for group in self.groups:
            group.await_joined()

    def await_progress(self, count: int = 1) -> None:
        """Wait until each crowd was acknowledged so much more."""
        goals = {group: group.kept() + count for group in self.groups if group.is_talking}
        for group, goal in goals.items():
            eventually(lambda group=group, goal=goal: group.kept() >= goal, "progress")  # type: ignore[misc]

    def gone(self) -> set[str]:
        """Return who was told to anybody to have left."""
        told = {nick for group in self.groups for _, _, nick in group.booked("left")}
        return told - {AUDITOR}

    # --- strokes ------------------------------------------------------------
    def suffer(self, trouble: Trouble) -> None:
        """Let one trouble happen."""
        if trouble.is_calm:
            self.await_joined()
            self.await_progress()
        _never.wait(trouble.pause_s)
        if trouble.what == FREEZE:
            with self.frozen(trouble.victim, trouble.chance):
                _never.wait(trouble.hold_s)
        elif trouble.victim == "clients":
            group = self._pick(trouble.chance)
            group.kill()
            self.groups.remove(group)
            self.add()
        else:
            self._kill_broker(trouble)
        self._strokes[trouble.name] += 1

    def _kill_broker(self, trouble: Trouble) -> None:
        broker, port = self.broker, self.broker.port
        if trouble.victim in ("live", "history"):
            os.kill(self.child(trouble.victim), signal.SIGKILL)
        elif trouble.victim == "supervisor":
            broker.kill_supervisor()
            broker.start(port)
        else:
            broker.kill_all()
            if trouble.victim == "start":
                broker.launch(port)
                _never.wait(trouble.hold_s)
                broker.kill_all()
            broker.start(port)

    def child(self, name: str) -> int:
        """Return a child's process number, when there is one."""
        return eventually(lambda: self.broker.children().get(name, 0), name)

    def _pick(self, chance: float) -> Group:
        return self.groups[int(chance * len(self.groups))]

    @contextlib.contextmanager
    def frozen(self, victim: str, chance: float = 0.0) -> Iterator[None]:
        """Stop a process for the time of the block."""
        if victim == "clients":
            pid = self._pick(chance).pid
        elif victim == "supervisor":
            pid = self.broker.process.pid
        else:
            pid = self.child(victim)
        os.kill(pid, signal.SIGSTOP)
        try:
            yield
        finally:
            os.kill(pid, signal.SIGCONT)

    # --- the end ------------------------------------------------------------
    def finish(self, seed: int = 0) -> Report:
        """End the talk, wait for everybody, stop the broker, and compare all books."""
        self.await_joined()
        for group in self.groups:
            group.ask("quiet")
        for yard in self.yards:
            yard.finish()
        report = Report(seed, dict(sorted(self._strokes.items())), Verdict())
        report.clients = self._count * self._members
        report.clients_last = len(self.groups) * self._members
        wire_log = read_over_the_wire(self.broker.address, self.broker.server_key)
        users = Counter(
            room for group in self.groups for rooms in group.members.values() for room in rooms
        )
        goals = {
            f"room{index}": Goal(
                max((line.seq for line in wire_log.get(f"room{index}", [])), default=0),
                users[f"room{index}"],
            )
            for index in range(ROOMS)
        }
        crowds_log = {room: wire_log.get(room, []) for room in goals}
        is_kept = judge(crowds_log, self._ledgers(), ()).is_clean
        patience_s = DEADLINE_S if is_kept else BROKEN_S  # Nobody can be whole without it.
        for group in self.groups:
            finished = msgspec.json.decode(
                group.ask("finish", Goals(goals, patience_s)), type=Finished
            )
            report.unfinished |= finished.unfinished
        self.close()
        self.broker.stop()
        log = read_files(self.broker.data)
        for yard in self.yards:
            yard.judge({room: [(line.seq, line.text) for line in log[room]] for room in log})
            report.orders = dict(sorted((Counter(report.orders) + yard.orders).items()))
            report.disorder += yard.trouble
            for room in (yard.name, yard.gate, yard.room):
                log.pop(room, None)
                wire_log.pop(room, None)
        rooms = sorted(log.keys() | wire_log.keys())
        report.wire_differs = [room for room in rooms if log.get(room) != wire_log.get(room)]
        report.verdict = judge(
            log,
            self._ledgers(),
            lines_of(self._folder.glob("views*")),
        )
        report.seconds = time.monotonic() - self._started_s
        return report

    def _ledgers(self) -> list[str]:
        return lines_of(self._folder.glob("ledger*"))

    def close(self) -> None:
        """End all crowds."""
        for group in self.groups:
            group.kill()
        for yard in self.yards:
            yard.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()


def lines_of(paths: Sequence[Path] | Iterator[Path]) -> list[str]:
    """Return the whole lines of some files: the last one may be being written."""
    lines: list[str] = []
    for path in paths:
        if path.exists():
            lines += path.read_text().split("\n")[:-1]
    return lines


def read_files(data: Path) -> dict[str, list[Line]]:
    """Return the log as the product's reader finds it in the files."""
    return {
        room: [
            Line(seq, post.ts, post.nick, text)
            for first, post in posts
            for seq, text in enumerate(post.texts, first)
        ]
        for room, posts in read_posts(data).items()
    }


def read_over_the_wire(address: str, server_key: str = "") -> dict[str, list[Line]]:
    """Return the log as history tells it to a newcomer in every room; it leaves again."""
    log: dict[str, list[Line]] = {}
    curve = keys_of(AUDITOR, server_key)
    with connect(address, nick=AUDITOR, timeout_s=DEADLINE_S, curve=curve) as auditor:
        rooms = [info.room for info in auditor.rooms()]
        for room in rooms:
            _join_whole(auditor, room)
        waited = set(rooms)
        for event in auditor.events(DEADLINE_S) if rooms else ():
            if isinstance(event, Entry):
                line = Line(event.seq, event.ts, event.nick, event.text)
                log.setdefault(event.room, []).append(line)
            elif isinstance(event, Joined):
                waited.discard(event.room)
            if not waited:
                break
    return log


def _join_whole(client: Client, room: str) -> None:
    """Join with all of the history; the broker may be coming back just now."""

    def join() -> bool:
        try:
            client.join(room, history=None)
        except Unreachable:
            return False
        return True

    eventually(join, f"to join {room}")
