"""Somebody with a home of their own who runs `hubbub` commands."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

from tests.cli.terminal import Terminal
from tests.waiting import DEADLINE_S

ROOT = Path(__file__).resolve().parent.parent.parent


class Person:
    """Commands of one person: their own secret, their own settings, no other environment."""

    def __init__(self, home: Path, broker: str, nick: str | None = None) -> None:
        self.home = home
        self.environ = {
            name: value for name, value in os.environ.items() if not name.startswith("HUBBUB_")
        }
        self.environ |= {
            "HUBBUB_HOME": str(home),
            "HUBBUB_BROKER": broker,
            "PYTHONPATH": str(ROOT),
            "PYTHONWARNINGS": "error",
            "TZ": "UTC",
            "LC_ALL": "C.UTF-8",
        }
        self.environ.pop("NO_COLOR", None)
        if nick:
            self.environ["HUBBUB_NICK"] = nick

    def run(
        self, *arguments: str, stdin: str | bytes = b"", status: int | None = 0
    ) -> subprocess.CompletedProcess[str]:
        """Run `hubbub ARGUMENTS...` to its end; check the status unless it is None."""
        data = stdin.encode() if isinstance(stdin, str) else stdin
        done = subprocess.run(
            [sys.executable, "-m", "client", *arguments],
            env=self.environ,
            input=data,
            capture_output=True,
            timeout=DEADLINE_S,
            check=False,
        )
        text = subprocess.CompletedProcess(
            done.args, done.returncode, done.stdout.decode(), done.stderr.decode()
        )
        assert status is None or text.returncode == status, text
        assert "Traceback" not in text.stderr
        return text

    def objects(self, *arguments: str, stdin: str = "") -> list[dict[str, Any]]:
        """Run a command with --json and return what it printed."""
        done = self.run(*arguments, "--json", stdin=stdin)
        return [json.loads(line) for line in done.stdout.splitlines()]

    def start(self, *arguments: str) -> subprocess.Popen[bytes]:
        """Start `hubbub ARGUMENTS...` with pipes."""
        return subprocess.Popen(
            [sys.executable, "-m", "client", *arguments],
            env=self.environ,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )

    def shell(self, arguments: str, redirections: str) -> subprocess.Popen[bytes]:
        """Start `hubbub ARGUMENTS...` from a shell that redirects its streams."""
        return subprocess.Popen(
            ["/bin/sh", "-c", f'exec "$0" -m client {arguments} {redirections}', sys.executable],
            env=self.environ,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )

    def sit_down(self, *arguments: str, directory: Path = ROOT) -> Terminal:
        """Run `hubbub ARGUMENTS...` at a terminal."""
        command = ("-P", "-m", "client", *arguments)
        return Terminal(*command, environ=self.environ, directory=directory)

    def chat(self, *rooms: str) -> Terminal:
        """Open the chat at a terminal and wait until it stands in its rooms."""
        arguments = [word for room in rooms for word in ("-r", room)]
        terminal = self.sit_down(*arguments)
        for room in rooms or ("lobby",):
            terminal.see(f"you are in #{room}")
        terminal.see(f"#{rooms[0] if rooms else 'lobby'}>")
        return terminal
