"""The sub-commands for scripts: send, tail, history, rooms, who, status.

Each takes the arguments and returns the exit status. Data goes to standard output, a burst in one
write; everything else goes to standard error.
"""

from __future__ import annotations

import contextlib
import select
import sys
import time
from collections.abc import Callable, Iterable

from client import render
from client.api import Client
from client.arguments import EXIT_FAILED, EXIT_PIPE_CLOSED, EXIT_UNREACHABLE, Arguments
from client.events import (
    Entry,
    Event,
    Joined,
    Left,
    Missing,
    Moved,
    Removed,
    Reset,
    Sent,
    Stalled,
    State,
)
from client.lines import BadLine, read_lines
from client.login import complain, invitation, open_for_reading, open_for_script, str_of
from client.receipts import Posted, Receipts
from client.render import Look
from common.errors import Code, HubbubError, Refused
from common.limits import HISTORY_ENTRIES_MAX
from common.names import fold, is_closed

PATIENCE_TIMEOUTS = 10  # So many time-outs without any acknowledgement: a restart takes less.
# How a reader ends whom somebody sent away: as one to whom the room is not open.
LEFT_CODES = {
    "kicked": Code.NOT_INVITED,
    "uninvited": Code.NOT_INVITED,
    "banned": Code.BANNED,
}
PIPE_CHECK_S = 1.0  # How soon `tail` notices that its reader is gone while nothing is said.


def look_of(arguments: Arguments) -> Look:
    """Return how to print: colours on a terminal or on demand."""
    is_colored = arguments.color == "always" or (
        arguments.color == "auto" and sys.stdout.isatty() and not arguments.is_json
    )
    return Look(color=is_colored, is_json=arguments.is_json)


def write(lines: Iterable[str]) -> None:
    """Print lines at once, and now."""
    text = "".join(f"{line}\n" for line in lines)
    if text:
        sys.stdout.write(text)
        sys.stdout.flush()


# --- send -------------------------------------------------------------------
def send(arguments: Arguments) -> int:
    """Say TEXT, or each line of standard input; 0 only when all is acknowledged."""
    with open_for_script(arguments) as client:
        room = client.join(arguments.rooms[0], history=0).room
        printer = _ReceiptPrinter(client.nick, is_json=arguments.is_json)
        receipts = Receipts(printer.print_kept, printer.print_failed)
        try:
            failed_count = _post_all(client, room, arguments, receipts)
            unsent = receipts.wait(arguments.timeout_s * PATIENCE_TIMEOUTS)
            if is_closed(room) and printer.seq_max:  # Who writes there has read it.
                with contextlib.suppress(HubbubError):  # It only counts as unread.
                    client.read(room, printer.seq_max).result(arguments.timeout_s)
        finally:
            client.close()
            receipts.stop()
    if unsent:
        complain(f"{len(unsent)} not acknowledged, the first of them: {unsent[0]}")
        return EXIT_UNREACHABLE
    if printer.failure:
        raise printer.failure
    if receipts.end is not None:
        return receipts.end.exit_status  # With each text it was told why.
    return EXIT_FAILED if failed_count + receipts.failed_count else 0


class _ReceiptPrinter:
    """Tells what became of each text. Called by the thread of the receipts."""

    def __init__(self, nick: str, *, is_json: bool) -> None:
        self.failure: OSError | None = None  # Of our output; all is sent all the same.
        self.seq_max = 0  # Of what is in the log.
        self._nick = nick
        self._is_json = is_json

    def print_kept(self, posted: Posted, sent: Sent) -> None:
        self.seq_max = max(self.seq_max, sent.seq)
        if not self._is_json or self.failure:
            return
        entry = Entry(sent.room, sent.seq, sent.ts, posted.kind, self._nick, posted.text)
        try:
            write([render.json_line(render.as_json(entry))])
        except OSError as error:
            self.failure = error

    def print_failed(self, posted: Posted, error: Exception) -> None:
        complain(f"not sent: {posted.text} ({error})")


