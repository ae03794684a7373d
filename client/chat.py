"""The chat on a terminal: a prompt at the bottom, what is said above it in the scrollback.

The caller's thread draws the prompt and takes keys; nothing there waits for the broker. Typed
lines go through a bounded queue to the thread `act`, which does what they mean, in order.
"""

from __future__ import annotations

import contextlib
import os
import queue
import signal
import sys
import threading
import time
from collections import deque
from collections.abc import Iterable, Sequence
from types import FrameType

from prompt_toolkit.application import Application
from prompt_toolkit.buffer import Buffer
from prompt_toolkit.completion import CompleteEvent, Completer, Completion
from prompt_toolkit.document import Document
from prompt_toolkit.filters import Condition
from prompt_toolkit.formatted_text import StyleAndTextTuples
from prompt_toolkit.history import InMemoryHistory
from prompt_toolkit.key_binding import KeyBindings, KeyPressEvent
from prompt_toolkit.keys import Keys
from prompt_toolkit.layout import BufferControl, FormattedTextControl, HSplit, Layout, Window
from prompt_toolkit.layout.menus import CompletionsMenu
from prompt_toolkit.layout.processors import BeforeInput
from prompt_toolkit.output import ColorDepth
from prompt_toolkit.output.vt100 import Vt100_Output
from prompt_toolkit.styles import Style
from prompt_toolkit.widgets import SearchToolbar

from client import commands, render
from client.arguments import EXIT_FAILED, Arguments
from client.board import Board, Line, Sort
from client.commands import Meaning
from client.conversation import Conversation
from client.login import complain, load_ignored, open_for_chat
from client.page import Page
from client.render import Look
from client.subcommands import look_of
from common.limits import HISTORY_DEFAULT

LINES_WAITING_MAX = 2_000  # Before the terminal: then events wait in the client, which is bounded.
MEANINGS_WAITING_MAX = 10_000  # A pasted file; further lines are refused, and told.
SETTLE_S = 2.0  # At leaving, for what was said last.
MENU_LINES_MAX = 6
LEAVING_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
STYLE = Style.from_dict(
    {
        "bottom-toolbar": "reverse",
        "bottom-toolbar room": "bold",
        "bottom-toolbar unread": "bold",
        "bottom-toolbar trouble": "bold",
    }
)


def run(arguments: Arguments) -> int:
    """Chat until the person leaves; return the exit status."""
    with open_for_chat(arguments, is_interactive=True) as client:
        look = look_of(arguments)
        board = Board(client.nick, look, is_exposed=client.is_exposed)
        screen = Screen(look)
        conversation = Conversation(
            client, board, screen.show, lambda: time.time_ns() // 10**6, load_ignored()
        )
        prompt = Prompt(conversation, screen, look)
        with conversation:
            conversation.start(arguments.rooms, HISTORY_DEFAULT)
            status = prompt.run()
            not_done = prompt.finish()
            unsent = conversation.settle(SETTLE_S)
    for text in [*unsent, *not_done]:
        complain(f"not acknowledged: {text}")
    return EXIT_FAILED if unsent or not_done else status


