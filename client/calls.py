"""How a thread of the program has the session do something, and waits for what comes of it."""

from __future__ import annotations

import contextlib
import functools
import os
from collections.abc import Callable
from typing import TypeVar

from client.effects import Effect
from client.pending import Pending
from client.queues import CallQueue
from client.requests import Command
from client.session import Session
from common import names
from common.errors import Closed, Unreachable

T = TypeVar("T")

# A bot says thousands of texts in a few rooms, and folding a name costs more than sending.
spell_room = functools.lru_cache(maxsize=1024)(names.check_address)


class Calls:
    """The base of the client: may be called from any thread of the process that made it."""

    def __init__(self, session: Session, calls: CallQueue) -> None:
        self._session = session
        self._calls = calls
        self._pid = os.getpid()

    def _joined(self, room: str) -> str:
        """Return the name of a joined room as it is now; raise `Refused`."""
        name = spell_room(room)
        directory = self._session.directory
        if names.is_closed(name) and not names.is_wire_name(name):
            name = directory.find(name)
        return directory.moved.get(name, name) if directory.moved else name

    def _ask(
        self, pending: Pending[T], make: Callable[[int], Command], timeout_s: float | None
    ) -> T:
        return self._call(pending, lambda s, now: s.ask(make, pending, now), timeout_s)

    def _call(
        self,
        pending: Pending[T],
        call: Callable[[Session, float], list[Effect]],
        timeout_s: float | None,
    ) -> T:
        """Have the connection's thread make a call of the session, and wait for its answer."""
        self._check_process()
        self._calls.put((pending, call))
        try:
            return pending.result(timeout_s)
        except Unreachable:
            with contextlib.suppress(Closed):
                self._calls.put((Pending(), lambda s, now: s.abandon(pending, now)))
            raise

    def _check_process(self) -> None:
        if os.getpid() != self._pid:
            raise Closed("this client belongs to the process that made it")
