"""A real broker under attack: honest clients beside it, its memory watched, verdicts at the end."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Any, NamedTuple, Self

import msgspec

from tests.broker_process import ROOT, BrokerProcess
from tests.gathering import read_log
from tests.hostile.attacker import Orders
from tests.hostile.bystanders import ROOM
from tests.waiting import DEADLINE_S, eventually

ATTACK_S_MAX = 1_800.0
SAMPLE_EVERY_S = 0.05
# What may stay: pages of the heap that are in use in part, and what the honest ones said. A
# hundred thousand subscriptions take more.
KEPT_MIB_MAX = 16


class Attack(NamedTuple):
    """What is sent, and how much of it."""

    name: str
    amount: int
    per_s: float = 0.0  # 0: as fast as it goes.


class Memory(NamedTuple):
    """Resident memory of one process, in MiB."""

    before: float
    peak: float
    after: float


class Outcome(NamedTuple):
    """What one attack did."""

    attack: Attack
    sent: int
    codes: dict[str, int]  # What was answered, by kind of reply or code of the error.
    memory: dict[str, Memory]  # Of live and history.


class Watch:
    """Samples the memory of live and history while it is entered."""

    def __init__(self, pids: dict[str, int]) -> None:
        self._pids = pids
        self.before = self.now()
        self.peak = dict(self.before)
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)

    def now(self) -> dict[str, float]:
        """Return the resident MiB of each process."""
        return {name: _resident_mib(pid) for name, pid in self._pids.items()}

    def _run(self) -> None:
        while not self._over.wait(SAMPLE_EVERY_S):
            self.peak = {name: max(self.peak[name], mib) for name, mib in self.now().items()}

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._over.set()
        self._thread.join()


def _resident_mib(pid: int) -> float:
    pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    return pages * 4_096 / (1 << 20)


class Bystanders:
    """The honest clients' process."""

    def __init__(self, broker: str, server_key: str) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.hostile.bystanders"],
            cwd=ROOT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        self._say(f"{broker} {server_key}")
        assert self._process.stdout is not None
        assert "here\n" == self._process.stdout.readline()

    def _say(self, line: str) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write(line + "\n")
        self._process.stdin.flush()

    def begin(self, phase: str) -> None:
        """Book what follows under this name."""
        self._say(f"phase {phase}")

    def end(self) -> dict[str, Any]:
        """Let them finish; return their books."""
        self._say("end")
        assert self._process.stdout is not None
        books: dict[str, Any] = json.loads(self._process.stdout.read())
        assert 0 == self._process.wait(DEADLINE_S)
        return books

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        _end(self._process)


def _end(process: subprocess.Popen[str]) -> None:
    process.kill()
    process.wait(DEADLINE_S)
    for pipe in (process.stdin, process.stdout):
        if pipe is not None:
            pipe.close()


class Siege:
    """Attacks on one broker, one after the other, with quiet in between."""

    def __init__(self, broker: BrokerProcess, seed: int) -> None:
        self._broker = broker
        self._seed = seed
        self._pids = broker.children()
        self.outcomes: list[Outcome] = []

    @contextmanager
    def observed(self) -> Iterator[Bystanders]:
        """Have honest clients there meanwhile."""
        with Bystanders(self._broker.address, self._broker.server_key) as bystanders:
            yield bystanders

    def attack(self, attack: Attack) -> Outcome:
        """Attack, and wait until the broker has taken it all and given its memory back."""
        seed = self._seed + len(self.outcomes)
        server_key = self._broker.server_key
        orders = Orders(attack.name, self._broker.port, seed, *attack[1:], server_key=server_key)
        with Watch(self._pids) as watch:
            process = subprocess.Popen(
                [sys.executable, "-m", "tests.hostile.attacker"],
                cwd=ROOT,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                text=True,
            )
            try:
                line = msgspec.json.encode(orders).decode() + "\n"
                told, _ = process.communicate(line, ATTACK_S_MAX)
            finally:
                _end(process)
        assert 0 == process.returncode, f"{attack}, seed {seed}"
        self.check_lives()
        bounds = {name: mib + KEPT_MIB_MAX for name, mib in watch.before.items()}
        eventually(
            lambda: all(mib <= bounds[name] for name, mib in watch.now().items()),
            f"the memory that {attack.name} took: {watch.before} before, {watch.peak} at most",
        )
        after = watch.now()
        memory = {
            name: Memory(watch.before[name], watch.peak[name], after[name]) for name in self._pids
        }
        outcome = Outcome(attack, memory=memory, **json.loads(told))
        self.outcomes.append(outcome)
        return outcome

    def check_lives(self) -> None:
        """See that neither process had to be started again."""
        assert self._pids == self._broker.children(), self._broker.log()

    def check_books(self, books: dict[str, Any]) -> None:
        """See that the honest ones heard everything once, in the order of the log."""
        assert [] == books["trouble"]
        kept = [(seq, text) for seq, text in books["kept"]]
        log = read_log(self._broker.data)[ROOM]
        assert sorted(log) == sorted(kept), "acknowledged is not what the log has"
        for heard in books["heard"]:
            assert sorted(log) == [(seq, text) for seq, text in heard]
