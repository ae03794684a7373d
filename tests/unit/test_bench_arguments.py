"""The load tool's command line: one table of parameters, plans, and what is refused beforehand."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import msgspec
import pytest

from bench import arguments
from bench.plan import Plan, interleaved
from bench.works import base
from bench.works.base import WORKS, Fanout, Ingest, Latency, Options, OptionsError, Soak
from bench.works.scenarios import SCENARIOS
from common.endpoints import Address

SERVERS = ["hubbub", "hubbub-curve", "nats", "redis_pubsub"]


def parse(line: str) -> Plan:
    return arguments.parse(shlex.split(line), SERVERS)


def refused(line: str, capsys: pytest.CaptureFixture[str]) -> str:
    """Return what is said about a command line that means nothing."""
    with pytest.raises(SystemExit) as ended:
        parse(line)
    assert arguments.EXIT_USAGE == ended.value.code
    streams = capsys.readouterr()
    assert "" == streams.out
    return streams.err


# --- the table of parameters ------------------------------------------------
@pytest.mark.parametrize("kind", WORKS.values())
def test_defaults_are_within_their_bounds(kind: type[Options]) -> None:
    base.check(kind())


@pytest.mark.parametrize("kind", WORKS.values())
def test_every_parameter_is_bounded_and_explained(kind: type[Options]) -> None:
    for parameter in base.parameters(kind):
        assert parameter.help, parameter
        assert parameter.kind is bool or parameter.low < parameter.high, parameter
        assert all(parameter.low <= each <= parameter.high for each in parameter.sweep or ())


@pytest.mark.parametrize("name", WORKS)
def test_help_tells_flags_defaults_and_examples(
    name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as ended:
        parse(f"{name} --help")
    assert 0 == ended.value.code
    said = capsys.readouterr().out
    for parameter in base.parameters(WORKS[name]):
        assert re.search(rf"{parameter.flag}\b", said), parameter.flag
    for flag in ("--broker", "--server", "--json", "--csv", "--hdr", "--plot", "--fail-if"):
        assert flag in said
    assert "exit status: 0 done" in said


@pytest.mark.parametrize("line", [line for lines in arguments.EXAMPLES.values() for line in lines])
def test_every_example_can_be_read(line: str) -> None:
    assert parse(line.partition(" | ")[0]).runs


def test_every_sub_command_has_examples() -> None:
    assert {*WORKS, arguments.COMPARE} == set(arguments.EXAMPLES)


@pytest.mark.parametrize("name", SCENARIOS)
def test_scenarios_can_be_run(name: str) -> None:
    scenario = SCENARIOS[name]
    assert type(scenario.options) is WORKS[scenario.work]
    base.check(scenario.options)


# --- plans ------------------------------------------------------------------
def test_the_defaults_are_those_of_the_table() -> None:
    plan = parse("fanout")
    (run,) = plan.runs
    assert ("fanout", "hubbub", Fanout(), "") == run
    assert (None, ()) == (plan.broker, tuple(plan.verdicts))
    assert (None,) * 5 == plan.outputs


@pytest.mark.parametrize(
    "name", ["connect", "fanout", "rooms", "latency", "ingest", "rejoin", "soak"]
)
def test_secure_names_the_server_that_encrypts(name: str) -> None:
    for line in (f"{name} --secure", f"{name} --server hubbub-curve"):
        assert {"hubbub-curve"} == {run.server for run in parse(line).runs}
    assert {"hubbub"} == {run.server for run in parse(name).runs}


def test_flags_set_parameters() -> None:
    line = "fanout --subscribers 7 --rate 2.5e3 --duration 0.5 --warmup 0 --size 100 --messages 1e6"
    expected = Fanout(
        subscribers=7, rate=2_500.0, duration_s=0.5, warmup_s=0.0, size=100, messages=1_000_000
    )
    assert expected == parse(line).runs[0].options
    assert type(parse("fanout --messages 1e6").runs[0].options.messages) is int
    assert 30.0 == Soak(duration_s=30.0).length_s
    assert 120.0 == Soak(minutes=2.0).length_s


def test_several_values_are_runs_of_their_own() -> None:
    options = [run.options for run in parse("fanout --subscribers 10,20 --size 64,128").runs]
    expected = [Fanout(subscribers=s, size=z) for s in (10, 20) for z in (64, 128)]
    assert expected == options


def test_ingest_goes_through_its_senders() -> None:
    senders = [1, 16, 256]
    assert [Ingest(senders=n) for n in senders] == [run.options for run in parse("ingest").runs]


def test_repeats_come_in_rounds() -> None:
    runs = parse("latency --subscribers 2,5 --repeat 3").runs
    points = [Latency(subscribers=number, repeat=3) for number in (2, 5)]
    assert points * 3 == [run.options for run in runs]


def test_a_running_broker_is_named() -> None:
    assert Address("chat.local", 7_000) == parse("connect --broker chat.local:7000").broker


def test_conditions_are_read_beforehand() -> None:
    plan = parse("fanout --fail-if 'p99>20ms' --fail-if 'lost>0'")
    assert ["p99", "lost"] == [verdict.name for verdict in plan.verdicts]


@pytest.mark.parametrize(
    ("line", "reasons"),
    [
        ("", ["SUB-COMMAND"]),
        ("dance", ["dance"]),
        ("fanout --size 31", ["--size", "32 to 4,000"]),
        ("fanout --size 4001", ["--size", "32 to 4,000"]),
        ("fanout --subscribers 1", ["--subscribers", "2 to 20,000"]),
        ("fanout --subscribers 10,1", ["--subscribers", "2 to 20,000"]),
        ("fanout --subscribers 2.5", ["--subscribers", "whole number"]),
        ("fanout --subscribers ten", ["--subscribers", "whole number"]),
        ("fanout --subscribers ''", ["--subscribers", "whole number"]),
        ("fanout --rate nan", ["--rate", "not a number"]),
        ("fanout --rate inf", ["--rate", "0 to 10,000,000"]),
        ("fanout --coalesce 257", ["--coalesce", "1 to 256"]),
        ("fanout --sample 60", ["--sample 60 is more than --subscribers 50"]),
        ("fanout --rate 5 --window 5", ["--window", "not allowed with", "--rate"]),
        ("soak --minutes 5 --duration 5", ["not allowed with"]),
        ("rejoin --broker localhost", ["--broker", "rejoin kills the broker"]),
        ("rejoin --clients 4", ["--senders 8 is more than --clients 4"]),
        ("fanout --repeat 0", ["--repeat", "1 to 1,000"]),
        ("fanout --repeat 1,2", ["--repeat"]),
        ("fanout --sub 50", ["unrecognized", "--sub"]),
        ("fanout --server teapot", ["--server", "teapot", "nats"]),
        ("fanout --server nats --broker localhost", ["--broker", "--server"]),
        ("fanout --secure --server nats", ["--secure", "--server"]),
        ("fanout --secure --broker localhost", ["--secure", "--broker"]),
        ("fanout --server hubbub-curve --broker localhost", ["--broker", "--server"]),
        ("frozen --secure", ["unrecognized", "--secure"]),
        ("frozen --server hubbub-curve", ["frozen", "do not encrypt"]),
        ("replay --broker localhost", ["--broker", "replay", "a log of its own"]),
        ("startup --server nats", ["--server", "startup"]),
        ("fanout --broker localhost:99999", ["--broker", "99999"]),
        ("fanout --fail-if p99=20ms", ["--fail-if", "not a condition"]),
        ("fanout --plot picture.gif", ["--plot", ".png", ".svg"]),
        ("fanout --json nowhere/x.json", ["--json", "no such folder"]),
        ("fanout --json - --csv -", ["only one output"]),
        ("rooms --rooms 10000 --members 3", ["--rooms 10000", "--members 3", "20,000"]),
        (f"fanout --senders {','.join(map(str, range(1, 100)))}", ["--senders", "64 values"]),
        (
            f"fanout --senders {','.join(map(str, range(1, 20)))} --size 32,33,34,35",
            ["64 combinations"],
        ),
        ("compare --work dance", ["--work", "dance", "fanout-50"]),
        ("compare --servers hubbub,teapot", ["--servers", "teapot", "nats"]),
        ("compare --repeat 0", ["--repeat 0", "1 to 1,000"]),
        ("compare --size 1", ["--size", "32 to 4,000"]),
    ],
)
def test_what_means_nothing_is_refused(
    line: str, reasons: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    said = refused(line, capsys)
    assert all(reason in said for reason in reasons), said


def test_a_folder_in_place_of_a_file_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert "cannot be written" in refused(f"fanout --csv {shlex.quote(str(tmp_path))}", capsys)


# --- comparisons ------------------------------------------------------------
def test_a_comparison_interleaves_its_servers() -> None:
    plan = parse("compare --work fanout-50 --servers hubbub,nats,redis_pubsub --repeat 3")
    servers = "hubbub nats redis_pubsub nats redis_pubsub hubbub redis_pubsub hubbub nats"
    assert servers.split() == [run.server for run in plan.runs]
    assert {"fanout-50"} == {run.scenario for run in plan.runs}
    assert {3} == {run.options.repeat for run in plan.runs}


def test_each_server_comes_first_equally_often() -> None:
    order = interleaved(["a", "b", "c"], 6)
    assert [2, 2, 2] == [order[::3].count(name) for name in "abc"]
    assert [6, 6, 6] == [order.count(name) for name in "abc"]


def test_a_comparison_changes_what_is_given_alone() -> None:
    plan = parse("compare --work fanout-500 --servers nats --duration 1 --repeat 1")
    scenario = SCENARIOS["fanout-500"].options
    expected = msgspec.structs.replace(scenario, duration_s=1.0, repeat=1)
    assert [expected] == [run.options for run in plan.runs]


def test_a_comparison_has_all_scenarios_and_servers_unless_told() -> None:
    plan = parse("compare")
    assert set(SCENARIOS) == {run.scenario for run in plan.runs}
    assert set(SERVERS) == {run.server for run in plan.runs}


def test_a_scenario_keeps_to_its_servers(monkeypatch: pytest.MonkeyPatch) -> None:
    own = SCENARIOS["fanout-50"]._replace(servers=("hubbub", "redis_pubsub"))
    monkeypatch.setitem(SCENARIOS, "fanout-50", own)
    assert {"hubbub", "redis_pubsub"} == {
        run.server for run in parse("compare --work fanout-50").runs
    }


def test_options_of_a_scenario_are_checked_too() -> None:
    with pytest.raises(OptionsError, match="--senders 5000 is not from 1 to 1,024"):
        base.check(Fanout(senders=5_000))
