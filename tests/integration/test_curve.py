"""A broker that encrypts, its list of keys, and what neither peers nor other users get to know."""

from __future__ import annotations

import contextlib
import os
import signal
import stat
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import zmq
from zmq.utils import z85
from zmq.utils.monitor import recv_monitor_message

from broker.host import certificates
from broker.introductions import PER_S_MAX
from common import topics, wire
from common.errors import Code
from common.keys import fingerprint, key_text
from common.order import Introduction
from tests.broker_process import ROOT, BrokerProcess
from tests.raw_peer import RawPeer
from tests.waiting import DEADLINE_S, eventually

# Long enough for a handshake and an answer on a busy machine, when none must come. What these tests
# claim does not hang on it: each of them sees first or afterwards that the broker does answer.
SILENCE_MS = 1_000
Keys = tuple[bytes, bytes]


def hex_of(keys: Keys) -> str:
    return z85.decode(keys[0]).hex()


def server_of(broker: BrokerProcess) -> bytes:
    return certificates.load(broker.data).public


def peer_of(broker: BrokerProcess, keys: Keys | None = None) -> RawPeer:
    return RawPeer(broker.port, server=server_of(broker), own=keys)


@pytest.fixture(name="broker", scope="module")
def secured_broker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[BrokerProcess]:
    with BrokerProcess(tmp_path_factory.mktemp("curve") / "data", "--secure") as made:
        yield made


def is_answered(peer: RawPeer, wait_ms: int = SILENCE_MS) -> bool:
    """Greet; a peer that the broker has hung up on for good cannot even send."""
    peer.dealer.setsockopt(zmq.SNDTIMEO, wait_ms)
    try:
        peer.send(wire.Greet(peer.next_id()))
    except zmq.Again:
        return False
    return bool(peer.dealer.poll(wait_ms))


def handshake(broker: BrokerProcess, keys: Keys) -> tuple[int, int]:
    """Connect with these keys and return how the handshake ended: libzmq's event and value."""
    with zmq.Context() as context, context.socket(zmq.DEALER) as socket:
        socket.setsockopt(zmq.LINGER, 0)
        socket.setsockopt(zmq.CURVE_SERVERKEY, server_of(broker))
        socket.setsockopt(zmq.CURVE_PUBLICKEY, keys[0])
        socket.setsockopt(zmq.CURVE_SECRETKEY, keys[1])
        ends = zmq.EVENT_HANDSHAKE_FAILED_AUTH | zmq.EVENT_HANDSHAKE_SUCCEEDED
        with socket.get_monitor_socket(ends) as monitor:
            socket.connect(f"tcp://127.0.0.1:{broker.port}")
            assert monitor.poll(int(DEADLINE_S * 1_000)), "the handshake did not end"
            event = recv_monitor_message(monitor)
            socket.disable_monitor()
        return event["event"], event["value"]


def test_a_person_with_a_key_talks_and_reads(broker: BrokerProcess) -> None:
    with peer_of(broker) as anna, peer_of(broker) as bob:
        anna.hello("anna")
        joined = anna.join("talk")
        bob.hello("bob")
        bob.join("talk")
        bob.ask(wire.Send(1, [wire.Draft("talk", wire.Kind.TEXT, ["hello"])]), wire.Ack)
        anna.await_texts("hello")
        page, (batch,) = anna.history(
            wire.History(9, "talk", joined.ticket, wire.Mode.AFTER, 0, 10)
        )
        assert isinstance(page, wire.Page)
        assert ["hello"] == batch.posts[0].texts


def test_the_largest_frames_go_through(broker: BrokerProcess) -> None:
    """Encryption makes a frame longer: the bounds are those of what is said, as without it."""
    with peer_of(broker) as anna:
        anna.hello("large")
        anna.join("large")
        texts = ["x" * 4_000] * 16
        send = wire.Send(1, [wire.Draft("large", wire.Kind.TEXT, texts)])
        room = 65_536 - len(wire.encode(send))
        send = wire.Send(1, [wire.Draft("large", wire.Kind.TEXT, [*texts, "y" * (room - 3)])])
        assert 65_536 == len(wire.encode(send))
        anna.ask(send, wire.Ack)


def test_who_does_not_encrypt_gets_nothing(broker: BrokerProcess) -> None:
    with RawPeer(broker.port) as plain, peer_of(broker) as peer:
        plain.sub.subscribe(b"")
        with contextlib.suppress(zmq.Again):  # It was hung up on before it could ask.
            plain.req.send(b"anybody?", zmq.NOBLOCK)
        assert not is_answered(plain)
        assert not plain.sub.poll(0)
        assert not plain.req.poll(0)
        assert is_answered(peer, int(DEADLINE_S * 1_000))


