"""Subscription keys and history tickets: what only a member can know. Pure.

Both are keyed BLAKE2b (RFC 7693) of the room's name and generation, under the secret that is
kept with the log. So they survive a restart of the broker, the history workers need no memory
of sessions, and raising a room's generation makes all old ones worthless.
"""

from __future__ import annotations

import hashlib
import hmac

from common.limits import CLOSED_LETTERS, KEY_BYTES

SECRET_BYTES = 32


def _keyed(secret: bytes, purpose: bytes, room: str, generation: int) -> bytes:
    message = b"%d %s" % (generation, room.encode())
    return hashlib.blake2b(message, digest_size=KEY_BYTES, key=secret, person=purpose).digest()


def subscription(secret: bytes, room: str, generation: int) -> bytes:
    """Return the room's topic on the rooms endpoint: name, NUL, key."""
    return room.encode() + b"\0" + _keyed(secret, b"subscription", room, generation)


def ticket(secret: bytes, room: str, generation: int) -> bytes:
    """Return what opens the room's history."""
    return _keyed(secret, b"history", room, generation)


def is_ticket(given: bytes, secret: bytes, room: str, generation: int) -> bool:
    """Tell whether a ticket opens the room's history, in constant time."""
    return hmac.compare_digest(given, ticket(secret, room, generation))


def sender(token: bytes, instance: int) -> bytes:
    """Return the name under which the log remembers a session's numbers.

    The token is a secret of the session, so nobody else can spend its numbers; the log keeps
    only this digest of it.
    """
    return hashlib.blake2b(b"%d" % instance, digest_size=16, key=token, person=b"sender").digest()


def owner(secret: bytes) -> bytes:
    """Return the digest under which the broker remembers a person's secret."""
    return hashlib.blake2b(secret, digest_size=16, person=b"owner").digest()


def closed_name(secret: bytes, sign: str, what: str, at_ms: int) -> str:
    """Return the name of a closed room: what it is of decides it, and nobody can guess it."""
    message = b"%d %s" % (at_ms, what.encode())
    digest = hashlib.blake2b(message, digest_size=CLOSED_LETTERS // 2, key=secret, person=b"closed")
    return sign + digest.hexdigest()
