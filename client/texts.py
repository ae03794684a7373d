"""What a text may be, told to its author before it travels. Pure."""

from __future__ import annotations

from common.errors import Code, Refused
from common.limits import TEXT_CHARS_MAX, TOPIC_CHARS_MAX
from common.wire import Kind


def text_bytes(text: str, kind: Kind) -> int:
    """Return a text's size in UTF-8; raise `Refused` for one that the wire does not take."""
    chars_max = TOPIC_CHARS_MAX if kind is Kind.TOPIC else TEXT_CHARS_MAX
    if len(text) > chars_max:
        raise Refused(Code.TEXT_INVALID, f"a text has at most {chars_max} characters")
    if not text and kind is not Kind.TOPIC:
        raise Refused(Code.TEXT_INVALID, "a text has at least one character")
    # The broker would refuse all the texts that travel in one SEND with it.
    if "\0" in text:
        raise Refused(Code.TEXT_INVALID, "a text has no NUL")
    if text.isascii():
        return len(text)
    try:
        return len(text.encode())
    except UnicodeEncodeError:
        raise Refused(Code.TEXT_INVALID, "a text is Unicode without lone surrogates") from None
