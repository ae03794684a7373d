"""Public keys as people see them: read from text, written, and their fingerprint. Pure.

A key is the 32 raw bytes of a CURVE public key (Curve25519). In files it stands as Z85 (ZeroMQ
RFC 32), as in CZMQ's certificates, or as hex, which is what goes into links: Z85 has letters
that mean something there.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import re

CURVE_KEY_BYTES = 32
Z85_CHARS = 40
HEX_LETTERS = 2 * CURVE_KEY_BYTES
_Z85 = "0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ.-:+=^!/*?&<>()[]{}@%$#"
_DIGITS = {letter: value for value, letter in enumerate(_Z85)}
_HEX = re.compile(f"[0-9A-Fa-f]{{{HEX_LETTERS}}}")
_GROUP_LETTERS, _GROUP_BYTES = 5, 4


def fingerprint(key: bytes) -> str:
    """Return what people compare: `SHA256:` and 43 letters, as ssh shows keys."""
    digest = hashlib.sha256(key).digest()
    return "SHA256:" + base64.b64encode(digest).decode().rstrip("=")


def key_text(key: bytes) -> str:
    """Return a key as 64 letters of hex."""
    return key.hex()


def parse_key(text: str) -> bytes:
    """Read a key, 64 letters of hex or 40 of Z85; raise ValueError with a sentence for people."""
    word = text.strip()
    if _HEX.fullmatch(word):
        return binascii.unhexlify(word)
    if len(word) == Z85_CHARS and all(letter in _DIGITS for letter in word):
        return _from_z85(word)
    message = f"a key has {HEX_LETTERS} letters of hex or {Z85_CHARS} of Z85, and {word!r} is none"
    raise ValueError(message)


def _from_z85(word: str) -> bytes:
    key = b""
    for start in range(0, len(word), _GROUP_LETTERS):
        value = 0
        for letter in word[start : start + _GROUP_LETTERS]:
            value = value * len(_Z85) + _DIGITS[letter]
        if value >> 8 * _GROUP_BYTES:
            message = f"{word!r} is no key: five letters of Z85 stand for four bytes at most"
            raise ValueError(message)
        key += value.to_bytes(_GROUP_BYTES, "big")
    return key
