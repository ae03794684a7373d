"""Order in a room: who may do what to whom, what it does, how long, and what is written down."""

from __future__ import annotations

from itertools import pairwise

import pytest

from broker.chat.orders import SLOW_S_MAX
from broker.chat.rights import BAN, SANCTIONS_PER_ROOM_MAX
from broker.chat.sanctions import SANCTION_S_MAX
from broker.log.retention_clock import DOUBT_S
from broker.log.rights_records import Put, Sanction
from common import order, wire
from common.limits import NICK_CHARS_MAX, REASON_CHARS_MAX
from common.order import ORDER_KIND, Action, Admin, Role
from common.wire import Batch, Kind
from tests.unit.bench import RULES, Bench, Peer
from tests.unit.operator_orders import table

AGAINST = (Action.KICK, Action.BAN, Action.MUTE)


def three() -> tuple[Bench, Peer, Peer, Peer]:
    """Return a room "r": ann owns it, bob is a moderator, eve nobody in particular."""
    bench = Bench()
    ann, bob, eve = (bench.peer(nick, "r") for nick in ("ann", "bob", "eve"))
    ann.send("r", "hello")
    ann.order("r", Action.OP, "bob")
    return bench, ann, bob, eve


def lines(bench: Bench) -> list[tuple[str, str]]:
    """Return who did what, as the room was told; and forget it."""
    batches = [each for each in bench.take(Batch) if isinstance(each, Batch)]
    return [
        (post.nick, text)
        for batch in batches
        for post in batch.posts
        if post.kind == ORDER_KIND
        for text in post.texts
    ]


def last_audit(bench: Bench) -> tuple[str, str, str, str, str]:
    entry = bench.audits[-1]
    return entry.actor_nick, entry.action, entry.target, entry.room, entry.detail


# --- roles ------------------------------------------------------------------
def test_who_makes_a_room_owns_it() -> None:
    """And nobody who comes later does, nor in rooms that are everybody's."""
    bench = Bench(rules=RULES._replace(commons=frozenset({"lobby"})))
    ann, bob = bench.peer("ann"), bench.peer("bob")
    assert (Role.OWNER, Role.GUEST) == (ann.role("r"), bob.role("r"))
    assert (Role.GUEST, Role.GUEST) == (ann.role("lobby"), bob.role("lobby"))


def test_an_owner_is_written_down_with_the_first_text() -> None:
    """A room in which nothing was said is forgotten with its founder, and founded anew."""
    bench = Bench()
    ann, bob = bench.peer("ann", "r", "s"), bench.peer("bob")
    ann.send("r", "mine")
    for room in ("r", "s"):
        ann.ask(wire.Part(1, room), wire.Parted)
    bench.drain(1)
    assert (Role.GUEST, Role.OWNER) == (bob.role("r"), bob.role("s"))
    bench.start()
    assert Role.OWNER == bench.peer("ann").role("r")


def test_who_comes_while_the_first_text_is_on_its_way_owns_nothing() -> None:
    """Its founder said it and left, all in one drain."""
    bench = Bench()
    ann, eve = bench.peer("ann", "r"), bench.peer("eve")
    ann.say(ann.next_send("r", "mine"))
    ann.say(wire.Part(1, "r"))
    assert Role.GUEST == eve.role("r")


def test_orders_given_in_an_unused_room_go_with_it() -> None:
    """What a founder set, when even the word of it was lost, is not the next one's."""
    bench = Bench()
    ann = bench.peer("ann", "r")
    bench.failing |= {"append"}
    ann.order("r", Action.TOPIC_BY, value=Role.OWNER)
    bench.failing.clear()
    ann.ask(wire.Part(1, "r"), wire.Parted)
    bench.drain(1)
    bench.start()
    assert [] == bench.log.load_rights().rooms
    joined = bench.peer("bob").join("r")
    assert (Role.OWNER, 0) == (joined.role, joined.topic_by)


@pytest.mark.parametrize("action", list(Action))
def test_each_order_needs_its_role(action: Action) -> None:
    """A guest may report, and nothing else; a moderator may not what the owner may."""
    _, _, bob, eve = three()
    if action is Action.REPORT:
        eve.order("r", action, "bob")
        return
    assert "forbidden" == eve.forbidden("r", action, "bob")
    owners = {Action.PRIVATE, Action.PUBLIC, Action.OP, Action.DEOP, Action.TOPIC_BY}
    if action in owners:
        assert "forbidden" == bob.forbidden("r", action, "eve")


