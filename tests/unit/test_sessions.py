"""Sessions: who may be whom, how long, and how much."""

from __future__ import annotations

from collections.abc import Callable
from itertools import count

import pytest
from hypothesis import given
from hypothesis import strategies as st

from broker.chat.floods import Rate
from broker.chat.sessions import (
    INBOXES_SPARE,
    MEMORY_WAIT_MS,
    POKE_S,
    SESSIONS_PER_ROUTE_MAX,
    Session,
    Sessions,
)
from common.errors import Code, Refused
from common.topics import inbox as inbox_topic
from common.wire import Hello

GRACE_S = 5.0
INFINITY = float("inf")


class House:
    """Sessions with short words for what tests do with them."""

    def __init__(self, clients_max: int = 10, rate: Rate | None = None) -> None:
        self.sessions = Sessions(
            clients_max=clients_max, grace_s=GRACE_S, rate=rate or Rate(10.0, 20.0)
        )
        self._tokens = count(1)

    def token(self) -> bytes:
        """Return a token that nobody has."""
        return next(self._tokens).to_bytes(5, "big").ljust(16, b".")

    def hello(
        self,
        nick: str,
        owner: str = "",
        *,
        token: bytes = b"",
        instance: int = 1,
        number: int = 1,
        now_s: float = 0.0,
        route: bytes = b"",
    ) -> tuple[Session, bool]:
        """Say HELLO."""
        secret = (owner or nick).encode().ljust(16, b".")
        hello = Hello(1, nick, secret, instance, number)
        token = token or self.token()
        return self.sessions.hello(route or b"r" + token, token, hello, now_s)

    def enter(self, nick: str, owner: str = "") -> Session:
        """Return a session whose inbox is open."""
        token = self.token()
        self.sessions.inbox_opened(inbox_topic(token), 0.0)
        session, is_resumed = self.hello(nick, owner, token=token)
        assert not is_resumed
        return session

    def giving_way(self, token: bytes) -> list[Session]:
        """Return who would give way to a newcomer with a nick of its own."""
        return self.sessions.giving_way(b"r" + token, token, Hello(1, "new", b"new" * 6, 1, 1))

    def takes(self, nick: str, owner: str) -> bool:
        """Tell whether somebody may come by this nick; if so, go again at once."""
        try:
            session, _ = self.hello(nick, owner)
        except Refused as refusal:
            if refusal.code != Code.NICK_TAKEN:
                raise
            return False
        self.sessions.end(session)
        return True


@pytest.fixture
def house() -> House:
    """Return an empty house."""
    return House()


def code_of(call: Callable[[], object]) -> str:
    """Return the code that the call is refused with."""
    with pytest.raises(Refused) as refused:
        call()
    return refused.value.code


def test_a_nick_belongs_to_one_owner_in_all_its_forms(house: House) -> None:
    """The same owner may come again by the nick, anybody else is refused its every form."""
    ann = house.enter("Ann", "ann's")
    again, _ = house.hello("ANN", "ann's")
    assert ann.user is again.user
    assert "Ann" == again.user.nick
    for form in ("Ann", "aNN", "\uff21nn"):
        assert Code.NICK_TAKEN == code_of(lambda form=form: house.hello(form, "other's"))  # type: ignore[misc]
    assert Code.NICK_INVALID == code_of(lambda: house.hello("a b", "ann's"))
    assert 2 == len(house.sessions)


def test_nobody_comes_by_a_nick_that_looks_like_anothers(house: House) -> None:
    """Its owner does, and is the same user; the refusal names the nick that is there."""
    ian = house.enter("Ian", "a")
    for form in ("lan", "1AN", "\N{GREEK CAPITAL LETTER IOTA}an"):
        assert not house.takes(form, "b")
        assert Code.NICK_TAKEN == code_of(lambda form=form: house.hello(form, "b"))  # type: ignore[misc]
    with pytest.raises(Refused, match="somebody else is here as Ian"):
        house.hello("lan", "b")
    assert ian.user is house.hello("lan", "a")[0].user
    assert "Ian" == ian.user.nick
    bob = house.enter("bob", "b")
    assert Code.NICK_TAKEN == code_of(lambda: house.sessions.rename(bob, "lan"))


