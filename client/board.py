"""What a chat knows and shows: rooms, the current one, unread counts, words to complete. Pure.

Events and typed commands come in, lines to show go out. No I/O, no clock, no threads: whoever
has several threads guards the board (see `client.conversation`).
"""

from __future__ import annotations

import enum
from collections import deque
from collections.abc import Callable, Container, Iterable
from typing import Any, NamedTuple

from client import commands, render, tidings
from client.directory import the_only
from client.events import (
    Entry,
    Event,
    Joined,
    Left,
    Missing,
    Moved,
    Presence,
    Removed,
    Reset,
    Stalled,
    State,
    Told,
)
from client.limits import HELD_LINES_MAX
from client.notices import SENT_AWAY
from client.render import Look
from client.shown import Place, Shown
from common.errors import Code, Refused
from common.limits import NICK_CHARS_MAX
from common.names import fold, is_closed, is_talk

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
    REMOVAL = "removal"  # A text that was shown is removed.


class Line(NamedTuple):
    """Something for the reader; `text` may hold newlines when an entry does."""

    text: str
    sort: Sort = Sort.NOTICE
    place: Place | None = None  # Of the entry that it shows, or whose removal it tells.
    instead: str = ""  # REMOVAL: what may stand in place of the entry's line; else `text` tells.


class Completion(NamedTuple):
    """A word that could stand in place of the last `back_chars` characters."""

    word: str
    back_chars: int
    help: str = ""


