"""Where secrets could lie about: logs, lists of processes, files that others may read."""

from __future__ import annotations

import base64
import os
import stat
from pathlib import Path

import pytest
from zmq.utils import z85

from broker.host import certificates
from broker.log.reader import SqliteReader
from broker.log.writer import FILE_NAME
from client.identity import load_owner
from client.keys import load_pair
from common.order import Action
from tests.attacks.scene import Peer
from tests.broker_process import BrokerProcess
from tests.cli.person import Person
from tests.waiting import DEADLINE_S


def spellings(secret: bytes) -> list[bytes]:
    """Return a secret as it could be written down."""
    found = [secret, secret.hex().encode(), repr(secret).encode()]
    found += [base64.b64encode(secret).rstrip(b"="), base64.urlsafe_b64encode(secret).rstrip(b"=")]
    return [*found, z85.encode(secret)] if len(secret) % 4 == 0 else found


def told_by_processes(pids: list[int]) -> bytes:
    """Return what everybody, or the same user, can read of processes."""
    names = ("cmdline", "environ", "comm", "status", "maps")
    return b"".join(Path(f"/proc/{pid}/{name}").read_bytes() for pid in pids for name in names)


def contents(folder: Path, *but: str) -> dict[str, bytes]:
    """Return all files below a folder, but for those of these names."""
    paths = (path for path in folder.rglob("*") if path.is_file() and path.name not in but)
    return {str(path): path.read_bytes() for path in paths}


def loose(folder: Path) -> list[str]:
    """Return what others than the owner can read, write or enter."""
    found = [folder, *folder.rglob("*")]
    return [str(path) for path in found if stat.S_IMODE(path.lstat().st_mode) & 0o077]


@pytest.mark.parametrize("level", ["info", "debug"])
def test_secrets_of_the_broker_and_its_clients(tmp_path: Path, level: str) -> None:
    """Neither in logs, nor in processes, nor in any file but their own."""
    umask = os.umask(0o022)  # As most people have it.
    try:
        with BrokerProcess(tmp_path / "data", "--secure", "--log-level", level) as broker:
            with Peer(broker, "ann") as ann, Peer(broker, "bob") as bob:
                ann.enter_room("safe")
                bob.enter_room("safe")
                room = ann.give_order("safe", Action.PRIVATE).room
                joined = ann.join(room)
                ann.say(room, "hello")
                ann.dealer.send_multipart([b"rubbish" + ann.token, ann.token])
                ann.receive()
                people = [ann.token, bob.token, ann.owner, z85.decode(ann.keys[1])]
                people += [joined.ticket, joined.subscription[-16:]]
                pids = [broker.process.pid, *broker.children().values()]
                processes = told_by_processes(pids)
            own = certificates.load(broker.data).secret
            reader = SqliteReader(broker.data / FILE_NAME)
            of_log = reader.secret
            reader.close()
            assert [] == loose(broker.data)
            kept = contents(broker.data, "broker.key_secret")
            told = broker.log().encode() + processes
        for secret in [*people, own, of_log]:
            assert not [each for each in spellings(secret) if each in told]
        for secret in [*people, own]:
            for path, content in kept.items():
                assert not [each for each in spellings(secret) if each in content], path
    finally:
        os.umask(umask)


def test_a_log_that_others_may_read(tmp_path: Path) -> None:
    """The broker doesn't start, and says what helps; a folder made by mkdir alone is no trouble."""
    data = tmp_path / "data"
    data.mkdir()
    data.chmod(0o755)
    with BrokerProcess(data, "--secure") as broker, Peer(broker, "ann") as ann:
        ann.enter_room("safe")
        ann.say("safe", "hello")
        files = [path for path in data.iterdir() if path.is_file()]
        assert {"hubbub.db", "lock"} <= {path.name for path in files}
        assert {0o600} == {stat.S_IMODE(path.stat().st_mode) for path in files}
    broker.start()
    assert 0 == broker.stop()
    (data / "hubbub.db").chmod(0o644)
    broker.launch(0)
    with broker:
        assert 1 == broker.process.wait(DEADLINE_S)
    refusal = f"hubbub-broker: {data} is open to others (mode 755); run: chmod 700 {data}\n"
    assert broker.log().endswith(refusal)
    data.chmod(0o700)
    broker.start()
    assert 0 == broker.stop()


def test_secrets_of_a_person(broker: BrokerProcess, tmp_path: Path) -> None:
    """The client's home is its owner's alone, and the client tells nobody what is in it."""
    umask = os.umask(0o022)
    try:
        ann = Person(tmp_path / "home", broker.address, "ann-home")
        owner = load_owner(ann.home)  # Of use where nothing is encrypted, only.
        done = ann.run("send", "-r", "lobby", "hello")
        with ann.chat() as screen:
            pid = screen.process.pid
            processes = told_by_processes([pid])
            output = screen.output
        assert [] == loose(ann.home)
        secret = load_pair(ann.home).secret
        told = done.stdout.encode() + done.stderr.encode() + processes + output
        told += broker.log().encode() + b"".join(contents(broker.data).values())
        told += b"".join(contents(ann.home, "client.key_secret", "owner").values())
        for each in (secret, owner):
            assert not [spelling for spelling in spellings(each) if spelling in told]
    finally:
        os.umask(umask)