def test_a_person_is_found_by_the_nick_and_not_by_a_look_alike(house: House) -> None:
    """What is meant for lan is not told to Ian, though nobody else can be lan now."""
    ian = house.enter("Ian")
    for form in ("Ian", "IAN", "\uff29an"):
        assert ian.user is house.sessions.user(form)
    for other in ("lan", "1an", "bob", "a\u0640b", ""):
        assert house.sessions.user(other) is None


def test_a_nick_that_looks_like_two_keeps_others_from_both(house: House) -> None:
    """Greek nu is an N and a v: taken, renamed and given back, both are."""
    greek = house.enter("\N{GREEK CAPITAL LETTER NU}ick", "g")
    assert not house.takes("nick", "b")
    assert not house.takes("Vick", "b")
    house.sessions.rename(greek, "\N{GREEK SMALL LETTER NU}ick")  # As written, no N any more.
    assert house.takes("nick", "b")
    assert not house.takes("vick", "b")
    nick = house.enter("Nick", "b")
    assert Code.NICK_TAKEN == code_of(
        lambda: house.sessions.rename(greek, "\N{GREEK CAPITAL LETTER NU}ick")
    )
    assert Code.NICK_TAKEN == code_of(lambda: house.sessions.rename(nick, "vick"))
    house.sessions.end(greek)
    house.sessions.rename(nick, "vick")
    assert house.takes("nick", "c")
    house.sessions.end(nick)
    assert house.takes("vick", "c")
    assert {} == house.sessions._lookalikes._by_look


def test_a_nick_is_free_when_its_last_session_ends(house: House) -> None:
    """A nick outlives one of two sessions, and not the second."""
    one, two = house.enter("ann", "a"), house.enter("ann", "a")
    house.sessions.end(one)
    assert not house.takes("ann", "b")
    house.sessions.end(two)
    assert house.takes("ann", "b")
    assert 0 == len(house.sessions)
    assert house.sessions.get(two.token) is None


def test_the_house_is_full_at_its_limit(house: House) -> None:
    """One client more than the limit is refused; a resume needs no place."""
    house = House(clients_max=2)
    one = house.enter("ann")
    house.enter("bob")
    assert Code.FULL == code_of(lambda: house.hello("cid"))
    assert (one, True) == house.hello("ann", token=one.token)
    house.sessions.end(one)
    house.enter("cid")


def test_short_of_memory_nobody_new_is_taken_and_everybody_waits() -> None:
    """A resume needs nothing more; whatever is sent is sent again later."""
    house = House(clients_max=2)
    one = house.enter("ann")
    house.sessions.is_short_of_memory = True
    assert Code.FULL == code_of(lambda: house.hello("bob"))
    assert (one, True) == house.hello("ann", token=one.token)
    assert MEMORY_WAIT_MS == house.sessions.wait_ms(one, 1, 0.0)
    house.sessions.is_short_of_memory = False
    assert 0 == house.sessions.wait_ms(one, 1, 0.0)
    house.enter("bob")


def test_a_token_is_one_process(house: House) -> None:
    """Another instance with the same token is refused and changes nothing."""
    ann, _ = house.hello("ann", route=b"r")
    assert Code.SESSION_TAKEN == code_of(
        lambda: house.hello("ann", token=ann.token, instance=2, number=9, route=b"thief")
    )
    assert (b"r", 1, 1) == (ann.route, ann.instance, ann.expected)


def test_an_inbox_is_of_one_session(house: House) -> None:
    """A token that begins as another's does would share its inbox, and is not let in."""
    ann = house.enter("ann")
    alike = ann.token[:-1] + b"?"
    assert inbox_topic(alike) == ann.inbox
    assert Code.SESSION_TAKEN == code_of(lambda: house.hello("bob", token=alike))
    assert house.sessions.get(alike) is None
    house.sessions.end(ann)
    house.hello("bob", token=alike)


def test_a_resume_moves_the_route_and_only_raises_the_number(house: House) -> None:
    """HELLO again is the same session on another connection; the nick it has stays."""
    ann = house.enter("ann")
    ann.expected = 5
    assert (ann, True) == house.hello("zoe", "ann", token=ann.token, number=3, route=b"s")
    assert (b"s", 5, "ann") == (ann.route, ann.expected, ann.user.nick)
    house.hello("ann", token=ann.token, number=8)
    assert 8 == ann.expected
    assert 1 == len(house.sessions)


