"""The client's own CURVE key pair, made once and kept in two files of the user's data folder.

Whoever can read the secret file can pass for its owner.
"""

from __future__ import annotations

from pathlib import Path

from client.connection import CurveKeys
from client.identity import KEY_FILE, secrets_folder
from common import certificates
from common.certificates import KeyPair
from common.keys import CURVE_KEY_BYTES, parse_key


def new_keys(broker_key: bytes | str) -> CurveKeys:
    """Return keys for `connect`: the broker's (32 bytes, hex or Z85), and a new pair of one's own.

    To be known again keep them. Raises `ValueError` when the broker's key cannot be one.
    """
    key = parse_key(broker_key) if isinstance(broker_key, str) else broker_key
    if len(key) != CURVE_KEY_BYTES:
        raise ValueError(f"a key has {CURVE_KEY_BYTES} bytes")
    return CurveKeys(key, *certificates.new_pair())


def load_pair(directory: Path) -> KeyPair:
    """Return the user's key pair, made on the first call; raise OSError or `FileUnusable`."""
    return certificates.load_or_make(secrets_folder(directory) / KEY_FILE)
