"""`hubbub admin` against a real broker: through the data folder's socket, and with a key."""

from __future__ import annotations

import contextlib
import os
import signal
import sqlite3
import stat
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from broker.config import default_data
from broker.log.writer import FILE_NAME
from client import events as client_events
from client.admin import data_folder
from client.api import Client, connect
from client.arguments import parse
from common import wire
from common.endpoints import ADMIN_SOCKET, UNIX_PATH_BYTES_MAX
from common.errors import Code, Refused
from common.order import Admin, Removed
from tests.broker_process import BrokerProcess
from tests.cli.person import Person
from tests.needs import need_root
from tests.raw_peer import RawPeer
from tests.scrape import Scraper
from tests.waiting import DEADLINE_S, eventually


class Operator(Person):
    """Somebody at the broker's host."""

    def __init__(self, home: Path, broker: BrokerProcess) -> None:
        super().__init__(home, broker.address)
        self.environ["HUBBUB_DATA"] = str(broker.data)

    def admin(self, *words: str, stdin: str = "", status: int = 0) -> str:
        """Give an order; return what is printed, or else what is complained about."""
        done = self.run("admin", *words, stdin=stdin, status=status)
        return done.stdout if not status else done.stderr

    def table(self, *words: str) -> list[dict[str, Any]]:
        """Give an order; return the rows of the answer."""
        return self.objects("admin", *words)


@pytest.fixture
def broker(tmp_path: Path) -> Iterator[BrokerProcess]:
    with BrokerProcess(tmp_path / "data", "--metrics", "-1") as process:
        yield process


@pytest.fixture
def operator(broker: BrokerProcess, tmp_path: Path) -> Operator:
    return Operator(tmp_path / "operator", broker)


@pytest.fixture
def bob(broker: BrokerProcess) -> Iterator[RawPeer]:
    """Return a client that is called bob, whose inbox is open."""
    with RawPeer(broker.port) as peer:
        peer.hello("bob")
        peer.await_inbox()
        yield peer


def said(client: Client, room: str) -> list[str]:
    return [entry.text for entry in client.history(room)]


def refusal(broker: BrokerProcess, nick: str) -> str:
    """Return the code with which a newcomer is refused."""
    with pytest.raises(Refused) as caught:
        connect(broker.address, nick=nick).close()
    return caught.value.code


# --- the way in -------------------------------------------------------------
def test_the_socket_is_the_owners_alone(broker: BrokerProcess) -> None:
    path = broker.data / ADMIN_SOCKET
    mode = path.stat().st_mode
    assert (True, 0o600) == (stat.S_ISSOCK(mode), stat.S_IMODE(mode))
    assert 0o700 == stat.S_IMODE(broker.data.stat().st_mode)
    assert 0 == broker.stop()
    assert not path.exists()


def test_through_the_network_nobody_may(broker: BrokerProcess, tmp_path: Path) -> None:
    """Neither by hand nor with the command line; and nothing is done."""
    with RawPeer(broker.port) as stranger:
        for command in (Admin(1, "sessions"), Admin(1, "drain", value=1), Admin(1, "audit")):
            assert Code.FORBIDDEN == stranger.ask(command, wire.Error).code
        assert not stranger.ask(wire.Greet(2), wire.Greeting).clients
    person = Person(tmp_path / "person", broker.address)
    done = person.run("admin", "--broker", broker.address, "drain", status=77)
    assert "hubbub: only operators may do that\n" == done.stderr
    connect(broker.address, nick="still-let-in").close()