def test_a_lone_session_takes_its_user_to_another_nick(house: House) -> None:
    """Renamed alone, the user stays the same; the old nick is free, the new one is not."""
    ann = house.enter("ann", "a")
    user = ann.user
    assert (user, "ann") == house.sessions.rename(ann, "Zoe")
    assert user is ann.user
    assert ("Zoe", "zoe") == (user.nick, user.key)
    assert house.takes("ann", "b")
    assert not house.takes("zoe", "b")
    house.sessions.rename(ann, "ann")
    assert house.takes("zoe", "b")
    house.sessions.end(ann)
    assert house.takes("ann", "b")


def test_a_change_of_spelling_is_for_all_sessions_of_the_user(house: House) -> None:
    """Another form of the same nick moves nobody."""
    one, two = house.enter("ann", "a"), house.enter("ann", "a")
    assert (one.user, "ann") == house.sessions.rename(one, "ANN")
    assert one.user is two.user
    assert "ANN" == two.user.nick
    assert not house.takes("ann", "b")


def test_one_of_several_sessions_moves_alone(house: House) -> None:
    """The others keep the nick; each nick is free when its own last session is gone."""
    one, two = house.enter("ann", "a"), house.enter("ann", "a")
    before = one.user
    assert (before, "ann") == house.sessions.rename(one, "zoe")
    assert one.user is not before
    assert before is two.user
    assert ("zoe", "ann") == (one.user.nick, two.user.nick)
    assert not house.takes("ann", "b")
    house.sessions.end(two)
    assert house.takes("ann", "b")
    assert not house.takes("zoe", "b")
    house.sessions.end(one)
    assert house.takes("zoe", "b")


def test_a_session_may_join_its_owners_other_nick(house: House) -> None:
    """Renamed to a nick of the same owner, two users become one; renamed again they part."""
    one, two = house.enter("ann", "a"), house.enter("zoe", "a")
    house.sessions.rename(one, "Zoe")
    assert two.user is one.user
    assert "zoe" == one.user.nick
    assert house.takes("ann", "b")
    house.sessions.rename(one, "ann")
    assert two.user is not one.user
    house.sessions.end(one)
    assert house.takes("ann", "b")
    assert not house.takes("zoe", "b")


def test_a_refused_nick_changes_nothing(house: House) -> None:
    """Somebody else's nick or no nick at all leaves the session as it was."""
    ann = house.enter("ann")
    house.enter("bob")
    assert Code.NICK_TAKEN == code_of(lambda: house.sessions.rename(ann, "BOB"))
    assert Code.NICK_INVALID == code_of(lambda: house.sessions.rename(ann, "-"))
    assert ("ann", "ann") == (ann.user.nick, ann.user.key)
    assert not house.takes("ann", "b")


moves = st.lists(
    st.tuples(st.sampled_from(["enter", "rename", "end"]), st.integers(0, 3), st.integers(0, 5)),
    max_size=25,
)


@given(moves)
def test_nicks_are_unique_among_owners_whatever_happens(moves: list[tuple[str, int, int]]) -> None:
    """A model of pairs of owner and nick agrees on every take and every refusal."""
    house = House(clients_max=100)
    nicks = ["ann", "ANN", "bob", "cid"]
    owner_of: dict[Session, str] = {}
    for move, which, other in moves:
        nick, owner = nicks[which], "xy"[other % 2]
        session = list(owner_of)[other % len(owner_of)] if owner_of else None
        if move == "enter":
            holders = {o for s, o in owner_of.items() if s.user.folded == nick.lower()}
            assert house.takes(nick, owner) == (holders <= {owner})
            if holders <= {owner}:
                owner_of[house.enter(nick, owner)] = owner
        elif session is None:
            continue
        elif move == "end":
            house.sessions.end(session)
            del owner_of[session]
        else:
            holders = {o for s, o in owner_of.items() if s.user.folded == nick.lower()}
            if holders <= {owner_of[session]}:
                house.sessions.rename(session, nick)
                assert nick.lower() == session.user.folded
            else:
                assert Code.NICK_TAKEN == code_of(lambda: house.sessions.rename(session, nick))  # noqa: B023 - called at once
        assert set(house.sessions) == set(owner_of)
        for each in owner_of:
            assert each in each.user.sessions
            assert {s for s in owner_of if s.user is each.user} == each.user.sessions


