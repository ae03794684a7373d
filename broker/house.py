"""What live does beside the chat: retention, figures, memory, doors, and words for the operator.

Owned by the worker's thread, which calls it once a turn, after everybody was answered.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Container, Sequence

import zmq

from broker.chat.core import Core
from broker.child import TELL_EVERY_S, Teller
from broker.host.door import Door
from broker.host.headroom import LOOK_EVERY_S, Headroom
from broker.host.trouble import Trouble
from broker.log.interface import Log, LogFailed
from broker.log.retention_clock import RetentionClock
from broker.logs import fields
from broker.metrics.tally import Tally

TRIM_EVERY_S = 1.0
TRIM_ON_S = 0.1  # After a trim that found something: a busy room grows faster than one drops.
TRIM_IDLE_S = 5.0  # While nobody says anything: time alone makes few entries too old.
REFUSALS_EVERY_S = 60.0


class House:
    """Of one live process. Times are those of the steady clock, in seconds."""

    def __init__(self, core: Core, log: Log, tally: Tally, doors: Sequence[Door]) -> None:
        self._core = core
        self._log = log
        self._tally = tally
        self._doors = doors
        self._logger = logging.getLogger("live")
        self._teller = Teller()
        self._tell_at_s = 0.0
        self._retention_clock = RetentionClock(time.monotonic())
        self._trim_at_s = 0.0
        self._trim_trouble = Trouble()
        self._refusals_at_s = 0.0
        self._refusals_told = 0
        self._headroom = Headroom()
        self._memory_trouble = Trouble()

    @property
    def sources(self) -> list[zmq.Socket[bytes]]:
        """What is to be polled for it; `keep` is told what was ready."""
        return [door.events for door in self._doors]

    def deadline_s(self) -> float:
        """Return when there is something to do, whatever comes."""
        deadlines_s = [self._trim_at_s, self._tell_at_s]
        deadlines_s += [door.deadline_s for door in self._doors]
        if self._headroom.is_short:
            deadlines_s.append(time.monotonic() + LOOK_EVERY_S)
        return min(deadlines_s)

    def log_grows(self, now_s: float) -> None:
        """Note that something was said: there will soon be something to drop."""
        self._trim_at_s = min(self._trim_at_s, now_s + TRIM_EVERY_S)

    def watch_memory(self, now_s: float) -> None:
        """Have everybody wait while memory is short; raise `MemoryError` when it stays so."""
        headroom = self._headroom
        headroom.look(now_s)
        self._core.sessions.is_short_of_memory = headroom.is_short
        if headroom.is_short:
            reason = (
                f"short of memory ({headroom.limit_bytes / 2**20:.0f} MiB may be taken): "
                "newcomers are refused, and all others told to wait"
            )
            self._memory_trouble.failed(reason, now_s, self._logger)
            if headroom.is_hopeless(now_s):
                raise MemoryError
        elif self._memory_trouble.succeeded():
            self._logger.warning("there is enough memory again")

    def keep(self, ready: Container[object], now_s: float) -> None:
        """Do what is due."""
        if now_s >= self._trim_at_s:
            self._trim(now_s)
        if now_s >= self._refusals_at_s:
            self._tell_refusals(now_s)
        if now_s >= self._tell_at_s:
            self._tell_at_s = now_s + TELL_EVERY_S
            self._teller.tell(self._tally.figures(self._core, now_s))
        for door in self._doors:
            if door.events in ready or door.deadline_s <= now_s:
                door.look(now_s)

    def _trim(self, now_s: float) -> None:
        self._trim_at_s = now_s + TRIM_IDLE_S
        try:
            firsts = self._log.trim(
                self._retention_clock.now_ms(time.time_ns() // 1_000_000, now_s)
            )
        except LogFailed as error:
            self._trim_trouble.failed(str(error), now_s, self._logger)
            self._tally.trim_failures_count += 1
            return
        self._trim_trouble.succeeded()
        self._core.trimmed(firsts)
        if firsts:
            self._trim_at_s = now_s + TRIM_ON_S

    def _tell_refusals(self, now_s: float) -> None:
        refusals = self._core.refusals
        if refusals.total() == self._refusals_told:
            return
        self._refusals_at_s = now_s + REFUSALS_EVERY_S
        self._refusals_told = refusals.total()
        told = ", ".join(f"{code} {count}" for code, count in refusals.most_common())
        lost_count = self._tally.replies_lost_count
        self._logger.info(
            "refused so far: %s; replies lost: %d",
            told,
            lost_count,
            extra=fields(refused=dict(refusals), replies_lost=lost_count),
        )

    def close(self) -> None:
        """Look no more."""
        for door in self._doors:
            door.close()
