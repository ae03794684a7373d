"""The register of nicks: who owns what, how long, and what the store is told of it."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from broker.chat.lookalikes import looks
from broker.chat.nicks import (
    DAY_MS,
    LOOKS_FOR_ROOM,
    NICK_DAYS,
    NICKS_MAX,
    NICKS_PER_IDENTITY_MAX,
    RESERVED,
    USE_STEP_MS,
    NickChange,
    Register,
    check_reserved,
)
from broker.log.rights_records import NickRecord
from common.errors import Code, Refused

ANN, BOB, CID = (bytes([letter]) * 32 for letter in b"abc")
PLAIN = b"p" * 16  # The digest of an owner's secret.


def number(index: int) -> bytes:
    """Return one of many identities."""
    return index.to_bytes(32, "big")


def refusal(register: Register, nick: str, identity: bytes, now_ms: int = 0) -> Refused:
    """Return how the claim is refused."""
    with pytest.raises(Refused) as refused:
        register.claim(nick, identity, now_ms)
    return refused.value


class Store:
    """The rows that a store would have, written as the register says."""

    def __init__(self) -> None:
        self.rows: dict[str, NickRecord] = {}

    def write(self, register: Register, *, is_promised: bool = False) -> None:
        """Write what has changed, or only what must be written first."""
        for change in register.take_promised() if is_promised else register.take_changes():
            if change.identity:
                self.rows[change.nick] = NickRecord(*change)
            else:
                self.rows.pop(change.nick, None)


def test_a_nick_belongs_to_the_first_who_took_it() -> None:
    """To that key in any form; to nobody else, also when its owner is away."""
    register = Register()
    assert register.claim("Ian", ANN, 0)
    assert register.claim("IAN", ANN, 5)
    for form in ("Ian", "ian", "\uff29an"):
        refused = refusal(register, form, BOB)
        assert (Code.NICK_TAKEN, "IAN belongs to somebody else") == (refused.code, refused.detail)
    assert ANN == register.owner_of("ian")
    for nobody in ("bob", "a\u0640b", ""):  # The second can't be a nick at all.
        assert register.owner_of(nobody) is None
    assert ("IAN",) == register.nicks_of(ANN)
    assert () == register.nicks_of(BOB)


@pytest.mark.parametrize(
    "form", ["lan", "1AN", "\N{CYRILLIC SMALL LETTER BYELORUSSIAN-UKRAINIAN I}an"]
)
def test_nobody_gets_a_look_alike_and_the_refusal_names_the_nick(form: str) -> None:
    """But the look-alike is not the nick: who asks for its owner gets none."""
    register = Register()
    register.claim("Ian", ANN, 0)
    refused = refusal(register, form, BOB)
    assert Code.NICK_TAKEN == refused.code
    assert f"{form} looks like Ian, which belongs to somebody else" == refused.detail
    assert register.owner_of(form) is None
    assert register.free(form) is None
    assert register.claim(form, ANN, 0)
    assert (form,) == register.nicks_of(ANN)


def test_an_owner_of_two_looks_keeps_both() -> None:
    """A Greek nu is N and v; when it is free, so are both."""
    register = Register()
    register.claim("\N{GREEK CAPITAL LETTER NU}ick", ANN, 0)
    for nick in ("Nick", "vick"):
        assert Code.NICK_TAKEN == refusal(register, nick, BOB).code
    register.claim("nick", ANN, 0)
    register.free("\N{GREEK SMALL LETTER NU}ick")
    assert register.claim("vick", BOB, 0)
    assert Code.NICK_TAKEN == refusal(register, "Nick", BOB).code


def test_without_a_key_nobody_owns_a_nick() -> None:
    """Plain sessions pass the register by, whoever owned the nick when there were keys."""
    register = Register()
    assert not register.claim("bob", PLAIN, 0)
    assert register.claim("bob", BOB, 0)
    assert not register.claim("bob", PLAIN, 0)
    assert BOB == register.owner_of("bob")
    register.touch("bob", PLAIN, DAY_MS)
    assert [NickChange("bob", BOB, 0)] == register.take_changes()


@pytest.mark.parametrize("nick", [*RESERVED, "Admin", "adrnin", "System", "Br0ker"])
def test_reserved_nicks_are_for_operators(nick: str) -> None:
    """In every form, with and without keys."""
    register = Register()
    for identity in (ANN, PLAIN):
        refused = refusal(register, nick, identity)
        assert Code.NICK_RESERVED == refused.code
        assert nick in refused.detail
        assert refused.session_survives
        assert 77 == refused.exit_status
    assert register.claim(nick, ANN, 0, is_operator=True)
    assert ANN == register.owner_of(nick)


def test_names_that_only_contain_a_reserved_one_are_not() -> None:
    for nick in ("admins", "my-server", "root", "ann"):
        check_reserved(nick)


def test_an_operator_frees_a_nick() -> None:
    """Whoever comes first has it then."""
    register = Register()
    register.claim("ann", ANN, 0)
    register.take_changes()
    assert ANN == register.free("Ann")
    assert register.free("ann") is None
    assert [NickChange("ann", b"", 0)] == register.take_changes()
    assert register.claim("ann", BOB, 0)
    assert 1 == len(register)


def test_a_nick_that_nobody_uses_is_free_after_some_days() -> None:
    """Counted from its last use, to the millisecond."""
    register = Register(nick_days=2)
    register.claim("ann", ANN, 0)
    register.touch("ANN", ANN, DAY_MS)
    register.touch("ann", BOB, 2 * DAY_MS)  # Not hers.
    register.expire(3 * DAY_MS)
    assert Code.NICK_TAKEN == refusal(register, "ann", BOB, 3 * DAY_MS).code
    register.expire(3 * DAY_MS + 1)
    assert register.claim("ann", BOB, 3 * DAY_MS + 1)
    assert () == register.nicks_of(ANN)
    assert 90 == NICK_DAYS == Register().nick_days


def test_a_use_just_after_another_is_not_written() -> None:
    """Reconnecting all day writes a row an hour."""
    register = Register()
    register.claim("ann", ANN, 0)
    register.take_changes()
    register.claim("ann", ANN, USE_STEP_MS - 1)
    register.touch("ann", ANN, USE_STEP_MS - 1)
    register.touch("ann", ANN, -5)  # A clock that was set back.
    assert [] == register.take_changes()
    register.claim("ann", ANN, USE_STEP_MS)
    assert [NickChange("ann", ANN, USE_STEP_MS)] == register.take_changes()


def test_who_is_here_by_a_nick_that_is_nobodys_owns_it_again() -> None:
    """Not one that is another's, or looks like it, nor without a key; and no other gives way."""
    register = Register()
    for nick, identity in (("ann", ANN), ("Ian", BOB)):
        register.claim(nick, identity, 0)
    register.free("ann")
    register.hold("ann", PLAIN, 1)
    assert register.owner_of("ann") is None
    for nick in ("ann", "lan", "ian", "admin"):
        register.hold(nick, ANN, 1)
    assert (("ann",), ("Ian",)) == (register.nicks_of(ANN), register.nicks_of(BOB))
    register.hold("Ian", BOB, USE_STEP_MS)
    assert USE_STEP_MS == max(each.used_ms for each in register.records())
    nicks = tuple(f"cid-{letter}" for letter in "abcdefgh")
    for nick in nicks:
        register.claim(nick, CID, 1)
    register.hold("cid", CID, 1)
    assert nicks == register.nicks_of(CID)


