"""Some clients that talk without a pause, and keep a ledger of what they were told.

Each text is said once. What became of it is known (kept at a place, or refused with a code) or
not yet; the ledger is compared with the log afterwards.
"""

from __future__ import annotations

import threading
from collections import Counter
from pathlib import Path
from types import TracebackType
from typing import NamedTuple, Self

from client.api import Client, connect
from client.events import Entry, Missing, Reset
from common.errors import Refused
from tests.gathering import read_log
from tests.waiting import DEADLINE_S, eventually

ROUND_TEXTS = 20  # Under way at once from each client.
PAUSE_S = 0.02  # After each round: a small disk is to last for a while.
ANSWER_S_MAX = 2 * DEADLINE_S


class Kept(NamedTuple):
    """A text that was acknowledged."""

    room: str
    seq: int
    text: str


class Talker(threading.Thread):
    """One client, its texts, and what became of them."""

    def __init__(self, client: Client, rooms: list[str], padding: str, pause_s: float) -> None:
        super().__init__(daemon=True)
        self.kept: list[Kept] = []
        self.refused: dict[str, str] = {}  # Text to code.
        self.trouble: list[str] = []
        self.stopping = threading.Event()
        self._client = client
        self._rooms = rooms
        self._padding = padding
        self._pause_s = pause_s

    def run(self) -> None:
        """Talk until told to stop; then every text has its answer."""
        number = 0
        while not self.stopping.is_set():
            texts = [
                f"{self._client.nick} {number + step} {self._padding}"
                for step in range(ROUND_TEXTS)
            ]
            number += ROUND_TEXTS
            pendings = [
                (text, self._client.post(self._rooms[index % len(self._rooms)], text))
                for index, text in enumerate(texts)
            ]
            for text, pending in pendings:
                try:
                    sent = pending.result(ANSWER_S_MAX)
                    self.kept.append(Kept(sent.room, sent.seq, text))
                except Refused as refusal:
                    self.refused[text] = refusal.code
                except Exception as error:  # noqa: BLE001 - the test shows it
                    self.trouble.append(f"{text[:40]}: {error!r}")
                    return
            self.stopping.wait(self._pause_s)


class Listener(threading.Thread):
    """One client that only reads, live."""

    def __init__(self, client: Client) -> None:
        super().__init__(daemon=True)
        self._client = client
        self.heard: list[tuple[str, int, str]] = []
        self.trouble: list[str] = []

    def run(self) -> None:
        """Read until the client is closed."""
        for event in self._client.events():
            if isinstance(event, Entry):
                self.heard.append((event.room, event.seq, event.text))
            elif isinstance(event, Missing | Reset):
                self.trouble.append(repr(event))


class Talkers:
    """All of a test: who talks, and one who listens. Ends with the `with` block."""

    def __init__(
        self,
        broker: str,
        *,
        count: int = 3,
        rooms: int = 1,
        text_chars: int = 40,
        prefix: str = "talker",
        pause_s: float = PAUSE_S,
    ) -> None:
        """Bring everybody in, and let them talk."""
        padding = "x" * text_chars
        self._clients: list[Client] = []
        self._listener_client = connect(broker, nick=f"{prefix}-listener", timeout_s=DEADLINE_S)
        self._rooms = [f"{prefix}-room{index}" for index in range(rooms)]
        for room in self._rooms:
            self._listener_client.join(room, history=None, timeout_s=DEADLINE_S)
        self.listener = Listener(self._listener_client)
        self.listener.start()
        self.talkers: list[Talker] = []
        for index in range(count):
            client = connect(broker, nick=f"{prefix}{index}", timeout_s=DEADLINE_S)
            self._clients.append(client)
            for room in self._rooms:
                client.join(room, history=0, timeout_s=DEADLINE_S)
            self.talkers.append(Talker(client, self._rooms, padding, pause_s))
        for talker in self.talkers:
            talker.start()

    @property
    def kept(self) -> list[Kept]:
        """What was acknowledged so far."""
        return [kept for talker in self.talkers for kept in list(talker.kept)]

    @property
    def refused(self) -> dict[str, str]:
        """What was refused so far: text to code."""
        found: dict[str, str] = {}
        for talker in self.talkers:
            found.update(dict(talker.refused))
        return found

    def await_kept(self, more: int) -> None:
        """Wait until so many more are acknowledged."""
        goal = len(self.kept) + more
        eventually(lambda: len(self.kept) >= goal or self._trouble(), f"{more} acknowledged")
        assert not self._trouble(), self._trouble()

    def await_refused(self, more: int) -> None:
        """Wait until so many more are refused."""
        goal = len(self.refused) + more
        eventually(lambda: len(self.refused) >= goal or self._trouble(), f"{more} refused")
        assert not self._trouble(), self._trouble()

    def _trouble(self) -> list[str]:
        return [line for talker in self.talkers for line in talker.trouble]

    def stop(self) -> None:
        """Let everybody finish: each text has its answer then."""
        for talker in self.talkers:
            talker.stopping.set()
        for talker in self.talkers:
            talker.join(2 * ANSWER_S_MAX)
            assert not talker.is_alive()
        assert not self._trouble(), self._trouble()

    def check(self, data: Path) -> Counter[str]:
        """Compare ledger, log and what the listener heard, in order; return the refusals by code.

        The talkers must have been stopped.
        """
        whole = read_log(data)
        log = {room: whole.get(room, []) for room in self._rooms}
        texts = [text for entries in log.values() for _, text in entries]
        assert len(set(texts)) == len(texts), "a text was stored twice"
        there = {(room, seq, text) for room, entries in log.items() for seq, text in entries}
        lost = set(self.kept) - there
        assert not lost, f"{len(lost)} acknowledged, but not in the log at their place"
        returned = set(self.refused) & set(texts)
        assert not returned, f"{len(returned)} were refused, and are in the log all the same"
        total = len(texts)
        eventually(lambda: len(self.listener.heard) >= total, "the listener to be whole")
        assert self.listener.trouble == []
        for room, entries in log.items():
            heard = [(seq, text) for where, seq, text in self.listener.heard if where == room]
            assert heard == entries, f"{room}: not as in the log"
        return Counter(self.refused.values())

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        for talker in self.talkers:
            talker.stopping.set()
        for client in [*self._clients, self._listener_client]:
            client.close()
