"""What processes cost: from a made-up /proc, and from real processes."""

from __future__ import annotations

import errno
import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from bench.meter import Meter, listeners
from tests.waiting import eventually

TICKS_PER_S = os.sysconf("SC_CLK_TCK")


class Machine:
    """A /proc of its own."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.cpu_s: dict[int, float] = {}

    def add(self, pid: int, parent: int, memory_kib: int, *, started: int = 7) -> None:
        """Add a process with one descriptor and two threads."""
        place = self.folder / str(pid)
        (place / "fd").mkdir(parents=True, exist_ok=True)
        (place / "fd" / "0").touch()
        # A name may hold anything, brackets and spaces too. utime and stime are 3 and 4 ticks.
        fields = ["S", str(parent), *["0"] * 9, "3", "4", *["0"] * 6, str(started)]
        (place / "stat").write_text(f"{pid} (a) b (c) {' '.join(fields)}\n")
        (place / "status").write_text(
            f"Name:\tx\nVmHWM:\t{memory_kib * 2} kB\nVmRSS:\t{memory_kib} kB\nThreads:\t2\n"
        )
        (place / "smaps_rollup").write_text(f"0-1 ---p [rollup]\nPss:\t{memory_kib // 2} kB\n")

    def end(self, pid: int) -> None:
        """Remove a process."""
        for path in sorted((self.folder / str(pid)).rglob("*"), reverse=True):
            path.rmdir() if path.is_dir() else path.unlink()
        (self.folder / str(pid)).rmdir()
        self.cpu_s.pop(pid, None)

    def clock(self, pid: int) -> float:
        """Read a process's clock."""
        if pid not in self.cpu_s:
            raise OSError(errno.EINVAL, "gone")
        return self.cpu_s[pid]

    def meter(self, *pids: int) -> Meter:
        """Return a meter of some processes."""
        return Meter(pids, self.folder, self.clock)


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    """Return a /proc with a parent 10, its child 11 and grandchild 12; 20 is somebody else."""
    machine = Machine(tmp_path)
    for pid, parent in ((10, 1), (11, 10), (12, 11), (20, 1)):
        machine.add(pid, parent, 1_000)
        machine.cpu_s[pid] = pid / 10
    return machine


def test_a_tree_is_summed(machine: Machine) -> None:
    reading = machine.meter(10).read()
    assert pytest.approx(3.3) == reading.cpu_s
    assert (3_000 * 1_024, 6_000 * 1_024) == (reading.rss_bytes, reading.peak_bytes)
    assert (1_500 * 1_024, 3, 6, 3) == reading[3:]


def test_a_child_that_comes_later_is_counted(machine: Machine) -> None:
    meter = machine.meter(10)
    meter.read()
    machine.add(13, 12, 1_000)
    machine.cpu_s[13] = 1.0
    assert pytest.approx(4.3) == meter.read().cpu_s


def test_the_dead_keep_their_cpu_time_and_free_their_memory(machine: Machine) -> None:
    meter = machine.meter(10)
    before = meter.read()
    machine.end(11)
    machine.cpu_s[12] += 1.0
    after = meter.read()
    assert pytest.approx(before.cpu_s + 1.0) == after.cpu_s
    assert (2_000 * 1_024, before.peak_bytes) == (after.rss_bytes, after.peak_bytes)
    assert 2 == after.processes


def test_when_all_are_gone_the_last_reading_stands(machine: Machine) -> None:
    meter = machine.meter(20)
    before = meter.read()
    machine.end(20)
    assert before._replace(processes=0) == meter.read()


def test_a_number_that_is_used_again_is_another_process(machine: Machine) -> None:
    meter = machine.meter(20)
    meter.read()
    machine.end(20)
    machine.add(20, 1, 9_000, started=8)
    machine.cpu_s[20] = 50.0
    assert (2.0, 0) == (meter.read().cpu_s, meter.read().processes)
    meter.add([20])
    assert (52.0, 1) == (meter.read().cpu_s, meter.read().processes)


def test_without_a_clock_there_are_ticks(machine: Machine) -> None:
    machine.cpu_s.clear()
    assert pytest.approx(7 / TICKS_PER_S) == machine.meter(20).read().cpu_s


def test_what_can_not_be_read_counts_nothing(machine: Machine) -> None:
    (machine.folder / "20" / "smaps_rollup").unlink()
    (machine.folder / "20" / "fd" / "0").unlink()
    (machine.folder / "20" / "fd").rmdir()
    reading = machine.meter(20).read()
    assert (0, 0, 1_000 * 1_024) == (reading.pss_bytes, reading.descriptors, reading.rss_bytes)


def test_nobody_costs_nothing(machine: Machine) -> None:
    assert not any(machine.meter().read())
    assert not any(machine.meter(99).read())


def test_a_real_process_with_an_ended_thread_and_a_child() -> None:
    """The time of a thread that is gone counts, and so does the child's memory."""
    code = (
        "import subprocess, sys, threading, time\n"
        "def work():\n"
        "    while time.thread_time() < 0.05: pass\n"
        "thread = threading.Thread(target=work); thread.start(); thread.join()\n"
        "child = subprocess.Popen([sys.executable, '-c', 'input()'], stdin=subprocess.PIPE)\n"
        "print('ready', flush=True); input(); child.communicate(b'\\n')\n"
    )
    with subprocess.Popen(
        [sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as process:
        assert process.stdout is not None
        assert process.stdin is not None
        assert b"ready\n" == process.stdout.readline()
        meter = Meter([process.pid])
        reading = meter.read()
        assert reading.cpu_s > 0.05
        assert 2 == reading.processes
        assert reading.peak_bytes >= reading.rss_bytes > 2**20
        assert reading.descriptors > 3
        process.stdin.write(b"\n")
        process.stdin.close()
        process.wait()
    assert eventually(lambda: meter.read().processes == 0)
    assert meter.read().cpu_s >= reading.cpu_s


def test_whoever_listens_on_a_port_is_found() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        assert [os.getpid()] == listeners([server.getsockname()[1]])
    assert [] == listeners([server_port_of_nobody()])


def server_port_of_nobody() -> int:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port: int = server.getsockname()[1]
    return port
