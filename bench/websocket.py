"""The client's side of WebSocket by bytes, as far as one server of ours needs it. No I/O.

Source: RFC 6455. Text frames only, never in fragments.
"""

from __future__ import annotations

from typing import Final

_TEXT: Final = 0x81  # The last and only fragment of a text.
_MASKED: Final = 0x80
# A client must mask what it sends (section 5.3). This key leaves it as it is: masking guards
# proxies against scripts, of which there are none on loopback, and would cost the generator time.
_KEY: Final = bytes(4)
_LENGTH_7_MAX: Final = 125
_LENGTH_16: Final = 126
_LENGTH_16_MAX: Final = 0xFFFF


def upgrade(host: str, path: str) -> bytes:
    """Return the request that turns an HTTP connection into a WebSocket."""
    return (
        f"GET {path} HTTP/1.1\r\nHost: {host}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        "Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\nSec-WebSocket-Version: 13\r\n\r\n"
    ).encode()


def head(size: int, *, is_masked: bool) -> bytes:
    """Return what stands before a text of `size` bytes; clients mask, servers do not."""
    mask, key = (_MASKED, _KEY) if is_masked else (0, b"")
    if size <= _LENGTH_7_MAX:
        return bytes((_TEXT, mask | size)) + key
    if size <= _LENGTH_16_MAX:
        return bytes((_TEXT, mask | _LENGTH_16)) + size.to_bytes(2, "big") + key
    raise ValueError(f"a text of {size} bytes is too long: at most {_LENGTH_16_MAX}")


def frame(text: bytes) -> bytes:
    """Return what a client says to send a text."""
    return head(len(text), is_masked=True) + text