@pytest.mark.parametrize("action", AGAINST)
def test_nobody_is_ordered_about_by_an_equal(action: Action) -> None:
    """A moderator cannot touch another one, the owner, an operator, or themselves."""
    bench, ann, bob, eve = three()
    carl = bench.peer("carl", "r")
    ann.order("r", Action.OP, "carl")
    for nick in ("ann", "bob", "carl"):
        assert "forbidden" == bob.forbidden("r", action, nick)
    bench.core._floor.rights.operators = frozenset({bench.core.sessions.user("eve").owner})  # type: ignore[union-attr]
    assert "forbidden" == ann.forbidden("r", action, "eve")
    eve.order("r", action, "ann")  # An operator stands above an owner.
    assert carl.role("r") == Role.MODERATOR


def test_a_moderator_is_made_and_unmade() -> None:
    """They are told, so is the room, and it outlives a restart."""
    bench, ann, bob, eve = three()
    assert [("ann", "made bob a moderator")] == lines(bench)
    bench.start()
    ann, bob = bench.peer("ann", "r"), bench.peer("bob", "r")
    bob.order("r", Action.SLOW, value=5)
    ann.order("r", Action.DEOP, "bob")
    assert [("role", 0)] == [(each.code, each.value) for each in bob.notices()]
    assert "forbidden" == bob.forbidden("r", Action.SLOW)
    assert "forbidden" == ann.forbidden("r", Action.DEOP, "ann")
    del eve


# --- against somebody -------------------------------------------------------
def test_who_is_kicked_is_out_with_every_session_and_may_return() -> None:
    """The reason is told to them and to the room."""
    bench, _, bob, eve = three()
    other = bench.peer("evelyn", "r", owner="eve")
    bench.take(Batch)
    bob.order("r", Action.KICK, "EVE", 7, "enough")
    for session in (eve, other):
        told = [each for each in session.notices() if each.code == "kicked"]
        assert [("r", "bob", "enough", 0)] == [(n.room, n.nick, n.text, n.value) for n in told]
        assert "not_member" == session.refused(session.next_send("r", "a")).code
    assert ("bob", "kick", "eve", "r", "enough") == last_audit(bench)
    bench.drain(1)
    assert 2 == bob.ask(wire.Who(1, "r"), wire.Members).users
    eve.join("r")
    eve.send("r", "back")


def test_who_is_banned_stays_out_by_every_name() -> None:
    """Also with other sessions and nicks, until it is lifted; and over a restart."""
    bench, _, bob, eve = three()
    bench.take(Batch)
    bob.order("r", Action.BAN, "eve", reason="spam")
    assert ["banned"] == [each.code for each in eve.notices()]
    assert [("bob", "banned eve (spam)")] == lines(bench)
    bench.start()
    other = bench.peer("evelyn", owner="eve")
    for peer in (bench.peer("eve"), other):
        refused = peer.shut_out("R")
        assert ("banned", True, 0) == (refused.code, "spam" in refused.detail, refused.value)
    bob = bench.peer("bob", "r")
    bob.order("r", Action.UNBAN, "evelyn")
    other.join("r")


def test_a_ban_of_a_name_is_lifted_though_another_has_the_name_now() -> None:
    """It keeps out who goes by the name; so lifting it by the name ends it."""
    bench, ann, _, eve = three()
    ann.order("r", Action.BAN, "eve")
    eve.ask(wire.Bye(1), wire.Goodbye)
    namesake = bench.peer("eve", owner="another")
    assert "banned" == namesake.shut_out("r").code
    ann.order("r", Action.UNBAN, "eve")
    namesake.join("r")


def test_who_is_banned_is_not_invited() -> None:
    """They could not follow; whoever invites them learns why, and nobody is told."""
    bench, ann, _, eve = three()
    room = ann.order("r", Action.PRIVATE).room
    ann.order(room, Action.BAN, "eve")
    eve.notices()
    (error,) = [ann.ask(order.Order(5, room, Action.INVITE, "eve"), wire.Error)]
    assert ("forbidden", "eve is banned from this room: unban them first") == (
        error.code,
        error.detail,
    )
    assert [] == eve.notices("invited")
    ann.order(room, Action.UNBAN, "eve")
    assert ann.order(room, Action.INVITE, "eve").changed
    eve.join(room)
    del bench