class RoomView:
    """One joined room as the reader sees it."""

    def __init__(self, name: str, title: str = "", *, is_silent: bool = False) -> None:
        self.name = name
        self.title = title  # What people call a closed room.
        # Somebody else began the talk, and it was not looked at: its lines wait, and count.
        self.is_silent = is_silent
        self.held: deque[Line] = deque(maxlen=HELD_LINES_MAX)
        self.topic = ""
        self.users = 0
        self.nicks: set[str] | None = None  # None: too many for names.
        self.speakers: dict[str, None] = {}  # The latest speaker last.
        self.unread_count = 0
        self.seq_min: int | None = None  # The oldest entry shown.
        self.seq_max = 0  # The newest one.
        self.is_entered = False

    @property
    def label(self) -> str:
        """What the room is called in a line, unsafe as others made it."""
        return self.title or f"#{self.name}"

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

    def __init__(
        self,
        nick: str,
        look: Look,
        ignored: Container[str] = (),
        *,
        is_exposed: bool = False,
    ) -> None:
        self.nick = nick
        self.is_exposed = is_exposed  # Others on the network can read along.
        self.look = look
        self.ignored = ignored
        self.talks_expected = 0  # So many were asked for, whose names are not known yet.
        self.rooms: dict[str, RoomView] = {}
        self.current = ""
        self.state = "online"
        self.is_waiting = False  # Refused, and trying again when the time is over.
        self.unsent_count = 0
        self.known_rooms: set[str] = set()  # From /rooms, for completion.
        self.is_put_out = False  # Somebody put us out of the current room: we say where to go.
        self._shown = Shown()
        self._sent_from = ""  # The room that a notice has just said we were sent away from.
        self._takes: dict[type[Event], Callable[[Any], list[Line]]] = {
            Entry: self._take_entry,
            Joined: self._take_joined,
            Left: self._take_left,
            Moved: self._take_moved,
            Removed: self._take_removed,
            Missing: self._take_missing,
            Stalled: self._take_stalled,
            Reset: self._take_reset,
        }

    # --- events -------------------------------------------------------------
    def take(self, event: Event, now: int) -> list[Line]:
        """Take in an event; return the lines that it makes. `now` in milliseconds since 1970."""
        if isinstance(event, State):
            return self._take_state(event)
        if isinstance(event, Told):
            return self._take_told(event)
        if event.room not in self.rooms:
            if not self.talks_expected or not is_talk(event.room):  # Left meanwhile.
                return []
            self.add(event.room, is_silent=True)  # Until the call that opens it returns.
        if isinstance(event, Presence):
            return self._take_presence(event, now)
        return self._takes[type(event)](event)

    def _take_missing(self, event: Missing) -> list[Line]:
        what = "message is" if event.count == 1 else "messages are"
        label = self.rooms[event.room].label
        words = f"{label}: {event.count} {what} missing: not kept any more, or damaged"
        return [self.trouble(words)]

    def _take_stalled(self, event: Stalled) -> list[Line]:
        label = self.rooms[event.room].label
        return [self.trouble(f"{label} stands still: {event.detail}; asking again")]

    def _take_entry(self, entry: Entry) -> list[Line]:
        view = self.rooms[entry.room]
        view.note(entry)
        if entry.nick in self.ignored:
            return []
        is_elsewhere = entry.room != self.current
        # Neither what was said before one came nor one's own words are unread.
        is_news = view.is_entered or view.is_silent
        if is_elsewhere and is_news and entry.nick != self.nick:
            view.unread_count += 1
        line = self.entry_line(entry, view, is_elsewhere=is_elsewhere and not view.is_silent)
        if not view.is_silent:
            return [line]
        view.held.append(line)
        if is_news and view.unread_count == 1 and not self.talks_expected:
            words = f"{entry.nick} says something to you: /switch {view.label}"
            return [self.notice(words)] if entry.nick != self.nick else []
        return []

    def entry_line(self, entry: Entry, view: RoomView, *, is_elsewhere: bool) -> Line:
        """Return the line that shows an entry."""
        prefix = (view.title or view.name) if is_elsewhere else ""
        self._shown.note(entry, prefix)
        text = render.entry_line(entry, self.look, prefix)
        return Line(text, Sort.ENTRY, (entry.room, entry.seq))

    def _take_removed(self, event: Removed) -> list[Line]:
        view, place = self.rooms[event.room], (event.room, event.seq)
        marked = self._shown.mark(place, render.safe(view.label), self.look)
        held = [line.place for line in view.held]
        if marked.instead and place in held:
            index = held.index(place)
            view.held[index] = view.held[index]._replace(text=marked.instead)
        text = marked.line
        if self.look.is_json:
            text = render.json_line(render.removed_as_json(event))
        return [Line(text, Sort.REMOVAL, place, marked.instead)]

    def _take_told(self, told: Told) -> list[Line]:
        if told.nick in self.ignored and told.code == "invited":
            return []
        text = tidings.told_text(told)
        if text and told.code in SENT_AWAY:
            self._sent_from = told.room
        return [self.notice(text)] if text else []

    def _take_left(self, left: Left) -> list[Line]:
        label = self.rooms[left.room].label
        was_current = left.room == self.current
        self.forget(left.room, is_put_out=bool(left.code))
        lines = []
        if left.code and left.room != self._sent_from:
            reason = f": {left.reason}" if left.reason else ""
            lines.append(self.trouble(f"you are not in {label} any more{reason}"))
        self._sent_from = ""
        if left.code and was_current:
            lines.append(self.notice(f"in no room: {self.no_room_hint()}"))
        return lines

    def _take_moved(self, moved: Moved) -> list[Line]:
        before = self.rooms[moved.room].label
        self._shown.move(moved.room, moved.to)
        rooms = {}
        for name, view in self.rooms.items():
            if name == moved.room:
                view.name, view.title = moved.to, moved.title
            rooms[view.name] = view
        self.rooms = rooms
        if self.current == moved.room:
            self.current = moved.to
        if is_closed(moved.to):
            return [self.notice(f"{before} is private now, and called {moved.title}")]
        return [self.notice(f"{before} is open to all now, and called #{moved.to}")]

    def _take_presence(self, event: Presence, now: int) -> list[Line]:
        view = self.rooms[event.room]
        view.users = event.users
        if event.nicks is not None:
            view.nicks = set(event.nicks)
        elif view.nicks is not None:
            view.nicks.difference_update(event.left, (old for old, _ in event.renamed))
            view.nicks.update(event.joined, (new for _, new in event.renamed))
        for old, new in event.renamed if is_talk(event.room) else ():
            view.title = f"@{new}" if view.title == f"@{old}" else view.title
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
        view.title = event.title
        if view.is_entered:  # Only taken up again after a break.
            return []
        view.is_entered = True
        return [] if view.is_silent else self.room_lines(view, "you are in")

    def _take_reset(self, event: Reset) -> list[Line]:
        view = self.rooms[event.room]
        view.seq_min, view.seq_max = None, 0
        return [self.trouble(f"{view.label}: the broker has another log now, starting over")]

    def _take_state(self, event: State) -> list[Line]:
        before, self.state = self.state, event.state
        was_waiting, self.is_waiting = self.is_waiting, event.wait_s > 0
        text = ""
        match event.state:
            case _ if event.state == before and was_waiting == self.is_waiting:
                pass
            case "refused" if event.wait_s:
                text = f"the broker refuses: {event.detail}; trying again by itself"
            case "offline" if before != "closing":  # Closing has said it already.
                text = "connection lost, trying again"
            case "online" if before != "connecting":
                text = "connected again"
            case "closing":
                text = "the broker is closing"
            case "refused":
                text = f"the broker refuses: {event.detail}; /quit leaves, /nick NAME tries again"
        return [self.trouble(text)] if text else []

    # --- what the person does -----------------------------------------------
    def add(self, room: str, title: str = "", *, is_silent: bool = False) -> RoomView:
        """Take up a room that is about to be joined; the first one becomes current.

        A silent one waits until somebody switches to it; programs have to see all at once.
        """
        is_silent = is_silent and not self.look.is_json
        view = self.rooms.setdefault(room, RoomView(room, title, is_silent=is_silent))
        view.title = title or view.title
        if not view.is_silent and not self.is_put_out:
            self.current = self.current or room
        return view

    def find(self, address: str) -> RoomView | None:
        """Return the room that is called so, here; raise `Refused` when several are."""
        if address in self.rooms:
            return self.rooms[address]
        if not is_closed(address):
            return None
        names = [v.name for v in self.rooms.values() if v.title and fold(v.title) == fold(address)]
        return self.rooms[the_only(names, address, Refused(Code.NOT_MEMBER))] if names else None

    def label(self, room: str = "") -> str:
        """Return what a room is called, the current one unless told; safe to show."""
        view = self.rooms.get(room or self.current)
        return render.safe(view.label) if view else render.label(room)

    def enter(self, room: str) -> list[Line]:
        """Make a room the current one, and return where one is, with what was held back."""
        self.switch(room)
        view = self.rooms[room]
        return [*self.room_lines(view, "now in"), *self.release(view)]

    def release(self, view: RoomView) -> list[Line]:
        """Return what was held back of a silent talk; it is none from here on."""
        view.is_silent = False
        lines = list(view.held)
        view.held.clear()
        return lines

    def switch(self, room: str) -> None:
        """Make a room the current one; what was unread there is read."""
        self.current = room
        self.is_put_out = False
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

    def forget(self, room: str, *, is_put_out: bool = False) -> None:
        """Drop a room that was left; another one becomes current.

        None does for who was put out: what is being typed was not meant for another room.
        """
        self.rooms.pop(room, None)
        if room == self.current:
            self.current = ""
            self.is_put_out = is_put_out
            heard = [name for name, view in self.rooms.items() if not view.is_silent]
            if heard and not is_put_out:
                self.switch(heard[-1])

    def no_room_hint(self) -> str:
        """Return how somebody who is in no room gets into one."""
        return "/switch ROOM" if self.rooms else "/join ROOM"

    # --- what the prompt shows ----------------------------------------------
    def toolbar(self) -> list[tuple[str, str]]:
        """Return (style class, text) parts: room, users, connection, dangers, unsent, unread."""
        view = self.rooms.get(self.current)
        parts = [("class:room", f" {self.label()}" if view else f" no room: {self.no_room_hint()}")]
        if view:
            if is_closed(view.name):
                parts.append(("", "  private"))
            parts.append(("", f"  {render.users_text(view.users)}"))
        style = "" if self.state == "online" else "class:trouble"
        state = STATE_WORDS.get(self.state, render.safe(self.state))
        parts += [("", "  "), (style, f"{state}, trying again" if self.is_waiting else state)]
        if self.is_exposed:
            parts += [("", "  "), ("class:trouble", "NOT ENCRYPTED")]
        if self.unsent_count:
            parts += [("", "  "), ("class:trouble", f"{self.unsent_count} not sent yet")]
        parts += [
            ("class:unread", f"  {render.safe(other.label)} {other.unread_count}")
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
        names: Iterable[str] = {view.title or view.name for view in self.rooms.values()}
        if which == "room":
            names = self.known_rooms | set(names)
        start = fold(argument.removeprefix("#"))
        found = sorted(name for name in names if fold(name).startswith(start))
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
        lines = [self.notice(f"{verb} {view.label}, {render.users_text(view.users)} now{names}")]
        if view.topic:
            lines.append(self.notice(f"topic: {view.topic}"))
        return lines

    def notice(self, text: str) -> Line:
        """Return a line of the program's own; makes the text safe."""
        return Line(render.dim(f"--- {render.safe(text)}", self.look))

    def trouble(self, text: str) -> Line:
        """Return a line about something that went wrong, without colour; makes the text safe."""
        return Line(render.safe(text), Sort.TROUBLE)
