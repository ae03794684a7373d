"""The command line's words, read into a plan. No I/O but for looking whether folders exist.

The flags of a sub-command are made from its structure in `bench.works.base`, so that names,
defaults, bounds and help stand in one place.
"""

from __future__ import annotations

import argparse
import itertools
import math
import textwrap
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, Final

import msgspec

from bench import verdicts
from bench.plan import Outputs, Plan, Run, interleaved
from bench.target import HUBBUB, HUBBUB_CURVE
from bench.works.base import (
    POINTS_MAX,
    WORKS,
    Options,
    OptionsError,
    Parameter,
    Replay,
    Startup,
    check,
    parameters,
)
from bench.works.scenarios import SCENARIOS
from common.endpoints import Address
from common.endpoints import parse as parse_address

EXIT_FAILED = 1
EXIT_USAGE = 2
EXIT_UNREACHABLE = 69  # As the other commands of Hubbub: sysexits.h, EX_UNAVAILABLE.
EXIT_INTERRUPTED = 130  # As the shell counts it: 128 and SIGINT,
EXIT_PIPE_CLOSED = 141  # SIGPIPE,
EXIT_TERMINATED = 143  # SIGTERM.

COMPARE: Final = "compare"
COMPARE_SUMMARY: Final = "The same work on several servers, runs interleaved."
HOME_SERVER: Final = HUBBUB
STDOUT: Final = "-"
PICTURES: Final = (".png", ".svg")
REPEAT_MAX: Final = 1_000
# What holds for all scenarios of a comparison when it is given.
OVERRIDES: Final = ("duration_s", "messages", "warmup_s", "size")

DESCRIPTION = """\
Measures Hubbub, and the servers that people would otherwise pick, under load. A server is started
on free ports in a temporary folder for each run, unless --broker names a running one.
Numbers go to standard output, progress and everything else to standard error.
"""
EPILOG = """\
exit status: 0 done, 1 a --fail-if held or something was lost, duplicated or reordered, or a run
failed, 2 usage, 69 nobody answers at --broker, 130 interrupted (what was measured is shown)
"""
EXAMPLES: Final = {
    "connect": [
        "connect --clients 2000 --who",
        "connect --clients 100,1000,5000 --plot growth.svg",
    ],
    "fanout": [
        "fanout --subscribers 50",
        "fanout --subscribers 500 --server redis_pubsub --repeat 5 --json redis.json",
        "fanout --rate 20000 --fail-if 'p99>20ms' --fail-if 'lost>0'",
        "fanout --secure --subscribers 50",
    ],
    "rooms": ["rooms --rooms 200 --members 5", "rooms --rooms 1000 --members 2 --server nats"],
    "latency": [
        "latency --subscribers 2,500 --plot curves.png",
        "latency --background 5000 --hdr latency.hdr --fail-if 'p99.9>50ms'",
    ],
    "ingest": ["ingest", "ingest --senders 16 --coalesce 1 --json - | jq .results[0].figures"],
    "replay": ["replay --entries 1000,1000000"],
    "rejoin": [
        "rejoin --fail-if 'whole_s>10s' --fail-if 'storm_p99_ratio>2'",
        "rejoin --clients 500,1000,2000 --storm 0 --plot rejoin.svg",
    ],
    "frozen": [
        "frozen --fail-if 'frozen_p99_ratio>1.2' --fail-if 'memory_growth_bytes>128MiB'",
        "frozen --subscribers 50 --frozen 10 --rounds 1 --plot frozen.svg",
    ],
    "overload": [
        "overload --fail-if 'back_s>5s' --fail-if 'acknowledged_ratio<0.8'",
        "overload --limit 0 --times 4 --duration 20 --plot overload.svg",
    ],
    "soak": ["soak --minutes 30 --churn 5 --freeze 3 --plot soak.svg"],
    "startup": ["startup --fail-if 'send_after_interpreter_us>120ms'"],
    COMPARE: [
        "compare --repeat 5 --markdown table.md --plot bars.svg",
        "compare --work fanout-50 --servers hubbub,nats,redis_pubsub",
        "compare --work fanout-50 rest-2 --servers hubbub,hubbub-curve,nats,redis_pubsub",
    ],
}


# --- types of values --------------------------------------------------------
def _number(parameter: Parameter, text: str) -> float:
    try:
        number = float(text)
    except ValueError:
        number = math.nan
    if math.isnan(number) or (parameter.kind is int and not number.is_integer()):
        kind = "a whole number" if parameter.kind is int else "a number"
        raise argparse.ArgumentTypeError(f"{text!r} is not {kind} from {parameter.bounds}")
    if not parameter.low <= number <= parameter.high:
        raise argparse.ArgumentTypeError(f"{text} is not from {parameter.bounds}")
    return int(number) if parameter.kind is int else number


