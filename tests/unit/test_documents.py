"""README and its kin say what the code says: tables, links, files and tests that they name."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest

from bench import arguments as load_tests
from bench.works.base import WORKS
from broker import config, key_command
from broker.maintenance import commands as maintenance
from client import admin_words, arguments, commands
from common import limits
from common.errors import MEANINGS
from tests import markdown
from tests.markdown import ROOT

README = markdown.read("README.md")
DOCUMENTS = [path.relative_to(ROOT).as_posix() for path in markdown.documents()]
LINK = re.compile(r"\]\((?!https?://)([^)#]+)(?:#[^)]*)?\)")
FILE = re.compile(
    r"`((?:bench|broker|client|common|docs|examples|scripts|tests)/[\w./-]+?)(?:::(\w+))?`"
)


# --- the README's tables ----------------------------------------------------
def test_the_sub_commands() -> None:
    rows = markdown.table(README, "sub-command", "what it does")
    assert rows == [[name, text] for name, text in arguments.SUBCOMMANDS.items()]


def test_the_verbs_of_operators() -> None:
    rows = markdown.table(README, "`hubbub admin`", "what it does")
    verbs = admin_words.VERBS.items()
    assert rows == [[f"{name} {verb.usage}".strip(), verb.text] for name, verb in verbs]
    for line in re.findall(r"^hubbub (admin .*?)(?:  +#.*| # .*)?$", README, re.MULTILINE):
        assert arguments.parse(shlex.split(line), {}).order


def test_the_load_tests() -> None:
    rows = markdown.table(README, "load test", "what it measures")
    expected = [[name, load_tests.summary(kind)] for name, kind in WORKS.items()]
    assert rows == [*expected, [load_tests.COMPARE, load_tests.COMPARE_SUMMARY]]
    for line in re.findall(r"^make bench ARGS='(.*)'$", README, re.MULTILINE):
        assert load_tests.parse(shlex.split(line), ["hubbub"]).runs


def test_the_commands_in_the_chat() -> None:
    rows = markdown.table(README, "in the chat", "what it does")
    expected = [re.split("  +", line, maxsplit=1) for line in commands.help_lines()]
    assert rows == expected


def test_the_flags_that_hold_everywhere() -> None:
    rows = markdown.table(README, "everywhere", "environment", "what it does")
    told = {word for row in rows for word in re.findall(r"--?[a-z]+", row[0])}
    parser = arguments._new_parser("", "", "")
    real = {flag for action in parser._actions for flag in action.option_strings}
    assert told == real - {"-h"}
    assert {row[1] for row in rows} - {""} == {"HUBBUB_BROKER", "HUBBUB_NICK", "NO_COLOR"}
    choices = next(action.choices for action in parser._actions if action.dest == "color")
    assert "--color " + "|".join(choices or ()) in [row[0] for row in rows]
    defaults = " ".join(row[2] for row in rows)
    assert f"{arguments.DEFAULT_BROKER}:{limits.BASE_PORT} otherwise" in defaults
    assert f"{arguments.TIMEOUT_S:g} otherwise" in defaults


def test_the_exit_statuses() -> None:
    rows = markdown.table(README, "exit status", "meaning")
    real = {value for name, value in vars(arguments).items() if name.startswith("EXIT_")}
    assert [int(row[0]) for row in rows] == sorted({0, *real})
    assert {meaning.exit_status for meaning in MEANINGS.values()} <= real
    help_text = set(map(int, re.findall(r"(\d+) [a-z]", arguments.EPILOG)))
    assert help_text == {0, *real} - {arguments.EXIT_PIPE_CLOSED}


def bounds_of(option: config.Option) -> str:
    if option.choices:
        return ", ".join(option.choices)
    return "" if option.low is None else f"{option.low} to {option.high}"


def test_the_brokers_settings() -> None:
    rows = markdown.table(README, "flag", "default", "bounds", "what it is")
    expected = [
        [f"--{o.name.replace('_', '-')}", str(o.default), bounds_of(o), o.help]
        for o in config.OPTIONS
    ]
    assert rows == expected, "\n" + "\n".join(
        f"| `{flag}` | {f'`{default}`' if default else ''} | {bounds} | {text} |"
        for flag, default, bounds, text in expected
    )


def test_the_brokers_sub_commands() -> None:
    rows = markdown.table(README, "`hubbub-broker`", "what it does")
    commands_of_logs = [[name, text] for name, text in maintenance.SUBCOMMANDS.items()]
    assert rows == [[key_command.NAME, key_command.SUMMARY], *commands_of_logs]
    for line in re.findall(r"^hubbub-broker ([a-z].*?)(?:  +#.*)?$", README, re.MULTILINE):
        name, *words = shlex.split(line)
        found = key_command.parser() if name == key_command.NAME else maintenance.parser(name)
        found.parse_args(words)


def test_the_order_of_precedence(tmp_path: Path) -> None:
    """The README's names work in the environment and in a file, and win in the order it tells."""
    file = tmp_path / "hubbub.toml"
    file.write_text("max_clients = 500\ngrace = 1.5\n")
    from_file = ["--config", str(file)]
    assert config.load(from_file, {}).max_clients == 500
    environ = {"HUBBUB_MAX_CLIENTS": "600", "HUBBUB_CONFIG": str(file)}
    assert config.load([], environ).max_clients == 600
    assert config.load(["--max-clients", "700"], environ).max_clients == 700
    assert config.load([], environ).grace == 1.5


