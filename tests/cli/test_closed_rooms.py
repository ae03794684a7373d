"""Private rooms, talks and order at real terminals, and in scripts."""

from __future__ import annotations

import pytest

from client.api import Entry, Left, Moved, Told, connect
from common import private_files
from common.errors import Refused
from tests.broker_process import BrokerProcess
from tests.cli.conftest import NewPerson
from tests.cli.person import Person
from tests.waiting import eventually


def test_a_talk_comes_silently_and_is_read_where_it_is(anna: Person, bob: Person) -> None:
    with anna.chat() as hers, bob.chat() as his:
        hers.see("bob joined")
        hers.enter("/msg bob psst")
        hers.see("@bob anna: psst")
        his.see("anna says something to you: /switch @anna")
        his.wait(lambda: "@anna 1" in his.toolbar(), "what is unread")
        assert "psst" not in his.text()
        his.enter("/switch @anna")
        his.see("anna: psst")
        his.see("@anna>")
        assert "private" in his.toolbar()
        his.enter("what?")
        hers.see("@bob bob: what?")
        hers.enter("/query bob")
        hers.see("@bob>")
        hers.enter("/room")
        hers.see("a talk between two")


def test_what_was_said_meanwhile_is_there_when_one_comes_back(anna: Person, bob: Person) -> None:
    with anna.chat() as hers:
        with bob.chat() as his:
            hers.see("bob joined")  # Of somebody who goes sooner nobody is told.
            hers.enter("/msg bob one")
            his.enter("/switch @anna")
            his.see("anna says something")
            his.enter("/switch @anna")
            his.see("anna: one")
            his.enter("/quit")
            assert his.wait_for_end() == 0
        hers.see("bob left")
        hers.enter("/msg bob two")
        hers.see("anna: two")
        with bob.chat() as his:
            his.see("anna says something to you")
            his.enter("/switch @anna")
            his.see("anna: two")
            assert "anna: one" not in his.text(), "that was read"


def test_a_room_behind_a_door(anna: Person, bob: Person) -> None:
    with anna.chat("plans") as hers, bob.chat() as his:
        his.enter("/join plans")
        his.see("you are in #plans")
        hers.see("bob joined")
        hers.enter("/room private")
        hers.see("+plans>")
        his.see("#plans is private now, and called +plans")
        his.enter("still here")
        hers.see("bob: still here")
        his.enter("/invite anna")
        his.see("only a room's moderator may invite")
        hers.enter("/uninvite bob")
        his.see("anna took you out of +plans")
        his.see("in no room: /switch ROOM")
        his.enter("typed for +plans alone")
        his.see("not sent: typed for +plans alone (you are in no room: /switch ROOM)")
        his.enter("/join +plans")
        his.see("there is no such room, or it is not open to you")
        assert anna.run("who", "-r", "+plans").stdout == "anna\n"
        hers.enter("/invite bob")
        his.see("anna invites you to +plans: /join +plans")
        his.enter("/join +plans")
        his.see("you are in +plans")
        hers.enter("/kick bob too loud")
        his.see("anna kicked you from +plans (too loud)")
        hers.see("--- anna kicked bob (too loud)")
        his.enter("/join +plans")
        his.see("+plans>")
        hers.enter("/mute bob 10m hush")
        his.see("anna muted you in +plans for 10 min (hush)")
        his.enter("mmm")
        his.see("not sent: mmm (you are muted in this room")
        hers.enter("/room")
        hers.see("you are its owner")


def test_of_the_ignored_nothing_is_shown(anna: Person, bob: Person) -> None:
    with anna.chat() as hers, bob.chat() as his:
        hers.see("bob joined")
        hers.enter("/ignore bob")
        hers.see("nothing of bob is shown from here on")
        his.enter("can you hear me?")
        his.see("bob: can you hear me?")
        his.enter("/msg anna and here?")
        his.see("@anna bob: and here?")
        hers.enter("/history")
        his.enter("/nick rob")
        hers.see("bob, whom you ignore, is called rob now, and still ignored")
        his.see("you are rob now")
        his.enter("nobody would hear me")
        his.see("rob: nobody would hear me")
        hers.enter("/me listens")
        hers.see("* anna listens")
        assert "hear me" not in hers.text()
        assert "says something to you" not in hers.text()
    assert (anna.home / "ignored").read_text() == "bob\nrob\n"
    with anna.chat() as hers:
        assert "hear me" not in hers.text()
        hers.enter("/unignore bob")
        hers.see("bob is shown again")
        his_words = bob.run("send", "-r", "lobby", "and now?")
        assert his_words.returncode == 0
        hers.see("bob: and now?")


