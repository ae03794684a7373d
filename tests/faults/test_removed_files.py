"""Files of the log that somebody removes under the running broker."""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest

from broker.log.segments import path_of
from broker.log.writer import FILE_NAME
from tests.broker_process import BrokerProcess
from tests.faults.talkers import Talkers
from tests.waiting import eventually

SOME = 200  # Texts.


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


def await_nothing_kept(talkers: Talkers) -> None:
    """See that whoever was refused once is not told yes any more."""
    for talker in talkers.talkers:
        eventually(partial(len, talker.refused), "a refusal of each")
    kept_counts = [len(talker.kept) for talker in talkers.talkers]
    talkers.await_refused(SOME)
    assert [len(talker.kept) for talker in talkers.talkers] == kept_counts


def remove(folder: Path) -> bool:
    """Remove a folder, in which others may make files meanwhile; tell whether it is gone."""
    shutil.rmtree(folder, ignore_errors=True)
    return not folder.exists()


def test_a_removed_segment_is_told_and_can_be_saved(
    broker: BrokerProcess, talkers: Talkers
) -> None:
    """Nothing more is acknowledged, and doing what the broker's log says loses nothing."""
    port, segment = broker.port, path_of(broker.data, 1)
    segment.unlink()
    await_nothing_kept(talkers)
    told = re.search(rf"{segment} was removed .* (/proc/\d+/fd/\d+) has its", broker.log())
    assert told is not None
    shutil.copyfile(told.group(1), segment)
    broker.kill_all()
    broker.start(port)
    talkers.await_kept(SOME)
    talkers.stop()
    assert set(talkers.check(broker.data)) == {"log_failed"}


def test_a_removed_database_is_told_until_it_is_back(
    broker: BrokerProcess, talkers: Talkers
) -> None:
    """The very file that was there is taken up again without a restart."""
    children = broker.children()
    database = broker.data / FILE_NAME
    database.rename(broker.data / "elsewhere")
    await_nothing_kept(talkers)
    assert f"{database} was removed or replaced" in broker.log()
    (broker.data / "elsewhere").rename(database)
    talkers.await_kept(SOME)
    talkers.stop()
    assert set(talkers.check(broker.data)) == {"log_failed"}
    assert broker.children() == children


def test_a_killed_live_does_not_begin_an_empty_log(broker: BrokerProcess, talkers: Talkers) -> None:
    """Without its database it does not serve; the supervisor says why, and tries on."""
    database = broker.data / FILE_NAME
    database.rename(broker.data / "elsewhere")
    talkers.await_refused(SOME)
    broker.kill_child("live")
    eventually(lambda: f"the log {database} was removed" in broker.log(), "the reason")
    assert not database.exists()
    (broker.data / "elsewhere").rename(database)
    talkers.await_kept(SOME)
    talkers.stop()
    talkers.check(broker.data)
    assert "live is back" in broker.log()


def test_a_removed_folder_is_told(broker: BrokerProcess, talkers: Talkers) -> None:
    """What was in it is gone, as somebody wanted; nothing that comes after is acknowledged."""
    eventually(lambda: remove(broker.data), "the end of the folder")
    await_nothing_kept(talkers)
    assert "was removed" in broker.log()
