"""The client's half of CURVE by bytes: just enough to say in a handshake what libzmq would not.

Curve25519 of RFC 7748, Salsa20 and Poly1305 as in NaCl (cr.yp.to/nacl.html), the handshake of
ZeroMQ RFC 26. Slow, and not safe against who measures its time: for tests only.
"""

from __future__ import annotations

import os
import socket
import struct
from typing import Self

from bench import zmtp
from tests.waiting import DEADLINE_S

P = 2**255 - 19
MASK = 0xFFFFFFFF
GREETING = (b"\xff" + bytes(8) + b"\x7f\x03\x00" + b"CURVE".ljust(20, b"\0")).ljust(64, b"\0")
BASE = b"\x09" + bytes(31)
HELLO_BYTES = 2 + 200  # With the head of its frame.


def multiplied(scalar: bytes, point: bytes) -> bytes:
    """Return the product of a secret and a public key (RFC 7748, section 5)."""
    k = bytearray(scalar)
    k[0] &= 248
    k[31] = k[31] & 127 | 64
    n, u = int.from_bytes(k, "little"), int.from_bytes(point, "little") % 2**255
    x2, z2, x3, z3, swap = 1, 0, u, 1, 0
    for t in reversed(range(255)):
        bit = n >> t & 1
        if swap ^ bit:
            x2, x3, z2, z3 = x3, x2, z3, z2
        swap = bit
        a, b, c, d = x2 + z2, x2 - z2, x3 + z3, x3 - z3
        da, cb, aa, bb = d * a % P, c * b % P, a * a % P, b * b % P
        x3, z3 = (da + cb) ** 2 % P, u * (da - cb) ** 2 % P
        e = aa - bb
        x2, z2 = aa * bb % P, e * (aa + 121665 * e) % P
    if swap:
        x2, z2 = x3, z3
    return (x2 * pow(z2, P - 2, P) % P).to_bytes(32, "little")


def _rounds(state: list[int]) -> list[int]:
    x = list(state)

    def quarter(a: int, b: int, c: int, d: int) -> None:
        for target, one, two, turn in ((b, a, d, 7), (c, b, a, 9), (d, c, b, 13), (a, d, c, 18)):
            total = (x[one] + x[two]) & MASK
            x[target] ^= (total << turn | total >> (32 - turn)) & MASK

    for _ in range(10):
        for at in ((0, 4, 8, 12), (5, 9, 13, 1), (10, 14, 2, 6), (15, 3, 7, 11)):
            quarter(*at)
        for at in ((0, 1, 2, 3), (5, 6, 7, 4), (10, 11, 8, 9), (15, 12, 13, 14)):
            quarter(*at)
    return x


def _state(key: bytes, block: bytes) -> list[int]:
    k, n, s = struct.unpack("<8I", key), struct.unpack("<4I", block), b"expand 32-byte k"
    c = struct.unpack("<4I", s)
    return [c[0], *k[:4], c[1], *n, c[2], *k[4:], c[3]]


def _hsalsa20(key: bytes, block: bytes) -> bytes:
    x = _rounds(_state(key, block))
    return struct.pack("<8I", *(x[at] for at in (0, 5, 10, 15, 6, 7, 8, 9)))


