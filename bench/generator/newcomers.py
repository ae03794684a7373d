"""Brings clients in: runs their conversations, many at once."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from functools import partial
from typing import Final, Generic, NamedTuple, TypeVar

from bench import curve
from bench.dialect import Conversation, Dialect, Heard, Say, Unexpected
from bench.generator.links import Link, Net
from bench.target import Target

T = TypeVar("T")
STALL_S_MAX: Final = 60.0  # Nobody came any further: the server has stopped answering.


class Arrived(NamedTuple, Generic[T]):
    """A client that is in: what its conversation returned, and its connections."""

    value: T
    links: list[Link]


class _Newcomer(Generic[T]):
    """A client on its way in."""

    def __init__(
        self,
        net: Net,
        ports: list[int],
        conversation: Conversation[T],
        arrived: Callable[[Arrived[T]], None],
        keys: curve.Keys | None,
    ) -> None:
        self._conversation = conversation
        self._arrived = arrived
        self.heard_bytes = 0
        self._links = [
            net.open(port, partial(self._take, channel), keys=keys)
            for channel, port in enumerate(ports)
        ]
        self._go_on(None)

    def _take(self, channel: int, data: bytes) -> None:
        self.heard_bytes += len(data)
        self._go_on(Heard(channel, data))

    def _go_on(self, heard: Heard | None) -> None:
        try:
            says = self._conversation.send(heard)  # type: ignore[arg-type]  # None begins it.
        except StopIteration as end:
            for link in self._links:
                link.take = _ignore
                self.heard_bytes += link.overhead_bytes
            self._arrived(Arrived(end.value, self._links))
            return
        say_all(says, self._links)


def _ignore(_: bytes) -> None:
    """Take what is not for us; whoever the client is given to decides anew."""


def say_all(says: list[Say], links: list[Link]) -> None:
    """Write what a client has to say."""
    for say in says:
        links[say.channel].write(say.data)


def bring_in(
    net: Net,
    target: Target,
    dialect: Dialect,
    conversations: Iterator[Conversation[T]],
    *,
    at_once: int,
    turn: Callable[[float], int],
    settle: Callable[[int, Arrived[T]], None],
) -> int:
    """Run every conversation, `at_once` at a time; return the bytes heard on the way in.

    `turn` serves all links, those of clients that are in too, and returns how many were ready.

    `settle` is given each client's place in the order of beginning, in the moment it is in,
    before anything else is read from its connections. Raises `Unexpected`, `links.Lost`.
    """
    ports = [target.ports[index] for index in dialect.channels]
    server_key = bytes.fromhex(target.server_key)
    newcomers: list[_Newcomer[T]] = []
    here = 0

    def arrived(place: int, client: Arrived[T]) -> None:
        nonlocal here
        here += 1
        settle(place, client)

    is_more = True
    progress_s = time.monotonic()
    while is_more or here < len(newcomers):
        while is_more and len(newcomers) - here < at_once:
            conversation = next(conversations, None)
            if conversation is None:
                is_more = False
                break
            done = partial(arrived, len(newcomers))
            # A key for each, as each is somebody else.
            keys = curve.new_keys(server_key) if server_key else None
            newcomers.append(_Newcomer(net, ports, conversation, done, keys))
        if here < len(newcomers) and turn(1.0):
            progress_s = time.monotonic()
        elif time.monotonic() > progress_s + STALL_S_MAX:
            raise Unexpected(f"{len(newcomers) - here} clients do not get in; {here} are")
    return sum(newcomer.heard_bytes for newcomer in newcomers)
