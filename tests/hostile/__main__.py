"""Attack a broker with generated frames and worse: `make fuzz FRAMES=1000000 SEED=n`.

Prints what each attack did to the broker's memory and to honest clients' waiting, quiet and
under attack in turn, and fails when anything was lost, or when they waited too much longer.
"""

from __future__ import annotations

import argparse
import signal
import statistics
import sys
import tempfile
import threading
from collections import Counter
from pathlib import Path
from typing import Any, Final

from tests.broker_process import BrokerProcess
from tests.hostile.siege import Attack, Outcome, Siege

QUIET_S: Final = 3.0  # Before each round of an attack.
ROUNDS: Final = 5  # Quiet and attack in turn: what else the machine does hits both.
QUIET: Final = "quiet"


def attacks(frames: int) -> list[Attack]:
    """Return all attacks, of so many generated messages for each endpoint."""
    return [
        Attack("commands", frames, 10_000),
        Attack("subscriptions", frames, 20_000),
        Attack("history", frames, 10_000),
        Attack("garbage", 600, 50),
        Attack("huge", 60, 4),
        Attack("subscribe-flood", frames // 10, 10_000),
        Attack("toggle-flood", frames, 100_000),
        Attack("long-topics", 600, 30),
        Attack("data-flood", frames // 5, 20_000),
        Attack("hello-flood", frames // 20, 2_000),
        Attack("room-flood", frames // 20, 2_000),
    ]


def percentile(values: list[float], share: float) -> float:
    """Return the value below which this share of them lies."""
    return sorted(values)[min(len(values) - 1, int(len(values) * share))]


def middle(rounds: list[list[float]], share: float) -> float:
    """Return the percentile of the middle round: what else the machine did in one is no matter."""
    return statistics.median(percentile(values, share) for values in rounds if values)


def arguments() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(prog="make fuzz", description=__doc__)
    parser.add_argument("--frames", type=int, default=1_000_000, help="for each endpoint")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--only", help="one attack alone")
    parser.add_argument("--secure", action="store_true", help="everything is encrypted")
    parser.add_argument("--pace", type=float, default=1.0, help="times the pace; 0: no limit")
    parser.add_argument("--p99-ratio", type=float, default=2.0, help="fail above; 0: never")
    return parser.parse_args()


def quiet(seconds: float) -> None:
    """Let honest clients alone for a while."""
    threading.Event().wait(seconds)


def show(name: str, rounds: list[Outcome], books: dict[str, Any]) -> tuple[str, float]:
    """Return the line about one attack, and how many times the p99 of quiet theirs was."""
    calm, loud = (
        [books["latencies_ms"].get(f"{phase}:{index}", []) for index in range(len(rounds))]
        for phase in (QUIET + name, name)
    )
    newcomers_ms = [
        took_ms
        for index in range(len(rounds))
        for took_ms in books["newcomers_ms"].get(f"{name}:{index}", [])
    ]
    ratio = middle(loud, 0.99) / middle(calm, 0.99)
    memory = "  ".join(
        f"{rounds[0].memory[which].before:6.0f}"
        f" {max(each.memory[which].peak for each in rounds):5.0f}"
        f" {rounds[-1].memory[which].after:5.0f}"
        for which in ("live", "history")
    )
    line = (
        f"{name:16} {sum(each.sent for each in rounds):9,}"
        f" {middle(calm, 0.5):7.2f} {middle(calm, 0.99):7.2f}"
        f" {middle(loud, 0.5):7.2f} {middle(loud, 0.99):7.2f}"
        f" {ratio:5.2f} {max(newcomers_ms, default=0.0):8.0f}  {memory}"
    )
    return line, ratio


def main() -> int:
    """Attack, report, judge."""
    asked = arguments()
    # Whoever ends it early leaves no broker behind.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    chosen = [each for each in attacks(asked.frames) if asked.only in (None, each.name)]
    rounds: dict[str, list[Outcome]] = {}
    with (
        tempfile.TemporaryDirectory(prefix="hubbub-fuzz-") as folder,
        BrokerProcess(Path(folder) / "data", *["--secure"] * asked.secure) as broker,
    ):
        siege = Siege(broker, asked.seed)
        with siege.observed() as bystanders:
            for name, count, per_s in chosen:
                part = Attack(name, max(1, count // ROUNDS), per_s * asked.pace)
                rounds[name] = []
                for index in range(ROUNDS):
                    bystanders.begin(f"{QUIET}{name}:{index}")
                    quiet(QUIET_S)
                    bystanders.begin(f"{name}:{index}")
                    rounds[name].append(siege.attack(part))
                codes = sum((Counter(each.codes) for each in rounds[name]), Counter[str]())
                sys.stdout.write(f"# {name}: {dict(codes.most_common())}\n")
                sys.stdout.flush()
            bystanders.begin(QUIET)
            books = bystanders.end()
        siege.check_books(books)
    sys.stdout.write(
        f"seed {asked.seed}; {len(books['kept']):,} texts kept, heard by all once and in order\n"
        "                           ms quiet         ms attacked     p99  slowest        "
        "live MiB           history MiB\n"
        "attack                sent     p50     p99     p50     p99 ratio newcomer  "
        "before  peak after  before  peak after\n"
    )
    lines = [show(name, outcomes, books) for name, outcomes in rounds.items()]
    sys.stdout.writelines(line + "\n" for line, _ in lines)
    worst = max(ratio for _, ratio in lines)
    if asked.p99_ratio and worst > asked.p99_ratio:
        sys.stdout.write(f"failed: p99 is {worst:.2f} times that of quiet\n")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
