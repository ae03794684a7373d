"""Topics on the rooms endpoint, and how they stand before what is published. PROTOCOL.md."""

from __future__ import annotations

from typing import Final

from common import limits
from common.errors import Malformed

INBOX: Final = b"\0"  # Begins an inbox topic; no room's name can.
INBOX_TOPIC_BYTES: Final = len(INBOX) + limits.INBOX_LETTERS
_LETTERS: Final = b"abcdefghijklmnop"  # In a row: libzmq looks at the gaps of a trie, too.
_TO_LETTERS: Final = bytes.maketrans(b"0123456789abcdef", _LETTERS)


def inbox(token: bytes) -> bytes:
    """Return the topic that a session's notices come on, and that shows that it lives."""
    return INBOX + token.hex()[: limits.INBOX_LETTERS].encode().translate(_TO_LETTERS)


def is_inbox(topic: bytes) -> bool:
    """Tell whether this is the topic of an inbox, and of one only."""
    is_one = len(topic) == INBOX_TOPIC_BYTES and topic.startswith(INBOX)
    return is_one and not topic[len(INBOX) :].translate(None, _LETTERS)


def split_publication(frame: bytes) -> tuple[bytes, bytes]:
    """Split a published frame into its topic and its body; raise `Malformed`."""
    if frame.startswith(INBOX):
        end = INBOX_TOPIC_BYTES
    else:
        nul = frame.find(b"\0")
        end = nul + 1 + limits.KEY_BYTES if nul > 0 else len(frame)
    if len(frame) <= end:
        message = f"a publication of {len(frame)} bytes without a topic"
        raise Malformed(message)
    return frame[:end], frame[end:]
