"""SENDs of one post and their ACKs, as most tests need them."""

from __future__ import annotations

from collections.abc import Sequence

from common import wire
from common.wire import Kind


def send(number: int, room: str, texts: Sequence[str], kind: Kind = Kind.TEXT) -> wire.Send:
    """Return a SEND of one post."""
    return wire.Send(number, [wire.Draft(room, kind, list(texts))])


def acknowledgement(number: int, first: int, ts: int = 1) -> wire.Ack:
    """Return the ACK of a SEND of one post."""
    return wire.Ack(number, [wire.Place(first, ts)])


def texts_of(send: wire.Send) -> list[str]:
    """Return all texts of a SEND."""
    return [text for post in send.posts for text in post.texts]
