"""Who waits to hear how the settings were read again. Pure. PROTOCOL.md, "ADMIN".

Whoever runs the core asks the supervisor, and hears from it: the outcome, and how often it had been
asked when it began to read. Only one question is on its way at a time, so that none is lost, and
nobody is told of a reading that began before they asked.
"""

from __future__ import annotations

import math
from typing import NamedTuple

from broker.chat.floor import Floor
from common.errors import Code, Refused
from common.limits import RELOAD_S_MAX
from common.order import Table

WAITING_MAX = 64


class _Asker(NamedTuple):
    """Where to answer, and until when."""

    route: bytes
    id: int
    until_s: float


class Reloads:
    """Of one broker."""

    def __init__(self, floor: Floor) -> None:
        self._floor = floor
        self._waiting: list[_Asker] = []  # For the next question.
        self._told: list[_Asker] = []  # For the answer to the one that is on its way.
        self._asked = 0  # Questions until now.
        self._answered = 0

    @property
    def deadline_s(self) -> float:
        """When `tick` has something to do, on the steady clock."""
        return min((each.until_s for each in (*self._told, *self._waiting)), default=math.inf)

    def wait(self, route: bytes, request_id: int) -> None:
        """Have somebody told of the next reading; raise `Refused` where too many wait."""
        if len(self._waiting) + len(self._told) >= WAITING_MAX:
            raise Refused(Code.TOO_MANY, f"{WAITING_MAX} wait for a reload already")
        until_s = self._floor.now_s + RELOAD_S_MAX
        self._waiting.append(_Asker(route, request_id, until_s))

    def take_question(self) -> bool:
        """Tell whether to ask the supervisor now; who waits is told what it answers."""
        if not self._waiting or self._asked > self._answered:
            return False
        self._asked += 1
        self._told, self._waiting = self._told + self._waiting, []
        return True

    def answered(self, asked: int, names: tuple[str, ...], keys: str, failure: str) -> None:
        """Take the outcome of a reading that began after so many questions.

        names: settings that were read. keys: how many are let in. failure: why nothing changed.
        """
        if asked < max(self._asked, 1):
            return  # Somebody else's, by SIGHUP: it began before the question came.
        self._answered = self._asked = asked
        told, self._told = self._told, []
        for each in told:
            if failure:
                self._refuse(each, failure)
            else:
                rows = [[", ".join(names), keys]]
                self._floor.reply(each.route, Table(each.id, ["read again", "keys let in"], rows))

    def tick(self) -> None:
        """Tell who has waited for too long that nothing is known."""
        now_s = self._floor.now_s
        late = [each for each in (*self._told, *self._waiting) if each.until_s <= now_s]
        self._told = [each for each in self._told if each.until_s > now_s]
        self._waiting = [each for each in self._waiting if each.until_s > now_s]
        for each in late:
            self._refuse(
                each,
                f"the broker's supervisor was asked, and has not answered for {RELOAD_S_MAX} s; "
                "its log will tell",
            )

    def _refuse(self, asker: _Asker, detail: str) -> None:
        self._floor.refuse(asker.route, asker.id, Refused(Code.RELOAD_FAILED, detail))