def _post_all(client: Client, room: str, arguments: Arguments, receipts: Receipts) -> int:
    """Post each text without waiting; return how many could not be."""
    failed_count = 0
    texts = read_lines(sys.stdin.buffer) if arguments.text is None else [arguments.text]
    for text in texts:
        if receipts.end is not None:
            break
        if isinstance(text, BadLine):
            failed_count += 1
            complain(f"line {text.number} was not sent: it is {text.reason}")
        elif text.strip():  # A blank line says nothing.
            try:
                receipts.add(Posted(text, "text", client.post(room, text)))
            except (Refused, ValueError) as error:
                failed_count += 1
                complain(f"not sent: {text} ({error})")
    return failed_count


# --- tail -------------------------------------------------------------------
def tail(arguments: Arguments) -> int:
    """Print entries as they come, until --count of them, or until interrupted."""
    look = look_of(arguments)
    left_count = arguments.limit
    with _open_for(arguments) as client:
        titles = _Titles()
        for room in arguments.rooms:
            if arguments.since.seconds is not None:
                since_ms = int((time.time() - arguments.since.seconds) * 1000)
                titles.take(client.join(room, since_ms=max(since_ms, 0)))
            else:
                titles.take(client.join(room, history=arguments.since.entries))
        while left_count is None or left_count > 0:
            burst = client.next_burst(PIPE_CHECK_S)
            if not burst and _is_reader_gone():
                return EXIT_PIPE_CLOSED
            for event in burst:
                titles.take(event)
            entries = [event for event in burst if isinstance(event, Entry)][:left_count]
            prefix = len(arguments.rooms) > 1
            write(render.entry_line(e, look, titles.of(e.room) if prefix else "") for e in entries)
            if left_count is not None:
                left_count -= len(entries)
            for event in burst:
                _tell(event, titles, look)
    return 0


class _Titles:
    """What people call the rooms that are followed."""

    def __init__(self) -> None:
        self._titles: dict[str, str] = {}

    def take(self, event: Event) -> None:
        """Note what a room is called."""
        match event:
            case Joined(room=room, title=title) | Moved(to=room, title=title):
                self._titles[room] = title or room

    def of(self, room: str) -> str:
        """Return the title of a room, or its name."""
        return self._titles.get(room, room)


def _open_for(arguments: Arguments) -> Client:
    """Connect to read; to closed rooms under one's own name, for they are open to no other."""
    is_own = any(is_closed(room) for room in arguments.rooms)
    return open_for_script(arguments) if is_own else open_for_reading(arguments)


def _tell(event: Event, titles: _Titles, look: Look) -> None:
    """Tell what a reader must know about gaps, about the connection, and about its rooms."""
    label = render.label(titles.of(getattr(event, "room", "")))
    match event:
        case Missing(count=count):
            complain(f"{label}: {count} entries are missing: not kept any more, or damaged")
        case Reset():
            complain(f"{label}: the broker has another log now, starting over")
        case Stalled(detail=detail):
            complain(f"{label} stands still: {detail}; asking again")
        case Removed() if look.is_json:
            write([render.json_line(render.removed_as_json(event))])
        case Removed(seq=seq):
            complain(f"{label}: message {seq} was removed by an operator")
        case Moved(to=to, title=title):
            complain(f"{label} is called {render.label(title or to)} now")
        case Left(code=code, reason=reason) if code:
            raise Refused(LEFT_CODES.get(code, code), f"no longer in {label}: {reason or code}")
        case State(state="refused", detail=detail, wait_s=wait_s) if wait_s:
            complain(f"{detail}; trying again by itself")
        case State(state=state, detail=detail):
            _tell_state(state, detail)


def _tell_state(state: str, detail: str) -> None:
    match state:
        case "offline":
            complain("connection lost, trying again")
        case "closing":
            complain("the broker is closing")
        case "refused":
            raise Refused(Code.NICK_TAKEN, detail)


def _is_reader_gone() -> bool:
    """Tell whether standard output is a pipe or socket that nobody reads any more."""
    poller = select.poll()
    poller.register(sys.stdout.fileno(), 0)  # Errors and hang-ups are reported unasked.
    return bool(poller.poll(0))