def test_an_identity_has_so_many_nicks() -> None:
    """With the next one it gives up the one that it has not used for longest."""
    register = Register()
    nicks = [f"ann-{letter}" for letter in "abcdefgh"]
    assert NICKS_PER_IDENTITY_MAX == len(nicks)
    for index, nick in enumerate(nicks):
        register.claim(nick, ANN, index)
    register.touch("ann-a", ANN, USE_STEP_MS)
    register.claim("ann-z", ANN, USE_STEP_MS)
    assert ("ann-c", "ann-d", "ann-e", "ann-f", "ann-g", "ann-h", "ann-a", "ann-z") == (
        register.nicks_of(ANN)
    )
    assert register.claim("ann-b", BOB, USE_STEP_MS)


def test_a_full_register_gives_up_no_nick() -> None:
    """However long unused: keys cost nothing. Who comes owns none until one expires."""
    register = Register(
        NickRecord(f"user-{index}-", number(index), index) for index in range(NICKS_MAX)
    )
    assert NICKS_MAX == len(register)
    register.take_changes()
    late_ms = int((NICK_DAYS - 1) * DAY_MS)
    for identity in (ANN, BOB):  # Nor does it protect them: who was first is not known later.
        assert not register.claim("ann", identity, late_ms)
    register.hold("ann", ANN, late_ms)
    assert register.owner_of("ann") is None
    assert [] == register.take_changes()
    assert register.claim("user-5-", number(5), USE_STEP_MS + 5)  # Who has one uses it still.
    register.expire(int(NICK_DAYS * DAY_MS) + 1)
    assert register.claim("ann", ANN, late_ms)
    assert NICKS_MAX == len(register)
    assert register.owner_of("user-0-") is None
    assert number(1) == register.owner_of("user-1-")