def test_a_session_without_an_inbox_has_the_grace_period_alone(house: House) -> None:
    """HELLO first and no subscription after it: gone after the grace, not before."""
    ann, _ = house.hello("ann", now_s=1.0)
    assert 1.0 + POKE_S == house.sessions.next_deadline_s()
    assert [ann.inbox] == house.sessions.strangers(1.0 + POKE_S)  # If there is one all the same.
    assert 1.0 + GRACE_S == house.sessions.next_deadline_s()
    assert [] == house.sessions.expired(GRACE_S)
    assert [ann] == house.sessions.expired(1.0 + GRACE_S)


def test_an_inbox_keeps_its_session_for_ever(house: House) -> None:
    """Opened before HELLO or after it, there is no deadline."""
    house.enter("ann")
    bob, _ = house.hello("bob")
    house.sessions.inbox_opened(bob.inbox, 1.0)
    assert INFINITY == house.sessions.next_deadline_s()
    assert [] == house.sessions.expired(1e9)


def test_a_reconnect_within_the_grace_is_no_leave(house: House) -> None:
    """A closed inbox starts the grace, an opened one ends it, in either order."""
    ann = house.enter("ann")
    house.sessions.inbox_closed(ann.inbox, 10.0)
    house.sessions.inbox_opened(ann.inbox, 12.0)
    assert [] == house.sessions.expired(100.0)
    house.sessions.inbox_opened(ann.inbox, 101.0)  # The new connection overtakes the old one.
    house.sessions.inbox_closed(ann.inbox, 102.0)
    assert [] == house.sessions.expired(200.0)
    house.sessions.inbox_closed(ann.inbox, 201.0)
    assert [] == house.sessions.expired(201.0 + GRACE_S - 0.1)
    assert [ann] == house.sessions.expired(201.0 + GRACE_S)


def test_an_inbox_that_was_open_twice_before_hello_counts_twice(house: House) -> None:
    """What was subscribed before HELLO is counted as what comes after it."""
    token = house.token()
    house.sessions.inbox_opened(inbox_topic(token), 0.0)
    house.sessions.inbox_opened(inbox_topic(token), 0.0)
    house.hello("ann", token=token)
    house.sessions.inbox_closed(inbox_topic(token), 1.0)
    assert [] == house.sessions.expired(100.0)
    house.sessions.inbox_closed(inbox_topic(token), 100.0)
    assert 1 == len(house.sessions.expired(200.0))


def test_the_inbox_of_an_ended_session_waits_for_another_hello(house: House) -> None:
    """BYE and HELLO again over one subscription: the session lives by it as before."""
    ann = house.enter("ann")
    house.sessions.end(ann)
    house.hello("ann", token=ann.token)
    assert INFINITY == house.sessions.next_deadline_s()


def test_a_stranger_is_asked_once_who_it_is(house: House) -> None:
    """An inbox without HELLO is poked after a while; one that closes, or says HELLO, is not."""
    stranger, gone, late = house.token(), house.token(), house.token()
    for token in (stranger, gone, late):
        house.sessions.inbox_opened(inbox_topic(token), 0.0)
    house.sessions.inbox_closed(inbox_topic(gone), 0.1)
    house.hello("late", token=late)
    assert [] == house.sessions.strangers(POKE_S - 0.01)
    assert POKE_S == house.sessions.next_deadline_s()
    assert [inbox_topic(stranger)] == house.sessions.strangers(POKE_S)
    assert [] == house.sessions.strangers(100.0)


def test_unclaimed_inboxes_are_bounded_and_leave_a_place_for_every_client() -> None:
    """Beyond one inbox for each client and some spare ones, the oldest give way."""
    house = House(clients_max=10)
    tokens = [house.token() for _ in range(INBOXES_SPARE + 12)]
    for token in tokens:
        house.sessions.inbox_opened(inbox_topic(token), 0.0)
    assert set(map(inbox_topic, tokens[2:])) == set(house.sessions.strangers(POKE_S))
    for index, token in ((1, tokens[1]), (2, tokens[2])):
        house.hello(f"n{index}", token=token)
    assert [tokens[1]] == [session.token for session in house.sessions.expired(GRACE_S)]


def test_an_inbox_nobody_knows_may_close(house: House) -> None:
    """The end of an unknown subscription is nothing."""
    house.sessions.inbox_closed(inbox_topic(house.token()), 0.0)
    assert INFINITY == house.sessions.next_deadline_s()


