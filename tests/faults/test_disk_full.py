"""A disk that is full, too small or read-only under the running broker."""

from __future__ import annotations

from pathlib import Path

from client.api import connect
from tests.broker_process import BrokerProcess
from tests.faults.small_disk import small_disk
from tests.faults.talkers import Talkers
from tests.waiting import DEADLINE_S

DISK_MIB = 96


def test_a_full_disk_is_told_and_survived(tmp_path: Path) -> None:
    """Senders hear log_failed, nothing refused is kept, readers go on, and room heals it."""
    with (
        small_disk(tmp_path, DISK_MIB) as disk,
        BrokerProcess(disk.data) as broker,
        Talkers(broker.address, text_chars=3_000) as talkers,
    ):
        children = broker.children()
        for _ in range(2):
            talkers.await_kept(200)
            disk.fill()
            talkers.await_refused(200)
            with connect(broker.address, nick="reader", timeout_s=DEADLINE_S) as reader:
                reader.join("talker-room0", history=0, timeout_s=DEADLINE_S)
                assert len(reader.history("talker-room0", limit=50, timeout_s=DEADLINE_S)) == 50
            disk.free()
            talkers.await_kept(200)
        talkers.stop()
        assert set(talkers.check(disk.data)) == {"log_failed"}
        assert broker.children() == children, "a process died of it"
        assert "No space left on device" in broker.log()
