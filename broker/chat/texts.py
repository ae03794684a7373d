"""What a text may be. Pure."""

from __future__ import annotations

from collections.abc import Iterable

from common import wire
from common.errors import Code, Refused
from common.limits import TOPIC_CHARS_MAX
from common.wire import Kind

TOPIC = Kind.TOPIC


def check_texts(drafts: Iterable[wire.Draft], texts: Iterable[str]) -> int:
    """Check all texts of a SEND, in posts and in a row; raise `Refused(text_invalid)`.

    Returns how many bytes a character of them takes in UTF-8, at most.
    """
    joined = "".join(texts)
    if "\0" in joined:
        raise Refused(Code.TEXT_INVALID, "a text has no NUL")
    for draft in [draft for draft in drafts if draft.kind is TOPIC]:
        if len(draft.texts) > 1 or len(draft.texts[0]) > TOPIC_CHARS_MAX:
            detail = f"a topic is one text of {TOPIC_CHARS_MAX} characters"
            raise Refused(Code.TEXT_INVALID, detail)
    return 1 if joined.isascii() else 4