@pytest.mark.parametrize("is_restarted", [False, True])
def test_a_timed_ban_ends_by_itself(is_restarted: bool) -> None:  # noqa: FBT001 - a parameter
    """The time that is left is told, in milliseconds."""
    bench, ann, _, eve = three()
    ann.order("r", Action.BAN, "eve", 60)
    bench.drain(59.5)
    if is_restarted:
        bench.start()
        eve = bench.peer("eve")
        bench.now_s -= 0.2
    assert 500 == eve.shut_out("r").value
    bench.drain(0.5)
    eve.join("r")


def test_a_banned_moderator_is_none_any_more() -> None:
    bench, ann, bob, _ = three()
    ann.order("r", Action.BAN, "bob")
    ann.order("r", Action.UNBAN, "bob")
    assert Role.GUEST == bob.role("r")
    assert Role.OPERATOR != bench.core._floor.rights.role("r", b"")


def test_a_ban_changes_the_rooms_keys_and_everybody_is_asked_back() -> None:
    """What the banned one holds is worth nothing; the others hear all, as soon as they ask."""
    bench, ann, bob, eve = three()
    before = ann.join("r")
    ann.order("r", Action.BAN, "eve")
    assert bench.core.subscribed(before.subscription) is None
    for peer in (ann, bob):
        (notice,) = peer.notices("rejoin")
        assert ("r", "r") == (notice.room, notice.text)
    assert [] == eve.notices("rejoin")
    after = ann.join("r")
    assert bench.core.subscribed(after.subscription) is not None
    assert (after.ticket, after.subscription) != (before.ticket, before.subscription)
    ann.send("r", "among us")
    assert "among us" in bench.said(after.subscription)
    assert "among us" not in bench.said(before.subscription)


def test_who_does_not_come_back_is_asked_again_ever_more_rarely() -> None:
    """The first word may have been lost; who came, or left, hears no more of it."""
    bench, ann, bob, _ = three()
    ann.order("r", Action.BAN, "eve")
    ann.join("r")
    bench.drain()
    for peer in (ann, bob):
        peer.notices()
    asked_at_s = []
    for second in range(200):
        bench.drain(1)
        asked_at_s += [second for _ in bob.notices("rejoin")]
    assert [] == ann.notices("rejoin")
    pauses_s = [b - a for a, b in pairwise(asked_at_s)]
    assert [4, 8, 16, 32, 60, 60] == pauses_s
    bob.join("r")
    bench.drain(100)
    assert [] == bob.notices("rejoin")
    assert bench.core.next_deadline_s() < 1_000
    assert {} == bench.core._floor._late


# --- given again ------------------------------------------------------------
def test_an_order_whose_answer_was_lost_is_done_again_without_a_word() -> None:
    """The first one did it: the second is done, too, and neither the room nor the audit tells."""
    bench, ann, _, _ = three()
    bench.peer("carl", "r")
    name = "r"
    for action, nick in (
        (Action.OP, "carl"),
        (Action.DEOP, "carl"),
        (Action.MUTE, "carl"),
        (Action.UNMUTE, "carl"),
        (Action.BAN, "carl"),
        (Action.UNBAN, "carl"),
        (Action.PRIVATE, ""),
        (Action.INVITE, "carl"),
        (Action.UNINVITE, "carl"),
        (Action.PUBLIC, ""),
    ):
        first = ann.order(name, action, nick)
        if action in {Action.MUTE, Action.BAN}:
            name = first.room
            continue  # These begin to count anew.
        bench.published.clear()
        audits_count = len(bench.audits)
        again = ann.order(name, action, nick)
        assert (first.room, first.title) == (again.room, again.title), action
        assert (first.changed, again.changed) == (True, False), action
        assert [] == lines(bench)
        assert audits_count == len(bench.audits), action
        name = first.room
    assert "r" == name


# --- what is refused --------------------------------------------------------
def test_nobody_unknown_is_ordered_about() -> None:
    """Who was never here, an empty name, and what cannot be a name."""
    _, ann, _, _ = three()
    for action in (*AGAINST, Action.OP, Action.DEOP, Action.UNBAN, Action.REPORT):
        assert "no_such_nick" == ann.forbidden("r", action, "stranger")
        for nick in ("", "\0", "a b", "x" * 4 * NICK_CHARS_MAX):
            assert "nick_invalid" == ann.forbidden("r", action, nick)


