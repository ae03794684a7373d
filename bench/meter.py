"""What processes cost, read from Linux: CPU time, memory, descriptors and threads of their trees.

CPU time comes from each process's CPU clock (clock_getcpuclockid(3)): nanoseconds, and it includes
threads that have ended, which the sum of /proc/PID/task/*/schedstat forgets. Where the clock can't
be read, the ticks of /proc/PID/stat take its place.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterable
from contextlib import suppress
from pathlib import Path
from typing import Final, NamedTuple

PROC: Final = Path("/proc")
_TICKS_PER_S: Final = os.sysconf("SC_CLK_TCK")
# Fields of /proc/PID/stat behind the name in brackets, counted from 0; proc(5) counts from 3.
_PARENT, _UTIME, _STIME, _STARTED = 1, 11, 12, 19
_CPUCLOCK_SCHED: Final = 2  # Linux: the kind of clock that counts the scheduler's nanoseconds.
_KIB: Final = 1_024


class Reading(NamedTuple):
    """What a set of process trees has used, together."""

    cpu_s: float = 0.0  # Since they started; never falls, also when processes end.
    rss_bytes: int = 0  # Of those that live; shared pages count in each.
    peak_bytes: int = 0  # The highest sum of all VmHWM seen so far.
    pss_bytes: int = 0  # Shared pages divided among their users; 0 where it can't be read.
    descriptors: int = 0
    threads: int = 0
    processes: int = 0  # That live.


def clock_s(pid: int) -> float:
    """Return a process's CPU time from its clock; raise OSError if it is gone."""
    return time.clock_gettime(((~pid) << 3) | _CPUCLOCK_SCHED)


class Meter:
    """Reads the trees below some processes. Not shared between threads.

    A process that has ended counts with the CPU time it had last, and its memory, descriptors and
    threads count no more; when all have ended, the whole last reading stands. What a process did
    between the last reading and its end is not seen, so read about once a second.
    """

    def __init__(
        self,
        pids: Iterable[int],
        proc: Path = PROC,
        clock: Callable[[int], float] = clock_s,
    ) -> None:
        self._proc = proc
        self._clock = clock
        # Known processes by number and start, since numbers are used again: CPU time of each.
        self._cpu_s: dict[tuple[int, int], float] = {}
        self._last = Reading()
        self.add(pids)

    def add(self, pids: Iterable[int]) -> None:
        """Count these trees too, for instance of a server that has been started again."""
        for pid in pids:
            stat = self._stat(pid)
            if stat is not None:
                self._cpu_s.setdefault((pid, int(stat[_STARTED])), 0.0)

    def read(self) -> Reading:
        """Read all of them now."""
        living = self._living()
        for key, stat in living.items():
            self._cpu_s[key] = max(self._cpu_s.get(key, 0.0), self._cpu_of(key[0], stat))
        cpu_s = sum(self._cpu_s.values())
        if not living:
            self._last = self._last._replace(cpu_s=cpu_s, processes=0)
            return self._last
        pids = [pid for pid, _ in living]
        status = [self._fields(pid, "status") for pid in pids]
        rss_bytes = _KIB * sum(each.get("VmRSS", 0) for each in status)
        high_bytes = _KIB * sum(each.get("VmHWM", 0) for each in status)
        self._last = Reading(
            cpu_s,
            rss_bytes,
            max(self._last.peak_bytes, rss_bytes, high_bytes),
            _KIB * sum(self._fields(pid, "smaps_rollup").get("Pss", 0) for pid in pids),
            sum(self._descriptors(pid) for pid in pids),
            sum(each.get("Threads", 0) for each in status),
            len(pids),
        )
        return self._last

    def _living(self) -> dict[tuple[int, int], list[str]]:
        """Return the stat of each known process that lives, and of its children."""
        children = self._children()
        found: dict[tuple[int, int], list[str]] = {}
        # Whoever was known stays so: a child outlives its parent, and is init's then.
        waiting = [*self._cpu_s]
        while waiting:
            key = waiting.pop()
            stat = self._stat(key[0])
            if key in found or stat is None or int(stat[_STARTED]) != key[1]:
                continue
            found[key] = stat
            waiting += children.get(key[0], ())
        return found

    def _children(self) -> dict[int, list[tuple[int, int]]]:
        """Return each process's children with their starts.

        From every stat: /proc/PID/task/TID/children is not in every kernel, and may miss some.
        """
        children: dict[int, list[tuple[int, int]]] = {}
        for path in self._proc.iterdir():
            if path.name.isdigit():
                stat = self._stat(int(path.name))
                if stat is not None:
                    key = int(path.name), int(stat[_STARTED])
                    children.setdefault(int(stat[_PARENT]), []).append(key)
        return children

    def _stat(self, pid: int) -> list[str] | None:
        """Return the fields behind the name; None for a process that is gone or a zombie."""
        try:
            text = (self._proc / str(pid) / "stat").read_text(errors="replace")
        except OSError:
            return None
        fields = text.rpartition(")")[2].split()
        return None if not fields or fields[0] in "ZX" else fields

    def _cpu_of(self, pid: int, stat: list[str]) -> float:
        with suppress(OSError):
            return self._clock(pid)
        return (int(stat[_UTIME]) + int(stat[_STIME])) / _TICKS_PER_S

    def _fields(self, pid: int, name: str) -> dict[str, int]:
        """Return the numbers of a file of `Name:  1234 kB` lines; empty if it can't be read."""
        try:
            text = (self._proc / str(pid) / name).read_text(errors="replace")
        except OSError:
            return {}
        found = {}
        for line in text.splitlines():
            word, _, rest = line.partition(":")
            value = rest.split(maxsplit=1)[:1]
            if value and value[0].isdigit():
                found[word] = int(value[0])
        return found

    def _descriptors(self, pid: int) -> int:
        try:
            return sum(1 for _ in (self._proc / str(pid) / "fd").iterdir())
        except OSError:
            return 0


def listeners(host_ports: Iterable[int], proc: Path = PROC) -> list[int]:
    """Return the processes of this user that listen on TCP ports; empty if none can be seen."""
    wanted = set(host_ports)
    inodes = set()
    for name in ("tcp", "tcp6"):
        with suppress(OSError):
            for line in (proc / "net" / name).read_text().splitlines()[1:]:
                words = line.split()
                is_listening = words[3] == "0A"
                if is_listening and int(words[1].rpartition(":")[2], 16) in wanted:
                    inodes.add(f"socket:[{words[9]}]")
    return sorted(
        int(path.name) for path in proc.iterdir() if path.name.isdigit() and inodes & _sockets(path)
    )


def _sockets(process: Path) -> set[str]:
    found: set[str] = set()
    with suppress(OSError):
        for descriptor in (process / "fd").iterdir():
            with suppress(OSError):
                found.add(str(descriptor.readlink()))
    return found
