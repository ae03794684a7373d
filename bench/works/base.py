"""What a work is asked for and how it tells its progress. Plain data, no I/O.

A work is a function `run(target: Target, options: Options, watch: Watch) -> Result` in the module
`bench.works.<name>`, with one of the structures below as its options. Their fields are the one
table of parameters: name, default, bounds and help of every flag are read from here.

A field marked with SWEEP may be given several values on the command line (`--senders 1,16,256`).
The work never sees that: it is called once for each value, on a fresh server.
"""

from __future__ import annotations

import operator
import typing
from collections.abc import Collection
from functools import cache
from typing import Annotated, Any, ClassVar, Final, NamedTuple, Protocol

import msgspec
from msgspec import Meta

from bench.results import Result
from common.limits import SEND_TEXTS_MAX

CLIENTS_MAX: Final = 20_000  # Sockets of one machine; a broker's ports allow no more than 28,000.
RATE_MAX: Final = 10_000_000  # Messages a second; above what any server here takes.
RUN_S_MAX: Final = 7 * 86_400
POINTS_MAX: Final = 64  # Values, or combinations of values, of one command.
WINDOW_DEFAULT: Final = 4_096
SWEEP: Final = "sweep"  # Marks what takes several values; holds those that it has unless told.
GROUP: Final = "group"  # Flags of one group exclude each other.


class Watch(Protocol):
    """Whom a work tells how far it is. Called from one thread; returns at once."""

    def begin(self, work: str, server: str, total: float | None, unit: str) -> None:
        """Begin a part that is done when `total` is reached, if that is known.

        How far it is: the value named `unit` of the latest moment, or its time where there is no
        such value, so `begin("fanout", "hubbub", 10, "s")` needs nothing more.
        """

    def moment(self, at_s: float, values: dict[str, float]) -> None:
        """Tell the latest figures, about once a second; `at_s` counts from the begin."""

    def end(self) -> None:
        """End the part."""


class Stopped(KeyboardInterrupt):
    """Ctrl+C in the middle of a run; `result` is what was measured so far.

    A work that can tell something by then raises this in place of KeyboardInterrupt.
    """

    def __init__(self, result: Result) -> None:
        super().__init__("interrupted")
        self.result = result


class OptionsError(ValueError):
    """A parameter is out of bounds; the message names its flag and the bounds."""


def _sweep(*default: float) -> dict[str, Any]:
    return {SWEEP: default}


_LOOP: Final = {GROUP: "loop"}

# Fields that several sub-commands share.
Window = Annotated[
    int,
    Meta(
        ge=1,
        le=1_000_000,
        description="closed loop: messages on their way at once, of all senders together",
        extra=_LOOP,
    ),
]
Rate = Annotated[
    float,
    Meta(
        ge=0,
        le=RATE_MAX,
        description="open loop: messages per second of all senders together; 0: closed loop",
        extra=_LOOP,
    ),
]
Senders = Annotated[int, Meta(ge=1, le=1_024, description="clients that send", extra=_sweep())]
Coalesce = Annotated[
    int, Meta(ge=1, le=256, description="texts per SEND at most; 1: one each", extra=_sweep())
]


class Options(msgspec.Struct, frozen=True, kw_only=True):
    """What every sub-command takes."""

    headlines: ClassVar[tuple[str, ...]] = ()  # What its comparisons and curves show.
    kills: ClassVar[bool] = False  # It kills the broker, so it takes nobody else's.
    encrypts: ClassVar[bool] = False  # Its clients can encrypt.

    duration_s: Annotated[
        float, Meta(ge=0.1, le=RUN_S_MAX, description="length of the measured part")
    ] = 10.0
    messages: Annotated[
        int, Meta(ge=0, le=10**10, description="end after so many messages; 0: after --duration")
    ] = 0
    size: Annotated[int, Meta(ge=32, le=4_000, description="bytes of one text", extra=_sweep())] = (
        64
    )
    warmup_s: Annotated[
        float, Meta(ge=0, le=3_600, description="length of the part before it, not counted")
    ] = 2.0
    repeat: Annotated[
        int, Meta(ge=1, le=1_000, description="runs, each on a fresh server unless --broker")
    ] = 1

    @property
    def broker_settings(self) -> dict[str, str]:
        """What a Hubbub that is started for this work is told beside what all of them are."""
        return {}

    def is_of(self, settings: Collection[str]) -> bool:
        """Tell whether a server with these settings was started for this work, and is not yours."""
        return all(f"{flag} {value}" in settings for flag, value in self.broker_settings.items())