# --- history, rooms, who, status --------------------------------------------
def history(arguments: Arguments) -> int:
    """Print the last entries of a room, or the last ones before a seq, oldest first."""
    look, room = look_of(arguments), arguments.rooms[0]
    pages: list[list[Entry]] = []
    before, wanted_count = arguments.before, arguments.entries
    with _open_for(arguments) as client:
        room = client.join(room, history=0).room
        while wanted_count > 0 and before != 1:
            page = client.history(room, before=before, limit=min(wanted_count, HISTORY_ENTRIES_MAX))
            if not page:
                break
            pages.append(page)
            before, wanted_count = page[0].seq, wanted_count - len(page)
    for page in reversed(pages):
        write(render.entry_line(entry, look) for entry in page)
    return 0


def rooms(arguments: Arguments) -> int:
    """Print the rooms: name, users, entries so far, topic; then the closed ones that are one's."""
    with open_for_reading(arguments) as client:
        found, mine = client.rooms(), client.mine()
    if arguments.is_json:
        fields = ("room", "users", "head", "topic")
        write(render.json_line({f: getattr(info, f) for f in fields}) for info in found)
        closed_fields = ("room", "title", "head", "read")
        write(render.json_line({f: getattr(room, f) for f in closed_fields}) for room in mine)
    else:
        write(render.room_text(info) for info in found)
        write(render.closed_room_text(room) for room in mine)
    return 0


def who(arguments: Arguments) -> int:
    """Print who is in a room, without counting the one who asks; in a closed one, all."""
    room = arguments.rooms[0]
    with _open_for(arguments) as client:
        users_before = next((info.users for info in client.rooms() if info.room == room), 0)
        joined = client.join(room, history=0)
        room = joined.room
        nicks = list(client.who(room).nicks)
        is_counted = not is_closed(room)  # Of closed rooms nobody tells who was there before.
        if is_counted and joined.users > users_before and client.nick in nicks:
            nicks.remove(client.nick)  # It is there only to ask.
    nicks.sort(key=fold)
    if arguments.is_json:
        write(render.json_line({"room": room, "nick": nick}) for nick in nicks)
    else:
        write(render.safe(nick) for nick in nicks)
    return 0


def status(arguments: Arguments) -> int:
    """Print whether the broker is up, and how it is; 69 when nobody answers."""
    import zmq

    from client import api
    from common.version import VERSION

    greeting = api.ask_status(invitation(arguments), arguments.timeout_s, tell=complain)
    if arguments.is_json:
        fields = {
            "broker": str_of(arguments),
            **{
                name: getattr(greeting, name) for name in greeting.__struct_fields__ if name != "id"
            },
        }
        write([render.json_line(fields)])
        return 0
    write(
        render.safe(line)
        for line in (
            f"up       {str_of(arguments)}, for {duration_text(greeting.uptime_s)}",
            f"protocol {greeting.protocol}",
            f"clients  {greeting.clients} of at most {greeting.clients_max}",
            f"rooms    {greeting.rooms}",
            f"broker   {greeting.program}, pyzmq {greeting.pyzmq}, libzmq {greeting.libzmq}",
            f"client   {VERSION}, pyzmq {zmq.__version__}, libzmq {zmq.zmq_version()}",
        )
    )
    return 0


def duration_text(seconds: int) -> str:
    """Return "3 d 4 h", "5 min 2 s", ...: the two largest units."""
    units = (("d", 86_400), ("h", 3_600), ("min", 60), ("s", 1))
    parts: list[str] = []
    for name, size_s in units:
        count, seconds = divmod(seconds, size_s)
        if count or (name == "s" and not parts):
            parts.append(f"{count} {name}")
    return " ".join(parts[:2])


BY_NAME: dict[str, Callable[[Arguments], int]] = {
    "send": send,
    "tail": tail,
    "history": history,
    "rooms": rooms,
    "who": who,
    "status": status,
}