class Screen:
    """What stands above the prompt. `show` may be called from any thread; the prompt's draws.

    Lines gather while others are drawn, and a burst becomes one write.
    """

    def __init__(self, look: Look) -> None:
        self._look = look
        self._changed = threading.Condition()
        self._lines: deque[str] = deque()
        self._page = Page()  # What was written last, in case a text of it is removed.
        self._app: Application[int] | None = None  # The prompt, while there is one.
        self._is_woken = False

    def show(self, lines: Sequence[Line]) -> None:
        """Show lines above the prompt; waits while too many are not drawn yet."""
        with self._changed:
            self._changed.wait_for(
                lambda: self._app is None or len(self._lines) < LINES_WAITING_MAX
            )
            self._add(lines)

    def show_now(self, lines: Sequence[Line]) -> None:
        """Show lines without waiting, for the thread that draws."""
        with self._changed:
            self._add(lines)

    def begin(self, app: Application[int]) -> None:
        """Draw above a prompt from here on."""
        with self._changed:
            self._app = app

    def end(self) -> None:
        """Draw directly again; the prompt is gone."""
        with self._changed:
            self._app = None
            self._write()
            self._changed.notify_all()

    def _add(self, lines: Sequence[Line]) -> None:
        for line in lines:
            # A terminal's scrollback is its own: what is there stays.
            if line.sort is Sort.REMOVAL and (stood := self._page.mark(line.place, line.instead)):
                waiting = [line.instead if each in stood else each for each in self._lines]
                self._lines = deque(waiting)
            else:
                text = self._text(line)
                self._lines.append(text)
                self._page.add(text, line.place)
        if self._app is None:
            self._write()
        elif not self._is_woken and self._app.loop is not None:
            # A loop that has just been closed leaves the lines to `end`.
            with contextlib.suppress(RuntimeError):
                self._app.loop.call_soon_threadsafe(self._draw)
                self._is_woken = True

    def _draw(self) -> None:
        """Write what is waiting above the prompt, or just bring the toolbar up to date."""
        with self._changed:
            self._is_woken = False
            app = self._app
            if app is None or app.is_done or not (self._lines or self._page.is_stale):
                if app is not None:
                    app.invalidate()
                return
            # Not run_in_terminal: that lets the terminal echo keys while it writes, and waits
            # for the terminal to tell where its cursor is.
            app.renderer.erase(leave_alternate_screen=False)
            self._write()
            if self._page.is_stale:
                size = app.output.get_size()
                self._lines.append(self._page.redrawn(size.rows, size.columns))
                self._write()
            app.renderer.reset(leave_alternate_screen=False)
            app.render_counter += 1  # Or else the toolbar of the last drawing is taken.
            app.renderer.render(app, app.layout)
            self._changed.notify_all()

    def _write(self) -> None:
        if self._lines:
            # A terminal that went away is noticed by the prompt.
            with contextlib.suppress(OSError):
                sys.stdout.write("".join(f"{line}\n" for line in self._lines))
                sys.stdout.flush()
            self._lines.clear()

    def _text(self, line: Line) -> str:
        if line.sort is not Sort.TROUBLE:
            return line.text
        return render.warning(f"--- {line.text}", self._look)


