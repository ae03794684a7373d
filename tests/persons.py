"""Keys of people in tests: whoever has the same nick has the same key, in every process and life.

So a client that was killed comes back as who it was, with no file to keep its key in.
"""

from __future__ import annotations

from hashlib import blake2b

import zmq
from zmq.utils import z85

from client.connection import CurveKeys
from common.keys import CURVE_KEY_BYTES


def keys_of(nick: str, server_key: str) -> CurveKeys | None:
    """Return what `connect` takes for somebody at a broker with this key in hex; "": it is plain.

    Anybody can compute these secrets: they are for brokers that end with their test.
    """
    if not server_key:
        return None
    secret = blake2b(nick.encode(), digest_size=CURVE_KEY_BYTES).digest()
    public = z85.decode(zmq.curve_public(z85.encode(secret)))
    return CurveKeys(bytes.fromhex(server_key), public, secret)
