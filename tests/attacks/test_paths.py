"""Names that would be something else if they were ever the name of a file, or a part of SQL."""

from __future__ import annotations

from pathlib import Path

import pytest

from common import order, wire
from common.errors import Code
from tests.attacks.scene import Peer
from tests.broker_process import BrokerProcess

TRICKS = [
    "../x",
    "..",
    ".",
    "/etc/passwd",
    "a/b",
    "a\\b",
    "C:\\x",
    "c:x",
    "x\0y",
    "%2e%2e%2fx",
    "~root",
    "-rf",
    "$(id)",
    "`id`",
    "x;y",
    "x'--",
    'x"y',
    "x*",
    "x y",
    "x\n",
    "\uff0e\uff0e\uff0fx",
]
HARMLESS = ["con", "hubbub.db", "a..b", "nul.txt", "broker.key_secret", "x..", "etc.passwd"]


def files_below(folder: Path) -> set[str]:
    """Return all names below a folder, but for segments and what SQLite puts aside."""
    return {str(path.relative_to(folder)) for path in folder.rglob("*")}


@pytest.mark.parametrize("trick", TRICKS)
def test_tricks_in_names(broker: BrokerProcess, trick: str) -> None:
    """Refused as nick and as room, by each command that takes one."""
    with Peer(broker, "eve") as eve:
        assert Code.NICK_INVALID == eve.refused(wire.Hello(1, trick, eve.owner, 1, 1))
        eve.nick = "x" + trick.encode().hex()[:30]
        eve.enter()
        assert Code.NICK_INVALID == eve.refused(wire.SetNick(2, trick))
        assert Code.NICK_INVALID == eve.refused(order.Talk(3, trick))
        assert Code.ROOM_INVALID == eve.refused(wire.Join(4, trick))
        for sign in "+@":
            assert Code.NOT_INVITED == eve.refused(wire.Join(5, sign + trick))
        assert Code.NOT_MEMBER == eve.refused(wire.Who(6, trick))
        assert Code.BAD_TICKET == eve.read(trick, bytes(16))


def test_names_are_never_files(tmp_path: Path) -> None:
    """Names that could be files are taken, said in, closed: and the folder has none of them."""
    with BrokerProcess(tmp_path / "data", "--secure") as broker:
        before = files_below(tmp_path)
        for name in HARMLESS:
            with Peer(broker, f"n-{name}") as eve:
                eve.enter_room(name)
                eve.say(name, "hello")
                eve.give_order(name, order.Action.PRIVATE)
        after = files_below(tmp_path)
        assert not [path for path in after - before for name in HARMLESS if name in path]
        secret = (tmp_path / "data" / "keys" / "broker.key_secret").read_bytes()
        assert b"hello" not in secret
