"""Who is behind each route of ROUTER, and by which descriptor. Belongs to live's worker.

libzmq draws routes, but takes one that a client brings along, also one that it drew for somebody
who has left. So on an encrypted endpoint each message is asked whose it is; on a plain one, where
nobody can tell, only the first message of a route is asked for what its connection knows.
"""

from __future__ import annotations

from collections.abc import Callable

import zmq

from broker.chat.peer import PLAIN, Peer
from broker.connections import NOBODY, descriptor_of
from broker.host.zap import Guests, key_of

# Routes remembered; beyond, the oldest are asked again when they speak. Twice the clients that a
# broker can be told to take, for those who come again are others.
ROUTES_MAX = 100_000
PEER_ADDRESS = "Peer-Address"


class Peers:
    """Of one ROUTER."""

    def __init__(self, guests: Guests, cut: Callable[[int], None], *, is_secure: bool) -> None:
        """`cut` ends the connection of a descriptor."""
        self._guests = guests
        self._cut = cut
        self._is_secure = is_secure
        self.known: dict[bytes, Peer] = {}
        self._descriptors: dict[bytes, int] = {}  # By route, of those with a key.
        self._routes: dict[int, bytes] = {}  # The other way round.
        self.listen: Callable[[], None] = lambda: None  # Has `changed` called for what happened.

    def changed(self, descriptor: int) -> None:
        """Note that this descriptor is another connection's now, or nobody's."""
        route = self._routes.pop(descriptor, None)
        if route is not None:
            self._descriptors.pop(route, None)

    def of(self, route: bytes, frame: zmq.Frame) -> Peer | None:
        """Return who sent a frame; None for somebody not let in."""
        peer = self.known.get(route)
        if peer is None:
            return self.met(route, frame)
        if self._is_secure and key_of(frame) != peer.key:
            self._forget(route)  # Somebody else brought this route along.
            return self.met(route, frame)
        return peer

    def met(self, route: bytes, frame: zmq.Frame) -> Peer | None:
        """Return who sent a frame by a route that is not known; None for somebody not let in."""
        self.listen()  # That the descriptor was accepted is news from before this frame.
        try:
            address = str(frame.get(PEER_ADDRESS))
        except zmq.ZMQError:
            address = ""
        key = key_of(frame) if self._is_secure else b""
        peer = Peer(key, address) if key or address else PLAIN
        if not self._guests.admits(key):  # Struck off the list since its handshake.
            self._cut(descriptor_of(frame))
            return None
        self._remember(route, peer, descriptor_of(frame) if key else NOBODY)
        return peer

    def _remember(self, route: bytes, peer: Peer, descriptor: int) -> None:
        if len(self.known) >= ROUTES_MAX:
            self._forget(next(iter(self.known)))
        self.known[route] = peer
        if descriptor != NOBODY:
            self._descriptors[route] = descriptor
            self._routes[descriptor] = route

    def _forget(self, route: bytes) -> None:
        del self.known[route]
        descriptor = self._descriptors.pop(route, NOBODY)
        if self._routes.get(descriptor) == route:
            del self._routes[descriptor]

    def cut_off(self, is_out: Callable[[bytes], bool]) -> None:
        """End the connections of those keys for which the claim holds."""
        self.listen()
        for route, peer in list(self.known.items()):
            if is_out(peer.key):
                descriptor = self._descriptors.get(route, NOBODY)
                self._forget(route)
                if descriptor != NOBODY:
                    self._cut(descriptor)
