"""Subscription keys and history tickets: what only a member can know. Pure.

Both are keyed BLAKE2b (RFC 7693) of the room's name and generation, under the secret that is
kept with the log. So they survive a restart of the broker, the history workers need no memory
of sessions, and raising a room's generation makes all old ones worthless. A
ticket is one person's, too, and for a day. ADR 0024.
"""

from __future__ import annotations

import hashlib
import hmac

from common.limits import CLOSED_LETTERS, KEY_BYTES, TICKET_HOURS

SECRET_BYTES = 32
BIRTH_BYTES = 6  # A number that every MessagePack decoder takes.


MINUTE_MS = 60_000
EXPIRY_BYTES = 4  # Minutes since 1970, big-endian: enough for 8,000 years.
TICKET_MINUTES = TICKET_HOURS * 60


def subscription(secret: bytes, room: str, generation: int) -> bytes:
    """Return the room's topic on the rooms endpoint: name, NUL, key."""
    message = b"%d %s" % (generation, room.encode())
    return room.encode() + b"\0" + _digest(secret, b"subscription", message, KEY_BYTES)


def ticket(secret: bytes, room: str, generation: int, key: bytes, expires_min: int) -> bytes:
    """Return what opens the room's history to the holder of a key, until a minute since 1970.

    key: 32 raw bytes, or none on a plain endpoint: then it opens it to everybody.
    """
    expiry = expires_min.to_bytes(EXPIRY_BYTES, "big")
    message = b"%d %d %b%b%b" % (generation, len(key), expiry, key, room.encode())
    return expiry + _digest(secret, b"history", message, KEY_BYTES - EXPIRY_BYTES)


def fresh_ticket(secret: bytes, room: str, generation: int, key: bytes, now_ms: int) -> bytes:
    """Return a ticket for TICKET_HOURS from now on."""
    return ticket(secret, room, generation, key, now_ms // MINUTE_MS + TICKET_MINUTES)


def is_ticket(
    given: bytes, secret: bytes, room: str, generation: int, *, key: bytes, now_ms: int
) -> bool:
    """Tell whether a ticket opens the room's history to this key, in constant time."""
    expires_min = int.from_bytes(given[:EXPIRY_BYTES], "big")
    right = ticket(secret, room, generation, key, expires_min)
    return hmac.compare_digest(given, right) and now_ms < expires_min * MINUTE_MS


def _digest(secret: bytes, purpose: bytes, message: bytes, size_bytes: int) -> bytes:
    return hashlib.blake2b(message, digest_size=size_bytes, key=secret, person=purpose).digest()


def sender(token: bytes, instance: int) -> bytes:
    """Return the name under which the log remembers a session's numbers.

    The token is a secret of the session, so nobody else can spend its numbers; the log keeps
    only this digest of it.
    """
    return hashlib.blake2b(b"%d" % instance, digest_size=16, key=token, person=b"sender").digest()


def owner(secret: bytes) -> bytes:
    """Return the digest under which the broker remembers a person's secret."""
    return hashlib.blake2b(secret, digest_size=16, person=b"owner").digest()


def birth(secret: bytes, room: str, at_ms: int) -> int:
    """Return a number that tells a room from others that ever had its name; nobody can guess it."""
    message = b"%d %s" % (at_ms, room.encode())
    return int.from_bytes(_digest(secret, b"birth", message, BIRTH_BYTES))


def closed_name(secret: bytes, sign: str, what: str, at_ms: int) -> str:
    """Return the name of a closed room: what it is of decides it, and nobody can guess it."""
    message = b"%d %s" % (at_ms, what.encode())
    digest = hashlib.blake2b(message, digest_size=CLOSED_LETTERS // 2, key=secret, person=b"closed")
    return sign + digest.hexdigest()
