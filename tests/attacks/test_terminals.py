"""What others write must not act on the terminal of whoever reads it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import zmq
from zmq.utils import z85

from common import order, wire
from common.errors import Code
from common.order import Action
from tests.attacks.scene import Peer
from tests.broker_process import BrokerProcess
from tests.cli.person import Person

CHIEF = zmq.curve_keypair()
# Title, clipboard, colours and screen, the C1 forms, bells, backspaces over the line before,
# both directions, and what shows nothing; each with a mark to find it by.
EVIL = {
    "title": "\x1b]0;pwned-title\x07",
    "clipboard": "\x1b]52;c;cHduZWQ=\x07",
    "clear": "\x1b[2J\x1b[H\x1b[31m",
    "c1": "\x9b2J\x9d0;pwned-c1\x9c",
    "report": '\x1b[6n\x1bP$q"p\x1b\\',
    "back": "\b\b\b\b\x7f\r",
    "override": "\u202eevila\u202c\u2066x\u2069",
    "invisible": "a\u200b\u2060\ufeffb",
    "lines": "\u2028fake: line\u2029",
}
RAW: tuple[str, ...] = (
    "\x1b]0;pwned",
    "\x1b]52",
    "\x1b[2J\x1b[H\x1b[31m",
    "\x9b",
    "\x9d",
    "\x1b[6n\x1bP",
    "\b\b\b\b",
)
RAW += ("\u202e", "\u2066", "\u2060", "\ufeff", "\u2028", "\u2029", "\u200b")


@pytest.fixture(name="broker", scope="module")
def greeting_broker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[BrokerProcess]:
    """Start a broker whose greeting is evil, and that has an operator."""
    data = tmp_path_factory.mktemp("terminal") / "data"
    motd = "welcome " + EVIL["title"].replace("\x07", "") + EVIL["override"] + EVIL["c1"]
    words = ["--secure", "--motd", motd, "--operators", z85.decode(CHIEF[0]).hex()]
    with BrokerProcess(data, *words) as made:
        yield made


def assert_harmless(output: bytes) -> None:
    """See that nothing of what was written acts on a terminal."""
    text = output.decode("utf-8", "surrogateescape")
    assert not [raw for raw in RAW if raw in text]


@pytest.mark.parametrize("kind", EVIL)
def test_in_names(broker: BrokerProcess, kind: str) -> None:
    """No nick, no room."""
    with Peer(broker, "eve") as eve:
        for name in (EVIL[kind], f"a{EVIL[kind]}b"):
            hello = wire.Hello(1, name[:32], eve.owner, 1, 1)
            assert Code.NICK_INVALID == eve.refused(hello)
        eve.enter()
        for name in (EVIL[kind], f"a{EVIL[kind]}b"):
            assert Code.NICK_INVALID == eve.refused(wire.SetNick(2, name[:32]))
            assert Code.ROOM_INVALID == eve.refused(wire.Join(3, name))
        eve.ask(wire.Bye(4), wire.Goodbye)
    with Peer(broker, "chief", CHIEF) as chief:
        chief.ask(order.Admin(1, "free", "", "eve"), wire.Payload)


def test_in_all_that_is_said(broker: BrokerProcess, tmp_path: Path) -> None:
    """Texts, actions, topics, reasons, announcements and the greeting, on a real terminal."""
    person = Person(tmp_path / "home", broker.address, "reader")
    with Peer(broker, "writer") as eve:
        eve.enter_room("wall")
        with person.chat("wall") as screen, Peer(broker, "chief", CHIEF) as chief:
            for name, evil in EVIL.items():
                for kind in (wire.Kind.TEXT, wire.Kind.ACTION, wire.Kind.TOPIC):
                    draft = wire.Draft("wall", kind, [f"{evil} {name}"])
                    eve.ask(wire.Send(eve.next_number(), [draft]), wire.Ack)
                eve.give_order("wall", Action.MUTE, "reader", reason=f"{evil} because")
                eve.give_order("wall", Action.UNMUTE, "reader", reason=evil)
                eve.give_order("wall", Action.REPORT, "reader", reason=evil)
                text = f"{evil} all hear"
                chief.ask(order.Admin(2, "announce", "", "", 0, text), order.Table)
            talk = eve.ask(order.Talk(eve.next_id(), "reader"), wire.Joined)
            for evil in EVIL.values():
                eve.say(talk.room, evil)
            eve.say(talk.room, "the end of the talk")
            eve.say("wall", "the end of it")
            screen.see("the end of it")
            screen.enter("/query writer")
            screen.see("the end of the talk")
            screen.enter("/who")
            screen.enter("/rooms")
            screen.see("wall")
            assert "pwned-title" in screen.text()
            assert_harmless(screen.output)
            screen.enter("/quit")
            screen.wait_for_end()
            assert_harmless(screen.output)
    for words in (("history", "-r", "wall"), ("rooms",), ("who", "-r", "wall"), ("status",)):
        done = person.run(*words)
        assert_harmless((done.stdout + done.stderr).encode())
    for verb in (("audit",), ("sanctions",), ("rooms",), ("sessions",), ("audit", "--json")):
        done = person.run("admin", "--data", str(broker.data), *verb)
        assert done.stdout
        assert_harmless((done.stdout + done.stderr).encode())


def test_in_the_brokers_log(broker: BrokerProcess) -> None:
    """What peers send does not reach the terminal of who runs the broker, either."""
    with Peer(broker, "logger") as eve:
        eve.enter_room("logs")
        for evil in EVIL.values():
            eve.dealer.send_multipart([evil.encode(), evil.encode()])
            eve.receive()
            eve.refused(order.Order(1, "logs", evil[:16], evil))
            eve.refused(order.Admin(2, evil[:16], evil, evil, 0, evil))
    assert_harmless(broker.log().replace("\x1b[0m", "").encode())
