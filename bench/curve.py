"""CURVE by bytes, the client's side: what encrypts a connection of `bench.zmtp`. No I/O.

Source: RFC 26/CURVEZMQ (https://rfc.zeromq.org/spec/26/), as libzmq speaks it: a MESSAGE is a
frame without flags, and what it holds has flags of its own inside the box.

A `Tunnel` stands between somebody who speaks ZMTP without security and a peer that wants CURVE.
So whoever speaks, and whoever cuts what is heard, is the same with encryption and without.
"""

from __future__ import annotations

import secrets
from typing import Final, NamedTuple

from nacl.bindings import (
    crypto_box_beforenm,
    crypto_box_easy_afternm,
    crypto_box_keypair,
    crypto_box_open_easy_afternm,
)
from nacl.exceptions import CryptoError

from bench import zmtp
from bench.dialect import Unexpected
from common.keys import CURVE_KEY_BYTES

_HELLO: Final = b"\5HELLO\1\0" + bytes(72)  # Zeros: no answer is larger than the question.
_WELCOME: Final = b"\7WELCOME"
_INITIATE: Final = b"\x08INITIATE"
_ERROR: Final = b"\5ERROR"
_MESSAGE: Final = b"\7MESSAGE"
_OURS: Final = b"CurveZMQMESSAGEC"  # What nonces begin with: a client's messages,
_THEIRS: Final = b"CurveZMQMESSAGES"  # and a server's.
_WELCOME_BYTES: Final = 168
_NONCE_BYTES: Final = 8  # What of a nonce travels with a message; a long one has 16.
_LONG_NONCE_BYTES: Final = 16
_BOX_AT: Final = len(_MESSAGE) + _NONCE_BYTES
_MORE: Final = 1  # Flags within a box; they are not those of a frame.
_COMMAND: Final = 2

# What a message is larger than what it holds: name, nonce, what proves it genuine, flags.
MESSAGE_BYTES: Final = len(_MESSAGE) + _NONCE_BYTES + 16 + 1


class Keys(NamedTuple):
    """A client's own pair, and whom it wants to talk to; 32 raw bytes each."""

    public: bytes
    secret: bytes
    server: bytes


def new_keys(server: bytes) -> Keys:
    """Return a new client's keys for a server's public key."""
    return Keys(*crypto_box_keypair(), server)


def wire_bytes(frame: bytes) -> int:
    """Return what a plain frame (its head with it) takes when it is encrypted."""
    cut = zmtp.frame_at(bytearray(frame), 0, zmtp.FRAME_BYTES_MAX)
    assert cut is not None, frame
    size = MESSAGE_BYTES + cut[2] - cut[1]
    return len(zmtp.head(size)) + size


