"""`make torture`: kill a broker and its clients again and again, and see that nothing is lost.

With --cut SECONDS the network is cut instead, for longer than a test has time for.
"""

from __future__ import annotations

import argparse
import contextlib
import random
import signal
import sys
import tempfile
import threading
import time
from collections.abc import Sequence
from pathlib import Path

import msgspec

from tests.broker_process import BrokerProcess
from tests.torture.lan import Lan
from tests.torture.plan import KILLED, draw
from tests.torture.scene import HOSTS, scene
from tests.torture.stage import FLAGS, Report, Stage

KILLS = 300
STROKES_PER_LINE = 50
STOPPED = 2  # The exit status when somebody ended it early.
CROWDS = 3
YARDS = 2
MEMBERS = 6


def torture(
    folder: Path,
    *,
    seed: int,
    kills: int,
    victims: tuple[str, ...] = tuple(KILLED),
    crowds: int = CROWDS,
    members: int = MEMBERS,
    prefix: Sequence[str] = (),
    is_told: bool = False,
    is_secure: bool = False,
    yards: int = 0,
) -> Report:
    """Run once in a folder, and return how it went; `prefix` is what starts the broker."""
    flags = (*FLAGS, "--secure") if is_secure else FLAGS
    with contextlib.ExitStack() as stack:
        broker = BrokerProcess(folder / "data", *flags, prefix=prefix)
        stack.enter_context(broker)
        stage = stack.enter_context(Stage(broker, folder, members=members))
        for _ in range(crowds):
            stage.add()
        for _ in range(yards):
            stage.add_yard(seed)
        stage.await_joined()
        stage.await_progress()
        troubles = draw(seed, kills, victims=victims)
        for number, trouble in enumerate(troubles, 1):
            stage.suffer(trouble)
            if is_told and number % STROKES_PER_LINE == 0:
                sys.stderr.write(f"{number} of {len(troubles)} strokes\n")
        return stage.finish(seed)


def endure_cut(folder: Path, *, cut_s: float) -> Report:
    """Cut a host with clients off for so long, and return how it went; needs root."""
    with Lan(*HOSTS) as lan, scene(lan, folder) as each:
        with lan.without("far"):
            threading.Event().wait(cut_s)
        mended_s = time.monotonic()
        each.stage.await_progress()
        back_s = time.monotonic() - mended_s
        report = each.finish()
        report.troubles = {f"cut of {cut_s:g} s": 1}
        report.back_s = back_s
        return report


def text_of(report: Report) -> str:
    """Return the report for people."""
    verdict = report.verdict
    rows: list[tuple[str, object]] = [
        *report.troubles.items(),
        ("clients", f"{report.clients}, of which {report.clients_last} lived to the end"),
        ("messages in the log", verdict.messages),
        ("acknowledged", verdict.acknowledged),
        ("resent", verdict.resent),
        ("refused", verdict.refused),
        ("longest outage", f"{verdict.outage_s:.2f} s"),
        *([("back after the cut", f"{report.back_s:.2f} s")] if report.back_s else []),
        ("views compared", verdict.views),
        ("lost", verdict.lost),
        ("duplicated", verdict.duplicated),
        ("reordered", verdict.reordered),
        ("refused but kept", verdict.refused_but_kept),
        ("views that differ", verdict.views_wrong),
        ("rooms whose history differs", len(report.wire_differs)),
        ("whole at the end", f"{report.clients_last - len(report.unfinished)} clients"),
        ("orders that held", sum(report.orders.values())),
        *((f"  {name}", count) for name, count in report.orders.items()),
        ("orders that did not", len(report.disorder)),
        ("seconds", f"{report.seconds:.0f}"),
        ("seed", report.seed),
    ]
    lines = [f"{name + ' ':.<30} {value}" for name, value in rows]
    lines += verdict.examples + report.disorder
    lines += [f"not whole: {nick}: {words}" for nick, words in report.unfinished.items()]
    lines.append("every promise was kept" if report.is_clean else "A PROMISE WAS BROKEN")
    return "\n".join(lines)


def main(argv: list[str] | None = None) -> int:
    """Run as the command line says; return 0 when every promise was kept."""
    parser = argparse.ArgumentParser(
        prog="python -m tests.torture", description=str(__doc__).split("\n")[0]
    )
    parser.add_argument("--kills", type=int, default=KILLS, help="kill -9 so often")
    parser.add_argument("--seed", type=int, help="draws victims and moments (default: by chance)")
    parser.add_argument(
        "--cut",
        type=float,
        metavar="SECONDS",
        help="instead, cut a host of clients off for so long",
    )
    parser.add_argument("--secure", action="store_true", help="everything is encrypted")
    parser.add_argument("--json", action="store_true", help="print the report as JSON")
    arguments = parser.parse_args(argv)
    seed = random.randrange(2**31) if arguments.seed is None else arguments.seed
    # `timeout` and Ctrl+C end it: what it has started must not go on without it.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(STOPPED))
    with tempfile.TemporaryDirectory(prefix="hubbub-torture-") as folder:
        if arguments.cut is not None:
            report = endure_cut(Path(folder), cut_s=arguments.cut)
        else:
            sys.stderr.write(f"seed {seed}\n")
            report = torture(
                Path(folder),
                seed=seed,
                kills=arguments.kills,
                is_told=True,
                is_secure=arguments.secure,
                yards=YARDS,
            )
    print(msgspec.json.encode(report).decode() if arguments.json else text_of(report))
    return 0 if report.is_clean else 1


if __name__ == "__main__":
    sys.exit(main())
