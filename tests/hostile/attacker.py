"""One attack on a broker, in a process of its own: `python -m tests.hostile.attacker`.

It reads its orders as one line of JSON, attacks until it has sent what it was told to, sees that
the broker has taken all of it, and prints what it did as JSON. It speaks ZMTP by bytes, through
plain sockets: so it is fast, and can break what libzmq would not let it break.
"""

from __future__ import annotations

import collections
import contextlib
import itertools
import json
import os
import random
import resource
import socket
import sys
import threading
import time
from collections.abc import Callable, Iterator
from typing import Final

import msgspec

from bench import curve, zmtp
from broker.connections import STRANGE_BYTES_MAX
from common import limits, topics, wire
from tests.hostile.frames import Frames, Message
from tests.persons import keys_of
from tests.waiting import DEADLINE_S, eventually

SESSIONS: Final = 4  # That the fuzzer speaks for.
CHUNK_MESSAGES: Final = 64  # Said in one go; then it waits until the broker has answered.
BARRIER_S: Final = 2.0  # An answer may be lost, and is asked for again after so long.
HISTORY_BARRIER_S: Final = 0.005  # Pages beyond a few are not kept for who does not read them.
ATTACKER: Final = "127.0.0.66"
BUSY: Final = 10  # The attacker's niceness: on a LAN it would have cores of its own.
READ_BYTES: Final = 1 << 18
GARBAGE_BYTES: Final = 4_096
HUGE_FRAMES: Final = (100, 2_000, 20_000)  # In one message: nothing in libzmq bounds it.
# Just below what gets a connection cut off.
LONG_BYTES: Final = 280
LONG_TOPICS: Final = STRANGE_BYTES_MAX // (LONG_BYTES + len(b"calm\0"))
LONG_CONNECTIONS: Final = 50  # At once.
CONNECTION_MESSAGES: Final = 64  # Through each of the connections of a flood.
OPEN_CONNECTIONS: Final = 400  # That a garbage attack holds open at once.


class Orders(msgspec.Struct):
    """What an attacker is told."""

    attack: str
    port: int  # The broker's base port, on loopback.
    seed: int
    count: int  # Messages or connections, whatever the attack is made of.
    per_s: float = 0.0  # So many a second; 0: as fast as it goes.
    server_key: str = ""  # Hex, of a broker that encrypts.


def connected(port: int) -> socket.socket:
    """Return a connection from a host of the attacker's own, or all would be counted as one."""
    return socket.create_connection(
        ("127.0.0.1", port), timeout=DEADLINE_S, source_address=(ATTACKER, 0)
    )


class Link:
    """A connection to one endpoint, greeted. Owned by the one thread that made it."""

    def __init__(self, port: int, kind: bytes, keys: curve.Keys | None = None) -> None:
        self._socket = connected(port)
        self._tunnel = curve.Tunnel(keys) if keys else None
        self._frames = zmtp.Frames()
        self._messages: list[list[bytes]] = []
        self.say(zmtp.opening(kind))
        self._socket.settimeout(DEADLINE_S)
        while not self._frames.is_ready:
            self._hear()

    def say(self, data: bytes) -> None:
        """Write whole frames; read meanwhile, so that neither side waits for the other."""
        self.write(self._tunnel.say(data) if self._tunnel else data)

    def write(self, data: bytes) -> None:
        """Write bytes as they are."""
        view = memoryview(data)
        while view:
            self._socket.setblocking(False)
            try:
                sent = self._socket.send(view)
                view = view[sent:]
            except BlockingIOError:
                self._socket.settimeout(0.01)
                with contextlib.suppress(TimeoutError):
                    self._hear()
        self._socket.setblocking(False)
        with contextlib.suppress(BlockingIOError):
            self._hear()
        self._answer_pings()

    def _hear(self) -> None:
        data = self._socket.recv(READ_BYTES)
        if not data:
            raise ConnectionResetError("the broker closed the connection")
        if self._tunnel:
            self._tunnel.feed(data)
            data = b"".join(iter(self._tunnel.next_frame, None))
            self._socket.sendall(self._tunnel.take_answer())  # Small, and of the handshake alone.
        self._messages += self._frames.feed(data)

    def _answer_pings(self) -> None:
        """Answer between messages: a PONG in the midst of one would be taken for a part of it."""
        answers = self._frames.take_answers()
        if answers:
            self._socket.settimeout(DEADLINE_S)
            self._socket.sendall(self._tunnel.say(answers) if self._tunnel else answers)

    def heard(self, timeout_s: float) -> list[list[bytes]]:
        """Return and forget what has come; wait for something. Raises `TimeoutError`."""
        end_s = time.monotonic() + timeout_s
        while not self._messages:  # A PING is none.
            self._socket.settimeout(max(1e-3, end_s - time.monotonic()))
            self._hear()
            self._answer_pings()
            if time.monotonic() >= end_s and not self._messages:
                raise TimeoutError
        messages, self._messages = self._messages, []
        return messages

    def close(self) -> None:
        """Leave without a word."""
        self._socket.close()


