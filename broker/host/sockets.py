"""How the broker's listening sockets are set up; live and history share it."""

from __future__ import annotations

import zmq

from broker.host.zap import DOMAIN
from common.certificates import KeyPair

BACKLOG = 4_096  # Connections waiting to be accepted; a restart brings everybody at once.
LINGER_MS = 1_500  # For the last words to reach the clients.
# A peer whose host vanished is noticed by the kernel; nobody sends anything for it.
# A connection that has not shaken hands by then is closed: libzmq waits 30 s for it, and whoever
# opens connections and says nothing would hold six times as many descriptors.
HANDSHAKE_S = 5
KEEPALIVE_IDLE_S, KEEPALIVE_INTERVAL_S, KEEPALIVE_COUNT = 60, 10, 3
# What CURVE adds to a frame (ZeroMQ RFC 26, MESSAGE: name, nonce, box, flags), and what the largest
# command of a handshake takes, INITIATE: libzmq's bound to frames is one to what travels.
CURVE_BYTES = 33
HANDSHAKE_BYTES_MAX = 1_024
FRAMES_KEPT_MAX = 8  # A request to history has four with its envelope; further ones say nothing.
NOBLOCK_MORE = zmq.NOBLOCK | zmq.SNDMORE


def bound_socket(
    context: zmq.Context[zmq.Socket[bytes]],
    kind: int,
    address: str,
    frame_bytes_max: int,
    pair: KeyPair | None = None,
) -> zmq.Socket[bytes]:
    """Return a socket that is ready to be bound to a numeric address.

    pair: the broker's keys, where the socket takes encrypted connections only. Whom it lets in
    is decided by `broker.host.zap`, which must run by then.
    """
    socket = context.socket(kind)
    socket.setsockopt(zmq.LINGER, LINGER_MS)
    socket.setsockopt(zmq.IPV6, int(":" in address))
    socket.setsockopt(zmq.MAXMSGSIZE, frame_bytes_max)
    socket.setsockopt(zmq.BACKLOG, BACKLOG)
    socket.setsockopt(zmq.HANDSHAKE_IVL, HANDSHAKE_S * 1_000)
    socket.setsockopt(zmq.TCP_KEEPALIVE, 1)
    socket.setsockopt(zmq.TCP_KEEPALIVE_IDLE, KEEPALIVE_IDLE_S)
    socket.setsockopt(zmq.TCP_KEEPALIVE_INTVL, KEEPALIVE_INTERVAL_S)
    socket.setsockopt(zmq.TCP_KEEPALIVE_CNT, KEEPALIVE_COUNT)
    if pair is not None:
        socket.setsockopt(zmq.MAXMSGSIZE, max(frame_bytes_max + CURVE_BYTES, HANDSHAKE_BYTES_MAX))
        socket.setsockopt(zmq.CURVE_SERVER, 1)
        socket.setsockopt(zmq.CURVE_SECRETKEY, pair.secret)
        socket.setsockopt(zmq.ZAP_DOMAIN, DOMAIN)
        # Without it libzmq lets everybody in when nobody answers for ZAP (4.3.5,
        # curve_server.cpp, process_initiate).
        socket.setsockopt(zmq.ZAP_ENFORCE_DOMAIN, 1)
    return socket


def receive_message(router: zmq.Socket[bytes]) -> tuple[bytes, list[bytes], zmq.Frame]:
    """Return the next message's route and frames, in half the time that recv_multipart takes.

    And the last frame as libzmq has it, which knows by which connection all of them came.

    Raises `zmq.Again` when there is none. pyzmq asks the socket after each frame whether there
    are more, which costs more than the frame; a `zmq.Frame` knows it. Behind a route there is
    always a frame. Of more than FRAMES_KEPT_MAX frames only the first are returned.
    """
    route = router.recv(zmq.NOBLOCK)
    frame = router.recv(zmq.NOBLOCK, copy=False)
    frames = [frame.bytes]
    while frame.more:
        frame = router.recv(zmq.NOBLOCK, copy=False)
        frames.append(frame.bytes)
        if len(frames) == FRAMES_KEPT_MAX:
            discard_rest(router, frame)
            break
    return route, frames, frame


def discard_rest(socket: zmq.Socket[bytes], frame: zmq.Frame) -> None:
    """Take what follows a frame in its message, as fast as can be, and keep nothing of it.

    Nobody else's message comes before its end, and a peer may send thousands in one packet.
    """
    receive, flags = socket.recv, int(zmq.NOBLOCK)  # An int is taken sooner than its enum.
    more = frame.more
    while more:
        more = receive(flags, copy=False).more


def send_message(router: zmq.Socket[bytes], route: bytes, frames: list[bytes]) -> None:
    """Send two frames to a route, in a third of the time that send_multipart takes.

    Raises `zmq.ZMQError`: EAGAIN when too much waits for that peer, EHOSTUNREACH when it is
    gone. ROUTER decides it at the route; what follows goes with it.
    """
    head, payload = frames
    router.send(route, NOBLOCK_MORE)
    router.send(head, NOBLOCK_MORE)
    router.send(payload, zmq.NOBLOCK)
