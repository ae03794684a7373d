"""The command line: how long until a person sees the prompt, or a script has said something.

Whole processes, in turn with a bare interpreter, which is what every Python program costs.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

import msgspec

from bench.dialect import Unexpected
from bench.histogram import Histogram
from bench.results import Counts, Result
from bench.servers.hubbub import ROOT
from bench.target import Target
from bench.works.base import Startup, Watch

ROOM: Final = "start"
INTERPRETER, PROMPT, SEND = "interpreter", "prompt", "send"


class Program(msgspec.Struct):
    """What `bench.stopwatch` shall run."""

    name: str
    command: list[str]
    text: str = ""  # For its input pipe.
    word: str = ""  # On a terminal, until this is written; "": to its end.


class Measurement(msgspec.Struct):
    """What it says of one start."""

    name: str
    us: float = 0.0
    peak_bytes: int = 0
    failure: str = ""


_decode = msgspec.json.Decoder(Measurement).decode


def run(target: Target, options: Startup, watch: Watch) -> Result:
    """Start each program in turn; one round before does not count."""
    client = [sys.executable, "-P", "-m", "client"]
    programs = [
        Program(INTERPRETER, [sys.executable, "-c", "pass"]),
        Program(PROMPT, [*client, "-r", ROOM], word=f"#{ROOM}>"),
        Program(SEND, [*client, "send", "-r", ROOM], text="x" * options.size + "\n"),
    ]
    histograms = {program.name: Histogram() for program in programs}
    peaks = dict.fromkeys(histograms, 0)
    watch.begin("startup", target.name, options.starts * len(programs), "starts")
    start_s = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="hubbub-startup-") as home:
        environ = _environ(target, home)
        for count, told in enumerate(_measurements(programs, options.starts + 1, environ)):
            if told.failure:
                raise Unexpected(f"{told.name}: {told.failure}")
            if count >= len(programs):
                histograms[told.name].record(told.us)
                peaks[told.name] = max(peaks[told.name], told.peak_bytes)
                watch.moment(time.monotonic() - start_s, {"starts": count + 1.0 - len(programs)})
    watch.end()
    bare_us = histograms[INTERPRETER].percentile_us(50)
    figures = {}
    for name in (PROMPT, SEND):
        figures[f"{name}_after_interpreter_us"] = histograms[name].percentile_us(50) - bare_us
        figures[f"{name}_peak_memory_bytes"] = peaks[name]
    return Result(
        work="startup",
        server=target.name,
        version=target.version,
        is_durable=target.is_durable,
        parameters=msgspec.structs.asdict(options),
        figures=figures,
        counts=Counts(sent=options.starts + 1),
        histograms={name: histogram.encode() for name, histogram in histograms.items()},
        notes=["after_interpreter: between the medians; one round before was not counted"],
    )


def _environ(target: Target, home: str) -> dict[str, str]:
    """Return an environment without anybody's settings, for a person who is new here."""
    environ = {name: value for name, value in os.environ.items() if not name.startswith("HUBBUB_")}
    # With it every start would compile our modules anew, which costs 100 ms and happens to no user.
    environ.pop("PYTHONDONTWRITEBYTECODE", None)
    path = os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")]))
    return environ | {
        "HUBBUB_HOME": home,
        "HUBBUB_BROKER": f"{target.host}:{target.ports[0]}",
        "HUBBUB_NICK": "starter",
        "PYTHONPATH": path,
        "TERM": "xterm-256color",
    }


@contextmanager
def _stopwatch(environ: dict[str, str]) -> Iterator[subprocess.Popen[bytes]]:
    with subprocess.Popen(
        [sys.executable, str(Path(ROOT) / "bench" / "stopwatch.py")],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env=environ,
        start_new_session=True,  # Ctrl+C is for the load tool, which ends it.
    ) as process:
        try:
            yield process
        finally:
            process.terminate()


def _measurements(
    programs: list[Program], rounds: int, environ: dict[str, str]
) -> Iterator[Measurement]:
    with _stopwatch(environ) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        orders = {"rounds": rounds, "programs": programs}
        process.stdin.write(msgspec.json.encode(orders) + b"\n")
        process.stdin.flush()
        yield from (_decode(line) for line in process.stdout)
