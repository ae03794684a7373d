"""What a run was made with: parameters, versions, machine, commit. Reads files, runs git alone."""

from __future__ import annotations

import os
import platform
import sqlite3
import subprocess
from collections.abc import Sequence
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from typing import Any, Final

import zmq

from bench.plan import Plan
from bench.running import run_parameters
from bench.target import Target
from bench.units import humanise
from common.version import VERSION

ROOT: Final = Path(__file__).parent.parent
GIT_S: Final = 10.0
PACKAGES: Final = ("pyzmq", "msgspec", "numpy", "hdrhistogram", "pynacl")
# Here a file's sync is free, so what is durable looks as fast as what is not.
IN_MEMORY: Final = {"tmpfs", "ramfs"}


def versions() -> dict[str, str]:
    """Return what we are made of."""
    found = {"hubbub": VERSION, "python": platform.python_version()}
    for name in PACKAGES:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            found[name] = ""
    return found | {"libzmq": zmq.zmq_version(), "SQLite": sqlite3.sqlite_version}


def _first(path: str, key: str) -> str:
    """Return the value of the first `key : value` line of a file, "" if there is none."""
    try:
        lines = Path(path).read_text(errors="replace").splitlines()
    except OSError:
        return ""
    found = (
        line.partition(":")[2].strip() for line in lines if line.partition(":")[0].strip() == key
    )
    return next(found, "")


def file_system(folder: Path, mounts: str | None = None) -> str:
    """Return the type of the file system that a folder is on; "" if it can't be told.

    mounts: the text of /proc/mounts, for tests.
    """
    if mounts is None:
        try:
            mounts = Path("/proc/mounts").read_text(errors="replace")
        except OSError:
            return ""
    real = folder.resolve()
    best, kind = -1, ""
    for line in mounts.splitlines():
        words = line.split()
        # A later mount on the same place hides the earlier one.
        if len(words) > 2 and real.is_relative_to(place := Path(_unescaped(words[1]))):  # noqa: PLR2004
            depth = len(place.parts)
            if depth >= best:
                best, kind = depth, words[2]
    return kind


def _unescaped(path: str) -> str:
    return path.replace("\\040", " ").replace("\\011", "\t").replace("\\134", "\\")


def machine(folder: Path) -> dict[str, Any]:
    """Return what we run on; `folder` is where servers keep their data."""
    return {
        "cores": len(os.sched_getaffinity(0)),
        "cpu": _first("/proc/cpuinfo", "model name") or platform.machine(),
        "memory_bytes": os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE"),
        "kernel": f"{platform.system()} {platform.release()}",
        "file_system": file_system(folder),
    }


def _git(*words: str, root: Path) -> str:
    try:
        done = subprocess.run(
            ["git", *words],  # noqa: S607 - whichever git the user has
            cwd=root,
            capture_output=True,
            text=True,
            check=True,
            timeout=GIT_S,
        )
    except (OSError, subprocess.SubprocessError):
        return ""
    return done.stdout.strip()


def commit(root: Path = ROOT) -> str:
    """Return the commit, with "-dirty" if files differ from it; "" outside of a repository.

    Earlier results don't count: each run of a series changes them.
    """
    name = _git("rev-parse", "--short=12", "HEAD", root=root)
    changed = _git(
        "status", "--porcelain", "--untracked-files=no", "--", ".", ":!bench/results", root=root
    )
    return f"{name}-dirty" if name and changed else name


def collect(plan: Plan, argv: Sequence[str], folder: Path) -> dict[str, Any]:
    """Return the banner; `add_server` completes it once a server runs."""
    points: list[dict[str, Any]] = []
    for run in plan.runs:
        parameters = {"work": run.work, **run_parameters(run)}
        if parameters not in points:
            points.append(parameters)
    return {
        "command": ["python", "-m", "bench", *argv],
        "parameters": points,
        "versions": versions(),
        "machine": machine(folder),
        "commit": commit(),
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "servers": {},
    }


def add_server(banner: dict[str, Any], target: Target) -> str:
    """Note a server that runs; return a line about it if it is new here, "" otherwise."""
    about = {
        "version": target.version,
        "is_durable": target.is_durable,
        "settings": list(target.settings),
    }
    if banner["servers"].get(target.name) == about:
        return ""
    banner["servers"][target.name] = about
    durable = "durable" if target.is_durable else "not durable"
    differs = "; ".join(target.settings) or "as it ships"
    return f"server   {target.name} {target.version}, {durable}, {differs}"


def lines(banner: dict[str, Any]) -> list[str]:
    """Return the banner for people."""
    box = banner["machine"]
    memory = humanise("memory_bytes", box["memory_bytes"])
    disk = box["file_system"] or "an unknown file system"
    found = [
        f"command  {' '.join(banner['command'])}",
        *(f"run      {_parameters(point)}" for point in banner["parameters"]),
        "versions " + ", ".join(f"{name} {text}" for name, text in banner["versions"].items()),
        f"machine  {box['cores']} cores, {box['cpu']}, {memory}, {box['kernel']}, data on {disk}",
        f"commit   {banner['commit'] or 'unknown'}, {banner['date']}",
    ]
    if box["file_system"] in IN_MEMORY:
        found.append(
            f"warning  the data lies on {box['file_system']}, where a sync costs nothing:"
            " set TMPDIR to a folder on a disk"
        )
    return found


def _parameters(point: dict[str, Any]) -> str:
    return " ".join(
        value if name in {"work", "scenario"} else f"{name}={value}"
        for name, value in point.items()
    )
