"""A broker's core and history without sockets, clock or disk, for tests of the protocol."""

from __future__ import annotations

from broker import history
from broker.chat.core import Core, Facts, Rules
from broker.chat.floods import Rate
from broker.log.interface import Committed, PageRead, RoomRecord, marks_of
from common import wire
from common.wire import Mode
from tests.unit.logs import MemoryStore

SECRET = bytes(32)
EPOCH = 0x12345678
START_MS = 1_700_000_000_000
START_S = 100.0
ROUTE = b"route"


def begin() -> Core:
    """Return the core of a broker that has just started on the default ports, without rooms."""
    return Core(
        Rules(
            clients_max=4_096,
            rooms_max=10_000,
            grace_s=5.0,
            rate=Rate(5_000, 10_000),
            motd="Welcome to Hubbub.",
        ),
        Facts("0.1.0", 5_556, 5_557, "27.3.0", "4.3.5"),
        [],
        secret=SECRET,
        epoch=EPOCH,
        recall=lambda _sender: {},
        keeper=MemoryStore().open(),
        now_ms=START_MS,
        now_s=START_S,
    )


def tell(core: Core, frames: list[bytes]) -> list[list[bytes]]:
    """Give the core a command; return the replies to it, each as frames."""
    core.receive(ROUTE, frames)
    return [reply for _, reply in core.take_effects().replies]


def reply_of(core: Core, frames: list[bytes]) -> wire.Payload:
    """Give the core a command and return its one reply."""
    (reply,) = tell(core, frames)
    return wire.parse_reply(reply)


def commit(core: Core, head: int) -> list[Committed]:
    """Commit what was said in one room, whose last seq is `head`, as a log does."""
    committed = []
    proposals = core.take_proposals()
    for proposal in proposals:
        first, last = head + 1, head + proposal.count
        body = wire.encode(wire.Batch(proposal.room, EPOCH, head, first, proposal.posts))
        committed.append(Committed(proposal, head, first, last, body))
        head = last
    marks_of(proposals, [batch.first for batch in committed])
    core.committed(committed)
    return committed


class Shelf:
    """A log's read side (`broker.log.interface.Reader`): one page, whatever the question."""

    def __init__(self, head: int, batches: list[bytes]) -> None:
        self.secret = SECRET
        self.epoch = EPOCH
        self._head = head
        self._batches = batches

    def generation(self, _room: str) -> int:
        """Return the generation of every room."""
        return 0

    def is_banned(self, _identity: bytes, _now_ms: int) -> bool:
        """Nobody is."""
        return False

    def read(self, room: str, _mode: Mode, _at: int, _limit: int) -> PageRead:
        """Return the page."""
        record = RoomRecord(room, 0, 1, self._head, "")
        return PageRead(record, self._batches, more=False)

    def close(self) -> None:
        """Nothing is open."""


def ask(shelf: Shelf, frames: list[bytes]) -> list[bytes]:
    """Return the history endpoint's answer."""
    return history.answer(shelf, frames, now_ms=START_MS)