class Connect(Options, frozen=True, kw_only=True):
    """Clients connect, say hello and join: how fast, how many bytes each, the cost of idling."""

    headlines: ClassVar[tuple[str, ...]] = ("joins_per_s", "bytes_per_client")
    encrypts: ClassVar[bool] = True
    clients: Annotated[
        int, Meta(ge=1, le=CLIENTS_MAX, description="clients to connect", extra=_sweep())
    ] = 2_000
    rooms: Annotated[
        int, Meta(ge=1, le=10_000, description="rooms that they are spread over", extra=_sweep())
    ] = 1
    concurrency: Annotated[
        int, Meta(ge=1, le=1_024, description="clients that are joining at the same time")
    ] = 64
    idle_s: Annotated[
        float, Meta(ge=0, le=3_600, description="then watch them idle for so long")
    ] = 5.0
    who: Annotated[bool, Meta(description="each also asks who is there")] = False


class Fanout(Options, frozen=True, kw_only=True):
    """One room: senders speak, every subscriber hears everything."""

    headlines: ClassVar[tuple[str, ...]] = ("deliveries_per_s",)
    encrypts: ClassVar[bool] = True
    subscribers: Annotated[
        int, Meta(ge=2, le=CLIENTS_MAX, description="clients that listen", extra=_sweep())
    ] = 50
    senders: Senders = 4
    window: Window = WINDOW_DEFAULT
    rate: Rate = 0.0
    coalesce: Coalesce = 256
    sample: Annotated[
        int, Meta(ge=2, le=1_024, description="listeners whose every text is read and checked")
    ] = 2


class Rooms(Options, frozen=True, kw_only=True):
    """Many rooms: each sender goes through the rooms, one message each in turn."""

    headlines: ClassVar[tuple[str, ...]] = ("messages_per_s", "deliveries_per_s")
    encrypts: ClassVar[bool] = True
    rooms: Annotated[int, Meta(ge=1, le=10_000, description="rooms", extra=_sweep())] = 200
    members: Annotated[
        int, Meta(ge=1, le=10_000, description="listeners in each room", extra=_sweep())
    ] = 5
    senders: Senders = 4
    window: Window = WINDOW_DEFAULT
    rate: Rate = 0.0


class Latency(Options, frozen=True, kw_only=True):
    """Send to receive and send to acknowledge, timed from when each message was meant to go."""

    headlines: ClassVar[tuple[str, ...]] = ("delivery.p50", "delivery.p99")
    encrypts: ClassVar[bool] = True
    subscribers: Annotated[
        int, Meta(ge=1, le=CLIENTS_MAX, description="clients that listen", extra=_sweep())
    ] = 2
    rate: Annotated[
        float,
        Meta(ge=0.1, le=100_000, description="measured messages per second", extra=_sweep()),
    ] = 50.0
    senders: Senders = 1
    background: Annotated[
        float,
        Meta(ge=0, le=RATE_MAX, description="other messages per second", extra=_sweep()),
    ] = 0.0
    rooms: Annotated[
        int, Meta(ge=1, le=10_000, description="rooms that they are spread over", extra=_sweep())
    ] = 1


class Ingest(Options, frozen=True, kw_only=True):
    """Acknowledged (durable) messages per second."""

    headlines: ClassVar[tuple[str, ...]] = ("acknowledged_per_s",)
    encrypts: ClassVar[bool] = True
    senders: Annotated[
        int, Meta(ge=1, le=1_024, description="clients that send", extra=_sweep(1, 16, 256))
    ] = 16
    window: Annotated[
        int,
        Meta(ge=1, le=4_096, description="requests on their way at once of each sender"),
    ] = 16
    coalesce: Coalesce = 256


class Replay(Options, frozen=True, kw_only=True):
    """Read history: all of a log, and how long a newcomer waits for the latest entries."""

    headlines: ClassVar[tuple[str, ...]] = ("entries_per_s", "last.p50")
    entries: Annotated[
        int,
        Meta(
            ge=1,
            le=100_000_000,
            description="entries of the log",
            extra=_sweep(1_000, 10_000, 100_000, 1_000_000, 10_000_000),
        ),
    ] = 1_000_000
    last: Annotated[int, Meta(ge=1, le=10_000, description="entries that a newcomer asks for")] = (
        100
    )


