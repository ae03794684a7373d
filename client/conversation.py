"""What both chats do with a typed line and with what arrives: the acting side of the board.

Three threads meet here. One (`watch`) takes events from the client and shows them; one (`act`,
the caller's) does what lines mean, which may block; one (`client.receipts`) waits for
acknowledgements. The lock guards the board; nobody blocks while holding it.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, Self

from client import commands, orders, render
from client.board import Board, Completion, Line
from client.commands import Meaning
from client.errands import Errands
from client.events import Event, Presence, Sent, Told
from client.ignored import Ignored
from client.receipts import Posted, Receipts
from client.talks import Talks
from client.tidings import room_lines
from common.errors import Closed, Code, HubbubError, Refused
from common.names import fold, is_closed

if TYPE_CHECKING:
    from client.api import Client

ECHO_WAIT_S = 1.0  # For our own last words to be shown, once they are acknowledged.
STOP_WAIT_S = 1.0
UNSENT_CHARS_SHOWN_MAX = 60

Show = Callable[[Sequence[Line]], None]


class Conversation:
    """A client, its board, and a place to show lines."""

    def __init__(
        self,
        client: Client,
        board: Board,
        show: Show,
        now: Callable[[], int],
        ignored: Ignored | None = None,
    ) -> None:
        self.board = board
        self.lock = threading.Lock()
        self.refused_count = 0  # What was typed, but for texts that were refused once under way.
        self._client = client
        self._show = show
        self._now = now
        self._changed = threading.Condition(self.lock)
        self._kept_seqs: dict[str, int] = {}  # By room: our newest text that is in the log.
        self._receipts = Receipts(self._take_receipt, self._take_failure)
        self._ignored = Ignored() if ignored is None else ignored
        board.ignored = self._ignored
        self._errands = Errands(client.read)
        self._talks = Talks(client, board, self.lock, self._errands)
        self._watcher = threading.Thread(target=self.watch, name="watch", daemon=True)

    def start(self, rooms: Sequence[str], history: int) -> None:
        """Greet, begin to show what arrives, and enter the rooms; the first is the current one."""
        lines = [self.board.notice(line) for line in self._client.motd.splitlines() if line]
        self._show([*lines, self.board.notice(f"you are {self.board.nick}; /help lists commands")])
        names = [self._client.find(room) for room in rooms]
        with self.lock:
            for name in names:
                if not self._talks.is_nick(name):
                    self.board.add(name)
        self._watcher.start()
        for name in names:
            if self._talks.is_nick(name):
                self._show(self._talks.go_to(name[1:]))
            else:
                self._client.join(name, history=history)
        self._talks.open_unread()

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
            lines = []
            for event in burst:
                if isinstance(event, Presence):
                    lines += self._follow(event)
                lines += self.board.take(event, now)
        self._show(lines)
        for event in burst:
            if isinstance(event, Told):
                self._talks.told(event)
        self._note_read()
        with self.lock:
            self._changed.notify_all()

    def _follow(self, event: Presence) -> list[Line]:
        """Go on ignoring who takes another name, as far as it is seen."""
        lines = []
        for old, new in event.renamed:
            if old in self._ignored and new not in self._ignored:
                try:
                    self._ignored.add(new)
                    words = f"{old}, whom you ignore, is called {new} now, and still ignored"
                    lines.append(self.board.notice(words))
                except (HubbubError, OSError) as error:
                    lines.append(self.board.trouble(f"{old} is called {new} now: {error}"))
        return lines

    def _take_receipt(self, _: Posted, sent: Sent) -> None:
        with self.lock:
            self._kept_seqs[sent.room] = sent.seq
            self._changed.notify_all()
        if is_closed(sent.room):  # Who writes there has read it.
            self._errands.read(sent.room, sent.seq)
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

    def current_label(self) -> str:
        """Return what that room is called; empty when there is none."""
        with self.lock:
            return self.board.label() if self.board.current else ""

    def _note_read(self) -> None:
        """Have the broker told how far the current room was read, if it is a closed one."""
        with self.lock:
            view = self.board.rooms.get(self.board.current)
        if view is not None and is_closed(view.name) and view.seq_max:
            self._errands.read(view.name, view.seq_max)

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
        except (HubbubError, ValueError, OSError) as error:  # The last of the file `ignored`.
            self.refused_count += 1
            if isinstance(meaning, commands.Say):
                lines = [self._not_sent(meaning.text, error)]
            else:
                lines = [self.board.trouble(str(error))]
        self._show(lines)
        self._note_read()

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
            orders.GiveOrder: self._order,
            orders.ShowRoom: self._room,
            orders.TellNick: self._tell,
            orders.OpenTalk: lambda meaning: self._talks.go_to(meaning.nick),
            orders.Ignore: self._ignore,
            orders.Unignore: self._unignore,
        }
        return actions[type(meaning)](meaning)

    def _say(self, meaning: commands.Say) -> list[Line]:
        return self._post(meaning.text, meaning.kind)

    def _post(self, text: str, kind: str) -> list[Line]:
        room = self.current_room()
        if not room:
            raise self._not_joined("")
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
        with self.lock:
            view = self.board.find(meaning.room)
            if view is not None:
                return self.board.enter(view.name)
        room = self._client.find(meaning.room)
        if self._talks.is_nick(room):
            return self._talks.go_to(room[1:])
        with self.lock:
            before = self.board.current
            self.board.add(room)
            self.board.switch(room)  # At once, so that its history is not shown as another room's.
        try:
            self._client.join(room)
        except HubbubError:
            with self.lock:
                self.board.forget(room, is_put_out=not before)
                if before in self.board.rooms:
                    self.board.switch(before)
            raise
        return []

    def _part(self, meaning: commands.PartRoom) -> list[Line]:
        with self.lock:
            view = self.board.find(meaning.room or self.board.current)
            if view is None:
                raise self._not_joined(meaning.room or "")
            label = view.label
        self._client.part(view.name)
        with self.lock:
            self.board.forget(view.name)
            now_in = f", now in {self.board.label()}" if self.board.current else ""
            return [self.board.notice(f"you left {label}{now_in}")]

    def _switch(self, meaning: commands.SwitchRoom) -> list[Line]:
        with self.lock:
            room = meaning.room or self.board.next_room()
            if room is None:
                raise Refused(Code.NOT_MEMBER, "there is no other room; /join ROOM")
            view = self.board.find(room)
            if view is None:
                raise self._not_joined(room)
            return self.board.enter(view.name)

    def _rename(self, meaning: commands.ChangeNick) -> list[Line]:
        nick = self._client.rename(meaning.nick)
        with self.lock:
            self.board.nick = nick
            return [self.board.notice(f"you are {nick} now")]

    def _who(self, meaning: commands.ShowUsers) -> list[Line]:
        with self.lock:
            view = self.board.find(meaning.room or self.board.current)
            if view is None:
                raise self._not_joined(meaning.room or "")
        members = self._client.who(view.name)
        names = ", ".join(sorted(members.nicks, key=fold))
        more = members.users - len(members.nicks)
        rest = f" and {more} more" if more > 0 else ""
        users = render.users_text(members.users)
        return [self.board.notice(f"{view.label}, {users} now: {names}{rest}")]

    def _rooms(self, _: commands.ShowRooms) -> list[Line]:
        rooms, mine = self._client.rooms(), self._client.mine()
        with self.lock:
            self.board.known_rooms = {info.room for info in rooms} | {room.title for room in mine}
            texts = [render.room_text(info) for info in rooms]
            texts += [render.closed_room_text(room) for room in mine]
            return [self.board.notice(text) for text in texts]

    def _history(self, meaning: commands.ShowHistory) -> list[Line]:
        with self.lock:
            room = self.board.current
            view = self.board.rooms.get(room)
            if view is None:
                raise self._not_joined(room)
            before = view.seq_min
        entries = self._client.history(room, before=before, limit=meaning.count)
        with self.lock:
            if not entries:
                return [self.board.notice("there is nothing earlier")]
            view.seq_min = entries[0].seq
            lines = [
                self.board.entry_line(entry, view, is_elsewhere=False)
                for entry in entries
                if entry.nick not in self._ignored
            ]
            messages = "message" if len(entries) == 1 else "messages"
            return [
                self.board.notice(f"{len(entries)} earlier {messages} of {view.label}"),
                *lines,
                self.board.notice("back to now"),
            ]

    # --- doors and order ----------------------------------------------------
    def _order(self, meaning: orders.GiveOrder) -> list[Line]:
        room = self.current_room()
        if not room:
            raise self._not_joined("")
        action, nick = meaning.action, meaning.nick
        self._client.order(room, action, nick, meaning.value, meaning.reason)
        words = {  # Of all else the room itself tells.
            "invite": f"{nick} is invited",
            "uninvite": f"{nick} is not invited any more",
            "report": f"{nick} is reported to the moderators and the operators",
        }
        return [self.board.notice(words[action])] if action in words else []

    def _room(self, _: orders.ShowRoom) -> list[Line]:
        room = self.current_room()
        if not room:
            raise self._not_joined("")
        return [self.board.notice(line) for line in room_lines(self._client.join(room))]

    def _tell(self, meaning: orders.TellNick) -> list[Line]:
        room, lines = self._talks.open(meaning.nick)
        text = meaning.text
        self._receipts.add(Posted(text, "text", self._client.post(room, text)))
        return lines

    def _ignore(self, meaning: orders.Ignore) -> list[Line]:
        with self.lock:
            if meaning.nick is None:
                nicks = ", ".join(sorted(self._ignored.nicks)) or "nobody"
                return [self.board.notice(f"you ignore {nicks}")]
            self._ignored.add(meaning.nick)
            return [self.board.notice(f"nothing of {meaning.nick} is shown from here on")]

    def _unignore(self, meaning: orders.Unignore) -> list[Line]:
        with self.lock:
            if not self._ignored.remove(meaning.nick):
                raise Refused(Code.NO_SUCH_NICK, f"you do not ignore {meaning.nick}")
            return [self.board.notice(f"{meaning.nick} is shown again")]

    def _help(self, _: commands.ShowHelp) -> list[Line]:
        return [Line(line) for line in commands.help_lines()]

    def _wrong(self, meaning: commands.Wrong) -> list[Line]:
        raise Refused(Code.BAD_COMMAND, meaning.message)

    def _not_joined(self, room: str) -> Refused:
        return Refused(
            Code.NOT_MEMBER,
            f"you are not in {render.label(room)}; /join {room}"
            if room
            else f"you are in no room: {self.board.no_room_hint()}",
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
        """How many texts, orders and other commands were refused."""
        return self.refused_count + self._receipts.failed_count

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        """Close the client, which ends both threads."""
        self._errands.stop()
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
