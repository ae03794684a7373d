"""Connections in place of sockets. Within each, what is sent arrives in order or not at all.

Between them nothing is ordered: commands, publications and history are independent, and so are
two connections of one client, of which the broker may see the new one before the old one's end.
"""

from __future__ import annotations

import random
from collections import deque


class Link:
    """DEALER to ROUTER."""

    __slots__ = ("down", "is_broken", "route", "up")

    def __init__(self, route: bytes) -> None:
        self.route = route
        self.is_broken = False
        self.up: deque[list[bytes]] = deque()
        self.down: deque[list[bytes]] = deque()


class Pipe:
    """SUB to XPUB in manual mode."""

    __slots__ = ("admitted", "frames", "heard", "is_broken", "is_deaf", "subscriptions", "who")

    def __init__(self, who: str, topics: list[bytes]) -> None:
        self.who = who
        self.is_broken = False
        self.is_deaf = False  # Whoever listens does nothing with it.
        # A SUB that connects asks again for all that it is subscribed to. In order: dicts.
        self.subscriptions = deque((True, topic) for topic in topics)
        self.heard: dict[bytes, None] = {}  # What the broker saw it ask for,
        self.admitted: dict[bytes, None] = {}  # and what of that it is sent.
        self.frames: deque[bytes] = deque()


class Network:
    """All connections, as the broker's side sees them: it may be late to see an end."""

    def __init__(self, chance: random.Random, *, publish_queue: int, reply_queue: int) -> None:
        self.loss = 0.0  # The share of publications that is lost all the same.
        self.links: dict[bytes, Link] = {}
        self.callers: dict[bytes, str] = {}  # Whose each connection is, or was.
        self.keys: dict[str, bytes] = {}  # With which CURVE key each comes; empty in the clear.
        self.pipes: list[Pipe] = []
        self.lost_publications = 0
        self.lost_replies = 0
        self._chance = chance
        self._publish_queue = publish_queue
        self._reply_queue = reply_queue
        self._routes = 0

    def dial(self, who: str) -> Link:
        """Return a new connection to ROUTER."""
        self._routes += 1
        self.callers[b"route%d" % self._routes] = who
        link = self.links[b"route%d" % self._routes] = Link(b"route%d" % self._routes)
        return link

    def listen(self, who: str, topics: list[bytes]) -> Pipe:
        """Return a new connection to XPUB."""
        self.pipes.append(Pipe(who, topics))
        return self.pipes[-1]

    def break_link(self, link: Link, *, survives: int = 0) -> None:
        """Break a connection; so many of the commands on it arrive all the same."""
        link.is_broken = True
        link.down.clear()
        while len(link.up) > survives:
            link.up.pop()

    def sweep(self) -> None:
        """Forget the broken connections to ROUTER that nothing can come from any more."""
        for route in [route for route, link in self.links.items() if link.is_broken]:
            if not self.links[route].up:
                del self.links[route]

    def fall(self) -> None:
        """Break everything: the broker is gone."""
        for link in self.links.values():
            self.break_link(link)
        for pipe in self.pipes:
            pipe.is_broken = True
            pipe.frames.clear()
        self.links.clear()
        self.pipes.clear()

    def publish(self, topic: bytes, publication: bytes) -> None:
        """Send to every connection that was admitted to the topic."""
        for pipe in self.pipes:
            if topic in pipe.admitted:
                self.tell(pipe, publication)

    def tell(self, pipe: Pipe, publication: bytes) -> None:
        """Send to one connection; silently not, when too much waits there."""
        if pipe.is_broken or pipe.is_deaf:
            return
        is_lost = self.loss and self._chance.random() < self.loss
        if is_lost or len(pipe.frames) >= self._publish_queue:
            self.lost_publications += 1
        else:
            pipe.frames.append(publication)

    def reply(self, route: bytes, frames: list[bytes]) -> None:
        """Send an answer; it is lost when the connection is gone, or too much waits there."""
        link = self.links.get(route)
        if link is None or link.is_broken or len(link.down) >= self._reply_queue:
            self.lost_replies += 1
        else:
            link.down.append(frames)

    def widen(self) -> None:
        """Let nothing be lost any more."""
        self.loss = 0.0
        self._publish_queue = self._reply_queue = 10_000
