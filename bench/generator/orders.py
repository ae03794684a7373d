"""What a generator is told, and what it says: JSON, a line each, on standard input and output."""

from __future__ import annotations

import msgspec

from bench.dialect import Patience
from bench.results import Counts, Moment
from bench.target import Target


class Orders(msgspec.Struct):
    """One load. Every talker goes through all rooms in turn, each from another room on."""

    target: Target
    rooms: list[str]  # Of one length.
    members: int  # Listeners in each room.
    sample: int  # So many of a room's listeners are read and checked in full; at least one.
    talkers: int
    connecting: int = 64  # Clients that are on their way in at once.
    warmup_s: float = 1.0
    duration_s: float = 5.0
    messages: int = 0  # Instead of a duration.
    coalesce: int = 256  # Texts that a talker says in one go at most.
    window: int = 4_096  # Closed loop: texts said and not heard yet, of all talkers together.
    requests: int = 0  # Closed loop by acknowledgements: requests under way of each talker.
    rate: float = 0.0  # Open loop instead: texts a second, of all talkers together.
    idle_s: float = 0.0  # Watch everybody idle for so long instead of saying anything.
    asks_who: bool = False  # Members ask for everybody's names where JOIN does not tell them.
    # Open loop to clients that hold so many texts at most which are not settled; 0: no such bound.
    unsettled: int = 0
    is_patient: bool = False  # Talkers wait where the server tells them to slow down.
    nicks: str = ""  # Before everybody's name, where another generator is there, or was just now.
    is_open_ended: bool = False  # Goes on until it is told the `Spans`.
    settle_s: float = 20.0  # How long to wait for the last texts; what has not come is lost.


class Span(msgspec.Struct):
    """A part of the run; a text counts to it that was meant to be said in it."""

    name: str
    begin_ns: int  # Monotonic, which all processes share.
    end_ns: int


class Spans(msgspec.Struct):
    """The word to end: what of the run is wanted by itself."""

    spans: list[Span]


class Opened(msgspec.Struct, tag="opened"):
    """Everybody is in."""

    clients: int
    seconds: float
    heard_bytes: int  # On the way in, by everybody: presence among them.
    server_cpu_s: float
    server_memory_bytes: int  # More than before.


class Course(msgspec.Struct, tag="course"):
    """About once a second."""

    moment: Moment


class Pressure(msgspec.Struct):
    """What a load made of talkers that a server did not keep up with. Texts, of all of them."""

    offered: int  # By the timetable.
    held_back: int  # Of these: not taken by a client that held as many as it may.
    offered_until_ns: int  # Monotonic: then the timetable ended.
    waiting_max: int  # Taken by clients and not sent yet.
    under_way_max: int  # Sent and not acknowledged.


class Done(msgspec.Struct, tag="done"):
    """The end of the measured part."""

    counts: Counts
    seconds: float  # From the first text said to the last one heard.
    server_cpu_s: float
    generator_cpu_s: float
    peak_memory_bytes: int = 0
    acknowledged_per_s: float = 0.0  # While texts were said; what came later is not in it.
    differing: int = 0  # Listeners who heard all texts, but the senders in another order.
    late: int = 0  # Texts of an open loop that could not be said in time.
    latencies: str = ""  # HdrHistogram: heard after it was meant to be said.
    ack_latencies: str = ""
    spans: dict[str, str] = {}  # Latencies of each span by its name.
    pressure: Pressure | None = None  # Of an open loop with a bound.
    patience: Patience | None = None  # Where talkers were to be patient.


class Trouble(msgspec.Struct, tag="trouble"):
    """The load could not be carried out."""

    words: str


Word = Opened | Course | Done | Trouble