def tried(count: int) -> list[NickRecord]:
    """Return names that somebody came by once, and said nothing, oldest first."""
    return [NickRecord(f"tried-{index}-", number(index), -index - 1) for index in range(count)]


def test_names_that_were_only_tried_give_way_in_a_full_register() -> None:
    """The oldest first; not one that somebody goes by, has spoken under, or came back by."""
    register = Register(tried(NICKS_MAX))
    register.is_here = lambda nick: nick == "tried-1-"
    register.spoke("tried-0-", number(0))
    register.spoke("tried-3-", ANN)  # Not hers.
    register.claim("tried-2-", number(2), USE_STEP_MS + 3)
    assert [
        NickChange("tried-0-", number(0), 1),
        NickChange("tried-2-", number(2), USE_STEP_MS + 3),
    ] == register.take_changes()
    assert register.claim("ann", ANN, 77)
    changes = [NickChange("ann", ANN, -77), NickChange("tried-3-", b"", 0)]
    assert changes == register.take_promised(), "both at once"
    assert Code.NICK_TAKEN == refusal(register, "ann", BOB).code
    assert NICKS_MAX == len(register)
    assert 77 == max(each.used_ms for each in register.records() if each.identity == ANN)
    register.spoke("Ann", ANN)
    assert [NickChange("ann", ANN, 77)] == register.take_changes()


def test_so_many_names_are_looked_at_for_one_that_gives_way() -> None:
    """And the next time others."""
    register = Register(tried(NICKS_MAX))
    looked: list[str] = []

    def is_here(nick: str) -> bool:
        looked.append(nick)
        return True

    register.is_here = is_here
    for count in (1, 2):
        assert not register.claim("ann", ANN, 0)
        assert [f"tried-{index}-" for index in range(count * LOOKS_FOR_ROOM)] == looked


def test_a_name_stays_tried_in_another_spelling_and_over_a_restart() -> None:
    """Until it is used an hour later, as by who stays so long."""
    register = Register()
    register.claim("ann", ANN, 5)
    register.claim("Ann", ANN, 6)
    (gone, change) = register.take_changes()
    assert (NickChange("ann", b"", 0), NickChange("Ann", ANN, -6)) == (gone, change)
    register = Register([NickRecord(*change)])
    register.hold("ann", ANN, USE_STEP_MS)
    assert [] == register.take_changes()
    register.hold("ann", ANN, USE_STEP_MS + 6)
    register.claim("ANN", ANN, USE_STEP_MS + 7)
    assert NickChange("ANN", ANN, USE_STEP_MS + 7) == register.take_changes()[-1]


