"""The repository's own rules: what may be committed, and what the front door lists."""

import ast
import os
import re
import subprocess
import tomllib
from pathlib import Path

import pytest

import bench
import broker
import client
import common
import tests
from common.version import VERSION

ROOT = Path(tests.__file__).parent.parent
MAX_LINES = 500
LOOKED_UP = {"docs/PROTOCOL.md"}  # a reference with its test vectors, not read in one go

# Put together here so that this file does not hold what it looks for.
REGISTRIES = re.compile(
    "|".join(
        [
            re.escape("pypi" + ".org"),
            re.escape("python" + "hosted"),
            re.escape("npmjs" + ".org"),
            re.escape("deb.debian" + ".org"),
            "index" + "[-_]url",
            "find" + "[-_]links",
            "trusted" + "[-_]host",
        ]
    ),
    re.IGNORECASE,
)
MACHINE_PATHS = re.compile(r"(?<![\w.])/(?:home|Users|root|work)/[\w.]")


def run(*command: str) -> str:
    # A make around the tests must not pass its own flags on to the make inside them.
    environment = {k: v for k, v in os.environ.items() if k not in {"MAKEFLAGS", "MAKELEVEL"}}
    return subprocess.run(
        command, cwd=ROOT, env=environment, check=True, capture_output=True, text=True
    ).stdout


def committed() -> dict[str, str]:
    """Return the text of each file that git tracks and that is still there."""
    texts: dict[str, str] = {}
    for name in run("git", "ls-files", "-z").split("\0"):
        path = ROOT / name
        if name and path.is_file():
            data = path.read_bytes()
            if b"\0" not in data:  # pictures and the like have no lines
                texts[name] = data.decode()
    return texts


def offending(pattern: re.Pattern[str]) -> list[str]:
    return [
        f"{name}:{number}: {line.strip()}"
        for name, text in committed().items()
        for number, line in enumerate(text.splitlines(), 1)
        if pattern.search(line)
    ]


@pytest.mark.parametrize("package", [bench, broker, client, common])
def test_the_packages_are_this_repositorys(package: object) -> None:
    # Their names are ordinary words: an installed package could bear one of them.
    assert Path(str(vars(package)["__file__"])).parent.parent == ROOT


def test_every_folder_of_the_program_is_installed() -> None:
    # They are listed by hand, and what is run from a checkout does not miss one.
    folders = {
        str(path.parent.relative_to(ROOT)).replace("/", ".")
        for package in ("broker", "client", "common")
        for path in (ROOT / package).rglob("__init__.py")
    }
    told = tomllib.loads(committed()["pyproject.toml"])["tool"]["setuptools"]["packages"]
    assert folders == set(told)


def test_no_committed_file_names_a_package_registry() -> None:
    assert offending(REGISTRIES) == []


def test_no_committed_file_holds_a_path_of_one_machine() -> None:
    assert offending(MACHINE_PATHS) == []


def test_every_python_file_begins_with_a_docstring() -> None:
    assert [
        name
        for name, text in committed().items()
        if name.endswith(".py") and not ast.get_docstring(ast.parse(text))
    ] == []


def test_no_file_is_too_long_to_read() -> None:
    lengths = {
        name: len(text.splitlines())
        for name, text in committed().items()
        if not name.endswith(".lock") and not name.startswith("bench/results/")  # Raw data.
    }
    too_long = {name for name, length in lengths.items() if length > MAX_LINES}
    assert too_long - LOOKED_UP == set()


def test_help_lists_every_target() -> None:
    phony = re.search(r"^\.PHONY: (.*)$", (ROOT / "Makefile").read_text(), re.MULTILINE)
    assert phony is not None
    listed = re.findall(r"^make (\w+) +\S", run("make", "help"), re.MULTILINE)
    assert sorted(listed) == sorted(phony[1].split())


def test_the_version_has_the_form_that_packaging_reads() -> None:
    assert re.fullmatch(r"\d+\.\d+\.\d+", VERSION)


def pins(lock: str) -> dict[str, str]:
    """Return each pinned requirement of a lock file with its hashes."""
    entries = re.findall(r"^([\w.-]+==.*?) \\\n((?: +--hash=.*\n)+)", lock, re.MULTILINE)
    return dict(entries)


def test_the_development_lock_holds_the_run_time_lock() -> None:
    # The tests must see the very packages that people chat with.
    texts = committed()
    run_time, development = pins(texts["requirements.lock"]), pins(texts["requirements-dev.lock"])
    assert run_time
    widened = {_widest(line): hashes for line, hashes in development.items()}
    for line, hashes in run_time.items():
        assert hashes == development.get(line, widened.get(line)), line


def _widest(line: str) -> str:
    """Return a pin as it is without what the tools for development have added: `or` something.

    A package that chatting needs on some systems only, tools may need on others as well.
    """
    return line.partition(" or ")[0]


@pytest.mark.parametrize(
    ("asked", "told"),
    [
        ("sim SEEDS=5", "-m tests.sim --seeds 5"),
        ("sim SEED=7", "-m tests.sim --seed 7"),
        ("sim", "-m tests.sim"),
        ("torture", "-m tests.torture"),
        ("torture KILLS=3 SEED=7", "-m tests.torture --kills 3 --seed 7"),
        ("fuzz", "-m tests.hostile --frames 1000000"),
        ("soak MINUTES=2", "-m bench soak --minutes 2"),
    ],
)
def test_targets_hand_on_what_they_are_told_and_nothing_else(asked: str, told: str) -> None:
    """A default that one target sets must not reach another."""
    lines = [" ".join(line.split()) for line in run("make", "-n", *asked.split()).splitlines()]
    assert [told] == [line[line.index("-m ") :] for line in lines if told[:12] in line]


def test_all_of_common_is_pure_but_what_keeps_private_files() -> None:
    # Listed one by one in import-linter's contract, so a new module could be forgotten there.
    tables = tomllib.loads(committed()["pyproject.toml"])["tool"]["importlinter"]["contracts"]
    (listed,) = (set(each["source_modules"]) for each in tables if "pure" in each["name"])
    modules = {f"common.{path.stem}" for path in (ROOT / "common").glob("*.py")}
    acting = {"common.__init__", "common.certificates", "common.private_files"}
    assert modules - listed == acting
