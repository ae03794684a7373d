"""Who is trusted, and what happens when the other one is not who they should be: the library."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from client import limits
from client.api import Client, Refused, State, Unreachable, Untrusted, ask_status, connect
from client.keys import load_pair, new_keys
from client.known_brokers import FILE, KnownBrokers
from common import wire
from common.certificates import new_pair
from common.endpoints import Address
from common.errors import Code
from common.keys import fingerprint
from tests.stand_in import StandIn
from tests.waiting import DEADLINE_S, eventually

SOON_S = 0.4
HANDSHAKE_S = 3.0  # Enough for one that is broken off, on a busy machine.
CONTACTS = 60


def names_in(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("HUBBUB_HOME", str(tmp_path / "home"))
    return tmp_path / "home"


@pytest.fixture
def told() -> list[str]:
    return []


def key_of(home: Path, broker: StandIn) -> bytes | None:
    return KnownBrokers(home).get(Address("127.0.0.1", broker.port))


def test_the_first_contact_is_told_once_and_remembered(home: Path, told: list[str]) -> None:
    pair = new_pair()
    with StandIn(pair) as broker:
        ask_status(broker.address, DEADLINE_S, tell=told.append)
        (line,) = told
        assert f"first contact with {broker.address}, its key is {fingerprint(pair.public)}" in line
        assert "hubbub-broker key" in line
        assert pair.public == key_of(home, broker)
        with connect(broker.address, nick="anna", timeout_s=DEADLINE_S, tell=told.append) as anna:
            assert anna.status().program == "stand-in"
            assert not anna.is_exposed
        assert 1 == len(told)
        assert 1 == broker.introductions_count  # A known broker is not asked.
        assert 1 == len(broker.hellos)
    assert {FILE, "keys"} == names_in(home)


def test_every_first_contact_is_short(home: Path, told: list[str]) -> None:
    """The broker may hang up on plain text before it is seen to encrypt: no time-out passes."""
    with StandIn(new_pair()) as broker:
        for _ in range(CONTACTS):
            ask_status(broker.address, DEADLINE_S, tell=told.append)
            (home / FILE).unlink()
    assert CONTACTS == len(told)


def test_programs_that_say_nothing_of_it_are_told_on_standard_error(
    capsys: pytest.CaptureFixture[str],
) -> None:
    with StandIn(new_pair()) as broker:
        ask_status(broker.address, DEADLINE_S)
    assert capsys.readouterr().err.startswith("hubbub: first contact with 127.0.0.1:")


def test_a_key_is_remembered_only_when_a_handshake_has_proved_it(
    home: Path, told: list[str]
) -> None:
    """Somebody else answers on the introduction port: no connection, and nothing to undo."""
    with StandIn(new_pair(), told=new_pair().public) as broker:
        with pytest.raises(Unreachable, match="breaks off the handshake"):
            ask_status(broker.address, HANDSHAKE_S, tell=told.append)
        assert key_of(home, broker) is None
        assert 0 == broker.greets_count


def test_a_join_lines_key_is_pinned_and_remembered(home: Path, told: list[str]) -> None:
    pair = new_pair()
    with StandIn(pair) as broker:
        line = f"hubbub://{broker.address}/lobby?key={pair.public.hex()}"
        ask_status(line, DEADLINE_S, tell=told.append)
        assert [] == told
        assert pair.public == key_of(home, broker)
        assert 0 == broker.introductions_count


def test_a_join_line_against_what_is_known_is_refused(home: Path) -> None:
    pair, other = new_pair(), new_pair()
    with StandIn(pair) as broker:
        KnownBrokers(home).set(Address("127.0.0.1", broker.port), pair.public)
        line = f"hubbub://{broker.address}/lobby?key={other.public.hex()}"
        with pytest.raises(Untrusted) as caught:
            connect(line, nick="anna", timeout_s=DEADLINE_S)
        for word in (
            fingerprint(pair.public),
            fingerprint(other.public),
            f"hubbub trust {broker.address}",
        ):
            assert word in str(caught.value)
        assert 77 == caught.value.exit_status
        assert pair.public == key_of(home, broker)
        assert 0 == broker.greets_count


@pytest.mark.parametrize("source", ["known", "join line"])
def test_a_man_in_the_middle_with_another_key_hears_nothing(
    home: Path, source: str, told: list[str]
) -> None:
    """He encrypts and introduces himself, with a key of his own; both keys are shown."""
    pair, his = new_pair(), new_pair()
    with StandIn(his) as middle:
        to = middle.address
        if source == "known":
            KnownBrokers(home).set(Address("127.0.0.1", middle.port), pair.public)
        else:
            to = f"hubbub://{to}/lobby?key={pair.public.hex()}"
        with pytest.raises(Untrusted, match="posing as the broker") as caught:
            connect(to, nick="anna", timeout_s=DEADLINE_S, tell=told.append)
        for word in (
            f"{fingerprint(pair.public)}, there is {fingerprint(his.public)}",
            f"hubbub trust {middle.address}",
        ):
            assert word in str(caught.value)
        assert (0, []) == (middle.greets_count, middle.hellos)
        assert [] == told
    expected = pair.public if source == "known" else None
    assert expected == KnownBrokers(home).get(Address("127.0.0.1", middle.port))


def test_a_man_in_the_middle_who_tells_the_brokers_key_hears_nothing(home: Path) -> None:
    """The key is public; what he cannot do is the handshake."""
    pair = new_pair()
    with StandIn(new_pair(), told=pair.public) as middle:
        KnownBrokers(home).set(Address("127.0.0.1", middle.port), pair.public)
        with pytest.raises(Unreachable):
            connect(middle.address, nick="anna", timeout_s=SOON_S)
        assert (0, []) == (middle.greets_count, middle.hellos)


@pytest.mark.parametrize(
    "call",
    [
        lambda address: connect(address, nick="anna", timeout_s=DEADLINE_S),
        lambda address: ask_status(address, DEADLINE_S),
    ],
)
def test_a_known_broker_that_does_not_encrypt_any_more_is_refused(
    home: Path, call: Callable[[str], object]
) -> None:
    pair = new_pair()
    with StandIn(None) as plain:
        KnownBrokers(home).set(Address("127.0.0.1", plain.port), pair.public)
        with pytest.raises(Untrusted, match="does not encrypt") as caught:
            call(plain.address)
        assert f"hubbub trust {plain.address}" in str(caught.value)
        assert (0, []) == (plain.greets_count, plain.hellos)


def test_who_is_not_on_the_list_is_told_so(told: list[str]) -> None:
    with StandIn(new_pair(), denies="400") as broker:
        with pytest.raises(Refused, match="give its operator what `hubbub key` prints") as caught:
            connect(broker.address, nick="anna", timeout_s=DEADLINE_S, tell=told.append)
        assert (Code.NOT_ALLOWED, 77) == (caught.value.code, caught.value.exit_status)


def test_an_encrypted_broker_without_introduction_is_explained() -> None:
    with (
        StandIn(new_pair(), told=b"") as broker,
        pytest.raises(Unreachable, match=f"its key on port {broker.port + 3}: use the join line"),
    ):
        ask_status(broker.address, SOON_S)


def test_nobody_there_is_told_in_time(home: Path) -> None:
    KnownBrokers(home).set(Address("127.0.0.1", 1), new_pair().public)
    for call in (
        lambda: ask_status("127.0.0.1:1", SOON_S),
        lambda: connect("127.0.0.1:1", nick="anna", timeout_s=SOON_S),
    ):
        with pytest.raises(Unreachable, match=r"no broker answers at 127\.0\.0\.1:1$"):
            call()


# --- without files ----------------------------------------------------------
def test_explicit_keys_touch_no_file(home: Path) -> None:
    pair = new_pair()
    with StandIn(pair) as broker:
        keys = new_keys(pair.public)
        with connect(broker.address, nick="anna", timeout_s=DEADLINE_S, curve=keys) as anna:
            assert anna.status().program == "stand-in"
        ask_status(broker.address, DEADLINE_S, curve=keys)
        with pytest.raises(Untrusted):
            ask_status(broker.address, DEADLINE_S, curve=new_keys(new_pair().public))
    with StandIn(None) as plain, pytest.raises(Untrusted, match="does not encrypt"):
        ask_status(plain.address, DEADLINE_S, curve=keys)
    assert not home.exists()


def test_a_plain_broker_on_this_host_touches_no_file(home: Path, told: list[str]) -> None:
    with StandIn(None) as broker:
        with connect(broker.address, nick="anna", tell=told.append) as anna:
            assert not anna.is_exposed
        assert 1 == broker.greets_count
    assert [] == told
    assert not home.exists()


def test_a_home_that_cannot_be_written_keeps_nothing_and_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, told: list[str]
) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("HUBBUB_HOME", str(tmp_path / "file"))
    with StandIn(new_pair()) as broker:
        ask_status(broker.address, DEADLINE_S, tell=told.append)
    assert ["first contact", "no key of yours", "the key of"] == [
        next(start for start in ("first contact", "no key of yours", "the key of") if start in line)
        for line in told
    ]


def test_a_loose_secret_file_is_no_reason_to_take_another_key(home: Path) -> None:
    load_pair(home)
    (home / "keys" / "client.key_secret").chmod(0o644)
    with (
        StandIn(new_pair()) as broker,
        pytest.raises(ValueError, match="run: chmod 600"),
    ):
        ask_status(broker.address, DEADLINE_S, tell=lambda _: None)


# --- while running ----------------------------------------------------------
@pytest.fixture
def running() -> Iterator[tuple[StandIn, Client]]:
    """Return an encrypted stand-in (the test ends it) and a client that is in."""
    pair = new_pair()
    with StandIn(pair) as broker:
        client = connect(
            broker.address, nick="anna", timeout_s=DEADLINE_S, curve=new_keys(pair.public)
        )
        with client:
            yield broker, client


def states(client: Client, last: str) -> list[State]:
    """Return what the client says until it says this."""
    found: list[State] = []

    def is_over() -> bool:
        event = client.next_event(0.1)
        if isinstance(event, State):
            found.append(event)
        return bool(found) and found[-1].state == last

    eventually(is_over, f"the state {last} after {found}")
    return found


def test_a_broker_that_comes_back_with_another_key_is_told_and_one_that_is_itself_heals(
    running: tuple[StandIn, Client],
) -> None:
    broker, client = running
    pair = broker._pair
    broker.__exit__(None, None, None)
    with StandIn(new_pair(), port=broker.port) as other:
        told = states(client, "refused")
        assert ["connecting", "online", "offline", "refused"] == [state.state for state in told]
        assert "another key" in told[-1].detail
        assert "hubbub trust" in told[-1].detail
        assert other.introductions_count >= 1
        assert 0 == other.greets_count
    with StandIn(pair, port=broker.port):
        states(client, "online")


def test_a_broker_that_is_in_trouble_is_not_taken_for_another(
    running: tuple[StandIn, Client], monkeypatch: pytest.MonkeyPatch
) -> None:
    """It breaks off handshakes, but it says the key that is known: there is nothing to tell."""
    monkeypatch.setattr(limits, "HANDSHAKES_BROKEN_MAX", 1)
    broker, client = running
    pair = broker._pair
    assert pair is not None
    broker.__exit__(None, None, None)
    with StandIn(new_pair(), told=pair.public, port=broker.port) as trouble:
        eventually(lambda: trouble.introductions_count >= 2, "questions for the key")
    with StandIn(pair, port=broker.port):
        assert ["connecting", "online"] == [state.state for state in states(client, "online")]
        assert ["offline", "online"] == [state.state for state in states(client, "online")]


def test_a_broker_that_comes_back_plain_gets_nothing(running: tuple[StandIn, Client]) -> None:
    broker, client = running
    broker.__exit__(None, None, None)
    with StandIn(None, port=broker.port) as plain:
        told = states(client, "refused")
        assert "only one of broker and client encrypts" == told[-1].detail
        assert 0 == plain.greets_count


def test_a_broker_that_comes_back_with_a_list_tells_who_is_not_on_it(
    running: tuple[StandIn, Client],
) -> None:
    broker, client = running
    broker.__exit__(None, None, None)
    with StandIn(broker._pair, denies="400", port=broker.port):
        assert "the broker does not allow your key" == states(client, "refused")[-1].detail


@pytest.mark.parametrize(
    ("text", "detail"), [("", "your key is not on the broker's list"), ("moved", "moved")]
)
def test_a_notice_that_the_key_was_removed_ends_the_session(
    running: tuple[StandIn, Client], text: str, detail: str
) -> None:
    broker, client = running
    states(client, "online")

    def is_refused() -> bool:
        broker.notify(wire.Notice(Code.NOT_ALLOWED, text=text))  # Until the SUB has its topic.
        return client.state == "refused"

    eventually(is_refused)
    assert detail == states(client, "refused")[-1].detail
