"""The types of the fields of payloads, with their bounds. PROTOCOL.md, "Payloads". Pure."""

from __future__ import annotations

from typing import Annotated

from msgspec import Meta, Struct

from common import limits

Id = Annotated[int, Meta(ge=0, le=limits.NUMBER_MAX)]
Number = Annotated[int, Meta(ge=1, le=limits.NUMBER_MAX)]
Nick = Annotated[str, Meta(min_length=1, max_length=4 * limits.NICK_CHARS_MAX)]
Room = Annotated[str, Meta(min_length=1, max_length=4 * limits.ROOM_CHARS_MAX)]
Text = Annotated[str, Meta(max_length=limits.TEXT_CHARS_MAX)]
Texts = Annotated[list[Text], Meta(min_length=1, max_length=limits.SEND_TEXTS_MAX)]
Owner = Annotated[bytes, Meta(min_length=limits.OWNER_BYTES_MIN, max_length=limits.OWNER_BYTES_MAX)]
Key = Annotated[bytes, Meta(max_length=limits.KEY_BYTES)]
Limit = Annotated[int, Meta(ge=1, le=limits.HISTORY_ENTRIES_MAX)]


class Payload(Struct, array_like=True, gc=False):
    """The base of every payload: an array of fields in their order. Nobody changes one."""