def test_who_is_away_can_be_banned_where_they_are_known() -> None:
    """A moderator who left is found by their last nick, also a changed one."""
    bench, ann, bob, _ = three()
    bob.ask(wire.SetNick(1, "Rob"), wire.Renamed)
    bob.ask(wire.Bye(1), wire.Goodbye)
    ann.order("r", Action.BAN, "rob")
    assert "banned" == bench.peer("bob").shut_out("r").code


def test_orders_that_there_are_not_are_refused() -> None:
    """Unknown ones, in a room that one is not in, or with numbers beyond their bounds."""
    bench, ann, _, _ = three()
    for action in ("fly", "", "x" * 32):
        assert "bad_payload" == ann.forbidden("r", action, "eve")
    assert "bad_payload" == ann.forbidden("r", "x" * 33, "eve")
    assert "not_member" == ann.forbidden("elsewhere", Action.KICK, "eve")
    assert "not_member" == ann.forbidden("+" + "0" * 24, Action.KICK, "eve")
    assert "bad_payload" == ann.forbidden("r", Action.TOPIC_BY, value=Role.OPERATOR)
    assert "text_invalid" == ann.forbidden("r", Action.KICK, "eve", reason="\0")
    assert [] == [each for each in bench.audits if each.action != "op"]


def test_a_reason_is_a_line() -> None:
    _, ann, _, _ = three()
    ann.order("r", Action.KICK, "eve", reason="x" * REASON_CHARS_MAX)
    assert "bad_payload" == ann.forbidden("r", Action.KICK, "bob", reason="x" * 301)


def test_a_sanction_lasts_so_long() -> None:
    bench, ann, _, _ = three()
    for action in (Action.BAN, Action.MUTE):
        assert "bad_payload" == ann.forbidden("r", action, "eve", SANCTION_S_MAX + 1)
    ann.order("r", Action.MUTE, "eve", SANCTION_S_MAX)
    assert 1 == len(bench.log.load_rights().sanctions)


def test_a_room_is_so_slow() -> None:
    _, ann, _, _ = three()
    assert "bad_payload" == ann.forbidden("r", Action.SLOW, value=SLOW_S_MAX + 1)
    ann.order("r", Action.SLOW, value=SLOW_S_MAX)
    assert SLOW_S_MAX == ann.join("r").slow_s


def test_a_room_has_so_many_sanctions() -> None:
    """Those whose time is up make room, and the same person's takes the place of theirs."""
    bench, ann, _, _ = three()
    bench.drain(DOUBT_S)  # From then on the clock is trusted.
    until_ms = bench.now_ms + 10_000
    bench.core._floor.keep(
        [
            Put(Sanction("r", BAN, b"%016d" % index, f"x{index}", until_ms, "", "", b"", 0))
            for index in range(SANCTIONS_PER_ROOM_MAX - 1)
        ]
    )
    ann.order("r", Action.MUTE, "eve")
    assert "too_many" == ann.forbidden("r", Action.MUTE, "bob")
    ann.order("r", Action.MUTE, "eve", 5)
    bench.drain(10)
    ann.order("r", Action.MUTE, "bob")
    assert 1 == len(bench.log.load_rights().sanctions)


# --- a log that fails -------------------------------------------------------
@pytest.mark.parametrize("failing", ["found_room", "raise_generation", "keep"])
def test_a_ban_that_cannot_be_written_down_does_not_hold(failing: str) -> None:
    """The person is still in, hears everything, and is banned by the next try."""
    bench, ann, _, eve = three()
    bench.failing |= {failing}
    assert "log_failed" == ann.forbidden("r", Action.BAN, "eve")
    assert [] == eve.notices("banned")
    joined = eve.join("r")
    assert bench.core.subscribed(joined.subscription) is not None
    eve.send("r", "still here")
    assert "still here" in bench.said(joined.subscription)
    bench.failing.clear()
    ann.order("r", Action.BAN, "eve")
    assert "banned" == eve.shut_out("r").code
    assert bench.core.subscribed(joined.subscription) is None


@pytest.mark.parametrize(
    "action", [Action.KICK, Action.MUTE, Action.OP, Action.SLOW, Action.REPORT]
)
def test_what_cannot_be_written_down_is_not_done(action: Action) -> None:
    bench, ann, _, eve = three()
    bench.failing |= {"keep"}
    value = 0 if action is Action.OP else 5  # Of OP it is a role, of others a time.
    assert "log_failed" == ann.forbidden("r", action, "eve", value)
    assert [] == eve.notices()
    eve.send("r", "as before", "in all")
    assert Role.GUEST == eve.role("r")