class _Values:
    """Reads one value of a parameter, or several with commas where it takes them."""

    def __init__(self, parameter: Parameter) -> None:
        self._parameter = parameter

    def __call__(self, text: str) -> list[float]:
        if self._parameter.sweep is None:
            return [_number(self._parameter, text)]
        values = [_number(self._parameter, word) for word in text.split(",")]
        if len(values) > POINTS_MAX:
            raise argparse.ArgumentTypeError(f"more than {POINTS_MAX} values")
        return list(dict.fromkeys(values))


def _address(text: str) -> Address:
    try:
        return parse_address(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from error


def _verdict(text: str) -> verdicts.Verdict:
    try:
        return verdicts.parse(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from error


def _file(text: str) -> str:
    """Refuse now what would fail after a long run."""
    path = Path(text)
    if not text or path.is_dir() or not path.parent.is_dir():
        raise argparse.ArgumentTypeError(f"{text!r} cannot be written: there is no such folder")
    return text


def _stream(text: str) -> str:
    return text if text == STDOUT else _file(text)


def _picture(text: str) -> str:
    if not text.lower().endswith(PICTURES):
        raise argparse.ArgumentTypeError(f"{text!r} ends in neither {' nor '.join(PICTURES)}")
    return _file(text)


# --- parsers ----------------------------------------------------------------
class _Help(argparse.RawDescriptionHelpFormatter):
    def __init__(self, prog: str) -> None:
        super().__init__(prog, max_help_position=28)


def _add_parameters(parser: argparse.ArgumentParser, found: Iterable[Parameter]) -> None:
    groups: dict[str, Any] = {}
    for parameter in found:
        place: Any = parser
        if parameter.group:
            if parameter.group not in groups:
                groups[parameter.group] = parser.add_mutually_exclusive_group()
            place = groups[parameter.group]
        if parameter.kind is bool:
            default = "yes" if parameter.default else "no"
            place.add_argument(
                parameter.flag,
                dest=parameter.name,
                action=argparse.BooleanOptionalAction,
                default=None,
                help=f"{parameter.help} (default: {default})",
            )
            continue
        shown = ",".join(f"{value:.15g}" for value in parameter.sweep or [parameter.default])
        metavar = "SECONDS" if parameter.name.endswith("_s") else "N"
        metavar = "BYTES" if parameter.name == "size" else metavar
        more = metavar if parameter.sweep is None else f"{metavar}[,{metavar}...]"
        place.add_argument(
            parameter.flag,
            dest=parameter.name,
            type=_Values(parameter),
            default=None,
            metavar=more,
            help=f"{parameter.help}; {parameter.bounds} (default: {shown})",
        )


def _add_outputs(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("output", "- means standard output")
    group.add_argument("--json", metavar="FILE", type=_stream, help="banner and results")
    group.add_argument("--csv", metavar="FILE", type=_stream, help="a line per run")
    group.add_argument(
        "--hdr",
        metavar="FILE",
        type=_file,
        help="HdrHistogram percentile distributions; several get names of their own beside FILE",
    )
    group.add_argument("--plot", metavar="FILE", type=_picture, help="a picture, .png or .svg")
    group.add_argument(
        "--fail-if",
        metavar="EXPR",
        action="append",
        default=[],
        type=_verdict,
        help="exit with 1 if it holds for any run: p99>20ms, max>1s, lost>0,"
        " deliveries_per_s<1e6, delivery.p99.9>20ms, peak_memory_bytes>64MiB",
    )


def _examples(name: str) -> str:
    lines = "\n".join(f"  python -m bench {line}" for line in EXAMPLES[name])
    return f"examples:\n{lines}\n\n{EPILOG}"


def new_parser(servers: Sequence[str]) -> argparse.ArgumentParser:
    """Return the parser; `servers` are those that --server may name."""
    parser = argparse.ArgumentParser(
        "python -m bench",
        description=DESCRIPTION,
        epilog=EPILOG,
        formatter_class=_Help,
        allow_abbrev=False,
    )
    commands = parser.add_subparsers(dest="command", metavar="SUB-COMMAND", required=True)

    def command(name: str, text: str) -> argparse.ArgumentParser:
        return commands.add_parser(
            name,
            help=text,
            description=textwrap.fill(text, 100),
            epilog=_examples(name),
            formatter_class=_Help,
            allow_abbrev=False,
        )

    for name, kind in WORKS.items():
        child = command(name, summary(kind))
        child.add_argument(
            "--broker",
            metavar="HOST:PORT",
            type=_address,
            help="measure this running Hubbub (default: start one)",
        )
        child.add_argument(
            "--server",
            default=HOME_SERVER,
            choices=servers,
            metavar="NAME",
            help=f"what to start (default: {HOME_SERVER}): {', '.join(servers)}",
        )
        if kind.encrypts:
            child.add_argument(
                "--secure",
                action="store_true",
                help=f"encrypt everything with CURVE: the same as --server {HUBBUB_CURVE}",
            )
        _add_parameters(child, parameters(kind))
        _add_outputs(child)
    child = command(COMPARE, COMPARE_SUMMARY)
    child.add_argument(
        "--work",
        metavar="NAME",
        nargs="+",
        action="extend",
        choices=list(SCENARIOS),
        help=f"scenarios (default: all): {', '.join(SCENARIOS)}",
    )
    child.add_argument(
        "--servers", metavar="A,B", help=f"(default: all installed): {','.join(servers)}"
    )
    child.add_argument(
        "--repeat",
        type=int,
        metavar="N",
        default=3,
        help=f"runs of each server; 1 to {REPEAT_MAX:,} (default: 3)",
    )
    common = (each for each in parameters(Options) if each.name in OVERRIDES)
    _add_parameters(
        child,
        (
            each._replace(sweep=None, help=f"in place of the scenario's: {each.help}")
            for each in common
        ),
    )
    child.add_argument("--markdown", metavar="FILE", type=_stream, help="the table for documents")
    _add_outputs(child)
    return parser


def summary(kind: type[Options]) -> str:
    """Return what a sub-command does, in a sentence."""
    return " ".join((kind.__doc__ or "").split())


# --- plans ------------------------------------------------------------------
def _points(kind: type[Options], given: argparse.Namespace) -> list[Options]:
    """Return the options of every combination of values."""
    values: list[list[Any]] = []
    found = parameters(kind)
    for parameter in found:
        value = getattr(given, parameter.name)
        if value is None:
            value = parameter.sweep or [parameter.default]
        values.append(list(value) if isinstance(value, (list, tuple)) else [value])
    if math.prod(map(len, values)) > POINTS_MAX:
        raise OptionsError(f"more than {POINTS_MAX} combinations of values")
    names = [parameter.name for parameter in found]
    points = [kind(**dict(zip(names, point, strict=True))) for point in itertools.product(*values)]
    for point in points:
        check(point)
    return points


def _server(given: argparse.Namespace, kind: type[Options]) -> str:
    """Return what is to be started; --secure names Hubbub's encrypted form."""
    server: str = given.server
    if kind.encrypts and given.secure:
        if given.broker:
            raise OptionsError("--secure starts a broker of its own; it does not go with --broker")
        if server not in {HUBBUB, HUBBUB_CURVE}:
            raise OptionsError("--secure is for Hubbub; it does not go with --server")
        return HUBBUB_CURVE
    if server == HUBBUB_CURVE and not kind.encrypts:
        raise OptionsError(f"the clients of {given.command} do not encrypt: --server {server}")
    return server


def _measured(given: argparse.Namespace) -> list[Run]:
    """Return the runs of one sub-command: the points in turn, again for each repeat."""
    kind = WORKS[given.command]
    server = _server(given, kind)
    if given.broker and kind.kills:
        raise OptionsError(f"{given.command} kills the broker, so it takes none of yours: --broker")
    if given.broker and server != HOME_SERVER:
        raise OptionsError("--broker is a Hubbub; it does not go with --server")
    if given.broker and kind is Replay:
        raise OptionsError("replay fills a log of its own; it does not go with --broker")
    if kind is Startup and server != HOME_SERVER:
        raise OptionsError("startup is of Hubbub's own commands; it does not go with --server")
    points = _points(kind, given)
    return [Run(given.command, server, point) for _ in range(points[0].repeat) for point in points]


def _compared(given: argparse.Namespace, servers: Sequence[str]) -> list[Run]:
    """Return the runs of a comparison: scenario by scenario, its servers interleaved."""
    wanted = given.servers.split(",") if given.servers else list(servers)
    if unknown := [name for name in wanted if name not in servers]:
        raise OptionsError(f"--servers: {unknown[0]!r} is none of {', '.join(servers)}")
    if not 1 <= given.repeat <= REPEAT_MAX:
        raise OptionsError(f"--repeat {given.repeat} is not from 1 to {REPEAT_MAX:,}")
    override = {
        name: getattr(given, name)[0] for name in OVERRIDES if getattr(given, name) is not None
    }
    runs = []
    for name in dict.fromkeys(given.work or SCENARIOS):
        scenario = SCENARIOS[name]
        options = msgspec.structs.replace(scenario.options, **override, repeat=given.repeat)
        check(options)
        allowed = [each for each in wanted if not scenario.servers or each in scenario.servers]
        runs += [
            Run(scenario.work, server, options, name)
            for server in interleaved(list(dict.fromkeys(allowed)), given.repeat)
        ]
    if not runs:
        raise OptionsError("none of these servers takes part in these scenarios")
    return runs


def parse(argv: Sequence[str], servers: Sequence[str]) -> Plan:
    """Read the command line; ends the program with status 2 and a sentence if it means nothing."""
    parser = new_parser(servers)
    given = parser.parse_args(argv)
    outputs = Outputs(
        given.json, given.csv, given.hdr, given.plot, getattr(given, "markdown", None)
    )
    try:
        if list(outputs).count(STDOUT) > 1:
            raise OptionsError("only one output can go to -")
        is_comparison = given.command == COMPARE
        runs = _compared(given, servers) if is_comparison else _measured(given)
    except OptionsError as error:
        parser.error(str(error))
    broker = None if is_comparison else given.broker
    return Plan(given.command, runs, outputs, given.fail_if, broker)