class Rejoin(Options, frozen=True, kw_only=True):
    """One room whose broker is killed and started again: until all are whole, and live latency."""

    headlines: ClassVar[tuple[str, ...]] = ("whole_s", "storm_p99_ratio")
    kills: ClassVar[bool] = True
    encrypts: ClassVar[bool] = True
    duration_s: Annotated[
        float,
        Meta(ge=0.1, le=3_600, description="length of each part: quiet, storm, after the break"),
    ] = 10.0
    # Three connections each: a machine has 28,000 ports to connect from.
    clients: Annotated[
        int, Meta(ge=1, le=8_000, description="clients in the room", extra=_sweep())
    ] = 2_000
    senders: Annotated[
        int, Meta(ge=1, le=1_024, description="so many of them speak, and are timed")
    ] = 8
    rate: Annotated[
        float, Meta(ge=0.1, le=10_000, description="messages per second of all senders together")
    ] = 10.0
    down_s: Annotated[float, Meta(ge=0, le=60, description="leave the broker dead for so long")] = (
        0.0
    )
    storm: Annotated[
        int, Meta(ge=0, le=2_000, description="clients that read history at once; 0: no storm")
    ] = 50
    entries: Annotated[
        int, Meta(ge=1, le=10_000_000, description="entries of the history that they read")
    ] = 100_000


class Frozen(Options, frozen=True, kw_only=True):
    """One room with some of its subscribers frozen (SIGSTOP), in turn with quiet: who feels it."""

    headlines: ClassVar[tuple[str, ...]] = ("frozen_p99_ratio", "memory_growth_bytes", "whole_s")
    duration_s: Annotated[
        float, Meta(ge=0.1, le=3_600, description="length of each part: quiet, frozen")
    ] = 20.0
    # With so many bytes the kernel's buffers and the broker's queue are full long before the end.
    size: Annotated[int, Meta(ge=32, le=4_000, description="bytes of one text")] = 4_000
    subscribers: Annotated[
        int, Meta(ge=2, le=8_000, description="clients that listen, the frozen ones among them")
    ] = 500
    frozen: Annotated[int, Meta(ge=1, le=4_000, description="so many of them are frozen")] = 100
    senders: Annotated[int, Meta(ge=1, le=1_024, description="clients that send")] = 4
    rate: Annotated[
        float, Meta(ge=0.1, le=10_000, description="messages per second of all senders together")
    ] = 100.0
    rounds: Annotated[int, Meta(ge=1, le=1_000, description="times quiet and then frozen")] = 3
    queue: Annotated[
        int,
        Meta(ge=1, le=100_000, description="batches that the broker lets wait for a slow reader"),
    ] = 512

    @property
    def broker_settings(self) -> dict[str, str]:
        """The queue whose bound is looked at."""
        return {"--publish-queue": str(self.queue)}


class Overload(Options, frozen=True, kw_only=True):
    """More than the broker takes, for a while: who waits, who is refused, and when it is over."""

    headlines: ClassVar[tuple[str, ...]] = ("acknowledged_ratio", "back_s", "memory_growth_bytes")
    duration_s: Annotated[float, Meta(ge=1, le=3_600, description="length of the overload")] = 60.0
    times: Annotated[
        float,
        Meta(ge=0.1, le=100, description="offered load, by what the broker was found to take"),
    ] = 2.0
    senders: Annotated[int, Meta(ge=1, le=1_024, description="clients that send")] = 64
    limit: Annotated[
        int,
        Meta(
            ge=0,
            le=RATE_MAX,
            description="texts a second that the broker takes of one client; 0: as many as come",
            extra=_sweep(0, 5_000),
        ),
    ] = 0
    coalesce: Annotated[
        int, Meta(ge=1, le=256, description="texts per SEND at most; 1: one each")
    ] = 256
    search_s: Annotated[
        float,
        Meta(ge=0.1, le=3_600, description="length of the closed loop that finds what it takes"),
    ] = 5.0
    quiet_s: Annotated[
        float, Meta(ge=1, le=3_600, description="length of the quiet parts before and after")
    ] = 15.0
    probes: Annotated[
        float,
        Meta(ge=1, le=1_000, description="texts per second of a modest client, which are timed"),
    ] = 50.0

    @property
    def broker_settings(self) -> dict[str, str]:
        """The limit, with the burst that stands beside the default one: two seconds of it."""
        if not self.limit:
            return {}
        return {"--rate": str(self.limit), "--burst": str(max(2 * self.limit, SEND_TEXTS_MAX))}


