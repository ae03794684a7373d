"""A storm of readers of history: `python -m bench.generator.storm`. See `rejoin_orders`.

A process of its own, so that what is measured beside it waits for the broker and not for this.
Pages are taken apart at their ends only: their batches are whole, and follow each other.
"""

from __future__ import annotations

import itertools
import sys
import time
from typing import Final

from bench import zmtp
from bench.curve import Keys
from bench.dialect import Unexpected
from bench.generator.links import Net
from bench.generator.rejoin_orders import Calm, Storm
from bench.generator.running import ready, status_of, tell
from bench.generator.sockets import LightSocket, Messages, Timetable
from common import spans, wire
from common.limits import COMMAND_FRAMES, HISTORY_ENTRIES_MAX

STALL_S_MAX: Final = 60.0


class Reader:
    """One REQ that reads a room's history up to a seq, and then again."""

    def __init__(self, storm: Storm, net: Net, timetable: Timetable) -> None:
        self.entries = 0
        self.lost = 0
        self._storm = storm
        self._at = 0
        self._ids = itertools.count(1)
        self._req = LightSocket(
            b"REQ",
            net,
            timetable,
            storm.history_port,
            heard=self._take,
            up=self._ask,
            down=self._lost,
            keys=Keys(*map(bytes.fromhex, storm.keys)) if storm.keys else None,
        )

    def _ask(self) -> None:
        storm = self._storm
        limit = min(HISTORY_ENTRIES_MAX, storm.entries - self._at)
        question = wire.History(
            next(self._ids), storm.room, storm.ticket, wire.Mode.AFTER, self._at, limit
        )
        self._req.send(zmtp.message(b"", *wire.command_frames(wire.NO_TOKEN, question)))

    def _take(self, messages: Messages) -> None:
        for message in messages:
            frames = message[1:]
            page = wire.parse_reply(frames)
            if type(page) is not wire.Page or len(frames) == COMMAND_FRAMES:
                raise Unexpected(f"a question to the history was answered with {page}")
            first = wire.decode_batch(frames[COMMAND_FRAMES])
            last = spans.last_seq(wire.decode_batch(frames[-1]))
            self.lost += max(first.prev - self._at, 0)
            self.entries += last - self._at
            self._at = last if last < self._storm.entries else 0
            self._ask()

    def _lost(self) -> None:
        raise Unexpected("the broker closed a connection to its history")


def storm(orders: Storm) -> Calm:
    """Read until the time is up. Raises `Unexpected`."""
    net, timetable = Net(orders.host), Timetable()
    try:
        readers = [Reader(orders, net, timetable) for _ in range(orders.readers)]
        begun_s, cpu_s = time.monotonic(), time.process_time()
        heard_s = begun_s
        while (now_s := time.monotonic()) < begun_s + orders.seconds:
            timetable.run_due()
            if net.poll(0.1):
                heard_s = now_s
            elif now_s > heard_s + STALL_S_MAX:
                raise Unexpected("the history answers nobody any more")
        return Calm(
            sum(reader.entries for reader in readers),
            sum(reader.lost for reader in readers),
            time.monotonic() - begun_s,
            time.process_time() - cpu_s,
        )
    finally:
        net.close()


def main() -> int:
    """Read orders, carry them out."""
    orders = ready(Storm)
    return status_of(lambda: tell(storm(orders)))


if __name__ == "__main__":
    sys.exit(main())
