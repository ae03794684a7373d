"""`hubbub-broker key`: the broker's fingerprint, and the line to join it with."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from broker import config
from broker.encryption import announcement, own_name
from broker.host import certificates
from broker.log.datadir import served_port
from common.limits import BASE_PORT

NAME = "key"
SUMMARY = "show the broker's key and the line to join with; makes a key where there is none"


def parser() -> argparse.ArgumentParser:
    """Return the parser of the sub-command."""
    made = argparse.ArgumentParser(
        prog=f"hubbub-broker {NAME}",
        description="Show the fingerprint of the broker's key, to compare with what clients see, "
        "and a line to join with that has the key in it. Makes the key where there is none, "
        "and says so on standard error.",
        epilog="Exit status: 0 done; 1 the key cannot be used; 2 wrong command line.",
    )
    made.add_argument("--config", metavar="FILE.toml", help="file with settings")
    made.add_argument("--data", metavar="DIR", help="folder of the log, as the broker's own --data")
    made.add_argument("--host", help="where clients find it (default: this machine's name)")
    made.add_argument("--port", help="its base port, as the broker's own --port")
    return made


def main(argv: Sequence[str], say: Callable[[str], None]) -> int:
    """Show it; return the exit status. Raises `HubbubError`, SystemExit(2)."""
    given = parser().parse_args(argv)
    words: list[str] = []
    for flag in ("config", "data", "port"):
        if (value := getattr(given, flag)) is not None:
            words += [f"--{flag}", value]
    settings = config.load(words)
    os.umask(0o077)
    data = Path(settings.data)
    is_new = not (data / certificates.FOLDER_NAME / certificates.PUBLIC_NAME).exists()
    pair = certificates.load_or_make(data)
    if is_new:  # On a mistyped folder, too: then the line below would fit nobody.
        told = f"no key was in {data}: this one is new, and fits no broker that was started before"
        sys.stderr.write(f"hubbub-broker: {told}\n")
    host = given.host or own_name()
    port = settings.port or BASE_PORT
    if given.port is None:
        port = served_port(data) or port  # That of the broker that serves it now.
    for line in announcement(pair.public, host, port):
        say(line)
    say(f"the key is in {data / certificates.FOLDER_NAME}")
    return 0