def _stream(key: bytes, nonce: bytes, size: int) -> bytes:
    key, nonce = _hsalsa20(key, nonce[:16]), nonce[16:]
    out = b""
    for number in range(size // 64 + 1):
        state = _state(key, nonce + struct.pack("<Q", number))
        mixed = zip(_rounds(state), state, strict=True)
        out += struct.pack("<16I", *((a + b) & MASK for a, b in mixed))
    return out[:size]


def _authenticator(key: bytes, data: bytes) -> bytes:
    r = int.from_bytes(key[:16], "little") & 0x0FFFFFFC0FFFFFFC0FFFFFFC0FFFFFFF
    total = 0
    for at in range(0, len(data), 16):
        total = (total + int.from_bytes(data[at : at + 16] + b"\1", "little")) * r % (2**130 - 5)
    return ((total + int.from_bytes(key[16:32], "little")) % 2**128).to_bytes(16, "little")


def shared(public: bytes, secret: bytes) -> bytes:
    """Return the key that two people share."""
    return _hsalsa20(multiplied(secret, public), bytes(16))


def boxed(text: bytes, nonce: bytes, key: bytes) -> bytes:
    """Encrypt with a shared key."""
    stream = _stream(key, nonce, 32 + len(text))
    body = bytes(a ^ b for a, b in zip(text, stream[32:], strict=True))
    return _authenticator(stream, body) + body


def unboxed(box: bytes, nonce: bytes, key: bytes) -> bytes:
    """Decrypt with a shared key; raise ValueError for what was not encrypted with it."""
    body = box[16:]
    stream = _stream(key, nonce, 32 + len(body))
    if _authenticator(stream, body) != box[:16]:
        raise ValueError("not encrypted with this key")
    return bytes(a ^ b for a, b in zip(body, stream[32:], strict=True))


def _property(name: bytes, value: bytes) -> bytes:
    return bytes([len(name)]) + name + struct.pack(">I", len(value)) + value


class CurveLink:
    """One TCP connection to a CURVE endpoint, step by step. Owned by one thread."""

    def __init__(self, port: int, server: bytes, secret: bytes | None = None) -> None:
        """Connect and greet. Keys are 32 raw bytes."""
        self._server = server
        self._secret = secret or os.urandom(32)
        self.public = multiplied(self._secret, BASE)
        self._short_secret = os.urandom(32)
        self._short = multiplied(self._short_secret, BASE)
        self._nonce = 1
        self.sent = b""
        self._socket = socket.create_connection(("127.0.0.1", port), timeout=DEADLINE_S)
        self.write(GREETING)
        self._read(64)

    def hello(self) -> bytes:
        """Return the HELLO command."""
        box = boxed(
            bytes(64), self._nonces(b"CurveZMQHELLO---"), shared(self._server, self._short_secret)
        )
        return b"\5HELLO\1\0" + bytes(72) + self._short + struct.pack(">Q", self._nonce) + box

    def shake_hands(self, **properties: bytes) -> None:
        """Go through all of it, with properties that a client may make up."""
        self.command(self.hello())
        welcome = self.hear_command()
        assert welcome.startswith(b"\7WELCOME"), welcome
        nonce = b"WELCOME-" + welcome[8:24]
        told = unboxed(welcome[24:], nonce, shared(self._server, self._short_secret))
        their_short, cookie = told[:32], told[32:]
        self._key = shared(their_short, self._short_secret)
        self._nonce += 1
        vouch_nonce = os.urandom(16)
        vouch = boxed(
            self._short + self._server, b"VOUCH---" + vouch_nonce, shared(their_short, self._secret)
        )
        metadata = b"".join(
            _property(name.replace("_", "-").encode(), value) for name, value in properties.items()
        )
        inner = self.public + vouch_nonce + vouch + metadata
        box = boxed(inner, self._nonces(b"CurveZMQINITIATE"), self._key)
        self.command(b"\x08INITIATE" + cookie + struct.pack(">Q", self._nonce) + box)
        ready = self.hear_command()
        assert ready.startswith(b"\5READY"), ready

    def say(self, *frames: bytes) -> None:
        """Send a message."""
        for at, frame in enumerate(frames):
            self._nonce += 1
            more = at < len(frames) - 1
            box = boxed(bytes([more]) + frame, self._nonces(b"CurveZMQMESSAGEC"), self._key)
            body = b"\7MESSAGE" + struct.pack(">Q", self._nonce) + box
            self.write(zmtp.head(len(body)) + body)

    def hear(self) -> list[bytes]:
        """Return the next message."""
        frames, is_more = [], True
        while is_more:
            body = self.hear_command()
            assert body.startswith(b"\7MESSAGE"), body
            plain = unboxed(body[16:], b"CurveZMQMESSAGES" + body[8:16], self._key)
            is_more = bool(plain[0] & 1)
            frames.append(plain[1:])
        return frames

    def command(self, body: bytes) -> None:
        """Send a command of the handshake."""
        self.write(zmtp.head(len(body), flags=4) + body)

    def write(self, data: bytes) -> None:
        """Send bytes, and remember them."""
        self.sent += data
        self._socket.sendall(data)

    def is_hung_up(self) -> bool:
        """Wait for the end of the connection; False when something is said instead."""
        try:
            return not self._socket.recv(1)
        except ConnectionError:
            return True

    def _nonces(self, prefix: bytes) -> bytes:
        return prefix + struct.pack(">Q", self._nonce)

    def hear_command(self) -> bytes:
        """Return the next frame."""
        flags, size = self._read(2)
        if flags & 2:
            size = int.from_bytes(bytes([size]) + self._read(7), "big")
        return self._read(size)

    def _read(self, size: int) -> bytes:
        data = b""
        while len(data) < size:
            more = self._socket.recv(size - len(data))
            if not more:
                raise ConnectionResetError("hung up")
            data += more
        return data

    def close(self) -> None:
        """Hang up."""
        self._socket.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
