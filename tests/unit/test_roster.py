"""Rosters: who joins at any moment and applies what is told, knows who is there."""

from __future__ import annotations

from dataclasses import dataclass, field

import pytest
from hypothesis import HealthCheck, given, note, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule, run_state_machine_as_test

from broker.chat.roster import Roster
from broker.chat.sessions import User
from common.limits import PRESENCE_NAMES_MAX
from common.wire import Changes, Presence

NICKS = ["ann", "bob", "cid"]


def told(joined: str = "", left: str = "", renamed: str = "", returned: str = "") -> Changes:
    """Return changes; words are nicks, `a>b` is a rename."""
    pairs = [(old, new) for old, _, new in (word.partition(">") for word in renamed.split())]
    return Changes(joined.split(), left.split(), pairs, returned.split())


def changes_of(roster: Roster) -> Changes | None:
    """Flush, and return what was told."""
    presence = roster.flush("room")
    return presence.changes if presence else None


def apply(nicks: set[str], changes: Changes) -> None:
    """Do what PROTOCOL.md asks of a client: take out all that went, then put in all that came."""
    nicks.difference_update(changes.left)
    nicks.difference_update(old for old, _ in changes.renamed)
    nicks.update(changes.joined, changes.returned)
    nicks.update(new for _, new in changes.renamed)


@dataclass
class Member:
    """What one user was shown and has applied since."""

    version: int
    nicks: set[str]


@dataclass(eq=False)
class Person:
    """A user of the model, with the sessions that are in the room."""

    user: User
    sessions: int = 0
    members: list[Member] = field(default_factory=list)


class RosterMachine(RuleBasedStateMachine):
    """Users come, go, rename and look, in any order; a tick ends now and then."""

    def __init__(self) -> None:
        super().__init__()
        self.roster = Roster(10)
        self.people: list[Person] = []
        self.come("ann", is_return=False)
        self.come("bob", is_return=False)
        self.tick()

    def person(self, index: int) -> Person | None:
        """Return one of those who are there."""
        here = [person for person in self.people if person.sessions]
        return here[index % len(here)] if here else None

    @rule(nick=st.sampled_from(NICKS), is_return=st.booleans())
    def come(self, nick: str, *, is_return: bool) -> None:
        """Let a session join; under a nick that is in use as one more of its user."""
        person = next((p for p in self.people if p.user.nick == nick and p.sessions), None)
        if person is None:
            person = Person(User(nick, b""))
            self.people.append(person)
        person.sessions += 1
        is_change = self.roster.add(person.user, is_return=is_return)
        assert is_change == (person.sessions == 1)
        self.show(person)

    @rule(index=st.integers(0, 9))
    def come_again(self, index: int) -> None:
        """Let a user who left join again as the same user, as one with a session elsewhere does."""
        gone = [person for person in self.people if not person.sessions]
        person = gone[index % len(gone)] if gone else None
        if person and all(p.user.nick != person.user.nick for p in self.people if p.sessions):
            person.sessions = 1
            assert self.roster.add(person.user)
            self.show(person)

    @rule(index=st.integers(0, 9))
    def go(self, index: int) -> None:
        """Let a session leave."""
        person = self.person(index)
        if person is not None:
            person.sessions -= 1
            assert self.roster.remove(person.user) == (not person.sessions)
            if not person.sessions:
                person.members.clear()

    @rule(index=st.integers(0, 9), nick=st.sampled_from(NICKS))
    def rename(self, index: int, nick: str) -> None:
        """Let a user take a nick that nobody has."""
        person = self.person(index)
        if person is not None and all(p.user.nick != nick for p in self.people if p.sessions):
            before, person.user.nick = person.user.nick, nick
            self.roster.rename(person.user, before)

    @rule(index=st.integers(0, 9))
    def look(self, index: int) -> None:
        """Show a user the room, as JOINED and MEMBERS do."""
        person = self.person(index)
        if person is not None:
            self.show(person)

    def show(self, person: Person) -> None:
        """Show the room."""
        shown = self.roster.show(person.user)
        assert sorted(shown) == sorted(p.user.nick for p in self.people if p.sessions)
        person.members.append(Member(self.roster.version, set(shown)))

    @rule()
    def tick(self) -> None:
        """Check that what is told leads every member to what is true, one version further."""
        version = self.roster.version
        presence = self.roster.flush("room")
        note(f"told {presence}")
        there = {person.user.nick for person in self.people if person.sessions}
        if presence is None:
            assert version == self.roster.version
        else:
            assert (version, version + 1) == (presence.prev, presence.version)
            assert presence.version == self.roster.version
            assert len(there) == presence.users
        for member in [member for person in self.people for member in person.members]:
            if presence is not None and presence.changes is not None:
                assert presence.prev == member.version
                apply(member.nicks, presence.changes)
                member.version = presence.version
            assert there == member.nicks
            assert self.roster.version == member.version

    @invariant()
    def counts(self) -> None:
        """Compare with the model."""
        assert len(self.roster) == sum(bool(person.sessions) for person in self.people)