def test_more_records_than_there_may_be_are_not_loaded() -> None:
    """The longest unused are given up, in all and of each identity, and the store is told."""
    records = [NickRecord(f"user-{index}-", number(index), index) for index in range(NICKS_MAX + 2)]
    register = Register(records)
    assert NICKS_MAX == len(register)
    assert [NickChange(f"user-{index}-", b"", 0) for index in (0, 1)] == register.take_changes()
    own = [NickRecord(f"ann-{letter}", ANN, 200 - ord(letter)) for letter in "abcdefghi"]
    register = Register(own)
    assert [NickChange("ann-i", b"", 0)] == register.take_changes()


def test_what_became_alike_in_the_store_goes_to_the_older_record() -> None:
    """In whatever order the store gives them; what RFC 8266 does not allow any more goes, too."""
    records = [
        NickRecord("lan", BOB, 7),
        NickRecord("Ian", ANN, 5),
        NickRecord("1an", CID, 9),
        NickRecord("a\u0640b", CID, 1),
    ]
    for each in (records, records[::-1]):
        register = Register(each)
        assert ANN == register.owner_of("ian")
        assert 1 == len(register)
        changes = register.take_changes()
        assert {"lan", "1an", "a\u0640b"} == {change.nick for change in changes}
        assert {b""} == {change.identity for change in changes}


def test_who_came_to_own_a_nick_is_promised_and_a_use_is_not() -> None:
    """As is what an operator frees; each change is told once."""
    register = Register([NickRecord("bob", BOB, 0), NickRecord("bobby", BOB, 0)])
    assert [] == register.take_promised()
    register.claim("ann", ANN, 0)
    register.touch("bob", BOB, USE_STEP_MS)
    register.free("bobby")
    assert [NickChange("ann", ANN, 0), NickChange("bobby", b"", 0)] == register.take_promised()
    assert [] == register.take_promised()
    assert [NickChange("bob", BOB, USE_STEP_MS)] == register.take_changes()
    register.expire(int(NICK_DAYS * DAY_MS) + 1)
    assert ([], [NickChange("ann", b"", 0)]) == (register.take_promised(), register.take_changes())


nicks = st.sampled_from(["ann", "Ann", "Ian", "lan", "\u039dick", "nick", "vick", "bob", "B0B"])
steps = st.lists(
    st.tuples(
        st.sampled_from(["claim", "claim", "free", "touch", "write", "promise", "restart"]),
        nicks,
        st.sampled_from([ANN, BOB, PLAIN]),
        st.integers(0, 40),
    ),
    max_size=30,
)


@given(steps)
def test_the_store_and_a_restart_agree_with_the_register(
    steps: list[tuple[str, str, bytes, int]],
) -> None:
    """Whatever happens: one owner for all that is alike, and the rows say the same."""
    store, register, now_ms = Store(), Register(), 0
    for step, nick, identity, days in steps:
        now_ms += days * DAY_MS
        register.expire(now_ms)
        if step == "claim":
            other = BOB if identity == ANN else ANN
            is_taken = identity != PLAIN and any(
                {*looks(nick)} & {*looks(each)} for each in register.nicks_of(other)
            )
            if is_taken:
                assert Code.NICK_TAKEN == refusal(register, nick, identity, now_ms).code
                continue
            assert register.claim(nick, identity, now_ms) == (identity != PLAIN)
            assert identity == PLAIN or nick in register.nicks_of(identity)
        elif step == "free":
            register.free(nick)
            assert register.owner_of(nick) is None
        elif step == "touch":
            register.touch(nick, identity, now_ms)
        elif step == "write":
            store.write(register)
        elif step == "promise":
            store.write(register, is_promised=True)
        else:
            store.write(register)
            again = Register(store.rows.values())
            assert [] == again.take_changes()
            for each in (ANN, BOB):
                assert register.nicks_of(each) == again.nicks_of(each)
            register = again
        owned = {each: who for who in (ANN, BOB) for each in register.nicks_of(who)}
        assert len(register) == len(owned)
        for mine, owner in owned.items():
            other = BOB if owner == ANN else ANN
            assert Code.NICK_TAKEN == refusal(register, mine, other, -DAY_MS).code
    store.write(register)
    assert {*store.rows} == {each for who in (ANN, BOB) for each in register.nicks_of(who)}
