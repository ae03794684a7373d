"""What a chat knows and shows: rooms, the current one, unread counts, words to complete. Pure.

Events and typed commands come in, lines to show go out. No I/O, no clock, no threads: whoever
has several threads guards the board (see `client.conversation`).
"""

from __future__ import annotations

import enum
from collections.abc import Iterable
from typing import NamedTuple

from client import commands, render
from client.events import Entry, Event, Joined, Left, Missing, Presence, Reset, Stalled, State
from client.render import Look
from common.limits import NICK_CHARS_MAX
from common.names import fold

SPEAKERS_MAX = 200  # Nicks kept for completion in a room too large for a list of its users.
COMPLETIONS_MAX = 50  # More than a menu shows.
JOINED_NAMES_SHOWN_MAX = 20  # In the line that greets on entry; /who lists everybody.

STATE_WORDS = {
    "connecting": "connecting",
    "online": "online",
    "offline": "offline, trying again",
    "closing": "the broker is closing",
    "refused": "refused",
}


class Sort(enum.Enum):
    """What a line is about: programs want entries alone, pipes want trouble elsewhere."""

    ENTRY = "entry"  # What somebody said.
    NOTICE = "notice"  # Presence and answers to commands.
    TROUBLE = "trouble"  # The connection, mistakes, what could not be done.


class Line(NamedTuple):
    """Something for the reader; `text` may hold newlines when an entry does."""

    text: str
    sort: Sort = Sort.NOTICE


class Completion(NamedTuple):
    """A word that could stand in place of the last `back_chars` characters."""

    word: str
    back_chars: int
    help: str = ""