def test_what_waits_to_be_written_down_does_not_undo_what_came_after() -> None:
    """A place that was touched, then taken away: not even later does it come back."""
    bench, ann, bob, _ = three()
    bob.ask(wire.SetNick(1, "Rob"), wire.Renamed)  # Touches the place: that is written down soon.
    ann.order("r", Action.DEOP, "Rob")
    bench.start()
    assert Role.GUEST == bench.peer("bob").role("r")


# --- the audit ----------------------------------------------------------------
def test_an_order_that_changes_nothing_is_not_audited() -> None:
    """Nor told to the room, nor is the kick of somebody who is not there."""
    bench, ann, _, eve = three()
    for action, value in ((Action.SLOW, 5), (Action.TOPIC_BY, 2)):
        ann.order("r", action, value=value)
        before, head = bench.audits, ann.join("r").head
        ann.order("r", action, value=value)
        assert (before, head) == (bench.audits, ann.join("r").head)
        ann.order("r", action, value=0)
        assert len(before) + 1 == len(bench.audits)
    ann.order("r", Action.KICK, "eve")
    before = bench.audits
    ann.order("r", Action.KICK, "eve")
    assert before == bench.audits
    assert not any(each.is_operator for each in before)
    bench.core._floor.rights.operators = frozenset({eve.bench.core.sessions.user("eve").owner})  # type: ignore[union-attr]
    eve.join("r")
    eve.order("r", Action.SLOW, value=9)
    assert bench.audits[-1].is_operator


@pytest.mark.parametrize(
    "action", [Action.KICK, Action.UNBAN, Action.UNMUTE, Action.DEOP, Action.SLOW, Action.OP]
)
def test_whether_an_order_changed_anything_is_told(action: Action) -> None:
    """To who gave it, also by ADMIN: whoever kicks somebody twice learns that they were not in."""
    bench, ann, _, eve = three()
    first = {Action.UNBAN: Action.BAN, Action.UNMUTE: Action.MUTE, Action.DEOP: Action.OP}
    if action in first:
        ann.order("r", first[action], "eve")
    value = 5 if action is Action.SLOW else 0
    assert ann.order("r", action, "eve", value).changed
    assert not ann.order("r", action, "eve", value).changed
    told = table(bench, Admin(1, action, "r", "eve", value))
    assert [{"done": "nothing: it was so already"}] == told
    del eve


# --- reports ----------------------------------------------------------------
def test_a_report_reaches_who_can_do_something() -> None:
    """The room's moderators and owner, operators anywhere; and the audit."""
    bench, ann, bob, eve = three()
    olga = bench.peer("olga")
    owner = bench.core.sessions.user("olga").owner  # type: ignore[union-attr]
    bench.core._floor.rights.operators = frozenset({owner})
    for peer in (ann, bob, eve):
        peer.notices()
    eve.order("r", Action.REPORT, "ann", reason="rude")
    for peer in (ann, bob, olga):
        (told,) = peer.notices("report")
        assert ("r", "eve", "ann: rude") == (told.room, told.nick, told.text)
    assert [] == eve.notices()
    assert ("eve", "report", "ann", "r", "rude") == last_audit(bench)


def test_topics_are_set_by_whom_the_owner_says() -> None:
    """Others hear so in their ACK; and JOINED tells it."""
    _, ann, bob, eve = three()
    eve.send("r", "free for all", kind=Kind.TOPIC)
    ann.order("r", Action.TOPIC_BY, value=Role.MODERATOR)
    assert Role.MODERATOR == eve.join("r").topic_by
    assert "topic_closed" == eve.refused(eve.next_send("r", "mine", kind=Kind.TOPIC)).code
    bob.send("r", "ours", kind=Kind.TOPIC)
    assert "ours" == eve.join("r").topic


def test_an_order_costs_more_than_a_text() -> None:
    """Each waits for the disk: who has no allowance left is told how long to wait."""
    rate = RULES.rate._replace(per_s=1.0, burst=30.0)
    bench = Bench(rules=RULES._replace(rate=rate))
    ann = bench.peer("ann", "r")
    ann.order("r", Action.SLOW, value=1)
    refused = ann.refused(order.Order(1, "r", Action.SLOW))
    assert ("slow_down", True) == (refused.code, refused.value > 10_000)