def test_a_token_bucket_gives_a_burst_and_then_its_rate() -> None:
    """All of the burst at once, then as much as time has brought, never more than a burst."""
    house = House(rate=Rate(10.0, 20.0))
    ann = house.enter("ann")
    wait_ms = house.sessions.wait_ms
    assert 0 == wait_ms(ann, 20, 0.0)
    assert 101 == wait_ms(ann, 1, 0.0)
    assert 501 == wait_ms(ann, 10, 0.5)
    assert 0 == wait_ms(ann, 5, 0.5)
    assert 0 == wait_ms(ann, 20, 1_000.0)
    assert 101 == wait_ms(ann, 1, 1_000.0)


@given(
    st.floats(1, 1e7),
    st.integers(256, 10_000),
    st.lists(st.tuples(st.integers(1, 256), st.floats(0, 3)), min_size=1, max_size=30),
)
def test_waiting_as_long_as_told_is_enough(
    per_s: float, burst: int, sends: list[tuple[int, float]]
) -> None:
    """Whoever waits so many milliseconds is let through; and in all never more than the rate."""
    house = House(rate=Rate(per_s, burst))
    ann = house.enter("ann")
    now_s, taken = 0.0, 0
    for texts, pause_s in sends:
        now_s += pause_s
        wait_ms = house.sessions.wait_ms(ann, texts, now_s)
        if wait_ms:
            now_s += wait_ms / 1_000
            assert 0 == house.sessions.wait_ms(ann, texts, now_s)
        taken += texts
        assert taken <= burst + per_s * now_s + 1e-3 * taken


def test_a_connection_has_a_few_sessions(house: House) -> None:
    """The next one is refused, on another connection it is not, and an end makes room."""
    first, _ = house.hello("ann", route=b"one")
    for index in range(1, SESSIONS_PER_ROUTE_MAX):
        house.hello(f"ann{index}", route=b"one")
    assert Code.FULL == code_of(lambda: house.hello("bob", route=b"one"))
    house.hello("bob", route=b"two")
    # A resume moves the session, but its place stays where it began: coming back is no way round.
    house.hello("ann", token=first.token, route=b"three")
    assert Code.FULL == code_of(lambda: house.hello("cid", route=b"one"))
    house.sessions.end(first)
    house.hello("cid", route=b"one")


def test_who_only_said_hello_gives_way_to_newcomers() -> None:
    """The oldest one first, only where all places are taken, and only to a newcomer."""
    house = House(clients_max=3)
    old, _ = house.hello("old")
    young, _ = house.hello("young")
    token = house.token()
    assert [] == house.giving_way(token)  # There is a place.
    ann = house.enter("ann")
    assert [old] == house.giving_way(token)
    assert [] == house.giving_way(ann.token)  # It has its place.
    house.sessions.inbox_opened(old.inbox, 0.0)
    assert [young] == house.giving_way(token)
    house.sessions.end(young)
    assert [] == house.giving_way(token)  # Who has gone can't give way.
    young, _ = house.hello("young")
    house.sessions.inbox_closed(old.inbox, 0.0)  # There was a client, and perhaps will be again.
    assert [young] == house.giving_way(token)
    house.sessions.inbox_opened(young.inbox, 0.0)
    assert [] == house.giving_way(token)
    assert Code.FULL == code_of(lambda: house.hello("new"))


def test_resuming_again_and_again_does_not_keep_a_session_alive(house: House) -> None:
    """Without an inbox the grace is counted from the first HELLO, whatever follows it."""
    ann, _ = house.hello("ann", now_s=0.0)
    for second in range(1, int(GRACE_S)):
        assert (ann, True) == house.hello("ann", token=ann.token, now_s=float(second))
    assert [ann] == house.sessions.expired(GRACE_S)


def test_named_nicks_have_no_rate() -> None:
    """In any spelling; for all others, look-alikes, and them under another nick, it holds."""
    house = House(rate=Rate(10.0, 20.0, frozenset({"importer"})))
    bot, ann = house.enter("Importer"), house.enter("ann")
    assert 0 == house.sessions.wait_ms(bot, 10**9, 0.0)
    assert 0 < house.sessions.wait_ms(ann, 21, 0.0)
    for other in ("other", "irnporter"):
        house.sessions.rename(bot, other)
        assert 0 < house.sessions.wait_ms(bot, 21, 0.0)