def test_whoever_applies_what_is_told_knows_who_is_there() -> None:
    """A snapshot taken at any time, and all tellings after it, are the roster's users."""
    run_state_machine_as_test(
        RosterMachine,
        settings=settings(
            max_examples=150,
            stateful_step_count=30,
            deadline=None,
            print_blob=True,
            suppress_health_check=list(HealthCheck),
        ),
    )


@pytest.fixture
def roster() -> Roster:
    """Return a roster at version 5 with ann and bob in it, of whom everybody has heard."""
    made = Roster(5)
    made.add(ANN)
    made.add(BOB)
    made.flush("room")
    return made


ANN, BOB, CID = User("ann", b"a"), User("bob", b"b"), User("cid", b"c")


def test_what_happens_in_a_tick_is_told_in_one_frame(roster: Roster) -> None:
    """Joins, leaves, renames and returns of a tick share a version."""
    late = User("lea", b"l")
    roster.add(CID)
    roster.add(late, is_return=True)
    roster.remove(BOB)
    eve = User("eve", b"e")
    roster.add(eve)
    expected = Presence("room", 6, 7, 4, told(joined="cid eve", left="bob", returned="lea"))
    assert expected == roster.flush("room")
    assert roster.flush("room") is None


def test_a_flap_within_a_tick_is_not_told(roster: Roster) -> None:
    """Who comes and goes, or goes and comes, unseen by others, is no news and no version."""
    roster.add(CID)
    roster.show(CID)  # Its own JOINED.
    roster.remove(CID)
    roster.remove(ANN)
    roster.add(ANN)
    roster.remove(BOB)
    roster.add(User("bob", b"b"))  # The same person's next session.
    assert (None, 6) == (changes_of(roster), roster.version)


def test_a_flap_that_somebody_saw_is_told_quietly(roster: Roster) -> None:
    """Whoever was shown a state that has passed is told, and nobody else hears it as a join."""
    roster.add(CID)
    roster.remove(ANN)
    roster.show(BOB)  # Sees cid, and no ann.
    roster.remove(CID)
    roster.add(ANN)
    assert told(left="cid", returned="ann") == changes_of(roster)


def test_a_nick_that_was_seen_and_taken_over_has_not_left(roster: Roster) -> None:
    """A nick that somebody else has by the end of the tick is only told as having joined."""
    roster.add(CID)
    roster.show(BOB)
    roster.remove(CID)
    roster.add(User("cid", b"c"))
    assert told(joined="cid") == changes_of(roster)


def test_who_was_shown_the_room_is_forgotten_with_the_tick(roster: Roster) -> None:
    """Looking costs nothing once all is told, and nothing at all while nothing happens."""
    roster.show(ANN)
    roster.add(CID)
    roster.show(ANN)
    roster.flush("room")
    roster.show(ANN)
    assert [] == roster._viewers


def test_a_gap_that_somebody_saw_is_closed(roster: Roster) -> None:
    """A nick that went and came by another session is told to those who saw the room without."""
    roster.remove(ANN)
    roster.show(BOB)
    roster.add(User("ann", b"a"))
    assert told(returned="ann") == changes_of(roster)


def test_an_earlier_gap_that_somebody_saw_is_closed(roster: Roster) -> None:
    """A nick that went twice is told to those who saw the room the first time."""
    roster.remove(ANN)
    roster.show(BOB)
    roster.add(ANN)
    roster.remove(ANN)
    roster.add(User("ann", b"a"))
    assert told(returned="ann") == changes_of(roster)


def test_renames_in_a_ring_are_told_as_they_ended(roster: Roster) -> None:
    """Two users who swap nicks by way of a third are renamed, nobody left or joined."""
    ann, bob = User("x", b"x"), User("y", b"y")
    roster.add(ann)
    roster.add(bob)
    roster.flush("room")
    for user, nick in ((ann, "z"), (bob, "x"), (ann, "y")):
        before, user.nick = user.nick, nick
        roster.rename(user, before)
    assert told(renamed="x>y y>x") == changes_of(roster)


def test_a_second_session_of_a_user_is_no_change(roster: Roster) -> None:
    """Users are counted, not their sessions."""
    assert not roster.add(ANN)
    assert not roster.remove(ANN)
    assert 2 == len(roster)
    assert ANN in roster
    assert roster.remove(ANN)
    assert ANN not in roster
    assert told(left="ann") == changes_of(roster)


@given(st.integers(PRESENCE_NAMES_MAX - 1, PRESENCE_NAMES_MAX + 1))
@settings(max_examples=6)
def test_big_rooms_are_told_as_counts(size: int) -> None:
    """Above the limit, of users or of changes, there is a count and no names."""
    roster = Roster(0)
    users = [User(f"n{index}", b"") for index in range(size)]
    for user in users:
        roster.add(user)
    presence = roster.flush("room")
    assert presence is not None
    assert size == presence.users
    assert (presence.changes is None) == (size > PRESENCE_NAMES_MAX)
    for user in users:
        roster.remove(user)
    emptied = roster.flush("room")
    assert emptied is not None
    assert 0 == emptied.users
    assert (emptied.changes is None) == (size > PRESENCE_NAMES_MAX)