def test_ones_own_words_in_a_talk_are_not_unread(anna: Person, bob: Person) -> None:
    with bob.chat():
        with anna.chat() as hers:
            hers.enter("/msg bob see you at nine")
            hers.see("@bob anna: see you at nine")
        talks = [room for room in anna.objects("rooms") if room.get("title") == "@bob"]
        assert [room["read"] for room in talks] == [talks[0]["head"]]


def test_scripts_speak_and_read_behind_doors(
    anna: Person, bob: Person, broker: BrokerProcess
) -> None:
    with connect(broker.address, nick="anna", owner=b"a" * 16) as client:
        private_files.make_folder(anna.home)
        private_files.make(anna.home / "owner", b"a" * 16 + bytes(16))
        client.join("plans")
        name = client.order("plans", "private").room
        with pytest.raises(Refused) as caught:
            client.order("plans", "dance")
        assert caught.value.code == "bad_payload"
        refused = bob.run("tail", "-r", "+plans", "--count", "1", status=77)
        assert "not open to you" in refused.stderr
        bob.run("send", "-r", name, "hi", status=77)
        bob.run("send", "-r", "@nobody", "hi", status=1)
        bob.run("send", "-r", "@anna", "from a script")
        (entry,) = bob.objects("history", "-r", "@anna")
        assert (entry["text"], entry["kind"]) == ("from a script", "text")
        listed = bob.objects("rooms")
        assert [room["title"] for room in listed if "title" in room] == ["@anna"]
        assert [room["head"] - room["read"] for room in listed if "title" in room] == [0]
        assert "+plans" not in bob.run("rooms").stdout
        told = eventually(lambda: [e for e in client.events(0.1) if isinstance(e, Told)])
        assert [(event.code, event.title) for event in told] == [("said", "@bob")]
        joined = client.join("@bob")
        assert client.read("@bob", 1).result(10).room == joined.room
        mine = {room.title: room for room in client.mine()}
        assert set(mine) == {"+plans", "@bob"}
        assert mine["+plans"].room == name


def test_an_invitation_does_not_get_in_the_way_of_a_room_of_that_name(
    anna: Person, bob: Person, new_person: NewPerson, room: str
) -> None:
    """Whoever invites one to a room of the same title: where one has been is what is meant."""
    mallory = new_person("mallory")
    orders = "/room private\n/invite bob\n"
    with bob.chat("lobby"):
        anna.run("-r", room, stdin=orders)
        bob.run("send", "-r", f"+{room}", "an invitation alone is enough")
        mallory.run("-r", room, stdin=orders)
        bob.run("send", "-r", f"+{room}", "to the right ones")
    said = [entry["text"] for entry in anna.objects("history", "-r", f"+{room}", "-n", "2")]
    assert said == ["an invitation alone is enough", "to the right ones"]
    (invited,) = [line for line in bob.run("rooms").stdout.splitlines() if "invited" in line]
    bob.run("send", "-r", invited.split()[-1], "whoever you are")
    refused = bob.run("send", "-r", f"+{room}", "which of them?", status=1)
    assert f"several rooms are called +{room}" in refused.stderr


def test_a_program_hears_of_all_that_happens_to_its_rooms(broker: BrokerProcess) -> None:
    with (
        connect(broker.address, nick="anna") as anna,
        connect(broker.address, nick="bob") as bob,
    ):
        anna.join("dev")
        bob.join("dev")
        anna.order("dev", "slow", value=60)
        bob.send("dev", "one")
        with pytest.raises(Refused) as caught:
            bob.send("dev", "two")
        assert caught.value.code == "slow_mode"
        assert 0 < caught.value.value <= 60_000
        name = anna.order("dev", "private").room
        anna.order("+dev", "ban", "bob", 60, "enough")
        heard = eventually(
            lambda: [e for e in bob.events(0.2) if isinstance(e, Moved | Left | Told | Entry)]
        )
        kinds = [type(event) for event in heard]
        assert kinds.count(Moved) == kinds.count(Left) == kinds.count(Told) == 1
        assert heard[-1] == Left(name, "banned", "enough")
        with pytest.raises(Refused) as caught:
            bob.join(name)
        assert caught.value.code in ("banned", "not_invited")
        with pytest.raises(Refused, match="join"):
            bob.post("+dev", "hello")