class Tunnel:
    """One connection's security. Plain ZMTP goes in and comes out, the greeting first.

    The peer's greeting and READY come out when the peer has proved itself; until then nothing but
    `zmtp.opening` may go in.
    """

    def __init__(self, keys: Keys) -> None:
        self.overhead_bytes = 0  # What has been heard, less what came out for it.
        self._keys = keys
        self._public, self._secret = crypto_box_keypair()  # Of this connection alone.
        self._metadata: bytes | None = None  # What our READY says, for INITIATE.
        self._shared = b""  # With the server's key of this connection.
        self._is_ready = False
        self._number = 0  # Of the last nonce that we used,
        self._heard_number = 0  # and of the last one of the peer.
        self._is_greeted = False
        self._pending = bytearray()
        self._at = 0  # So much of it is read.
        self._answer = b""

    def say(self, plain: bytes) -> bytes:
        """Return what is to be written for one or more whole frames."""
        data = bytearray(plain)
        if self._metadata is None:
            return self._open(data)
        assert self._is_ready, "nothing may be said before the peer is ready"
        said: list[bytes] = []
        at = 0
        while (cut := zmtp.frame_at(data, at, zmtp.FRAME_BYTES_MAX)) is not None:
            flags, start, at = cut
            inner = (flags & zmtp.MORE and _MORE) | (flags & zmtp.COMMAND and _COMMAND)
            box = self._box(_OURS, bytes((inner,)) + data[start:at], self._shared)
            said += (zmtp.head(len(_MESSAGE) + len(box)), _MESSAGE, box)
        assert at == len(data), "part of a frame cannot be encrypted"
        return b"".join(said)

    def feed(self, data: bytes) -> None:
        """Take bytes as they came; `next_frame` returns what they mean."""
        del self._pending[: self._at]
        self._at = 0
        self._pending += data

    def next_frame(self) -> bytes | None:
        """Return the next plain frame with its head, or None when none is whole.

        The first one has the greeting before it. Raises `Unexpected` when the peer is none for
        us, or when a message was changed on its way, comes again, or is not encrypted.
        """
        if not self._is_greeted:
            if len(self._pending) < zmtp.GREETING_BYTES:
                return None
            zmtp.check_greeting(bytes(self._pending[: zmtp.GREETING_BYTES]), zmtp.CURVE)
            self._is_greeted = True
            self._at = self.overhead_bytes = zmtp.GREETING_BYTES
            self._hello()
        while cut := zmtp.frame_at(self._pending, self._at, zmtp.FRAME_BYTES_MAX):
            flags, start, end = cut
            self.overhead_bytes += end - self._at
            self._at = end
            body = bytes(self._pending[start:end])
            if self._is_ready:
                plain = self._open_message(body)
                self.overhead_bytes -= len(plain)
                return plain
            if not flags & zmtp.COMMAND:
                raise Unexpected(f"the peer says in its handshake {body[:32]!r}")
            if body.startswith(zmtp.READY):
                metadata = self._unbox(b"CurveZMQREADY---", body[len(zmtp.READY) :], self._shared)
                self._is_ready = True
                plain = zmtp.greeting(zmtp.NULL) + zmtp.command(zmtp.READY + metadata)
                self.overhead_bytes -= len(plain)
                return plain
            self._shake(body)
        return None

    @property
    def unread_bytes(self) -> int:
        """How many bytes have come of what `next_frame` has not returned yet."""
        return len(self._pending) - self._at

    @property
    def is_ready(self) -> bool:
        """Whether the peer has proved itself, and let us in."""
        return self._is_ready

    def take_answer(self) -> bytes:
        """Return and forget what must be written, our part of the handshake."""
        answer, self._answer = self._answer, b""
        return answer

    # --- handshake ----------------------------------------------------------
    def _open(self, data: bytearray) -> bytes:
        cut = zmtp.frame_at(data, zmtp.GREETING_BYTES, zmtp.FRAME_BYTES_MAX)
        assert cut is not None, "the opening is said in one go"
        _, start, end = cut
        self._metadata = bytes(data[start + len(zmtp.READY) : end])
        return zmtp.greeting(zmtp.CURVE)

    def _hello(self) -> None:
        shared = crypto_box_beforenm(self._keys.server, self._secret)
        box = self._box(b"CurveZMQHELLO---", bytes(64), shared)
        self._answer += zmtp.command(_HELLO + self._public + box)

    def _shake(self, body: bytes) -> None:
        if body.startswith(_ERROR):
            reason = body[len(_ERROR) + 1 :].decode(errors="replace")
            raise Unexpected(f"the peer does not let our key in: {reason!r}")
        if not body.startswith(_WELCOME) or len(body) != _WELCOME_BYTES or self._shared:
            raise Unexpected(f"the peer says in its handshake {body[:32]!r}")
        at = len(_WELCOME)
        nonce, box = body[at : at + _LONG_NONCE_BYTES], body[at + _LONG_NONCE_BYTES :]
        shared = crypto_box_beforenm(self._keys.server, self._secret)
        welcome = _opened(box, b"WELCOME-" + nonce, shared)
        server_public, cookie = welcome[:CURVE_KEY_BYTES], welcome[CURVE_KEY_BYTES:]
        self._shared = crypto_box_beforenm(server_public, self._secret)
        nonce = secrets.token_bytes(_LONG_NONCE_BYTES)
        # The vouch: that whoever has our lasting key means this connection, with that server.
        vouch = crypto_box_easy_afternm(
            self._public + self._keys.server,
            b"VOUCH---" + nonce,
            crypto_box_beforenm(server_public, self._keys.secret),
        )
        assert self._metadata is not None, "the peer cannot answer before we have opened"
        proof = self._keys.public + nonce + vouch + self._metadata
        box = self._box(b"CurveZMQINITIATE", proof, self._shared)
        self._answer += zmtp.command(_INITIATE + cookie + box)

    # --- boxes --------------------------------------------------------------
    def _open_message(self, body: bytes) -> bytes:
        if not body.startswith(_MESSAGE):
            raise Unexpected(f"the peer says without encryption {body[:32]!r}")
        plain = self._unbox(_THEIRS, body[len(_MESSAGE) :], self._shared)
        inner = plain[0] if plain else _MORE | _COMMAND  # Which no message has.
        if inner not in {0, _MORE, _COMMAND}:
            raise Unexpected(f"a MESSAGE without flags of its own: {plain[:32]!r}")
        flags = zmtp.COMMAND if inner == _COMMAND else 0
        return zmtp.head(len(plain) - 1, more=inner == _MORE, flags=flags) + plain[1:]

    def _box(self, name: bytes, plain: bytes, shared: bytes) -> bytes:
        """Return the next number and what it encrypts."""
        self._number += 1
        number = self._number.to_bytes(_NONCE_BYTES, "big")
        return number + crypto_box_easy_afternm(plain, name + number, shared)

    def _unbox(self, name: bytes, data: bytes, shared: bytes) -> bytes:
        """Return what a number and a box hold."""
        number = data[:_NONCE_BYTES]
        value = int.from_bytes(number, "big")
        if value <= self._heard_number:
            raise Unexpected(f"the peer's message {value} comes after {self._heard_number}")
        plain = _opened(data[_NONCE_BYTES:], name + number, shared)
        self._heard_number = value
        return plain


def _opened(box: bytes, nonce: bytes, shared: bytes) -> bytes:
    try:
        return crypto_box_open_easy_afternm(box, nonce, shared)
    except CryptoError as error:
        name = nonce[:_LONG_NONCE_BYTES].decode(errors="replace")
        raise Unexpected(f"what came was not encrypted for us, or was changed: {name}") from error
