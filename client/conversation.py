"""What both chats do with a typed line and with what arrives: the acting side of the board.

Three threads meet here. One (`watch`) takes events from the client and shows them; one (`act`,
the caller's) does what lines mean, which may block; one (`client.receipts`) waits for
acknowledgements. The lock guards the board; nobody blocks while holding it.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, Self

from client import commands, render
from client.board import Board, Completion, Line, Sort
from client.commands import Meaning
from client.events import Event, Sent
from client.receipts import Posted, Receipts
from common.errors import Closed, HubbubError
from common.names import fold

if TYPE_CHECKING:
    from client.api import Client

ECHO_WAIT_S = 1.0  # For our own last words to be shown, once they are acknowledged.
STOP_WAIT_S = 1.0
UNSENT_CHARS_SHOWN_MAX = 60

Show = Callable[[Sequence[Line]], None]


class Conversation:
    """A client, its board, and a place to show lines."""

    def __init__(self, client: Client, board: Board, show: Show, now: Callable[[], int]) -> None:
        self.board = board
        self.lock = threading.Lock()
        self.refused_count = 0  # Texts that were refused before they were under way.
        self._client = client
        self._show = show
        self._now = now
        self._changed = threading.Condition(self.lock)
        self._kept_seqs: dict[str, int] = {}  # By room: our newest text that is in the log.
        self._receipts = Receipts(self._take_receipt, self._take_failure)
        self._watcher = threading.Thread(target=self.watch, name="watch", daemon=True)

    def start(self, rooms: Sequence[str], history: int) -> None:
        """Greet, begin to show what arrives, and enter the rooms; the first is the current one."""
        lines = [self.board.notice(line) for line in self._client.motd.splitlines() if line]
        self._show([*lines, self.board.notice(f"you are {self.board.nick}; /help lists commands")])
        with self.lock:
            for room in rooms:
                self.board.add(room)
        self._watcher.start()
        for room in rooms:
            self._client.join(room, history=history)

    def wait_until_entered(self, patience_s: float) -> None:
        """Wait until the rooms and what was said there are shown."""
        with self.lock:
            views = self.board.rooms.values()
            self._changed.wait_for(lambda: all(view.is_entered for view in views), patience_s)

    # --- what arrives -------------------------------------------------------
    def watch(self) -> None:
        """Show events until the client is closed, each burst at once. A thread of its own."""
        while True:
            try:
                burst = self._client.next_burst()
            except HubbubError:
                return
            if not burst:
                return
            self._take(burst)

    def _take(self, burst: list[Event]) -> None:
        now = self._now()
        with self.lock:
            self.board.nick = self._client.nick
            lines = [line for event in burst for line in self.board.take(event, now)]
        self._show(lines)
        with self.lock:
            self._changed.notify_all()

    def _take_receipt(self, _: Posted, sent: Sent) -> None:
        with self.lock:
            self._kept_seqs[sent.room] = sent.seq
            self._changed.notify_all()
        if not self._receipts:
            self._show([])  # For the toolbar's sake.

    def _take_failure(self, posted: Posted, error: Exception) -> None:
        self._show([self._not_sent(posted.text, error)])

    # --- what the prompt asks for -------------------------------------------
    def toolbar(self) -> list[tuple[str, str]]:
        """Return the parts of the toolbar."""
        with self.lock:
            self.board.unsent_count = len(self._receipts)
            return self.board.toolbar()

    def current_room(self) -> str:
        """Return the room in which a text is said; empty when there is none."""
        with self.lock:
            return self.board.current

    def complete(self, text: str) -> list[Completion]:
        """Return what the end of a half-typed line could become."""
        with self.lock:
            return self.board.complete(text)

    # --- what is typed ------------------------------------------------------
    def act(self, meaning: Meaning) -> None:
        """Do what a line means; `Quit` is the caller's. What is refused is shown."""
        try:
            lines = self._act(meaning)
        except Closed:
            return
        except (HubbubError, ValueError) as error:
            if isinstance(meaning, commands.Say):
                self.refused_count += 1
                lines = [self._not_sent(meaning.text, error)]
            else:
                lines = [self.board.trouble(str(error))]
        self._show(lines)

    def _act(self, meaning: Meaning) -> list[Line]:
        actions: dict[type[Meaning], Callable[[Any], list[Line]]] = {
            commands.Say: self._say,
            commands.ChangeTopic: self._topic,
            commands.JoinRoom: self._join,
            commands.PartRoom: self._part,
            commands.SwitchRoom: self._switch,
            commands.ChangeNick: self._rename,
            commands.ShowUsers: self._who,
            commands.ShowRooms: self._rooms,
            commands.ShowHistory: self._history,
            commands.ShowHelp: self._help,
            commands.Wrong: self._wrong,
        }
        return actions[type(meaning)](meaning)

    def _say(self, meaning: commands.Say) -> list[Line]:
        return self._post(meaning.text, meaning.kind)

    def _post(self, text: str, kind: str) -> list[Line]:
        room = self.current_room()
        if not room:
            self.refused_count += 1
            return [self._not_sent(text, "join a room first: /join ROOM")]
        self._receipts.add(Posted(text, kind, self._client.post(room, text, kind=kind)))
        return []

    def _topic(self, meaning: commands.ChangeTopic) -> list[Line]:
        if meaning.text is not None:
            return self._post(meaning.text, "topic")
        with self.lock:
            view = self.board.rooms.get(self.board.current)
            return [
                self.board.notice(f"topic: {view.topic}" if view and view.topic else "no topic")
            ]

    def _join(self, meaning: commands.JoinRoom) -> list[Line]:
        room = meaning.room
        with self.lock:
            if room in self.board.rooms:
                self.board.switch(room)
                return self.board.room_lines(self.board.rooms[room], "now in")
            before = self.board.current
            self.board.add(room)
            self.board.switch(room)  # At once, so that its history is not shown as another room's.
        try:
            self._client.join(room)
        except HubbubError:
            with self.lock:
                self.board.forget(room)
                if before in self.board.rooms:
                    self.board.switch(before)
            raise
        return []

    def _part(self, meaning: commands.PartRoom) -> list[Line]:
        with self.lock:
            room = meaning.room or self.board.current
            if room not in self.board.rooms:
                return [self._not_joined(room)]
        self._client.part(room)
        with self.lock:
            self.board.forget(room)
            now_in = f", now in #{self.board.current}" if self.board.current else ""
            return [self.board.notice(f"you left #{room}{now_in}")]

    def _switch(self, meaning: commands.SwitchRoom) -> list[Line]:
        with self.lock:
            room = meaning.room or self.board.next_room()
            if room is None:
                return [self.board.trouble("there is no other room; /join ROOM")]
            if room not in self.board.rooms:
                return [self._not_joined(room)]
            self.board.switch(room)
            return self.board.room_lines(self.board.rooms[room], "now in")

    def _rename(self, meaning: commands.ChangeNick) -> list[Line]:
        nick = self._client.rename(meaning.nick)
        with self.lock:
            self.board.nick = nick
            return [self.board.notice(f"you are {nick} now")]

    def _who(self, meaning: commands.ShowUsers) -> list[Line]:
        with self.lock:
            room = meaning.room or self.board.current
            if room not in self.board.rooms:
                return [self._not_joined(room)]
        members = self._client.who(room)
        names = ", ".join(sorted(members.nicks, key=fold))
        more = members.users - len(members.nicks)
        rest = f" and {more} more" if more > 0 else ""
        users = render.users_text(members.users)
        return [self.board.notice(f"#{room}, {users} now: {names}{rest}")]

    def _rooms(self, _: commands.ShowRooms) -> list[Line]:
        rooms = self._client.rooms()
        with self.lock:
            self.board.known_rooms = {info.room for info in rooms}
            return [self.board.notice(render.room_text(info)) for info in rooms]

    def _history(self, meaning: commands.ShowHistory) -> list[Line]:
        with self.lock:
            room = self.board.current
            view = self.board.rooms.get(room)
            if view is None:
                return [self._not_joined(room)]
            before = view.seq_min
        entries = self._client.history(room, before=before, limit=meaning.count)
        with self.lock:
            if not entries:
                return [self.board.notice("there is nothing earlier")]
            view.seq_min = entries[0].seq
            look = self.board.look
            lines = [Line(render.entry_line(entry, look), Sort.ENTRY) for entry in entries]
            messages = "message" if len(entries) == 1 else "messages"
            return [
                self.board.notice(f"{len(entries)} earlier {messages} of #{room}"),
                *lines,
                self.board.notice("back to now"),
            ]

    def _help(self, _: commands.ShowHelp) -> list[Line]:
        return [Line(line) for line in commands.help_lines()]

    def _wrong(self, meaning: commands.Wrong) -> list[Line]:
        return [self.board.trouble(meaning.message)]

    def _not_joined(self, room: str) -> Line:
        return self.board.trouble(
            f"you are not in #{room}; /join {room}" if room else "join a room first: /join ROOM"
        )

    # --- leaving ------------------------------------------------------------
    def settle(self, patience_s: float) -> list[str]:
        """Wait until all is acknowledged and shown; return the texts that were not.

        Gives up when nothing is acknowledged for `patience_s`. Call it after the last `act`.
        """
        unsent = [_short(text) for text in self._receipts.wait(patience_s)]
        if not unsent:
            with self.lock:
                self._changed.wait_for(self._is_all_shown, ECHO_WAIT_S)
        return unsent

    @property
    def failed_count(self) -> int:
        """How many texts were refused."""
        return self.refused_count + self._receipts.failed_count

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        """Close the client, which ends both threads."""
        self._client.close()
        self._receipts.stop()
        if self._watcher.is_alive():
            self._watcher.join(STOP_WAIT_S)

    def _is_all_shown(self) -> bool:
        views = self.board.rooms
        return all(
            views[room].seq_max >= seq for room, seq in self._kept_seqs.items() if room in views
        )

    def _not_sent(self, text: str, reason: Exception | str) -> Line:
        return self.board.trouble(f"not sent: {_short(text)} ({reason})")


def _short(text: str) -> str:
    return text if len(text) <= UNSENT_CHARS_SHOWN_MAX else f"{text[:UNSENT_CHARS_SHOWN_MAX]}..."