def test_who_expects_another_broker_gets_nothing(broker: BrokerProcess) -> None:
    wrong = z85.decode(zmq.curve_keypair()[0])
    with RawPeer(broker.port, server=wrong) as misled, peer_of(broker) as peer:
        assert not is_answered(misled)
        assert is_answered(peer, int(DEADLINE_S * 1_000))


def test_an_introduction_tells_the_key_to_whoever_asks_whatever(broker: BrokerProcess) -> None:
    """Also after a question that is too large, which costs the asker the connection."""
    with zmq.Context() as context:
        for question in (b"", b"\xff" * 256, b"x" * 100_000, b"hello"):
            with context.socket(zmq.REQ) as asking:
                asking.setsockopt(zmq.LINGER, 0)
                asking.connect(f"tcp://127.0.0.1:{broker.port + 3}")
                asking.send(question)
                if len(question) > 256:
                    assert not asking.poll(SILENCE_MS)
                    continue
                assert asking.poll(int(DEADLINE_S * 1_000))
                told = wire.parse_reply(asking.recv_multipart())
                assert isinstance(told, Introduction)
                assert (0, 1, server_of(broker)) == (told.id, told.protocol, told.key)


def test_a_flood_of_questions_is_answered_at_a_pace(broker: BrokerProcess) -> None:
    """No faster than PER_S_MAX, however many wait; and whoever asks nicely gets an answer."""
    questions = 60
    with zmq.Context() as context, context.socket(zmq.DEALER) as flood:
        flood.setsockopt(zmq.LINGER, 0)
        flood.connect(f"tcp://127.0.0.1:{broker.port + 3}")
        begun_s = time.monotonic()
        for _ in range(questions):
            flood.send_multipart([b"", b"?"])
        answers = 0
        while answers < questions:  # SNDHWM drops none of them: they are read at once.
            assert flood.poll(int(DEADLINE_S * 1_000))
            flood.recv_multipart()
            answers += 1
        assert time.monotonic() - begun_s >= (questions - 1) / PER_S_MAX
        with context.socket(zmq.REQ) as asking:
            asking.setsockopt(zmq.LINGER, 0)
            asking.connect(f"tcp://127.0.0.1:{broker.port + 3}")
            asking.send(b"hello")
            assert asking.poll(int(DEADLINE_S * 1_000))


def test_a_stolen_token_is_worth_nothing_with_another_key(broker: BrokerProcess) -> None:
    """Neither for a command nor for HELLO; and its inbox is heard by its own key alone."""
    with peer_of(broker) as anna, peer_of(broker) as thief:
        anna.hello("robbed")
        joined = anna.join("robbed-room")
        told = thief.ask(wire.Who(7, "robbed-room"), wire.Error, anna.token)
        assert Code.NO_SESSION == told.code
        hello = wire.Hello(8, "robbed", anna.owner, anna.instance, 1)
        assert Code.SESSION_TAKEN == thief.ask(hello, wire.Error, anna.token).code
        refused = anna.ask(wire.Greet(1), wire.Greeting).refused
        thief.sub.subscribe(topics.inbox(anna.token))
        eventually(lambda: anna.ask(wire.Greet(1), wire.Greeting).refused > refused, "refusal")
        answer, _ = thief.history(
            wire.History(9, "robbed-room", joined.ticket, wire.Mode.AFTER, 0, 10)
        )
        assert isinstance(answer, wire.Error)
        assert Code.BAD_TICKET == answer.code


def test_a_nick_is_its_keys_whatever_secret_hello_tells(broker: BrokerProcess) -> None:
    with peer_of(broker) as anna, peer_of(broker) as other:
        anna.hello("owned")
        hello = wire.Hello(8, "owned", anna.owner, 1, 1)
        assert Code.NICK_TAKEN == other.ask(hello, wire.Error).code


def test_the_key_pair_is_its_owners_alone_and_nowhere_else(
    tmp_path: Path, broker: BrokerProcess
) -> None:
    """Neither in arguments, nor in the environment, nor in the log, nor in a file of others."""
    folder = broker.data / certificates.FOLDER_NAME
    modes = {path.name: stat.S_IMODE(path.lstat().st_mode) for path in (folder, *folder.iterdir())}
    assert {"keys": 0o700, "broker.key": 0o600, "broker.key_secret": 0o600} == modes
    secret = certificates.load(broker.data).secret
    spellings = [secret, z85.encode(secret), secret.hex().encode()]
    pids = [broker.process.pid, *broker.children().values()]
    told = [broker.log().encode()]
    told += [Path(f"/proc/{pid}/{name}").read_bytes() for pid in pids for name in PROCESS_FILES]
    told += [
        path.read_bytes()
        for path in broker.data.rglob("*")
        if path.is_file() and path.parent != folder
    ]
    assert 2 * len(pids) + 1 < len(told)
    assert not [text for text in told for spelling in spellings if spelling in text]
    assert not list(tmp_path.iterdir())