class Attacker:
    """Carries out orders."""

    def __init__(self, orders: Orders) -> None:
        self._orders = orders
        self._random = random.Random(orders.seed)
        self._ids = iter(range(1 << 52, 1 << 53))
        self._never = threading.Event()
        self._begin_s = time.monotonic()
        self.codes: dict[str, int] = {}  # What was answered, and how often.
        self._keys = self._keys_of("mallory")  # In each attack: the nicks of before are theirs.

    def _keys_of(self, nick: str) -> curve.Keys | None:
        keys = keys_of(nick, self._orders.server_key)
        return curve.Keys(keys.public, keys.secret, keys.broker) if keys else None

    def run(self) -> dict[str, object]:
        """Attack; return how many of what were sent, and what was answered."""
        attacks: dict[str, Callable[[], int]] = {
            "commands": self.commands,
            "subscriptions": self.subscriptions,
            "history": self.history,
            "garbage": self.garbage,
            "subscribe-flood": self.subscribe_flood,
            "toggle-flood": self.toggle_flood,
            "long-topics": self.long_topics,
            "data-flood": self.data_flood,
            "huge": self.huge,
            "hello-flood": self.hello_flood,
            "room-flood": self.room_flood,
        }
        return {"sent": attacks[self._orders.attack](), "codes": self.codes}

    def _pace(self, sent: int) -> None:
        """Wait until so much may have been sent."""
        if self._orders.per_s:
            due_s = self._begin_s + sent / self._orders.per_s
            self._never.wait(max(0.0, due_s - time.monotonic()))

    # --- generated frames -----------------------------------------------------
    def commands(self) -> int:
        """Send generated messages to the commands endpoint, in some sessions' names."""
        with self._link(0, b"DEALER") as link:
            tokens, tickets = self._enter(link)
            frames = Frames(self._orders.seed, tokens, tickets)
            return self._in_chunks(link, frames.command, self._barrier)

    def history(self) -> int:
        """Send generated messages to the history endpoint."""
        with self._link(0, b"DEALER") as dealer, self._link(2, b"REQ") as link:
            tokens, tickets = self._enter(dealer)
            frames = Frames(self._orders.seed, tokens, tickets)
            return self._in_chunks(link, frames.question, self._history_barrier)

    def subscriptions(self) -> int:
        """Send generated messages to the rooms endpoint."""
        with self._link(0, b"DEALER") as dealer:
            tokens, tickets = self._enter(dealer)
            frames = Frames(self._orders.seed, tokens, tickets)
            return self._until_cut_off(b"SUB", frames.subscription)

    def _in_chunks(
        self,
        link: Link,
        draw: Callable[[], Message],
        barrier: Callable[[Link], None],
    ) -> int:
        """Send messages, some at a time, and wait until they were heard."""
        sent = 0
        while sent < self._orders.count:
            link.say(b"".join(zmtp.message(*draw()) for _ in range(CHUNK_MESSAGES)))
            sent += CHUNK_MESSAGES
            self._pace(sent)
            barrier(link)
        return sent

    def _until_cut_off(self, kind: bytes, draw: Callable[[], Message]) -> int:
        """Say things on the rooms endpoint, through another connection when one is ended."""
        sent = 0
        while sent < self._orders.count:
            # Some of what was sent before it was noticed is lost; it counts as sent all the same.
            with contextlib.suppress(OSError), self._link(1, kind) as link:
                while sent < self._orders.count:
                    link.say(b"".join(zmtp.message(*draw()) for _ in range(CHUNK_MESSAGES)))
                    sent += CHUNK_MESSAGES
                    self._pace(sent)
        self._await_rooms()
        return sent

    # --- connections that are no peers ----------------------------------------
    def garbage(self) -> int:
        """Open connections that say rubbish, half a handshake, or nothing, on all endpoints."""
        chance = self._random
        whole = zmtp.opening(b"DEALER")
        if self._keys:
            hello = b"\5HELLO\1\0" + bytes(72) + chance.randbytes(120)  # Encrypted for nobody.
            whole = zmtp.greeting(zmtp.CURVE) + zmtp.command(hello)
        held: list[socket.socket] = []
        try:
            for index in range(self._orders.count):
                port = self._orders.port + index % 3
                raw = connected(port)
                held.append(raw)
                with contextlib.suppress(OSError):  # Cut off meanwhile, as it should be.
                    raw.sendall(
                        chance.choice(
                            (
                                b"GET / HTTP/1.1\r\nHost: hubbub\r\n\r\n",
                                chance.randbytes(chance.randint(1, GARBAGE_BYTES)),
                                whole[: chance.randrange(len(whole))],
                                whole + b"\x02\xff\xff\xff\xff\xff\xff\xff\xff",
                                whole + chance.randbytes(chance.randint(1, 300)),
                                b"",
                            )
                        )
                    )
                if len(held) > OPEN_CONNECTIONS:
                    held.pop(chance.randrange(len(held))).close()
                self._pace(index + 1)
        finally:
            for raw in held:
                raw.close()
        return self._orders.count

    def huge(self) -> int:
        """Send frames beyond the bound, messages of thousands of frames, and ends of none."""
        chance = self._random
        for index in range(self._orders.count):
            port = index % 3
            kind_of_socket = (b"DEALER", b"SUB", b"REQ")[port]
            # It may be cut off before all is said.
            with self._link(port, kind_of_socket) as link, contextlib.suppress(OSError):
                kind = chance.randrange(4)
                if kind == 0:
                    link.say(zmtp.message(bytes(limits.COMMAND_BYTES_MAX + 1), b""))
                elif kind == 1:
                    link.say(zmtp.message(*[b"x"] * chance.choice(HUGE_FRAMES)))
                elif kind == 2:
                    link.write(zmtp.head(1 << 40) + bytes(1 << 16))
                else:
                    link.say((zmtp.head(200, more=True) + bytes(200)) * 2_000)
            self._pace(index + 1)
        return self._orders.count

    # --- floods ---------------------------------------------------------------
    def subscribe_flood(self) -> int:
        """Subscribe to ever new topics: other people's rooms, and inboxes of nobody."""
        chance = self._random

        def topic() -> Message:
            if chance.random() < 0.5:
                return [b"\1" + topics.inbox(chance.randbytes(16))]
            return [b"\1calm\0" + chance.randbytes(16)]

        return self._until_cut_off(b"SUB", topic)

    def toggle_flood(self) -> int:
        """Subscribe to one topic and leave it, ever again: nothing of it adds up but the frames."""
        verbs = itertools.cycle((b"\1", b"\0"))
        return self._until_cut_off(b"SUB", lambda: [next(verbs) + b"lobby\0" + bytes(16)])

    def long_topics(self) -> int:
        """Hold connections with topics as long and as many as may be, and end them in turn."""
        chance = self._random
        held = collections.deque[Link]()
        for index in range(self._orders.count):
            held.append(Link(self._orders.port + 1, b"SUB", self._keys))
            with contextlib.suppress(OSError):
                asked = (b"\1calm\0" + chance.randbytes(LONG_BYTES) for _ in range(LONG_TOPICS))
                held[-1].say(b"".join(map(zmtp.message, asked)))
            self._pace(index + 1)
            if len(held) > LONG_CONNECTIONS:
                held.popleft().close()
        for index, link in enumerate(held, self._orders.count + 1):
            self._pace(index)
            link.close()
        self._await_rooms()
        return self._orders.count

    def data_flood(self) -> int:
        """Say things on the rooms endpoint, where one only listens."""
        return self._until_cut_off(b"XSUB", lambda: [b"hello" * 20])

    def hello_flood(self) -> int:
        """Say HELLO with ever new tokens, and never open an inbox."""
        chance = self._random

        def hello() -> Message:
            nick = f"horde{chance.getrandbits(40)}"
            command = wire.Hello(1, nick, chance.randbytes(16), chance.getrandbits(40), 1)
            return wire.command_frames(chance.randbytes(16), command)

        return self._over_connections(hello)

    def _over_connections(self, draw: Callable[[], Message]) -> int:
        """Spread messages over ever new connections: what is bounded for one is not enough."""
        sent = 0
        while sent < self._orders.count:
            self._keys = self._keys_of(self._random.randbytes(8).hex())  # A key costs nothing.
            with self._link(0, b"DEALER") as link:
                for _ in range(CONNECTION_MESSAGES):
                    link.say(zmtp.message(*draw()))
                sent += CONNECTION_MESSAGES
                self._barrier(link)
            self._pace(sent)
        return sent

    def room_flood(self) -> int:
        """Join ever new rooms, and leave the older ones: the rooms are empty at once."""
        with self._link(0, b"DEALER") as link:
            token, *_ = self._enter(link)[0]
            numbers = itertools.count()
            joined: list[str] = []

            def move() -> Message:
                if len(joined) > 500:
                    return wire.command_frames(token, wire.Part(1, joined.pop(0)))
                joined.append(f"hole{next(numbers)}")
                return wire.command_frames(token, wire.Join(1, joined[-1]))

            return self._in_chunks(link, move, self._barrier)

    # --- how it is done ---------------------------------------------------------
    @contextlib.contextmanager
    def _link(self, offset: int, kind: bytes) -> Iterator[Link]:
        link = Link(self._orders.port + offset, kind, self._keys)
        try:
            yield link
        finally:
            link.close()

    def _enter(self, link: Link) -> tuple[list[bytes], dict[str, bytes]]:
        """Begin sessions and join a room with each; return tokens and tickets."""
        tokens = [self._random.randbytes(16) for _ in range(SESSIONS)]
        tickets = {}
        for index, token in enumerate(tokens):
            hello = wire.Hello(1, f"mallory{index}", b"o" * 16, 1, 1)
            for command in (hello, wire.Join(2, f"den{index}")):
                link.say(zmtp.message(*wire.command_frames(token, command)))
                for message in link.heard(DEADLINE_S):
                    reply = wire.parse_reply(message)
                    if isinstance(reply, wire.Joined):
                        tickets[reply.room] = reply.ticket
        return tokens, tickets

    def _barrier(self, link: Link) -> None:
        """Wait until the commands endpoint has answered everything so far."""
        greet = wire.Greet(next(self._ids))
        self._await(link, wire.command_frames(wire.NO_TOKEN, greet), BARRIER_S)

    def _history_barrier(self, link: Link) -> None:
        """Wait until the history endpoint has answered something that was asked last."""
        question = wire.History(next(self._ids), "none", b"", wire.Mode.AFTER, 0, 1)
        frames = [b"", *wire.command_frames(wire.NO_TOKEN, question)]
        self._await(link, frames, HISTORY_BARRIER_S)

    def _await(self, link: Link, question: Message, patience_s: float) -> None:
        asked = msgspec.msgpack.decode(question[-1])[0]

        def is_answered() -> bool:
            link.say(zmtp.message(*question))
            with contextlib.suppress(TimeoutError):
                while True:
                    answered = [self._count(message) for message in link.heard(patience_s)]
                    if asked in answered:
                        return True
            return False

        eventually(is_answered, "an answer in the midst of the attack")

    def _count(self, message: Message) -> int:
        """Count an answer by its kind or code, and return its id."""
        reply = wire.parse_reply(message[1:] if message[0] == b"" else message)
        name = reply.code if isinstance(reply, wire.Error) else type(reply).__name__
        self.codes[name] = self.codes.get(name, 0) + 1
        number = getattr(reply, "id", 0)
        assert isinstance(number, int)
        return number

    def _await_rooms(self) -> None:
        """Wait until a newcomer is heard; it may be taken for who had its descriptor before."""

        def is_heard() -> bool:
            with contextlib.suppress(ConnectionError), self._link(1, b"SUB") as link:
                self._rooms_barrier(link)
                return True
            return False

        eventually(is_heard, "a newcomer after the attack")

    def _rooms_barrier(self, link: Link) -> None:
        """Wait until the rooms endpoint has taken everything: it asks a strange inbox who it is.

        While it cannot tell whose subscription it hears it refuses; so ask again.
        """
        inbox = topics.inbox(os.urandom(16))

        def is_asked() -> bool:
            link.say(zmtp.unsubscribe(inbox) + zmtp.subscribe(inbox))
            with contextlib.suppress(TimeoutError):
                while True:
                    if any(frames[0].startswith(inbox) for frames in link.heard(BARRIER_S)):
                        return True
            return False

        eventually(is_asked, "a word to the inbox in the midst of the attack")


def main() -> int:
    """Do as ordered."""
    os.nice(BUSY)
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    orders = msgspec.json.decode(sys.stdin.readline(), type=Orders)
    sys.stdout.write(json.dumps(Attacker(orders).run()))
    return 0


if __name__ == "__main__":
    sys.exit(main())