class Prompt:
    """The line that is typed, and the toolbar under it."""

    def __init__(self, conversation: Conversation, screen: Screen, look: Look) -> None:
        self._conversation = conversation
        self._screen = screen
        self._meanings: queue.Queue[Meaning | None] = queue.Queue(MEANINGS_WAITING_MAX)
        self._actor = threading.Thread(target=self._act, name="act", daemon=True)
        self._signal_status: int | None = None  # Of the signal that asked to leave.
        self._buffer = Buffer(
            completer=Words(conversation),
            history=InMemoryHistory(),
            multiline=False,
            accept_handler=self._accept,
        )
        output = Vt100_Output.from_pty(sys.stdout, term=os.environ.get("TERM"))
        output.enable_cpr = False  # Where the cursor is does not matter here.
        self._app: Application[int] = Application(
            layout=self._layout(),
            key_bindings=self._bindings(),
            style=STYLE,
            color_depth=None if look.color else ColorDepth.DEPTH_1_BIT,
            erase_when_done=True,
            output=output,
        )

    def run(self) -> int:
        """Take lines until the person leaves; return the exit status."""
        self._actor.start()
        former = {number: signal.signal(number, self._leave) for number in LEAVING_SIGNALS}
        try:
            # SIGINT is ours: prompt_toolkit would import ctypes for it, 3 ms and 0.4 MB.
            return self._app.run(pre_run=self._begin, handle_sigint=False)
        except EOFError:  # The terminal went away.
            return 0
        finally:
            self._screen.end()
            for number, handler in former.items():
                signal.signal(number, handler)

    def _begin(self) -> None:
        self._screen.begin(self._app)
        if self._signal_status is not None and self._app.loop is not None:
            self._app.loop.call_soon(self._exit, self._signal_status)

    def finish(self) -> list[str]:
        """Do what was typed before leaving; return the texts that were not even begun."""
        with contextlib.suppress(queue.Full):
            self._meanings.put_nowait(None)
        self._actor.join(SETTLE_S)
        texts = []
        with contextlib.suppress(queue.Empty):
            while True:
                meaning = self._meanings.get_nowait()
                if isinstance(meaning, commands.Say):
                    texts.append(meaning.text)
        return texts

    def _act(self) -> None:
        """Do what lines mean, one after the other. A thread of its own: this may block."""
        while (meaning := self._meanings.get()) is not None:
            self._conversation.act(meaning)

    def _leave(self, signal_number: int, _: FrameType | None) -> None:
        # Ctrl+C is one more way to leave, also where it does not come as a key.
        self._signal_status = 0 if signal_number == signal.SIGINT else 128 + signal_number
        loop = self._app.loop
        if loop is not None:  # Otherwise the prompt is not there yet, and `_begin` leaves.
            loop.call_soon_threadsafe(self._exit, self._signal_status)

    def _exit(self, status: int) -> None:
        if not self._app.is_done:
            self._app.exit(result=status)

    # --- what is typed ------------------------------------------------------
    def _accept(self, buffer: Buffer) -> bool:
        self._take(commands.parse(buffer.text))
        return False  # The line is taken; the prompt is empty again.

    def _take(self, meaning: Meaning | None) -> None:
        if isinstance(meaning, commands.Quit):
            self._exit(0)
        elif meaning is not None:
            try:
                self._meanings.put_nowait(meaning)
            except queue.Full:
                text = meaning.text if isinstance(meaning, commands.Say) else "a command"
                line = f"not sent: {text} (too many lines are waiting)"
                self._screen.show_now([Line(render.safe(line), Sort.TROUBLE)])

    def _paste(self, event: KeyPressEvent) -> None:
        """Take pasted text: every newline in it sends a line, as Enter does.

        The lines of a larger paste are texts, whatever they look like: a script that has `exit`
        in it should not end the chat, and "/usr" is no command.
        """
        buffer = event.current_buffer
        *lines, rest = event.data.replace("\r\n", "\n").replace("\r", "\n").split("\n")
        if not lines:
            buffer.insert_text(rest)
            return
        first = f"{buffer.document.text_before_cursor}{lines[0]}{buffer.document.text_after_cursor}"
        is_typed = bool(buffer.text) or (len(lines) == 1 and not rest)
        buffer.reset(Document(rest))
        self._take(commands.parse(first) if is_typed else _as_text(first))
        for line in lines[1:]:
            self._take(_as_text(line))

    def _bindings(self) -> KeyBindings:
        bindings = KeyBindings()
        bindings.add(Keys.BracketedPaste)(self._paste)
        bindings.add("c-c")(lambda _: self._exit(0))
        is_empty = Condition(lambda: not self._buffer.text)
        bindings.add("c-d", filter=is_empty)(lambda _: self._exit(0))
        bindings.add("c-z")(lambda event: event.app.suspend_to_background())
        return bindings

    # --- what is drawn ------------------------------------------------------
    def _layout(self) -> Layout:
        search = SearchToolbar()
        control = BufferControl(
            self._buffer,
            input_processors=[BeforeInput(self._prefix)],
            search_buffer_control=search.control,
            preview_search=True,
        )
        toolbar = FormattedTextControl(self._toolbar)
        return Layout(
            HSplit(
                [
                    Window(control, wrap_lines=True, dont_extend_height=True),
                    search,
                    CompletionsMenu(max_height=MENU_LINES_MAX),
                    Window(toolbar, height=1, style="class:bottom-toolbar"),
                ]
            )
        )

    def _prefix(self) -> StyleAndTextTuples:
        return [("class:prompt", f"{self._conversation.current_label()}> ")]

    def _toolbar(self) -> StyleAndTextTuples:
        return [*self._conversation.toolbar()]


class Words(Completer):
    """Completes commands, rooms and nicks, from the board."""

    def __init__(self, conversation: Conversation) -> None:
        self._conversation = conversation

    def get_completions(self, document: Document, _: CompleteEvent) -> Iterable[Completion]:
        """Return what the word before the cursor could become."""
        found = self._conversation.complete(document.text_before_cursor)
        return [Completion(c.word, -c.back_chars, display_meta=c.help) for c in found]


def _as_text(line: str) -> Meaning | None:
    return commands.Say(line) if line.strip() else None