@pytest.mark.parametrize("folder_mode", [0o700, 0o755])
def test_another_user_of_the_host_may_not(
    broker: BrokerProcess, operator: Operator, tmp_path: Path, folder_mode: int
) -> None:
    """Not even where the folder lets them in: then the socket's mode says no."""
    need_root()  # Nobody else can become somebody else.
    # The owner's order comes first, so that all is imported: others may not see where that lies.
    program = (
        "import os, sys; from client.cli import run; os.chdir(sys.argv[1]);"
        "assert not run(['admin', 'sessions', '--data', 'data']);"
        "os.setgroups([]); os.setgid(65534); os.setuid(65534);"
        "sys.exit(run(['admin', 'drain', '--data', 'data']))"
    )
    tmp_path.chmod(0o711)
    broker.data.chmod(folder_mode)
    done = subprocess.run(
        [sys.executable, "-c", program, str(tmp_path)],
        env=operator.environ,
        capture_output=True,
        text=True,
        timeout=DEADLINE_S,
        check=False,
    )
    complaint = "hubbub: only the owner of data and root may do that\n"
    assert (77, complaint) == (done.returncode, done.stderr)
    assert [] == operator.table("audit")


def test_a_long_path_works_and_a_kill_leaves_nothing_in_the_way(tmp_path: Path) -> None:
    data = tmp_path / ("long" * 20) / ("path" * 20)
    assert len(str(data / ADMIN_SOCKET)) > UNIX_PATH_BYTES_MAX
    data.parent.mkdir()
    with BrokerProcess(data) as broker:
        operator = Operator(tmp_path / "operator", broker)
        assert [] == operator.table("sessions")
        broker.kill_child("live")
        eventually(lambda: operator.run("admin", "sessions", status=None).returncode == 0)
        broker.kill_all()
        assert (data / ADMIN_SOCKET).exists()
        assert "does not answer" in operator.admin("sessions", "--timeout", "0.3", status=69)
        broker.start()
        assert [] == operator.table("sessions")


def test_without_a_broker_it_says_where_it_looked(
    broker: BrokerProcess, operator: Operator, tmp_path: Path
) -> None:
    assert 0 == broker.stop()
    assert str(broker.data) in operator.admin("sessions", status=69)
    gone = tmp_path / "gone"
    assert str(gone) in operator.admin("sessions", "--data", str(gone), status=69)


def test_the_folder_is_the_one_where_a_broker_has_it(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path))
    arguments = parse(["admin", "sessions"], {})
    assert Path(default_data()) == data_folder(arguments, {"HUBBUB_HOME": "/elsewhere"})
    assert Path("/by/variable") == data_folder(arguments, {"HUBBUB_DATA": "/by/variable"})
    told = parse(["admin", "sessions", "--data", "/told"], {})
    assert Path("/told") == data_folder(told, {"HUBBUB_DATA": "/by/variable"})


def test_an_operator_is_known_by_their_key(tmp_path: Path) -> None:
    """From afar, encrypted; somebody else's key is no operator's."""
    anna, eve = Person(tmp_path / "anna", ""), Person(tmp_path / "eve", "")
    (key,) = anna.objects("key")
    with BrokerProcess(tmp_path / "data", "--secure", "--operators", key["key"]) as broker:
        for person in (anna, eve):
            person.environ["HUBBUB_BROKER"] = broker.address
        there = ("admin", "--broker", broker.address)
        assert [] == anna.objects(*there, "sessions")
        assert "told\n0\n" == anna.run(*there, "announce", "hello").stdout
        done = eve.run(*there, "announce", "hello", status=77)
        assert done.stderr.endswith("hubbub: only operators may do that\n")
        (entry,) = anna.objects(*there, "audit")
        assert ("announce", key["key"], "hello") == (
            entry["action"],
            entry["key"],
            entry["detail"],
        )


# --- looking ----------------------------------------------------------------
def test_tables_are_for_people_and_programs(
    broker: BrokerProcess, operator: Operator, bob: RawPeer
) -> None:
    bob.join("r")
    head, row = operator.admin("sessions").splitlines()
    assert ["nick", "key", "address", "rooms"] == head.split()
    assert head.index("key") == row.index(row.split()[1])
    (told,) = operator.table("sessions")
    assert ("bob", 1) == (told["nick"], told["rooms"])
    assert [{"told": 1}] == operator.table("announce", "soon")
    assert ["r"] == [each["room"] for each in operator.table("rooms")]
    operator.admin("announce", "\x1b[2J\u202ebad")
    assert "\\x1b[2J\\u202ebad" in operator.admin("audit")
    assert broker.address.rpartition(":")[0] == told["address"]


