"""How those see the broker who watch it: scrapers of metrics, and systemd."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

from broker.child_process import Child
from broker.config import Settings
from broker.host.notify import Notifier
from broker.metrics.figures import added
from broker.metrics.health import Snapshot, what_fails, what_hangs

if TYPE_CHECKING:
    from broker.metrics.exporter import Exporter

logger = logging.getLogger("broker")


def snapshot_of(children: Iterable[Child], now_s: float, *, is_closing: bool = False) -> Snapshot:
    """Return everything that is known now; `now_s` on the steady clock."""
    children = list(children)
    counted = added(*(child.counted() for child in children))
    now = {name: value for child in children for name, value in child.now().items()}
    parts = tuple(child.part() for child in children)
    return Snapshot(now_s, parts, counted, now, is_closing)


class Lookout:
    """Shows snapshots to who watches. Belongs to the supervisor's thread."""

    def __init__(self, settings: Settings) -> None:
        """Listen for scrapers when told to. Raises `OSError`."""
        self._silence_s = settings.silence
        self._notifier = Notifier(os.environ)
        self._watchdog_at_s = 0.0
        self._status = ""
        self._served = ""
        self._exporter: Exporter | None = None
        if settings.metrics:
            # Imported here: it takes a tenth of a second and some megabytes.
            from broker.metrics.exporter import Exporter  # noqa: PLC0415

            port = max(0, settings.metrics)
            self._exporter = Exporter(port, Path(settings.data), settings.silence)
            logger.info("metrics on %s", self._exporter.url)

    def next_deadline_s(self) -> float:
        """Return when to show the next snapshot at the latest."""
        return self._watchdog_at_s if self._notifier.watchdog_every_s else float("inf")

    def ready(self, served: str) -> None:
        """Tell that the broker serves, and where."""
        self._served = served
        self._notifier.tell(READY="1")

    def show(self, snapshot: Snapshot) -> None:
        """Let everybody see how it is now."""
        now_s = snapshot.at_s
        if self._exporter is not None:
            self._exporter.show(snapshot)
        status = "; ".join(what_fails(snapshot, now_s, None)) or f"serving on {self._served}"
        if status != self._status:
            self._status = status
            self._notifier.tell(STATUS=status)
        every_s = self._notifier.watchdog_every_s
        if every_s and now_s >= self._watchdog_at_s:
            self._watchdog_at_s = now_s + every_s
            if not what_hangs(snapshot, now_s, self._silence_s):
                self._notifier.tell(WATCHDOG="1")

    def closing(self, snapshot: Snapshot) -> None:
        """Tell that the broker is about to end."""
        self._notifier.tell(STOPPING="1")
        self.show(snapshot)

    def close(self) -> None:
        """Hang up."""
        if self._exporter is not None:
            self._exporter.close()
