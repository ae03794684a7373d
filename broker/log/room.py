"""The writer's own memory of a room."""

from __future__ import annotations


class Room:
    """What the next commit to a room, and its retention, go by."""

    __slots__ = ("first", "generation", "head", "id", "removed", "topic", "ts")

    def __init__(
        self, room_id: int, generation: int, first: int, topic: str, tail: tuple[int, int]
    ) -> None:
        self.id = room_id
        self.generation = generation
        self.first = first
        self.topic = topic
        self.head, self.ts = tail
        self.removed: tuple[int, ...] = ()  # Seqs of the texts removed last, newest at the end.
