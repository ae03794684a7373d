"""The chat without a terminal: lines in, lines out, the same commands, no prompt.

When standard input ends, it waits until all is acknowledged, and leaves. The caller's thread reads
lines and acts on them; the conversation's threads print.
"""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Sequence

from client import commands
from client.arguments import EXIT_FAILED, EXIT_UNREACHABLE, Arguments
from client.board import Board, Line, Sort
from client.conversation import Conversation
from client.lines import BadLine, read_lines
from client.login import complain, is_interactive, load_ignored, open_for_chat
from client.subcommands import PATIENCE_TIMEOUTS, look_of, write
from common.limits import HISTORY_DEFAULT


def run(arguments: Arguments) -> int:
    """Chat until standard input ends or somebody says /quit; return the exit status."""
    printer = Printer(is_json=arguments.is_json)
    with open_for_chat(arguments, is_interactive=is_interactive()) as client:
        board = Board(client.nick, look_of(arguments))
        conversation = Conversation(
            client, board, printer.show, lambda: time.time_ns() // 10**6, load_ignored()
        )
        with conversation:
            conversation.start(arguments.rooms, HISTORY_DEFAULT)
            conversation.wait_until_entered(arguments.timeout_s)  # Then answers come in order.
            bad_count = _talk(conversation, printer)
            unsent = conversation.settle(arguments.timeout_s * PATIENCE_TIMEOUTS)
    for text in unsent:
        complain(f"not acknowledged: {text}")
    if printer.failure:
        raise printer.failure
    if unsent:
        return EXIT_UNREACHABLE
    if conversation.end is not None:
        return conversation.end.exit_status
    return EXIT_FAILED if bad_count or conversation.failed_count else 0


def _talk(conversation: Conversation, printer: Printer) -> int:
    """Act on each line; return how many could not be read."""
    bad_count = 0
    printer.answer_here()
    for line in read_lines(sys.stdin.buffer):
        if isinstance(line, BadLine):
            bad_count += 1
            complain(f"line {line.number} was not sent: it is {line.reason}")
            continue
        meaning = commands.parse(line)
        if isinstance(meaning, commands.Quit) or printer.failure:
            break
        if meaning is not None:
            conversation.act(meaning)
    return bad_count


class Printer:
    """Prints lines: what was said on standard output, trouble on standard error."""

    def __init__(self, *, is_json: bool) -> None:
        self.failure: OSError | None = None  # Of our output: nobody reads it any more.
        self._sorts = {Sort.ENTRY, Sort.REMOVAL} | (set() if is_json else {Sort.NOTICE})
        self._is_json = is_json
        self._talker = 0  # The thread that acts on what is typed.
        self._lock = threading.Lock()  # Two threads show lines; a burst stays in one piece.

    def answer_here(self) -> None:
        """Tell answers to this thread's commands among JSON as trouble is told: for people."""
        self._talker = threading.get_ident()

    def show(self, lines: Sequence[Line]) -> None:
        """Print the lines at once."""
        is_answer = self._is_json and threading.get_ident() == self._talker
        with self._lock:
            for line in lines:
                if line.sort is Sort.TROUBLE or (is_answer and line.sort is Sort.NOTICE):
                    complain(line.text)
            if self.failure:
                return
            try:
                write(line.text for line in lines if line.sort in self._sorts)
            except OSError as error:
                self.failure = error
