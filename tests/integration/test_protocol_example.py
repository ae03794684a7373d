"""docs/PROTOCOL.md suffices: a client that was written from it talks to a real broker."""

import ast
import selectors
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from common import wire
from tests.protocol_document import ROOT
from tests.raw_peer import RawPeer

EXAMPLE = ROOT / "examples" / "bare_client.py"
DEADLINE_S = 30.0
READY = "hubbub broker ready on tcp://"


def line_of(process: subprocess.Popen[bytes]) -> str:
    """Return the next line of a process with unbuffered output; fail when none comes in time."""
    assert process.stdout is not None
    with selectors.DefaultSelector() as selector:
        selector.register(process.stdout, selectors.EVENT_READ)
        assert selector.select(DEADLINE_S), "no line came in time"
    return process.stdout.readline().decode().rstrip("\n")


@pytest.fixture
def broker(tmp_path: Path) -> Iterator[str]:
    """Run a broker with all its processes; its address."""
    with subprocess.Popen(
        [sys.executable, "-m", "broker", "--port", "0", "--data", str(tmp_path / "data")],
        cwd=ROOT,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        bufsize=0,
    ) as process:
        try:
            ready = line_of(process)
            assert ready.startswith(READY)
            yield ready.removeprefix(READY)
        finally:
            process.send_signal(signal.SIGTERM)
            assert process.wait(DEADLINE_S) == 0


def client(*arguments: str) -> list[str]:
    return [sys.executable, str(EXAMPLE), *arguments]


def chat(*arguments: str) -> list[str]:
    """Run the example to its end; return the lines that it printed."""
    done = subprocess.run(
        client(*arguments), capture_output=True, text=True, timeout=DEADLINE_S, check=False
    )
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout.splitlines()


def test_the_example_knows_nothing_of_hubbubs_code() -> None:
    """Otherwise it would not show that the document suffices."""
    tree = ast.parse(EXAMPLE.read_text(encoding="utf-8"))
    names = {
        name.split(".")[0]
        for node in ast.walk(tree)
        for name in (
            [alias.name for alias in node.names]
            if isinstance(node, ast.Import)
            else [node.module or ""]
            if isinstance(node, ast.ImportFrom)
            else []
        )
    }
    assert names - sys.stdlib_module_names == {"zmq"}
    assert len(EXAMPLE.read_text(encoding="utf-8").splitlines()) <= 200


def test_the_example_says_a_line_hears_it_and_reads_it_again(broker: str) -> None:
    """Greeting, hello, join, send, receive; and history for the one who comes later."""
    first = chat(broker, "anna", "Küche", "Grüße aus der Küche")
    second = chat(broker, "bob", "KÜCHE", "hi")
    with RawPeer(int(broker.rpartition(":")[2])) as peer:
        greeting = peer.ask(wire.Greet(1), wire.Greeting)

    assert greeting.refused == 0  # Nor any topic: who has no inbox leaves when the grace is over.

    assert first == [
        "anna is in #küche, 1 users now",
        "acknowledged as 1",
        "live 1 anna: Grüße aus der Küche",
    ]
    assert second == [
        "bob is in #küche, 1 users now",
        "history 1 anna: Grüße aus der Küche",
        "acknowledged as 2",
        "live 2 bob: hi",
    ]


def test_the_example_hears_others(broker: str) -> None:
    with subprocess.Popen(
        client(broker, "anna", "lobby", "anybody?", "--until", "goodbye"),
        stdout=subprocess.PIPE,
        bufsize=0,
    ) as listener:
        try:
            lines = [line_of(listener)]
            assert lines == ["anna is in #lobby, 1 users now"]
            while lines[-1] != "live 1 anna: anybody?":
                lines.append(line_of(listener))
            others = chat(broker, "bob", "lobby", "goodbye")
            last = line_of(listener)
            assert listener.wait(DEADLINE_S) == 0
        finally:
            listener.kill()

    assert others[0] == "bob is in #lobby, 2 users now"
    assert last == "live 2 bob: goodbye"


def test_the_example_tells_a_refusal(broker: str) -> None:
    done = subprocess.run(
        client(broker, "anna", "#lobby", "hi"),
        capture_output=True,
        text=True,
        timeout=DEADLINE_S,
        check=False,
    )
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.startswith("refused: room_invalid: ")
