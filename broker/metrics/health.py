"""Whether the broker lives and serves, judged from what its processes told. Pure.

*Alive* means that nothing hangs, so that a restart from outside would not help. A process that
is being restarted is cared for, and one that waits for a stalled disk would wait again. *Ready*
means that whoever sends now can expect an answer soon.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

STARTING, SERVING, DOWN = "starting", "serving", "down"

READY_SILENCE_S = 5.0  # Five signs of life that did not come.
SUPERVISOR_SILENCE_S = 15.0  # It goes round at least every two seconds.
# Less is a full disk: the log takes 8 MiB ahead, and its index must grow, too.
FREE_BYTES_MIN = 16 * 1024 * 1024


class Part(NamedTuple):
    """One child process, as the supervisor sees it."""

    name: str
    phase: str
    process: int  # Its number; 0 when there is none.
    started_ms: int  # Since 1970; 0 when there is none.
    heard_s: float  # The last sign of life, on the steady clock.
    restarts_count: int = 0
    is_at_disk: bool = False  # Silent, and waiting for the disk.


class Snapshot(NamedTuple):
    """Everything that is known at one moment. Never changed, so any thread may read it."""

    at_s: float  # On the steady clock.
    parts: tuple[Part, ...]
    counted: Mapping[str, float]  # As in `broker.metrics.figures.Figures`, of all processes ever.
    now: Mapping[str, float]
    is_closing: bool = False


def silence_s_max(silence_s: float) -> float:
    """Return how long a process may be silent before it counts as hung.

    Half of the time after which the supervisor replaces it: whoever watches sees it before.
    """
    return silence_s / 2


def what_hangs(snapshot: Snapshot, now_s: float, silence_s: float) -> list[str]:
    """Return a line for each process that hangs; none when all is well."""
    troubles = []
    behind_s = now_s - snapshot.at_s
    if behind_s > SUPERVISOR_SILENCE_S:
        troubles.append(f"the supervisor has been silent for {behind_s:.0f} s")
        return troubles  # What it knew of the others is as old.
    for part in snapshot.parts:
        silent_s = now_s - part.heard_s
        if part.phase == SERVING and silent_s > silence_s_max(silence_s) and not part.is_at_disk:
            troubles.append(f"{part.name} has been silent for {silent_s:.0f} s")
    return troubles


def what_fails(snapshot: Snapshot, now_s: float, free_bytes: int | None) -> list[str]:
    """Return a line for each reason not to send anything now; none when all is well.

    free_bytes: room on the disk; None when it cannot be told.
    """
    if snapshot.is_closing:
        return ["the broker is closing"]
    troubles = []
    if now_s - snapshot.at_s > SUPERVISOR_SILENCE_S:
        troubles.append("the supervisor is silent")
    for part in snapshot.parts:
        silent_s = now_s - part.heard_s
        if part.phase != SERVING:
            troubles.append(f"{part.name} is not up")
        elif silent_s > READY_SILENCE_S:
            why = ": it waits for the disk" if part.is_at_disk else ""
            troubles.append(f"{part.name} has been silent for {silent_s:.0f} s{why}")
    if snapshot.now.get("draining"):
        troubles.append("nobody new is taken: the broker is to be stopped")
    if snapshot.now.get("log_failing"):
        troubles.append("the log cannot be written")
    if free_bytes is not None and free_bytes < FREE_BYTES_MIN:
        troubles.append(f"the disk is full: {free_bytes >> 20} MiB left")
    return troubles
