"""What attacks need: peers with keys of their own, honest people, and proofs of silence.

That somebody hears nothing is never waited for: attackers listen to a room of their own as well,
and what a connection is sent keeps its order. So when the text of that fence has come, all that
was published before it has come too, or never will.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from types import TracebackType
from typing import Self

from zmq.utils import z85

from broker.host import certificates
from common import order, topics, wire
from common.order import Action
from common.wire import Draft, Kind, Payload
from tests.broker_process import BrokerProcess
from tests.raw_peer import RawPeer
from tests.waiting import DEADLINE_S

Keys = tuple[bytes, bytes]  # Public and secret, as `zmq.curve_keypair` returns them.
WAIT_MS = int(DEADLINE_S * 1_000)
FENCE = "fence of "


class Peer(RawPeer):
    """A raw peer that can talk, moderate, read, and prove what it did not hear."""

    def __init__(self, broker: BrokerProcess, nick: str, keys: Keys | None = None) -> None:
        """Connect with these keys, or fresh ones, where the broker encrypts."""
        folder = broker.data / certificates.FOLDER_NAME
        server = certificates.load(broker.data).public if folder.exists() else b""
        self.server = server  # Its public key; none where it does not encrypt.
        super().__init__(broker.port, server=server, own=keys)
        self.nick = nick
        self._number = 0

    @property
    def keys(self) -> Keys:
        """Public and secret key, for another peer of the same person."""
        return self.public, self._secret

    @property
    def identity(self) -> bytes:
        """The public key, 32 raw bytes."""
        return z85.decode(self.public)

    def enter(self, *rooms: str) -> wire.Joined | None:
        """Say hello, join rooms, and return what is known of the last one."""
        self.hello(self.nick)
        joined = None
        for room in rooms:
            joined = self.join(room)
        return joined

    def enter_room(self, room: str) -> wire.Joined:
        """Say hello, join a room and return what is known of it."""
        self.hello(self.nick)
        return self.join(room)

    def try_join(self, room: str) -> Payload:
        """Ask to join and return whatever is answered."""
        return self.ask(wire.Join(self.next_id(), room), Payload)

    def say(self, room: str, *texts: str) -> wire.Ack:
        """Say texts in a room, and return where they are kept."""
        send = wire.Send(self.next_number(), [Draft(room, Kind.TEXT, list(texts))])
        return self.ask(send, wire.Ack)

    def next_number(self) -> int:
        """Return the number of the next SEND."""
        self._number += 1
        return self._number

    def give_order(self, room: str, action: Action, nick: str = "", reason: str = "") -> order.Done:
        """Give an order that is carried out."""
        command = order.Order(self.next_id(), room, action, nick, 0, reason)
        return self.ask(command, order.Done)

    def refused(self, command: Payload, token: bytes | None = None) -> str:
        """Return the code with which a command is refused."""
        return self.ask(command, wire.Error, token).code

    def read(self, room: str, ticket: bytes) -> list[str] | str:
        """Return the texts of a room's history, or the code of the refusal."""
        request = wire.History(self.next_id(), room, ticket, wire.Mode.AFTER, 0, 100)
        answer, batches = self.history(request)
        if isinstance(answer, wire.Error):
            assert not batches
            return answer.code
        return [text for batch in batches for post in batch.posts for text in post.texts]

    def hear(self, text: str) -> None:
        """Wait until a text is published, whatever comes before it."""
        self.await_publication(
            wire.Batch, lambda batch: any(text in post.texts for post in batch.posts)
        )

    def await_notice(self, code: str) -> wire.Notice:
        """Return the first notice with this code."""
        return self.await_publication(wire.Notice, lambda notice: notice.code == code)

    def refused_count(self) -> int:
        """Return how much the broker has refused since its start."""
        return self.ask(wire.Greet(self.next_id()), wire.Greeting).refused

    # --- proofs of silence --------------------------------------------------
    def make_fence(self) -> None:
        """Listen to a room of one's own, besides whatever else."""
        self.join(self.fence)

    @property
    def fence(self) -> str:
        """The name of that room."""
        return f"fence-{self.nick}"

    def heard(self) -> list[bytes]:
        """Return all that was published to this peer up to now, but for its fence."""
        marker = f"{FENCE}{self.nick} {self.next_id()}"
        self.say(self.fence, marker)
        frames: list[bytes] = []
        while True:
            assert self.sub.poll(WAIT_MS), "the fence was not heard"
            frame = self.sub.recv()
            if topics.split_publication(frame)[0].startswith(self.fence.encode() + b"\0"):
                if marker.encode() in frame:
                    return frames
            else:
                frames.append(frame)


class Honest:
    """Two people who talk in a room of theirs while others attack, and miss nothing."""

    def __init__(self, broker: BrokerProcess, room: str = "calm") -> None:
        """Let both come in."""
        self.room = room
        self.one, self.two = Peer(broker, f"one-{room}"), Peer(broker, f"two-{room}")
        self.joined = self.one.enter_room(room)
        self.two.enter_room(room)
        self._count = 0

    def are_undisturbed(self, texts_count: int = 3) -> None:
        """See that each hears what both say, in its order, once, and nothing else."""
        for _ in range(texts_count):
            self._count += 1
            texts = [f"calm {self._count} of one", f"calm {self._count} of two"]
            self.one.say(self.room, texts[0])
            self.two.say(self.room, texts[1])
            for peer in (self.one, self.two):
                peer.await_texts(*texts)

    def close(self) -> None:
        """Leave."""
        self.one.close()
        self.two.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        try:
            if kind is None:
                self.are_undisturbed()
        finally:
            self.close()


@contextmanager
def closed_room(broker: BrokerProcess, name: str) -> Iterator[tuple[Peer, Peer, wire.Joined]]:
    """Yield owner and member of a private room, both in it, and what the member knows of it."""
    with (
        Peer(broker, f"owner-{name}") as owner,
        Peer(broker, f"member-{name}") as member,
    ):
        owner.enter_room(name)
        member.enter_room(name)
        done = owner.give_order(name, Action.PRIVATE)
        owner.join(done.room)
        yield owner, member, member.join(done.room)