def test_the_limits() -> None:
    rows = markdown.table(README, "limit", "at most", "name in the code")
    assert rows
    for _, number, name in rows:
        assert int(number) == getattr(limits, name), name


def test_the_ports_that_a_firewall_lets_through() -> None:
    first = limits.BASE_PORT
    assert f"TCP ports {first} to {first + 3}" in README
    assert f"port {first}:{first + 3} proto tcp" in README


def test_the_readme_names_every_make_target_that_it_uses() -> None:
    targets = set(re.findall(r"^([a-z]+):.*## ", markdown.read("Makefile"), re.MULTILINE))
    for document in DOCUMENTS:
        text = markdown.read(document)
        used = set(re.findall(r"(?:`|^|\| )make ([a-z]+)", text, re.MULTILINE))
        assert used <= targets, document


# --- what all documents refer to --------------------------------------------
@pytest.mark.parametrize("document", DOCUMENTS)
def test_links_lead_somewhere(document: str) -> None:
    folder = (ROOT / document).parent
    assert [
        link
        for link in LINK.findall(markdown.prose(markdown.read(document)))
        if not (folder / link).exists()
    ] == []


@pytest.mark.parametrize("document", DOCUMENTS)
def test_named_files_and_tests_exist(document: str) -> None:
    """A path in code marks is a file or folder; path::test is a test that stands there."""
    for path, test in FILE.findall(markdown.read(document)):
        assert (ROOT / path).exists(), path
        if test:
            assert f"def {test}(" in markdown.read(path), f"{path}::{test}"


@pytest.mark.parametrize("document", DOCUMENTS)
def test_lines_fit_a_screen(document: str) -> None:
    """Lines have at most 100 columns, as the code; tables and links can't be broken."""
    assert [
        line
        for line in markdown.read(document).splitlines()
        if len(line) > 100 and not line.startswith("|") and "](" not in line
    ] == []


# --- the decisions ----------------------------------------------------------
def test_the_index_lists_every_decision_in_order() -> None:
    pages = sorted(path.name for path in (ROOT / "docs" / "adr").glob("[0-9]*.md"))
    assert re.findall(r"\]\((\d{4}-[\w-]+\.md)\)", markdown.read("docs/adr/README.md")) == pages
    assert [int(name[:4]) for name in pages] == list(range(1, len(pages) + 1))


@pytest.mark.parametrize("page", [path for path in DOCUMENTS if "/adr/0" in path])
def test_a_decision_has_its_parts(page: str) -> None:
    """Title with its number, then context, decision and consequences; the index has the title."""
    text = markdown.read(page)
    number, _, title = text.splitlines()[0].removeprefix("# ").partition(". ")
    assert number == Path(page).name[:4]
    assert re.findall(r"^## (.*)$", text, re.MULTILINE) == ["Context", "Decision", "Consequences"]
    assert f"[{number}. {title}]" in markdown.read("docs/adr/README.md")
