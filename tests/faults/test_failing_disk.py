"""A disk whose calls fail under the running broker, in all the ways that a disk can fail."""

from __future__ import annotations

import resource
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import NamedTuple

import pytest

from broker.log.index import connect
from broker.log.segments import path_of
from broker.log.writer import FILE_NAME
from tests.broker_process import BrokerProcess
from tests.faults.injection import failing
from tests.faults.talkers import Talkers
from tests.waiting import eventually

SOME = 200  # Texts: enough for several commits of everybody.


@pytest.fixture
def broker(tmp_path: Path) -> Iterator[BrokerProcess]:
    """Return a running broker."""
    with BrokerProcess(tmp_path / "data") as running:
        yield running


@pytest.fixture
def talkers(broker: BrokerProcess) -> Iterator[Talkers]:
    """Return clients that talk."""
    with Talkers(broker.address) as talking:
        talking.await_kept(SOME)
        yield talking


class Fault(NamedTuple):
    """What fails, as strace has it, and what the operator reads."""

    injection: str
    words: str


FAULTS = (
    Fault("fdatasync:error=EIO", "Input/output error"),
    Fault("fdatasync:error=ENOSPC", "No space left on device"),
    Fault("pwrite64:error=EIO", "Input/output error"),
    Fault("pwrite64:error=EDQUOT", "Disk quota exceeded"),
    # As the kernel leaves a disk that it has made read-only itself; mount(8) does not make one so
    # while somebody writes to it.
    Fault("pwrite64,fallocate,ftruncate,fdatasync:error=EROFS", "Read-only file system"),
)


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.injection)
def test_a_failing_segment_is_told_and_survived(
    tmp_path: Path, broker: BrokerProcess, talkers: Talkers, fault: Fault
) -> None:
    """Each text is refused while it lasts; live and history stay, and all goes on afterwards."""
    children = broker.children()
    segment = path_of(broker.data, 1)
    with failing(children["live"], tmp_path, fault.injection, path=segment) as account:
        talkers.await_refused(SOME)
        assert account.injected_count() > 0
    talkers.await_kept(SOME)
    talkers.stop()
    assert set(talkers.check(broker.data)) == {"log_failed"}
    assert broker.children() == children, "a process died of it"
    assert fault.words in broker.log()
    assert "the log is written again" in broker.log()


def test_a_kill_after_a_failed_fsync_brings_nothing_back(
    tmp_path: Path, broker: BrokerProcess, talkers: Talkers
) -> None:
    """What was refused is not in the log that the next process finds, whoever was killed."""
    port = broker.port
    for kill in (lambda: broker.kill_child("live"), broker.kill_all):
        with failing(broker.children()["live"], tmp_path, "fdatasync:error=EIO"):
            talkers.await_refused(SOME)
            kill()
        if broker.process.poll() is not None:
            broker.start(port)
        talkers.await_kept(SOME)
    talkers.stop()
    assert set(talkers.check(broker.data)) == {"log_failed"}


def test_what_can_not_be_taken_back_is_not_refused(
    tmp_path: Path, broker: BrokerProcess, talkers: Talkers
) -> None:
    """The fsync fails, and so does taking the record back: live ends instead of guessing."""
    live = broker.children()["live"]
    segment = path_of(broker.data, 1)
    injections = ("fdatasync:error=EIO", "ftruncate:error=EROFS")
    with failing(live, tmp_path, *injections, path=segment):
        eventually(lambda: broker.children().get("live", live) != live, "another live")
    talkers.await_kept(SOME)
    talkers.stop()
    assert not talkers.check(broker.data), "nobody was told anything of what is in doubt"
    assert "so nobody is told about it" in broker.log()


def test_a_failing_index_stops_nobody(
    tmp_path: Path, broker: BrokerProcess, talkers: Talkers
) -> None:
    """The segments are the log: the index is written when its file can be again."""
    children = broker.children()
    wal = broker.data / f"{FILE_NAME}-wal"
    with failing(children["live"], tmp_path, "pwrite64:error=EIO", path=wal) as account:
        eventually(lambda: account.injected_count() > 0, "the index to fail")
        talkers.await_kept(SOME)
        assert "the log cannot be trimmed: disk I/O error" in broker.log()
    talkers.await_kept(SOME)
    talkers.stop()
    assert not talkers.check(broker.data)
    assert broker.children() == children


def test_a_database_that_somebody_locks_stops_nobody(broker: BrokerProcess) -> None:
    """Chat goes on until too much waits for the index, is told no then, and goes on again."""
    children = broker.children()
    with (
        Talkers(broker.address, rooms=20) as talkers,
        closing(connect(broker.data / FILE_NAME)) as other,
    ):
        talkers.await_kept(SOME)
        other.execute("BEGIN EXCLUSIVE")
        eventually(lambda: "the log cannot be trimmed: database is locked" in broker.log())
        talkers.await_kept(SOME)
        talkers.await_refused(SOME)
        assert "the log cannot be written: database is locked" in broker.log()
        other.execute("ROLLBACK")
        talkers.await_kept(SOME)
        talkers.stop()
        assert set(talkers.check(broker.data)) == {"log_failed"}
    assert broker.children() == children


def test_a_limit_to_files_is_told_and_survived(broker: BrokerProcess, talkers: Talkers) -> None:
    """As a quota: the file may not grow any more. The process is not killed by SIGXFSZ."""
    children = broker.children()
    live = children["live"]
    before = resource.prlimit(live, resource.RLIMIT_FSIZE)
    size_bytes = eventually(lambda: (broker.data / FILE_NAME).stat().st_size)
    resource.prlimit(live, resource.RLIMIT_FSIZE, (min(size_bytes, 4_096), before[1]))
    talkers.await_refused(SOME)
    resource.prlimit(live, resource.RLIMIT_FSIZE, before)
    talkers.await_kept(SOME)
    talkers.stop()
    assert set(talkers.check(broker.data)) == {"log_failed"}
    assert broker.children() == children
    assert "File too large" in broker.log()
