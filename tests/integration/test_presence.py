"""Who is there: live, over real sockets and real deaths."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from common import topics, wire
from common.wire import Changes, Presence
from tests import saying
from tests.broker_process import ROOT, BrokerProcess
from tests.raw_peer import RawPeer
from tests.waiting import DEADLINE_S

# A client in a process of its own, to be killed or frozen: says hello, joins, tells, waits.
VICTIM = """
import sys
from tests.raw_peer import RawPeer
peer = RawPeer(int(sys.argv[1]))
peer.hello("victim")
peer.join("lobby")
print("in", flush=True)
while True:
    peer.publication()
"""


@pytest.fixture
def broker(tmp_path: Path) -> Iterator[BrokerProcess]:
    flags = ("--grace", "0.3", "--heartbeat", "0.3", "--max-clients", "4")
    with BrokerProcess(tmp_path / "data", *flags) as started:
        yield started


@pytest.fixture
def anna(broker: BrokerProcess) -> Iterator[RawPeer]:
    with RawPeer(broker.port) as peer:
        peer.hello("anna")
        peer.join("lobby")
        told(peer, lambda changes: changes.joined == ["anna"])
        yield peer


def told(peer: RawPeer, claim: Callable[[Changes], bool]) -> Presence:
    """Return the first telling of changes for which the claim holds."""

    def holds(presence: Presence) -> bool:
        is_news = presence.prev != presence.version
        return is_news and presence.changes is not None and claim(presence.changes)

    return peer.await_publication(Presence, holds)


@pytest.fixture
def victim(broker: BrokerProcess) -> Iterator[subprocess.Popen[bytes]]:
    process = subprocess.Popen(
        [sys.executable, "-c", VICTIM, str(broker.port)], cwd=ROOT, stdout=subprocess.PIPE
    )
    assert process.stdout is not None
    assert process.stdout.readline() == b"in\n"
    yield process
    process.kill()
    process.wait(DEADLINE_S)
    process.stdout.close()


def test_join_and_leave_are_told_with_the_users_now(broker: BrokerProcess, anna: RawPeer) -> None:
    """Ancestor 5: `N users now` on join and leave."""
    with RawPeer(broker.port) as bob:
        bob.hello("bob")
        assert bob.join("lobby").nicks == ["anna", "bob"]
        assert told(anna, lambda changes: changes.joined == ["bob"]).users == 2
        bob.ask(wire.Bye(9), wire.Goodbye)
        assert told(anna, lambda changes: changes.left == ["bob"]).users == 1


def test_a_killed_client_leaves(anna: RawPeer, victim: subprocess.Popen[bytes]) -> None:
    """Ancestor 5: a dead client is dropped without hurting the rest."""
    told(anna, lambda changes: changes.joined == ["victim"])
    victim.kill()
    assert told(anna, lambda changes: changes.left == ["victim"]).users == 1
    anna.ask(saying.send(1, "lobby", ["we go on"]), wire.Ack)
    anna.await_texts("we go on")


def test_a_frozen_client_leaves_and_is_asked_back(
    anna: RawPeer, victim: subprocess.Popen[bytes]
) -> None:
    """A client that stops answering heartbeats has left; awake again, its inbox asks who it is."""
    told(anna, lambda changes: changes.joined == ["victim"])
    os.kill(victim.pid, signal.SIGSTOP)
    told(anna, lambda changes: changes.left == ["victim"])
    os.kill(victim.pid, signal.SIGCONT)
    members = anna.ask(wire.Who(5, "lobby"), wire.Members)
    assert (members.users, members.nicks) == (1, ["anna"])


def test_an_open_inbox_without_a_session_is_asked_who_it_is(
    broker: BrokerProcess, anna: RawPeer
) -> None:
    """After a restart of live a silent client learns that it must say HELLO again."""
    broker.kill_child("live")
    anna.await_publication(wire.Notice, lambda notice: notice.code == "no_session")
    hello = wire.Hello(8, "anna", anna.owner, anna.instance, 1)
    assert not anna.ask(hello, wire.Welcome).resumed


def test_members_that_resume_after_a_restart_are_no_news(
    broker: BrokerProcess, anna: RawPeer
) -> None:
    """A restart of the broker is not told as everybody leaving and joining."""
    broker.kill_child("live")
    anna.await_publication(wire.Notice, lambda notice: notice.code == "no_session")
    anna.ask(wire.Hello(8, "anna", anna.owner, anna.instance, 1), wire.Welcome)
    anna.ask(wire.Join(9, "lobby", resume=True), wire.Joined)
    changes = told(anna, lambda _: True).changes
    assert changes == Changes([], [], [], ["anna"])


def test_a_short_break_is_no_news(broker: BrokerProcess, anna: RawPeer) -> None:
    """A second connection within the grace takes the session up; nobody hears of it."""
    bob = RawPeer(broker.port)
    bob.hello("bob")
    bob.join("lobby")
    told(anna, lambda changes: changes.joined == ["bob"])
    bob.close()
    with RawPeer(broker.port) as again:
        again.token, again.owner, again.instance = bob.token, bob.owner, bob.instance
        assert again.hello("bob").resumed
        assert again.ask(wire.Who(3, "lobby"), wire.Members).nicks == ["anna", "bob"]
        with RawPeer(broker.port) as carol:
            carol.hello("carol")
            carol.join("lobby")
            # The next telling after bob's break is carol's: nothing was told in between.
            assert told(anna, lambda _: True).changes == Changes(["carol"], [], [], [])


def test_two_sessions_of_one_person_count_once(broker: BrokerProcess, anna: RawPeer) -> None:
    """Sessions with one owner secret share a nick; the leave is told when the last one goes."""
    with RawPeer(broker.port) as second:
        second.owner = anna.owner
        assert second.hello("Anna").nick == "anna"
        assert second.join("lobby").users == 1
        anna.ask(wire.Bye(1), wire.Goodbye)
        with RawPeer(broker.port) as bob:
            bob.hello("bob")
            assert bob.join("lobby").nicks == ["anna", "bob"]
            assert told(bob, lambda _: True).changes == Changes(["bob"], [], [], [])
            second.ask(wire.Bye(1), wire.Goodbye)
            assert told(bob, lambda _: True).changes == Changes([], ["anna"], [], [])


@pytest.mark.usefixtures("anna")
@pytest.mark.parametrize("nick", ["anna", "ANNA", "\uff21\uff4e\uff4e\uff41"])
def test_somebody_elses_nick_is_refused_and_another_can_be_chosen(
    broker: BrokerProcess, nick: str
) -> None:
    """Ancestors 1 and 3: unique nicks, without regard to case and compatibility forms."""
    with RawPeer(broker.port) as bob:
        bob.sub.subscribe(topics.inbox(bob.token))
        refusal = bob.ask(wire.Hello(1, nick, bob.owner, bob.instance, 1), wire.Error)
        assert (refusal.code, refusal.survives) == ("nick_taken", True)
        assert bob.hello("bob").nick == "bob"
        assert bob.ask(wire.SetNick(2, nick), wire.Error).code == "nick_taken"
        assert bob.ask(wire.SetNick(3, "robert"), wire.Renamed).nick == "robert"


def test_one_client_too_many_is_refused(broker: BrokerProcess) -> None:
    """Ancestor 4: at most MAX_CLIENTS; the next one is told, and let in when one has left."""
    peers = [RawPeer(broker.port) for _ in range(4)]
    for index, peer in enumerate(peers):
        peer.hello(f"peer{index}")
    with RawPeer(broker.port) as late:
        hello = wire.Hello(1, "late", late.owner, late.instance, 1)
        refusal = late.ask(hello, wire.Error)
        assert (refusal.code, refusal.detail) == ("full", "the broker takes 4 clients at most")
        peers[0].ask(wire.Bye(1), wire.Goodbye)
        late.hello("late")
    for peer in peers:
        peer.close()


def test_whoever_comes_and_goes_at_once_is_not_told(broker: BrokerProcess, anna: RawPeer) -> None:
    """A script that joins, says a line and leaves within a tick is heard, not announced."""
    with RawPeer(broker.port) as script:
        script.hello("script")
        script.send(wire.Join(1, "lobby"))
        script.send(saying.send(1, "lobby", ["done"]))
        script.send(wire.Bye(2))
        # The ACK waits for the commit, and may so be overtaken.
        answers = {type(script.receive()) for _ in range(3)}
        assert answers == {wire.Joined, wire.Ack, wire.Goodbye}
    anna.await_texts("done")
    with RawPeer(broker.port) as bob:
        bob.hello("bob")
        bob.join("lobby")
        assert told(anna, lambda _: True).changes == Changes(["bob"], [], [], [])
