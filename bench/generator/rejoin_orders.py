"""What the generators of `rejoin` are told, and what they say: JSON, a line each.

The first line is a `Gathering` or a `Storm`. A gathering is then told one `Part` after the other,
each when the one before is over, and a `Part` without a name in the end.
"""

from __future__ import annotations

import msgspec

from bench.generator.orders import Course, Trouble
from bench.results import Counts


class Gathering(msgspec.Struct):
    """Members of one room, some of whom speak on a timetable from the beginning to the end."""

    host: str
    commands_port: int
    room: str
    clients: int
    senders: int  # So many of the clients speak, and are timed; 0: they only listen.
    rate: float  # Texts a second, of all senders together.
    size: int  # Bytes of a text.
    nicks: str = "m"  # How they begin; a number follows.
    connecting: int = 256  # Clients that are on their way in at once, the first time.
    server_key: str = ""  # As in `Target`.


class Part(msgspec.Struct):
    """A part of the run; a text counts to the part that began last before it was meant."""

    name: str  # "": the end.
    seconds: float = 0.0  # 0: until everybody is whole again, or has all up to `head`.
    head: int = 0  # The room's newest seq, where those who speak are not of this process.
    begun_ns: int = 0  # Monotonic; 0: now. For a break: when the broker was killed.


class Opened(msgspec.Struct, tag="opened"):
    """Everybody is in, and whole."""

    seconds: float
    ticket: bytes  # For the room's history,
    keys: list[str]  # of whoever has these: `curve.Keys` in hex; empty: everybody.


class Over(msgspec.Struct, tag="over"):
    """A part is over."""

    name: str
    seconds: float
    generator_cpu_s: float
    questions: int  # That members asked the history endpoint.
    # After a break only: how long each member took to be whole, counted from `begun_ns`.
    whole: str = ""  # HdrHistogram.
    whole_ns: int = 0  # When the last one was; monotonic.


class Done(msgspec.Struct, tag="done"):
    """The end. Counts are of all members, and of the whole run."""

    counts: Counts
    latencies: dict[str, str]  # Part to HdrHistogram: heard by a sender after it was meant.


Word = Opened | Course | Over | Done | Trouble


class Storm(msgspec.Struct):
    """Clients that read a room's history, again and again, all at once."""

    host: str
    history_port: int
    room: str
    ticket: bytes
    readers: int
    entries: int  # They read up to this seq, and begin again.
    seconds: float
    keys: list[str] = []  # As in `Opened`.


class Calm(msgspec.Struct, tag="calm"):
    """The storm is over."""

    entries: int  # Read, of all readers together.
    lost: int  # Entries that a page passed over.
    seconds: float
    generator_cpu_s: float


StormWord = Calm | Trouble