@pytest.mark.parametrize(
    ("words", "status", "complaint"),
    [
        (("kick", "nobody"), 1, "nobody called nobody is known here"),
        (("kick", "-r", "none", "bob"), 1, "there is no room none"),
        (("slow", "-r", "none", "5"), 1, "there is no room none"),
        (("kick",), 2, "NICK is missing"),
        (("sessions", "--data", "x", "--broker", "y"), 2, "without --broker"),
    ],
)
def test_mistakes_are_one_line(
    operator: Operator, words: tuple[str, ...], status: int, complaint: str
) -> None:
    error = operator.admin(*words, status=status)
    assert complaint in error
    assert 1 == error.count("\n")


# --- people -----------------------------------------------------------------
def test_somebody_is_kicked_and_banned(
    broker: BrokerProcess, operator: Operator, bob: RawPeer
) -> None:
    assert "ended\n1\n" == operator.admin("kick", "bob", "that", "is", "enough")
    notice = bob.await_publication(wire.Notice, lambda found: found.code == "kicked")
    assert ("operator", "that is enough") == (notice.nick, notice.text)
    assert Code.NO_SESSION == bob.ask(wire.Join(9, "r"), wire.Error).code
    hello = wire.Hello(10, "bob", bob.owner, bob.instance, 1)
    bob.ask(hello, wire.Welcome)
    operator.admin("ban", "bob", "--for", "1h", "spam")
    refused = bob.ask(hello, wire.Error)
    assert Code.BANNED == refused.code
    assert 3_500_000 < refused.value <= 3_600_000
    assert 0 == broker.stop()
    broker.start(broker.port)
    assert Code.BANNED == refusal(broker, "bob")
    operator.admin("unban", "bob")
    connect(broker.address, nick="bob").close()
    actions = [each["action"] for each in operator.table("audit")]
    assert ["unban", "ban", "kick"] == actions


def test_somebody_is_muted_in_a_room(broker: BrokerProcess, operator: Operator) -> None:
    with connect(broker.address, nick="bob") as bob:
        bob.join("r")
        bob.send("r", "one")
        operator.admin("mute", "-r", "r", "bob")
        with pytest.raises(Refused) as caught:
            bob.send("r", "two")
        assert Code.MUTED == caught.value.code
        (row,) = operator.table("sanctions", "-r", "#r")
        assert ("mute", "bob", "for ever") == (row["kind"], row["nick"], row["until"])
        operator.admin("unmute", "-r", "r", "bob")
        bob.send("r", "three")


def test_everybody_hears_an_announcement_from_a_pipe(operator: Operator, bob: RawPeer) -> None:
    assert "told\n1\n" == operator.admin("announce", stdin="lunch\nis ready\n")
    notice = bob.await_publication(wire.Notice, lambda found: found.code == "announcement")
    assert "lunch\nis ready" == notice.text
    for text in ("", "\n", "x" * 4_001):
        assert "1 to 4000" in operator.admin("announce", stdin=text, status=1)
    assert 1 == len(operator.table("audit"))


def test_a_nick_is_freed(broker: BrokerProcess, operator: Operator) -> None:
    connect(broker.address, nick="bob").close()
    assert "nobody owns robert" in operator.admin("free", "robert", status=1)
    nicks = [row["nick"] for row in operator.table("nicks")]
    assert [] == nicks  # Without keys a name is held by who is here.