class RoomView:
    """One joined room as the reader sees it."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.topic = ""
        self.users = 0
        self.nicks: set[str] | None = None  # None: too many for names.
        self.speakers: dict[str, None] = {}  # The latest speaker last.
        self.unread_count = 0
        self.seq_min: int | None = None  # The oldest entry shown.
        self.seq_max = 0  # The newest one.
        self.is_entered = False

    def note(self, entry: Entry) -> None:
        """Remember what completion, paging and the toolbar need of an entry."""
        self.seq_max = max(self.seq_max, entry.seq)
        self.seq_min = entry.seq if self.seq_min is None else min(self.seq_min, entry.seq)
        self.speakers.pop(entry.nick, None)
        self.speakers[entry.nick] = None
        if len(self.speakers) > SPEAKERS_MAX:
            del self.speakers[next(iter(self.speakers))]
        if entry.kind == "topic":
            self.topic = entry.text


class Board:
    """The state of one chat, and the lines that changes of it make."""

    def __init__(self, nick: str, look: Look, *, is_exposed: bool = False) -> None:
        self.nick = nick
        self.is_exposed = is_exposed  # Others on the network can read along.
        self.look = look
        self.rooms: dict[str, RoomView] = {}
        self.current = ""
        self.state = "online"
        self.unsent_count = 0
        self.known_rooms: set[str] = set()  # From /rooms, for completion.

    # --- events -------------------------------------------------------------
    def take(self, event: Event, now: int) -> list[Line]:
        """Take in an event; return the lines that it makes. `now` in milliseconds since 1970."""
        if isinstance(event, State):
            return self._take_state(event)
        if event.room not in self.rooms:  # Left meanwhile.
            return []
        lines: list[Line] = []
        match event:
            case Entry():
                lines = [self._take_entry(event)]
            case Presence():
                lines = self._take_presence(event, now)
            case Joined():
                lines = self._take_joined(event)
            case Left():
                self.forget(event.room)
            case Missing():
                what = "message is" if event.count == 1 else "messages are"
                words = (
                    f"#{event.room}: {event.count} {what} missing: not kept any more, or damaged"
                )
                lines = [self.trouble(words)]
            case Stalled(room, detail):
                lines = [self.trouble(f"#{room} stands still: {detail}; asking again")]
            case Reset():
                lines = self._take_reset(event)
        return lines

    def _take_entry(self, entry: Entry) -> Line:
        view = self.rooms[entry.room]
        view.note(entry)
        is_elsewhere = entry.room != self.current
        # Neither what was said before one came nor one's own words are unread.
        if is_elsewhere and view.is_entered and entry.nick != self.nick:
            view.unread_count += 1
        prefix = entry.room if is_elsewhere else ""
        return Line(render.entry_line(entry, self.look, prefix), Sort.ENTRY)

    def _take_presence(self, event: Presence, now: int) -> list[Line]:
        view = self.rooms[event.room]
        view.users = event.users
        if view.nicks is not None:
            view.nicks.difference_update(event.left, (old for old, _ in event.renamed))
            view.nicks.update(event.joined, (new for _, new in event.renamed))
        if event.room != self.current:  # The comings and goings elsewhere are noise here.
            return []
        news = Presence(  # One's own have been told already, as answers to commands.
            event.room,
            event.users,
            [nick for nick in event.joined if nick != self.nick],
            event.left,
            [names for names in event.renamed if names[1] != self.nick],
        )
        return [Line(text) for text in render.presence_lines(news, now, self.look)]

    def _take_joined(self, event: Joined) -> list[Line]:
        view = self.rooms[event.room]
        view.topic = event.topic
        view.users = event.users
        view.nicks = None if event.nicks is None else set(event.nicks)
        if view.is_entered:  # Only taken up again after a break.
            return []
        view.is_entered = True
        return self.room_lines(view, "you are in")

    def _take_reset(self, event: Reset) -> list[Line]:
        view = self.rooms[event.room]
        view.seq_min, view.seq_max = None, 0
        return [self.trouble(f"#{event.room}: the broker has another log now, starting over")]

    def _take_state(self, event: State) -> list[Line]:
        before, self.state = self.state, event.state
        text = ""
        match event.state:
            case _ if event.state == before:
                pass
            case "offline" if before != "closing":  # Closing has said it already.
                text = "connection lost, trying again"
            case "online" if before != "connecting":
                text = "connected again"
            case "closing":
                text = "the broker is closing"
            case "refused":
                text = f"the broker refuses: {event.detail}"
        return [self.trouble(text)] if text else []

    # --- what the person does -----------------------------------------------
    def add(self, room: str) -> None:
        """Take up a room that is about to be joined; the first one becomes current."""
        self.rooms.setdefault(room, RoomView(room))
        self.current = self.current or room

    def switch(self, room: str) -> None:
        """Make a room the current one; what was unread there is read."""
        self.current = room
        self.rooms[room].unread_count = 0

    def next_room(self) -> str | None:
        """Return the next room with something unread, or just the next one; None when alone."""
        names = list(self.rooms)
        if self.current not in names:
            return names[0] if names else None
        here = names.index(self.current)
        others = names[here + 1 :] + names[:here]
        unread = (name for name in others if self.rooms[name].unread_count)
        return next(unread, others[0] if others else None)

    def forget(self, room: str) -> None:
        """Drop a room that was left; another one becomes current."""
        self.rooms.pop(room, None)
        if room == self.current:
            self.current = ""
            if self.rooms:
                self.switch(next(reversed(self.rooms)))

    # --- what the prompt shows ----------------------------------------------
    def toolbar(self) -> list[tuple[str, str]]:
        """Return (style class, text) parts: room, users, connection, dangers, unsent, unread."""
        view = self.rooms.get(self.current)
        parts = [("class:room", f" #{self.current}" if view else " no room: /join ROOM")]
        if view:
            parts.append(("", f"  {render.users_text(view.users)}"))
        style = "" if self.state == "online" else "class:trouble"
        parts += [("", "  "), (style, STATE_WORDS.get(self.state, render.safe(self.state)))]
        if self.is_exposed:
            parts += [("", "  "), ("class:trouble", "NOT ENCRYPTED")]
        if self.unsent_count:
            parts += [("", "  "), ("class:trouble", f"{self.unsent_count} not sent yet")]
        parts += [
            ("class:unread", f"  #{other.name} {other.unread_count}")
            for other in self.rooms.values()
            if other.unread_count and other.name != self.current
        ]
        return parts

    def complete(self, text: str) -> list[Completion]:
        """Return what the end of a half-typed line could become; no word that is unsafe to draw."""
        return [found for found in self._completions(text) if found.word.isprintable()]

    def _completions(self, text: str) -> list[Completion]:
        if text.startswith("/") and not text.startswith("//"):
            name, space, argument = text.partition(" ")
            if not space:
                found = [c for c in commands.COMMANDS if c.name.startswith(name.lower())]
                return [
                    Completion(f"{c.name} " if c.argument else c.name, len(name), c.help)
                    for c in found
                ]
            command = commands.BY_NAME.get(name.lower())
            if command and command.completes:
                return self._complete_room(argument, command.completes)
        return self._complete_nick(text)

    def _complete_room(self, argument: str, which: str) -> list[Completion]:
        names: Iterable[str] = self.rooms
        if which == "room":
            names = self.known_rooms | set(self.rooms)
        start = fold(argument.removeprefix("#"))
        found = sorted(name for name in names if name.startswith(start))
        return [Completion(name, len(argument)) for name in found[:COMPLETIONS_MAX]]

    def _complete_nick(self, text: str) -> list[Completion]:
        word = text.rpartition(" ")[2]
        view = self.rooms.get(self.current)
        start = fold(word.removeprefix("@"))
        if not view or not start or len(start) > NICK_CHARS_MAX:
            return []
        # Who spoke last is who is answered next.
        nicks = dict.fromkeys([*reversed(view.speakers), *sorted(view.nicks or ())])
        found = [nick for nick in nicks if fold(nick).startswith(start) and nick != self.nick]
        at_start = word == text
        at = "@" if word.startswith("@") else ""
        return [
            Completion(f"{at}{nick}{': ' if at_start and not at else ''}", len(word))
            for nick in found[:COMPLETIONS_MAX]
        ]

    # --- lines --------------------------------------------------------------
    def room_lines(self, view: RoomView, verb: str) -> list[Line]:
        """Return where one is, who is there and what it is about."""
        names = ""
        if view.nicks:
            shown = render.names_text(sorted(view.nicks, key=fold), JOINED_NAMES_SHOWN_MAX)
            names = f": {shown}"
        lines = [self.notice(f"{verb} #{view.name}, {render.users_text(view.users)} now{names}")]
        if view.topic:
            lines.append(self.notice(f"topic: {view.topic}"))
        return lines

    def notice(self, text: str) -> Line:
        """Return a line of the program's own; makes the text safe."""
        return Line(render.dim(f"--- {render.safe(text)}", self.look))

    def trouble(self, text: str) -> Line:
        """Return a line about something that went wrong, without colour; makes the text safe."""
        return Line(render.safe(text), Sort.TROUBLE)