class Soak(Options, frozen=True, kw_only=True):
    """Minutes of mixed traffic with clients that come, go and freeze: what grows meanwhile."""

    headlines: ClassVar[tuple[str, ...]] = ("live_memory_slope_bytes_per_h", "delivery.p99")
    encrypts: ClassVar[bool] = True
    minutes: Annotated[
        float,
        Meta(ge=0.01, le=RUN_S_MAX / 60, description="length", extra={GROUP: "length"}),
    ] = 10.0
    duration_s: Annotated[
        float,
        Meta(
            ge=0,
            le=RUN_S_MAX,
            description="length in seconds; 0: --minutes",
            extra={GROUP: "length"},
        ),
    ] = 0.0
    clients: Annotated[int, Meta(ge=2, le=CLIENTS_MAX, description="clients")] = 200
    rooms: Annotated[int, Meta(ge=1, le=10_000, description="rooms that they are spread over")] = 10
    rate: Annotated[float, Meta(ge=0.1, le=RATE_MAX, description="messages per second")] = 500.0
    # The log takes turns of one segment (64 MiB): a short text would take hours for a few.
    size: Annotated[int, Meta(ge=32, le=4_000, description="bytes of one text")] = 1_000
    warmup_s: Annotated[
        float,
        Meta(ge=0, le=3_600, description="what grows before is not judged; at most half of it all"),
    ] = 600.0
    retain: Annotated[
        int,
        Meta(ge=1_000, le=10**9, description="messages that the log keeps of each room"),
    ] = 5_000
    churn: Annotated[
        float, Meta(ge=0, le=1_000, description="clients per second that leave and come anew")
    ] = 2.0
    freeze: Annotated[
        int, Meta(ge=0, le=1_000, description="clients that are frozen at any time")
    ] = 1

    @property
    def length_s(self) -> float:
        """How long to soak, from whichever of the two flags was given."""
        return self.duration_s or self.minutes * 60

    @property
    def broker_settings(self) -> dict[str, str]:
        """Retention whose plateau a warm-up reaches; and who freezes for 12 s is taken for gone."""
        return {"--retain-messages": str(self.retain), "--heartbeat": "2"}


class Startup(Options, frozen=True, kw_only=True):
    """The command line: until the prompt stands or a text is sent, beside bare Python."""

    headlines: ClassVar[tuple[str, ...]] = (
        "prompt_after_interpreter_us",
        "send_after_interpreter_us",
    )
    starts: Annotated[
        int, Meta(ge=1, le=10_000, description="starts of each program, in turn with the others")
    ] = 20


# Each sub-command and what it takes; its docstring is its help.
WORKS: Final[dict[str, type[Options]]] = {
    kind.__name__.lower(): kind
    for kind in (
        Connect,
        Fanout,
        Rooms,
        Latency,
        Ingest,
        Replay,
        Rejoin,
        Frozen,
        Overload,
        Soak,
        Startup,
    )
}


class Parameter(NamedTuple):
    """One field of a structure of options."""

    name: str
    kind: type[int | float | bool]
    default: float | bool
    low: float  # Bounds; without meaning for bool.
    high: float
    help: str
    group: str  # Flags of one group exclude each other; "" for none.
    sweep: tuple[float, ...] | None  # None: takes one value. Otherwise what it takes unless told.

    @property
    def flag(self) -> str:
        """How it is written on the command line: without its unit, which the help tells."""
        return "--" + self.name.removesuffix("_s").replace("_", "-")

    @property
    def bounds(self) -> str:
        """Its bounds for people."""
        return f"{self.low:,.15g} to {self.high:,.15g}"


@cache
def parameters(kind: type[Options]) -> list[Parameter]:
    """Return the parameters of a sub-command, its own ones first."""
    hints = typing.get_type_hints(kind, include_extras=True)
    found = []
    for field in msgspec.structs.fields(kind):
        base, meta = typing.get_args(hints[field.name])
        extra = meta.extra or {}
        found.append(
            Parameter(
                field.name,
                base,
                field.default,
                meta.ge or 0,
                meta.le or 0,
                meta.description,
                extra.get(GROUP, ""),
                extra.get(SWEEP),
            )
        )
    common = set(Options.__struct_fields__)
    return sorted(found, key=lambda parameter: parameter.name in common)


def check(options: Options) -> None:
    """Raise `OptionsError` unless all parameters, and how they go together, are within bounds."""
    for parameter in parameters(type(options)):
        value = getattr(options, parameter.name)
        if parameter.kind is not bool and not parameter.low <= value <= parameter.high:
            raise OptionsError(f"{parameter.flag} {value} is not from {parameter.bounds}")
    names = set(options.__struct_fields__)
    for low, high in (
        ("sample", "subscribers"),
        ("frozen", "subscribers"),
        ("freeze", "clients"),
        ("senders", "clients"),
    ):
        if {low, high} <= names:
            _check_order(options, low, high)
    if isinstance(options, Rooms) and options.rooms * options.members > CLIENTS_MAX:
        raise OptionsError(
            f"--rooms {options.rooms} times --members {options.members} is more than"
            f" {CLIENTS_MAX:,} listeners"
        )


def _check_order(options: Options, low: str, high: str) -> None:
    few, many = operator.attrgetter(low, high)(options)
    if few > many:
        raise OptionsError(f"--{low} {few} is more than --{high} {many}")