PROCESS_FILES = ("cmdline", "environ")


def test_the_broker_says_who_it_is(broker: BrokerProcess) -> None:
    """In its log and by its command, the same; and never half of the secret."""
    said = key_command("--data", str(broker.data), "--host", "chat.example", "--port", "7000")
    key = server_of(broker)
    assert fingerprint(key) in said.stdout
    assert f"hubbub://chat.example:7000/lobby?key={key_text(key)}" in said.stdout
    assert fingerprint(key) in broker.log()
    assert f"hubbub://127.0.0.1:{broker.port}/lobby?key={key_text(key)}" in broker.log()


def key_command(*words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "broker", "key", *words],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=DEADLINE_S,
        check=False,
    )


def test_the_key_command_makes_a_key_and_refuses_an_open_one(tmp_path: Path) -> None:
    first = key_command("--data", str(tmp_path / "new"))
    assert 0 == first.returncode, first.stderr
    made = f"hubbub-broker: no key was in {tmp_path / 'new'}: this one is new, and fits no broker"
    assert first.stderr.startswith(made), "or a mistyped folder would go unnoticed"
    again = key_command("--data", str(tmp_path / "new"))
    assert (first.stdout, "") == (again.stdout, again.stderr)
    path = tmp_path / "new" / "keys" / "broker.key_secret"
    path.chmod(0o644)
    refused = key_command("--data", str(tmp_path / "new"))
    assert 1 == refused.returncode
    assert f"chmod 600 {path}" in refused.stderr


@pytest.mark.parametrize(("flags", "is_warned"), [((), False), (("--insecure",), True)])
def test_off_loopback_it_encrypts_unless_told_otherwise_and_warns_then(
    tmp_path: Path,
    flags: tuple[str, ...],
    is_warned: bool,  # noqa: FBT001 - a row of the table
) -> None:
    with BrokerProcess(tmp_path / "data", *flags, host="0.0.0.0") as broker:  # noqa: S104
        with RawPeer(broker.port) as plain:
            assert (
                is_answered(plain, int(DEADLINE_S * 1_000) if is_warned else SILENCE_MS)
                == is_warned
            )
        assert ("INSECURE" in broker.log()) == is_warned
        assert (broker.data / "keys").exists() != is_warned


# --- the list of keys -------------------------------------------------------
def listed(path: Path, *people: Keys) -> None:
    """Write the list: the first in Z85 with a remark, the others in hex."""
    first, *others = people
    lines = ["# who may come in", "", f"{first[0].decode()}  anna", *map(hex_of, others)]
    aside = path.with_name("aside")
    aside.write_text("\n".join(lines) + "\n")
    aside.replace(path)


def test_only_listed_keys_get_in(tmp_path: Path) -> None:
    anna, eve = zmq.curve_keypair(), zmq.curve_keypair()
    path = tmp_path / "allowed"
    listed(path, anna)
    with (
        BrokerProcess(tmp_path / "data", "--secure", "--allow", str(path)) as broker,
        peer_of(broker, anna) as invited,
    ):
        invited.hello("anna")
        assert (zmq.EVENT_HANDSHAKE_FAILED_AUTH, 400) == handshake(broker, eve)
        listed(path, anna, eve)
        broker.process.send_signal(signal.SIGHUP)
        let_in = zmq.EVENT_HANDSHAKE_SUCCEEDED
        eventually(lambda: handshake(broker, eve)[0] == let_in, "the new list to hold")
        with peer_of(broker, eve) as listed_now:
            listed_now.hello("eve")


