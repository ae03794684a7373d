"""Who may connect: the one ZAP handler of a process (ZeroMQ RFC 27). Fails closed.

libzmq asks it about each CURVE handshake, over an endpoint within the process. Whatever is not
exactly such a question about an allowed key is answered with no; when the handler itself fails,
the process ends, for libzmq would wait for its answer and nobody would get in.
"""

from __future__ import annotations

import logging
import os
import threading
from collections.abc import Sequence

import zmq

from common.keys import CURVE_KEY_BYTES

ENDPOINT = "inproc://zeromq.zap.01"
VERSION = b"1.0"
DOMAIN = b"hubbub"
MECHANISM = b"CURVE"
# RFC 27: version, request id, domain, address, identity, mechanism, and of CURVE the client's key.
QUESTION_FRAMES = 7
ID_BYTES_MAX = 255
# Keys as the handler tells them with each message of the connection: libzmq's name for it.
USER_ID = "User-Id"


class Guests:
    """Which keys are let in; all threads of a process may ask and change it."""

    def __init__(self, allowed: Sequence[str] | None) -> None:
        """Begin with these keys, in hex; None lets everybody in who has one."""
        self.replace(allowed)

    def replace(self, allowed: Sequence[str] | None) -> None:
        """Let these in from here on, and nobody else."""
        # One assignment: whoever asks meanwhile gets the old answer or the new one.
        self._allowed = None if allowed is None else frozenset(map(bytes.fromhex, allowed))

    def admits(self, key: bytes) -> bool:
        """Tell whether a key is let in."""
        allowed = self._allowed
        return allowed is None or key in allowed


def answer(question: list[bytes], guests: Guests) -> list[bytes]:
    """Return the reply of RFC 27: 200 with the key in hex as the user's id, or 400."""
    request_id = question[1] if len(question) > 1 and len(question[1]) <= ID_BYTES_MAX else b""
    refusal = [VERSION, request_id, b"400", b"not allowed", b"", b""]
    if len(question) != QUESTION_FRAMES:
        return refusal
    version, _, domain, _, _, mechanism, key = question
    if (version, domain, mechanism) != (VERSION, DOMAIN, MECHANISM):
        return refusal
    if len(key) != CURVE_KEY_BYTES or not guests.admits(key):
        return refusal
    return [VERSION, request_id, b"200", b"OK", key.hex().encode(), b""]


def key_of(frame: zmq.Frame) -> bytes:
    """Return the key of whoever sent a frame, 32 raw bytes; none where nobody was asked.

    To be asked on encrypted endpoints only: on a plain one a peer can say what its User-Id is.
    """
    try:
        return bytes.fromhex(str(frame.get(USER_ID)))
    except (zmq.ZMQError, ValueError):
        return b""


class Handler:
    """The handler's thread, which owns its socket. To be started before any socket is bound."""

    def __init__(self, context: zmq.Context[zmq.Socket[bytes]], guests: Guests) -> None:
        """Bind and begin. Raises `zmq.ZMQError` where the process has a handler already."""
        self._guests = guests
        self._socket = context.socket(zmq.REP)
        self._socket.setsockopt(zmq.LINGER, 0)
        self._socket.bind(ENDPOINT)
        self._thread = threading.Thread(target=self._run, name="zap", daemon=True)
        self._thread.start()

    def _run(self) -> None:
        """Answer until the context ends."""
        try:
            self._serve()
        except BaseException:
            logging.getLogger("zap").critical("the handler of handshakes failed", exc_info=True)
            os._exit(1)

    def _serve(self) -> None:
        try:
            while True:
                self._socket.send_multipart(answer(self._socket.recv_multipart(), self._guests))
        except zmq.ContextTerminated:
            pass
        finally:
            self._socket.close()