# --- texts ------------------------------------------------------------------
def files_with(folder: Path, word: str) -> list[str]:
    """Return the files in which a word stands."""
    return [
        path.name
        for path in sorted(folder.iterdir())
        if path.is_file() and word.encode() in path.read_bytes()
    ]


def test_a_dropped_text_is_gone_from_everywhere(broker: BrokerProcess, operator: Operator) -> None:
    """From the files, from history, also after a start, and from whoever shows it."""
    with RawPeer(broker.port) as raw, connect(broker.address, nick="bob") as bob:
        raw.hello("watcher")
        raw.join("r")
        bob.join("r")
        bob.send("r", "before it")
        seq = bob.send("r", "the password is xyzzy-4711").seq
        bob.send("r", "after it")
        assert files_with(broker.data, "xyzzy-4711")
        (row,) = operator.table("drop", "-r", "r", str(seq))
        assert "bob" == row["nick"]
        removed = raw.await_publication(Removed, lambda _: True)
        assert ("r", seq) == (removed.room, removed.seq)
        assert ("r", seq) == next(
            (event.room, event.seq)
            for event in bob.events(DEADLINE_S)
            if isinstance(event, client_events.Removed)
        )
        with connect(broker.address, nick="newcomer") as newcomer:
            newcomer.join("r")
            texts = said(newcomer, "r")
        assert ["before it", "", "after it"] == texts
        eventually(lambda: not files_with(broker.data, "xyzzy-4711"), "no file that has it")
        assert "no entry 99" in operator.admin("drop", "-r", "r", "99", status=1)
        port = broker.port
        assert 0 == broker.stop()
        assert [] == files_with(broker.data, "xyzzy-4711")
        broker.start(port)
        with connect(broker.address, nick="late") as late:
            late.join("r")
            assert "xyzzy" not in "".join(said(late, "r"))
    (entry,) = [each for each in operator.table("audit") if each["action"] == "drop"]
    assert ("bob", "r", f"entry {seq}") == (entry["whom"], entry["room"], entry["detail"])
    assert "xyzzy" not in operator.admin("audit")


def test_a_room_keeps_what_it_is_told(broker: BrokerProcess, operator: Operator) -> None:
    with connect(broker.address, nick="bob") as bob:
        for room in ("short", "long"):
            bob.join(room)
            for number in range(30):
                bob.send(room, f"text {number}")
        operator.admin("retention", "-r", "short", "5", "default")
        eventually(lambda: said(bob, "short")[0] == "text 25", "the trim")
        assert 30 == len(said(bob, "long"))
        rooms = {each["room"]: each for each in operator.table("rooms")}
    assert ("5", "default") == (rooms["short"]["messages"], rooms["short"]["days"])
    assert ("default", "default") == (rooms["long"]["messages"], rooms["long"]["days"])


# --- the broker -------------------------------------------------------------
def test_a_drained_broker_keeps_who_is_there(broker: BrokerProcess, operator: Operator) -> None:
    scraper = Scraper(broker)
    with connect(broker.address, nick="bob") as bob:
        bob.join("r")
        assert "sessions\n1\n" == operator.admin("drain", "on", "back", "at", "nine")
        assert Code.DRAINING == refusal(broker, "ann")
        done = operator.run("send", "-r", "r", "hello", status=75)
        assert "hubbub: the broker is about to be stopped and takes nobody new\n" == done.stderr
        eventually(lambda: scraper.get("/readyz")[0] == 503, "a broker that is not ready")
        assert "nobody new is taken" in scraper.get("/readyz")[1]
        bob.send("r", "still here")
        operator.admin("drain", "off")
        connect(broker.address, nick="ann").close()
        eventually(lambda: scraper.get("/readyz")[0] == 200, "a broker that is ready")
        assert ["still here"] == said(bob, "r")


