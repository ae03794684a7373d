"""What is typed about doors, talks and order, and what becomes of it on the screen."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest

from client import limits, orders, tidings
from client.board import Board, Line, Sort
from client.commands import Meaning, Wrong, parse
from client.errands import READ_EVERY_S, Errands
from client.events import Entry, Joined, Left, Moved, Presence, Removed, Told
from client.ignored import Ignored
from client.orders import GiveOrder, Ignore, OpenTalk, ShowRoom, TellNick, Unignore
from client.page import PROMPT_ROWS, Page, height
from client.render import Look
from client.shown import Shown
from client.times import seconds_of, span_text
from common.errors import Closed, Refused
from common.names import check_address, is_wire_name
from common.order import Action, Role
from tests.waiting import eventually

NOON = 12 * 3_600_000
PLANS = "+" + "1" * 24
TALK = "@" + "2" * 24


def entry(room: str, seq: int, nick: str = "bob", text: str = "hi", kind: str = "text") -> Entry:
    return Entry(room, seq, NOON, kind, nick, text)


def board(*, is_json: bool = False) -> Board:
    made = Board("me", Look(is_json=is_json))
    made.add("lobby")
    made.take(Joined("lobby", "", 1, ["me"]), NOON)
    return made


def texts(lines: list[Line]) -> list[str]:
    return [line.text for line in lines]


# --- what is typed ----------------------------------------------------------
@pytest.mark.parametrize(
    ("line", "meaning"),
    [
        ("/room", ShowRoom()),
        ("/room private", GiveOrder(Action.PRIVATE)),
        ("/room public", GiveOrder(Action.PUBLIC)),
        ("/room public #Other", GiveOrder(Action.PUBLIC, reason="other")),
        ("/room owner bob", GiveOrder(Action.OP, "bob", Role.OWNER)),
        ("/room slow 30", GiveOrder(Action.SLOW, value=30)),
        ("/slow 2m", GiveOrder(Action.SLOW, value=120)),
        ("/room topic moderators", GiveOrder(Action.TOPIC_BY, value=Role.MODERATOR)),
        ("/room topic all", GiveOrder(Action.TOPIC_BY, value=Role.GUEST)),
        ("/invite bob", GiveOrder(Action.INVITE, "bob")),
        ("/kick @bob", GiveOrder(Action.KICK, "bob")),
        ("/kick bob  spam and ham", GiveOrder(Action.KICK, "bob", reason="spam and ham")),
        ("/ban bob", GiveOrder(Action.BAN, "bob")),
        ("/ban bob 2h", GiveOrder(Action.BAN, "bob", 7_200)),
        ("/ban bob 1d spam", GiveOrder(Action.BAN, "bob", 86_400, "spam")),
        ("/mute bob too much", GiveOrder(Action.MUTE, "bob", 0, "too much")),
        ("/report bob is loud", GiveOrder(Action.REPORT, "bob", reason="is loud")),
        ("/msg bob hi there", TellNick("bob", "hi there")),
        ("/query bob", OpenTalk("bob")),
        ("/ignore", Ignore(None)),
        ("/ignore bob", Ignore("bob")),
        ("/unignore bob", Unignore("bob")),
    ],
)
def test_a_line_means(line: str, meaning: Meaning) -> None:
    assert parse(line) == meaning


@pytest.mark.parametrize(
    "line",
    [
        *(
            "/room secret",
            "/room slow",
            "/room topic nobody",
            "/slow fast",
            "/slow 99999999999999999",
        ),
        *("/invite", "/invite bob now", "/msg bob", "/report bob", "/kick", "/query a b", "/op +"),
    ],
)
def test_a_line_means_nothing(line: str) -> None:
    assert isinstance(parse(line), Wrong)


def test_times_as_people_write_them() -> None:
    written = ("30s", "10m", "2h", "1d", "1w", "5", "m", "1y", "-1s", "9999999999s")
    spans = [30, 600, 7_200, 86_400, 604_800, None, None, None, None, None]
    assert [seconds_of(text) for text in written] == spans
    assert [span_text(s) for s in (59, 60, 61, 7_200, 90_000)] == [
        *("59 s", "1 min", "2 min", "2 h", "2 d"),
    ]


@pytest.mark.parametrize(
    ("address", "name"),
    [("Dev", "dev"), ("+Plans", "+plans"), ("@Bob", "@Bob"), (PLANS, PLANS), (TALK, TALK)],
)
def test_rooms_as_people_call_them(address: str, name: str) -> None:
    assert check_address(address) == name


@pytest.mark.parametrize("address", ["", "+", "@", "++a", "+a b", "@a b", "a+b", "@\u202ebob"])
def test_what_is_no_room(address: str) -> None:
    with pytest.raises(Refused):
        check_address(address)


def test_a_name_on_the_wire_has_so_many_letters() -> None:
    assert is_wire_name(PLANS)
    assert not is_wire_name(PLANS[:-1])
    assert not is_wire_name(PLANS[:-1] + "g")
    assert not is_wire_name("1" * 25)


# --- what the board shows ---------------------------------------------------
def test_a_room_that_moves_keeps_its_place() -> None:
    made = board()
    made.add("dev")
    made.switch("lobby")
    lines = made.take(Moved("lobby", PLANS, "+lobby"), NOON)
    assert texts(lines) == ["--- #lobby is private now, and called +lobby"]
    assert list(made.rooms) == [PLANS, "dev"]
    assert made.current == PLANS
    assert "".join(text for _, text in made.toolbar()).startswith(" +lobby  private  ")
    assert texts(made.take(Moved(PLANS, "lobby", ""), NOON)) == [
        "--- +lobby is open to all now, and called #lobby"
    ]
    assert made.current == "lobby"


def test_a_silent_talk_waits_until_it_is_looked_at() -> None:
    made = board()
    made.add(TALK, "@bob", is_silent=True)
    assert made.current == "lobby"
    first = made.take(entry(TALK, 4, text="psst"), NOON)
    assert texts(first) == ["--- bob says something to you: /switch @bob"]
    assert made.take(entry(TALK, 5, "me", "what?"), NOON) == []
    assert made.take(Joined(TALK, "", 2, ["me", "bob"], "@bob"), NOON) == []
    assert made.take(entry(TALK, 6, text="this"), NOON) == []
    assert ("class:unread", "  @bob 2") in made.toolbar()
    view = made.find("@Bob")
    assert view is not None
    assert texts(made.enter(view.name)) == [
        "--- now in @bob, 2 users now: bob, me",
        *("12:00 bob: psst", "12:00 me: what?", "12:00 bob: this"),
    ]
    assert texts(made.take(entry(TALK, 7), NOON)) == ["12:00 bob: hi"]


def test_programs_see_a_talk_at_once() -> None:
    made = board(is_json=True)
    made.add(TALK, "@bob", is_silent=True)
    (line,) = made.take(entry(TALK, 4), NOON)
    assert line.sort is Sort.ENTRY


def test_of_a_silent_talk_the_newest_lines_are_held() -> None:
    made = board()
    made.add(TALK, "@bob", is_silent=True)
    for seq in range(1, limits.HELD_LINES_MAX + 3):
        made.take(entry(TALK, seq, text=str(seq)), NOON)
    lines = made.release(made.rooms[TALK])
    assert len(lines) == limits.HELD_LINES_MAX
    assert lines[0].text.endswith(": 3")
    assert made.rooms[TALK].unread_count == limits.HELD_LINES_MAX + 2


def test_a_talk_that_is_being_opened_misses_nothing() -> None:
    """Its name comes with the answer; what it brings may come before."""
    made = board()
    assert made.take(entry(TALK, 1), NOON) == []
    assert TALK not in made.rooms
    made.talks_expected = 1
    assert made.take(entry(TALK, 2, text="early"), NOON) == []
    assert texts(made.release(made.rooms[TALK])) == ["12:00 bob: early"]


def test_a_talk_is_called_by_the_other_ones_name_of_now() -> None:
    made = board()
    made.add(TALK, "@bob")
    made.take(Presence(TALK, 2, [], [], [("bob", "robert")]), NOON)
    assert made.rooms[TALK].label == "@robert"


def test_leaving_is_told_once() -> None:
    made = board()
    made.add("dev")
    made.switch("dev")
    told = Told("kicked", "dev", "", "anna", "spam")
    assert texts(made.take(told, NOON)) == ["--- anna kicked you from #dev (spam)"]
    assert texts(made.take(Left("dev", "kicked", "spam"), NOON)) == ["--- in no room: /switch ROOM"]
    made.switch("lobby")
    assert texts(made.take(Left("lobby", "banned", "you are banned"), NOON)) == [
        "you are not in #lobby any more: you are banned",
        "--- in no room: /join ROOM",
    ]


def test_ignored_are_neither_read_nor_invite() -> None:
    made = board()
    ignored = Ignored()
    ignored.add("BOB")
    made.ignored = ignored
    assert made.take(entry("lobby", 1), NOON) == []
    assert made.rooms["lobby"].seq_max == 1
    assert made.take(Told("invited", PLANS, "+plans", "bob"), NOON) == []
    assert texts(made.take(Told("kicked", "lobby", "", "bob"), NOON)) == [
        "--- bob kicked you from #lobby"
    ]
    assert texts(made.take(entry("lobby", 2, "anna"), NOON)) == ["12:00 anna: hi"]


def test_a_talk_that_ends_is_told_by_why() -> None:
    """Nobody was put out of it."""
    made = board()
    made.add(TALK, "@anna")
    assert made.take(Told("uninvited", TALK, "", "", "begin it anew"), NOON) == []
    assert texts(made.take(Left(TALK, "uninvited", "begin it anew"), NOON)) == [
        "you are not in @anna any more: begin it anew"
    ]


def test_what_is_told_is_safe_and_unknown_codes_are_silent() -> None:
    made = board()
    (line,) = made.take(Told("announcement", text="\x1b[2Jhi\u202e"), NOON)
    assert line.text == "--- the operators say: \\x1b[2Jhi\\u202e"
    assert made.take(Told("from_the_future", "lobby"), NOON) == []
    muted = tidings.told_text(Told("muted", "lobby", "", "anna", "loud", 600))
    assert muted == "anna muted you in #lobby for 10 min (loud): there you can only read"
    assert tidings.told_text(Told("role", PLANS, "+plans", "anna", "", 2)).endswith(
        "a moderator of +plans"
    )


def test_what_a_room_is() -> None:
    public = Joined("dev", "", 1, [], "", Role.OWNER, 30, Role.MODERATOR)
    assert tidings.room_lines(public) == [
        "#dev is open to all; you are its owner",
        "the topic is set by moderators; one text each 30 s",
    ]
    strange = Joined(PLANS, "", 1, [], "+plans", 9, 0, 9)
    assert "of the role 9" in tidings.room_lines(strange)[0]
    assert "operator" in tidings.room_lines(Joined(TALK, "", 1, [], "@bob", 1))[0]


# --- removed texts ----------------------------------------------------------
def test_a_removed_text_is_marked_where_it_stands() -> None:
    made = board()
    made.add("dev")
    (said,) = made.take(entry("dev", 7, text="secret"), NOON)
    (line,) = made.take(Removed("dev", 7), NOON)
    assert line.sort is Sort.REMOVAL
    assert line.place == said.place == ("dev", 7)
    assert line.text == "--- a message of bob at 12:00 in dev was removed"
    assert line.instead == "12:00 #dev bob: (removed by an operator)"
    (unknown,) = made.take(Removed("dev", 8), NOON)
    assert (unknown.text, unknown.instead) == (
        "--- a message of #dev was removed by an operator",
        "",
    )


def test_a_removed_text_that_waits_is_never_shown() -> None:
    made = board()
    made.add(TALK, "@bob", is_silent=True)
    made.take(entry(TALK, 7, text="secret"), NOON)
    made.take(Removed(TALK, 7), NOON)
    assert texts(made.release(made.rooms[TALK])) == ["12:00 bob: (removed by an operator)"]


def test_programs_read_of_a_removal_as_an_object() -> None:
    (line,) = board(is_json=True).take(Removed("lobby", 7), NOON)
    assert line.text == '{"kind": "removed", "room": "lobby", "seq": 7}'


def test_history_shows_what_was_removed() -> None:
    (line,) = board().take(entry("lobby", 7, text="", kind="removed"), NOON)
    assert line.text == "12:00 bob: (removed by an operator)"


def test_so_many_entries_can_be_marked() -> None:
    shown = Shown()
    for seq in range(limits.SHOWN_MAX + 1):
        shown.note(entry("dev", seq), "")
    assert shown.mark(("dev", 0), "#dev", Look()).instead == ""
    assert shown.mark(("dev", 1), "#dev", Look()).instead
    shown.move("dev", PLANS)
    assert shown.mark((PLANS, 1), "+dev", Look()).instead
    page = Page()
    for seq in range(limits.SHOWN_MAX + 1):
        page.add("text", ("dev", seq))
    assert not page.mark(("dev", 0), "removed")
    assert not page.is_stale


def test_a_page_is_drawn_again_as_far_as_it_fits() -> None:
    page = Page()
    for seq in range(1, 10):
        page.add(f"line {seq}", ("dev", seq))
    assert page.mark(("dev", 8), "gone") == ["line 8"]
    assert page.is_stale
    drawn = page.redrawn(PROMPT_ROWS + 3, 80)
    assert not page.is_stale
    assert [part for part in ("line 6", "line 7", "line 8", "gone", "line 9") if part in drawn] == [
        *("line 7", "gone", "line 9"),
    ]
    assert all(f"\x1b[{row};1H\x1b[2K" in drawn for row in range(1, PROMPT_ROWS + 4))
    assert drawn.index("\x1b[1;1H\x1b[2K") < drawn.index("line 7"), "it begins at the top"


def test_rows_of_a_line() -> None:
    measured = [height(text, 10) for text in ("", "a" * 10, "a" * 11, "\x1b[32mab\x1b[0m", "a\nb")]
    assert measured == [1, 1, 2, 1, 2]
    assert height("\u4e2d" * 6, 10) == 2, "wide letters take two columns"


# --- whom one ignores -------------------------------------------------------
def test_the_ignored_are_kept(tmp_path: Path) -> None:
    home = tmp_path / "home"
    ignored = Ignored(home)
    ignored.add("Bob")
    assert "bOB" in Ignored(home)
    assert (home / "ignored").stat().st_mode & 0o077 == 0
    assert ignored.remove("bob")
    assert not ignored.remove("bob")
    assert Ignored(home).nicks == set()
    (home / "ignored").write_bytes(b"\xff\xfe")
    with pytest.raises(ValueError, match="utf-8"):
        Ignored(home)


def test_so_many_can_be_ignored(tmp_path: Path) -> None:
    (tmp_path / "ignored").write_text("".join(f"n{n}\n" for n in range(limits.IGNORED_MAX + 5)))
    ignored = Ignored(tmp_path)
    assert len(ignored.nicks) == limits.IGNORED_MAX
    with pytest.raises(Refused, match="already"):
        ignored.add("one-more")
    ignored.remove("n0")
    ignored.add("one-more")
    assert "one-more" in Ignored(tmp_path)


# --- errands ----------------------------------------------------------------
def test_what_was_read_is_told_at_once_then_seldom_and_at_the_end() -> None:
    told: list[tuple[str, int]] = []
    now_s = 0.0
    errands = Errands(lambda room, seq: told.append((room, seq)), lambda: now_s)
    errands.read(TALK, 1)
    eventually(lambda: told == [(TALK, 1)])
    for seq in (2, 3, 2):
        errands.read(TALK, seq)
    now_s = READ_EVERY_S
    errands.read(TALK, 1)  # Told already; but it has the thread look at the clock.
    eventually(lambda: told == [(TALK, 1), (TALK, 3)])
    errands.read(TALK, 4)
    errands.stop()
    assert told == [(TALK, 1), (TALK, 3), (TALK, 4)]


def test_so_many_errands_wait_and_a_failing_one_ends_nothing() -> None:
    is_free = threading.Event()
    done: list[int] = []

    def fail() -> None:
        is_free.wait()
        raise Closed("for a test")

    errands = Errands(lambda *_: None)
    assert errands.add(fail)
    eventually(lambda: not errands._waiting)
    for number in range(limits.ERRANDS_WAITING_MAX):
        assert errands.add(lambda number=number: done.append(number))  # type: ignore[misc]
    assert not errands.add(fail)
    is_free.set()
    eventually(lambda: len(done) == limits.ERRANDS_WAITING_MAX)
    errands.stop()
    assert not errands._thread.is_alive()


def test_orders_that_are_typed_are_orders_of_the_wire() -> None:
    given = {orders.GiveOrder(action).action for action in Action}
    typed = [
        *("private", "public", "invite", "uninvite", "kick", "ban", "unban", "mute", "unmute"),
        *("op", "deop", "slow", "topic_by", "report"),
    ]
    assert given == set(typed)
