"""Frames that no honest client would send, from a seed: the same seed gives the same frames.

A grammar over the shapes of `common.wire` makes messages that are almost right, since bytes
drawn at random never get beyond the first check. Nothing here does I/O.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from typing import Final

from common import limits, topics, wire
from common.wire import Command

ODD_NUMBERS: Final = (0, 1, 2, 255, 2**31, 2**32, 2**53 - 1, 2**53, 2**64 - 1, -1, -(2**63))
ODD_NAMES: Final = (
    *("", "a b", "\0", "-x", "Ann", "ANN", "\uff21nn", "\u202eevil", "/quit", "#lobby"),
    *("n" * 33, "r" * 65, "r" * 400, "\u0301", "a\u0301\u0302\u0303", "\U0001f600"),
)
# Values of another type than the field takes.
ODD_VALUES: Final[tuple[object, ...]] = (
    None,
    True,
    1.5,
    -1,
    "",
    b"",
    [],
    {},
    [[]],
    {"a": 1},
    "x" * 300,
    b"\xff" * 70,
)
# What MessagePack can promise and not keep: lengths of gigabytes, types that are used nowhere.
BOMBS: Final = (
    *(b"\xdd\xff\xff\xff\xff", b"\xdf\xff\xff\xff\xff", b"\xc6\xff\xff\xff\xffx"),
    *(b"\xdb\xff\xff\xff\xff", b"\xc9\xff\xff\xff\xff\x01", b"\xc1", b"\x91" * 2_000),
    *(b"\x81" * 2_000, b"\x94\x01\xa2\xff\xfe", b"\xd9\xffx", b"\xcb\x7f\xf8\0\0\0\0\0\0"),
)
# The last one is a bystander's.
NICKS: Final = (*(f"mallory{number}" for number in range(12)), "member0")
ROOMS: Final = 24
OWNERS: Final = (b"o" * 16, b"p" * 16, b"q" * 64)
# What is sent on the rooms endpoint must stay below its bound, or the connection ends.
SUBSCRIPTION_BYTES_MAX: Final = 280
REQUEST_BYTES_MAX: Final = 1_000

Message = list[bytes]


class Frames:
    """Messages for each endpoint."""

    def __init__(self, seed: int, tokens: Sequence[bytes], tickets: dict[str, bytes]) -> None:
        """Make frames in the name of these sessions; `tickets` open the history of rooms."""
        self._random = random.Random(seed)
        self._tokens = [*tokens, wire.NO_TOKEN, self._random.randbytes(16)]
        self._tickets = tickets
        self._fields: dict[Command, Callable[[bytes], list[object]]] = {
            Command.GREET: lambda _: [self._number()],
            Command.HELLO: self._hello,
            Command.BYE: lambda _: [self._number()],
            Command.NICK: lambda _: [self._number(), self._nick()],
            Command.JOIN: lambda _: [self._number(), self._room(), self._random.random() < 0.5],
            Command.PART: lambda _: [self._number(), self._room()],
            Command.SEND: lambda token: [self._next(token), self._posts()],
            Command.WHO: lambda _: [self._number(), self._room()],
            Command.ROOMS: lambda _: [self._number(), self._room()],
            Command.HISTORY: lambda _: self._history(),
        }
        self._codes = list(self._fields)
        # A BYE or a refused nick now and then; mostly something that needs a session.
        self._weights = [1, 5, 0.2, 2, 6, 3, 12, 3, 1, 0.5]
        # Numbers of SENDs rise, and each HELLO says where they are: so many are in turn.
        self._sends = dict.fromkeys(self._tokens, 0)

    def command(self) -> Message:
        """Return a message for the commands endpoint."""
        (code,) = self._random.choices(self._codes, self._weights)
        return self._message(code, limits.COMMAND_BYTES_MAX)

    def question(self) -> Message:
        """Return a message for the history endpoint, the empty frame of a REQ in front of it."""
        is_history = self._random.random() < 0.9
        code = Command.HISTORY if is_history else self._random.choice(self._codes)
        message = self._message(code, REQUEST_BYTES_MAX)
        if self._random.random() < 0.02:
            return message  # Not from a REQ: there is nobody to answer.
        return [b"", *message]

    def subscription(self) -> Message:
        """Return a message for the rooms endpoint: mostly a subscription or its end, or data."""
        chance = self._random
        draw = chance.random()
        if draw < 0.05:
            return [chance.randbytes(chance.randint(0, 40)) for _ in range(chance.randint(1, 4))]
        if draw < 0.3:
            topic = topics.inbox(chance.choice(self._tokens))
        elif draw < 0.4:
            topic = topics.INBOX + chance.randbytes(chance.randint(0, 12))
        else:
            name = self._room().encode()
            topic = name + b"\0" + chance.randbytes(chance.choice((0, 15, 16, 16, 16, 17)))
        topic = self._spoiled(topic) if chance.random() < 0.2 else topic
        verb = b"\1" if chance.random() < 0.7 else b"\0"
        return [verb + topic[:SUBSCRIPTION_BYTES_MAX]]

    # --- parts ----------------------------------------------------------------
    def _message(self, code: Command, bytes_max: int) -> Message:
        chance = self._random
        token = chance.choice(self._tokens)
        head = wire.MAGIC + bytes([code]) + token
        fields = self._fields[code](token)
        draw = chance.random()
        if draw < 0.15:
            fields[chance.randrange(len(fields))] = chance.choice(ODD_VALUES)
        elif draw < 0.2:
            fields = fields[: chance.randrange(len(fields) + 1)]
        elif draw < 0.25:
            fields.append(chance.choice(ODD_VALUES))
        payload = wire.encode(fields)
        if draw > 0.97:
            payload = chance.choice(BOMBS)
        elif draw > 0.8:
            payload = self._spoiled(payload)
        elif draw > 0.75:
            head = self._spoiled(head)
        elif draw > 0.72:
            return [head, payload[:bytes_max]] * chance.randint(1, 20) + [b""]
        return [head, payload[:bytes_max]]

    def _spoiled(self, data: bytes) -> bytes:
        """Return the bytes with a few of them changed, gone, doubled or added."""
        chance = self._random
        spoiled = bytearray(data or b"\0")
        for _ in range(chance.randint(1, 4)):
            at = chance.randrange(len(spoiled) + 1)
            draw = chance.random()
            if draw < 0.4 and at < len(spoiled):
                spoiled[at] ^= 1 << chance.randrange(8)
            elif draw < 0.6:
                del spoiled[at:]
            elif draw < 0.8:
                spoiled[at:at] = chance.randbytes(chance.randint(1, 8))
            else:
                spoiled[at:at] = spoiled[: chance.randint(0, 30)]
        return bytes(spoiled)

    def _number(self) -> int:
        chance = self._random
        return chance.choice(ODD_NUMBERS) if chance.random() < 0.1 else chance.getrandbits(20)

    def _next(self, token: bytes) -> int:
        self._sends[token] += 1
        is_odd = self._random.random() < 0.1
        return self._random.randint(1, 40) if is_odd else self._sends[token]

    def _hello(self, token: bytes) -> list[object]:
        number = self._sends[token] + 1
        return [self._number(), self._nick(), self._random.choice(OWNERS), 1, number]

    def _nick(self) -> str:
        chance = self._random
        is_odd = chance.random() < 0.3
        return chance.choice(ODD_NAMES if is_odd else NICKS)

    def _room(self) -> str:
        chance = self._random
        is_odd = chance.random() < 0.1
        return chance.choice(ODD_NAMES) if is_odd else f"den{chance.randrange(ROOMS)}"

    def _posts(self) -> list[object]:
        chance = self._random
        posts: list[object] = []
        for _ in range(chance.choice((0, 1, 1, 1, 2, 5))):
            texts: list[object] = ["t" * chance.choice((0, 1, 20, 200))]
            if chance.random() < 0.05:
                texts *= chance.choice((2, 256, 257))
            elif chance.random() < 0.03:
                texts.append(chance.choice(("\0", "x" * 4_001, 7, None)))
            posts.append([self._room(), chance.choice((0, 0, 0, 1, 2, 3, -1)), texts])
        return posts

    def _history(self) -> list[object]:
        chance = self._random
        room = chance.choice([*self._tickets, self._room()])
        ticket = self._tickets.get(room, b"t" * 16)
        if chance.random() < 0.2:
            ticket = self._spoiled(ticket)
        mode = chance.choice((0, 0, 1, 2, 3))
        limit = chance.choice((1, 1, 10, limits.HISTORY_ENTRIES_MAX, 0, 2**40))
        return [self._number(), room, ticket, mode, self._number(), limit]
