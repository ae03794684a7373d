"""Which entries a batch stands for, and what stands for entries that are lost. Pure."""

from __future__ import annotations

from common.wire import Batch


def texts_count(batch: Batch) -> int:
    """Return how many entries a batch has."""
    return sum(len(post.texts) for post in batch.posts)


def lost(room: str, epoch: int, first: int, last: int) -> Batch:
    """Return what stands in a page for a batch that the log cannot read any more.

    It is a beacon of its last seq, so that a client which knows no more sees what is missing.
    """
    return Batch(room, epoch, last, first, [])


def lost_count(batch: Batch) -> int:
    """Return how many entries are lost where this stands in a page; 0 for other batches."""
    return 0 if batch.posts else max(batch.prev - batch.first + 1, 0)


def last_seq(batch: Batch) -> int:
    """Return the seq of a batch's last entry; `prev` when it is a beacon."""
    return batch.first + texts_count(batch) - 1 if batch.posts else batch.prev


def removed(text: str) -> str:
    """Return what stands for a text that was removed: as many NULs as it had bytes."""
    return "\0" * len(text.encode())


def is_removed(text: str) -> bool:
    """Tell whether a text was removed; none that anybody says has a NUL."""
    return text.startswith("\0")