def test_who_is_struck_off_the_list_is_out_at_once(tmp_path: Path) -> None:
    """Session, publications and history; while the others notice nothing."""
    anna, bob = zmq.curve_keypair(), zmq.curve_keypair()
    path = tmp_path / "allowed"
    listed(path, anna, bob)
    with (
        BrokerProcess(tmp_path / "data", "--secure", "--allow", str(path)) as broker,
        peer_of(broker, anna) as stays,
        peer_of(broker, bob) as leaves,
    ):
        for peer, nick in ((stays, "anna"), (leaves, "bob")):
            peer.hello(nick)
            peer.join("room")
        stays.await_publication(
            wire.Presence, lambda told: told.changes is not None and "bob" in told.changes.joined
        )
        gone = leaves.sub.get_monitor_socket(zmq.EVENT_DISCONNECTED)
        gone_too = leaves.dealer.get_monitor_socket(zmq.EVENT_DISCONNECTED)
        kept = stays.sub.get_monitor_socket(zmq.EVENT_DISCONNECTED)
        kept_too = stays.dealer.get_monitor_socket(zmq.EVENT_DISCONNECTED)
        listed(path, anna)
        broker.process.send_signal(signal.SIGHUP)
        assert gone.poll(int(DEADLINE_S * 1_000)), "bob still listens"
        assert gone_too.poll(int(DEADLINE_S * 1_000)), "bob can still talk"
        leaves.await_publication(wire.Notice, lambda notice: notice.code == Code.NOT_ALLOWED)
        stays.await_publication(
            wire.Presence, lambda told: told.changes is not None and "bob" in told.changes.left
        )
        stays.ask(wire.Send(1, [wire.Draft("room", wire.Kind.TEXT, ["only us"])]), wire.Ack)
        stays.await_texts("only us")
        assert not is_answered(leaves)
        while leaves.sub.poll(0):
            frame = leaves.sub.recv()
            assert b"only us" not in frame
        assert not kept.poll(0)
        assert not kept_too.poll(0)
        for monitor in (gone, gone_too, kept, kept_too):
            monitor.close()


def test_history_is_closed_to_a_key_that_was_struck_off(tmp_path: Path) -> None:
    """Also on a connection that it had before, with a ticket that is good."""
    anna, bob = zmq.curve_keypair(), zmq.curve_keypair()
    path = tmp_path / "allowed"
    listed(path, anna, bob)
    with (
        BrokerProcess(tmp_path / "data", "--secure", "--allow", str(path)) as broker,
        peer_of(broker, bob) as leaves,
    ):
        leaves.hello("bob")
        ticket = leaves.join("room").ticket
        request = wire.History(5, "room", ticket, wire.Mode.AFTER, 0, 10)
        assert isinstance(leaves.history(request)[0], wire.Page)
        listed(path, anna)
        broker.process.send_signal(signal.SIGHUP)

        def refusal() -> wire.Error | None:
            answer, _ = leaves.history(request)
            return answer if isinstance(answer, wire.Error) else None

        answer = eventually(refusal, "history to be closed")
        assert answer is not None
        assert (5, Code.NOT_ALLOWED, False) == (answer.id, answer.code, answer.survives)


def test_a_list_that_cannot_be_read_changes_nothing_and_is_told(tmp_path: Path) -> None:
    anna, eve = zmq.curve_keypair(), zmq.curve_keypair()
    path = tmp_path / "allowed"
    listed(path, anna)
    with (
        BrokerProcess(tmp_path / "data", "--secure", "--allow", str(path)) as broker,
        peer_of(broker, anna) as invited,
    ):
        invited.hello("anna")
        path.write_text(f"{hex_of(eve)}\nnot a key\n")
        broker.process.send_signal(signal.SIGHUP)
        eventually(lambda: "line 2: 'not' is no key" in broker.log(), "the word about it")
        assert "everything stays as it was" in broker.log()
        invited.ask(wire.Rooms(3), wire.RoomList)
        path.unlink()
        os.kill(broker.process.pid, signal.SIGHUP)
        eventually(lambda: "cannot be read: No such file" in broker.log(), "the word about that")
        invited.ask(wire.Rooms(4), wire.RoomList)


def test_a_list_that_is_wrong_at_the_start_is_no_start(tmp_path: Path) -> None:
    path = tmp_path / "allowed"
    path.write_text("nonsense\n")
    words = ["--secure", "--port", "0", "--data", str(tmp_path / "data"), "--allow", str(path)]
    ended = subprocess.run(
        [sys.executable, "-m", "broker", *words],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=DEADLINE_S,
        check=False,
    )
    assert 1 == ended.returncode
    assert f"{path}: line 1: 'nonsense' is no key" in ended.stderr


def test_other_settings_are_read_again_too(tmp_path: Path) -> None:
    """The greeting, from the file; and what a flag says stays."""
    config = tmp_path / "hubbub.toml"
    config.write_text('motd = "first"\nrate = 5\n')
    with (
        BrokerProcess(tmp_path / "data", "--config", str(config)) as broker,
        RawPeer(broker.port) as before,
    ):
        assert "first" == before.hello("before").motd
        config.write_text('motd = "second"\n')
        broker.process.send_signal(signal.SIGHUP)
        eventually(lambda: "settings were read again" in broker.log(), "the reload")

        def motd() -> str:
            with RawPeer(broker.port) as after:
                return after.hello("after" + os.urandom(3).hex()).motd

        eventually(lambda: motd() == "second", "the new greeting")
        assert 0 == broker.stop()