def test_a_drain_outlives_the_live_process(
    broker: BrokerProcess, operator: Operator, tmp_path: Path
) -> None:
    """Who was there comes back; nobody else, until it is over, or all is started anew."""
    with connect(broker.address, nick="bob") as bob:
        bob.join("r")
        operator.admin("drain", "on")
        broker.kill_child("live")
        bob.send("r", "back again")
        assert Code.DRAINING == refusal(broker, "ann")
        assert "still draining" in broker.log()
        operator.admin("drain", "off")
        broker.kill_child("live")
        bob.send("r", "and again")
        connect(broker.address, nick="ann").close()
        operator.admin("drain", "on")
    assert 0 == broker.stop()
    with BrokerProcess(tmp_path / "data") as fresh:
        connect(fresh.address, nick="ann").close()


def test_a_locked_index_stops_no_operator(
    broker: BrokerProcess, operator: Operator, bob: RawPeer
) -> None:
    """Somebody's sqlite3 holds it; what was done then is in the audit as soon as it lets go."""
    with contextlib.closing(sqlite3.connect(broker.data / FILE_NAME, isolation_level=None)) as db:
        db.execute("BEGIN IMMEDIATE")
        operator.admin("announce", "lunch")
        operator.admin("drain", "on")
        operator.admin("reload")
        assert "could not write" in operator.admin("ban", "bob", status=75)
        operator.admin("kick", "bob")
        db.execute("ROLLBACK")
    assert "announcement" == bob.await_publication(wire.Notice, lambda _: True).code
    assert Code.DRAINING == refusal(broker, "ann")
    deeds = {"announce", "drain", "reload", "kick"}
    eventually(lambda: deeds == {row["action"] for row in operator.table("audit")}, "the audit")


def test_a_reload_drops_nobody(tmp_path: Path) -> None:
    settings = tmp_path / "hubbub.toml"
    settings.write_text('motd = "before"\n')
    with BrokerProcess(tmp_path / "data", "--config", str(settings)) as broker:
        operator = Operator(tmp_path / "operator", broker)
        with connect(broker.address, nick="bob") as bob:
            bob.join("r")
            settings.write_text('motd = "after"\n')
            (row,) = operator.table("reload")
            assert "all" == row["keys let in"]
            assert "motd" in row["read again"].split(", ")
            with RawPeer(broker.port) as newcomer:
                assert "after" == newcomer.hello("ann").motd
            bob.send("r", "still here")
        assert broker.process.poll() is None


def test_a_reload_of_a_broker_at_a_terminal_does_not_stop_it(tmp_path: Path) -> None:
    """SIGHUP would: it says that the terminal is gone."""
    controller, terminal = os.openpty()
    data = tmp_path / "data"
    log = (tmp_path / "log").open("wb")
    process = subprocess.Popen(
        [sys.executable, "-m", "broker", "--port", "0", "--data", str(data)],
        stdin=terminal,
        stdout=subprocess.PIPE,
        stderr=log,
        start_new_session=True,
    )
    try:
        assert process.stdout is not None
        address = process.stdout.readline().decode().rpartition("//")[2].strip()
        person = Person(tmp_path / "operator", address)
        person.run("admin", "reload", "--data", str(data))
        eventually(lambda: b"read again" in (tmp_path / "log").read_bytes(), "the settings")
        person.run("status")
        assert process.poll() is None
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(DEADLINE_S)
        for file in (process.stdout, log):
            if file is not None:
                file.close()
        os.close(controller)
        os.close(terminal)


def test_orders_that_come_at_once_do_not_hold_up_the_chat(
    broker: BrokerProcess, operator: Operator
) -> None:
    """Each is answered, and texts are acknowledged in between."""
    orders = [operator.start("admin", "audit") for _ in range(4)]
    with connect(broker.address, nick="bob") as bob:
        bob.join("r")
        for number in range(20):
            bob.send("r", f"text {number}")
    for each in orders:
        out, error = each.communicate(timeout=DEADLINE_S)
        assert (0, b"") == (each.returncode, error)
        assert out.startswith(b"id")
