"""What the broker tells of itself to whoever asks: GREET. Pure."""

from __future__ import annotations

from typing import NamedTuple

from broker.chat.floor import Floor
from broker.chat.peer import Peer
from common import wire
from common.limits import PROTOCOL_VERSION


class Facts(NamedTuple):
    """What GREETING tells beside the core's own counts."""

    program: str
    rooms_port: int
    history_port: int
    pyzmq: str
    libzmq: str
    restarts: int = 0


class Greetings:
    """Of one broker."""

    def __init__(self, floor: Floor, facts: Facts, epoch: int) -> None:
        self._floor = floor
        self._facts = facts
        self._epoch = epoch
        self._started_s = floor.now_s
        self.entries_count = 0  # Committed, but for those in closed rooms.
        self.log_failures_count = 0

    def greet(self, route: bytes, _token: bytes, command: wire.Greet, _peer: Peer) -> None:
        """Answer, also to who has no session."""
        facts, floor = self._facts, self._floor
        floor.reply(
            route,
            wire.Greeting(
                id=command.id,
                program=facts.program,
                protocol=PROTOCOL_VERSION,
                rooms_port=facts.rooms_port,
                history_port=facts.history_port,
                epoch=self._epoch,
                uptime_s=int(floor.now_s - self._started_s),
                clients=len(floor.sessions),
                clients_max=floor.rules.clients_max,
                rooms=len(floor.rooms),
                pyzmq=facts.pyzmq,
                libzmq=facts.libzmq,
                entries=self.entries_count,
                refused=floor.refusals.total(),
                log_failures=self.log_failures_count,
                restarts=facts.restarts,
            ),
        )
