"""The chat's talks between two: opened by whoever types, by what arrives, and at the start.

Owns no thread: what may block is called by the thread that acts, or is an errand.
"""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

from client.board import Board, Line
from client.errands import Errands
from client.events import Joined, Told
from common.errors import Refused
from common.limits import HISTORY_DEFAULT, HISTORY_ENTRIES_MAX
from common.names import is_talk, is_wire_name
from common.order import MyRoom

if TYPE_CHECKING:
    from client.api import Client


class Talks:
    """Of one conversation, whose lock guards the board."""

    def __init__(
        self, client: Client, board: Board, lock: threading.Lock, errands: Errands
    ) -> None:
        self._client = client
        self._board = board
        self._lock = lock
        self._errands = errands

    @staticmethod
    def is_nick(room: str) -> bool:
        """Tell whether a room is addressed by the nick of the one to talk with."""
        return is_talk(room) and not is_wire_name(room)

    def go_to(self, nick: str) -> list[Line]:
        """Make the talk with somebody the current room, opened if need be; may block."""
        name, lines = self.open(nick, HISTORY_DEFAULT)
        with self._lock:
            return [*self._board.enter(name), *lines]

    def open(self, nick: str, history: int = 0) -> tuple[str, list[Line]]:
        """Return the name of the talk with somebody, and lines that were held back; may block."""
        with self._lock:
            view = self._board.find(f"@{nick}")
            if view is not None:
                return view.name, self._board.release(view)
            self._board.talks_expected += 1
        joined: Joined | None = None
        try:
            joined = self._client.talk(nick, history=history)
        finally:
            with self._lock:
                self._board.talks_expected -= 1
                if joined is not None:
                    view = self._board.add(joined.room, joined.title)
        assert joined is not None
        assert view is not None
        with self._lock:
            return joined.room, self._board.release(view)

    # --- by themselves ------------------------------------------------------
    def open_unread(self) -> None:
        """Open every talk in which something was said since one read it, in a while."""
        self._errands.add(self._open_unread)

    def told(self, told: Told) -> None:
        """Open a talk in which something was said, in a while."""
        if told.code == "said" and not self._is_unwanted(told.room, told.title):
            self._errands.add(self._open_unread)

    def _open_unread(self) -> None:
        for room in self._client.mine():
            is_unread = is_talk(room.room) and room.head > room.read
            if is_unread and not self._is_unwanted(room.room, room.title):
                self._open_silently(room)

    def _is_unwanted(self, room: str, title: str) -> bool:
        with self._lock:
            return room in self._board.rooms or title[1:] in self._board.ignored

    def _open_silently(self, room: MyRoom) -> None:
        with self._lock:
            self._board.add(room.room, room.title, is_silent=True)
        try:
            unread_count = min(room.head - room.read, HISTORY_ENTRIES_MAX)
            self._client.join(room.room, history=unread_count)
        except Refused:
            with self._lock:
                self._board.forget(room.room)
