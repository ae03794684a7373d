"""What a chat knows and shows, without any terminal."""

from __future__ import annotations

from datetime import UTC

from client import commands
from client.board import Board, Sort
from client.events import Entry, Joined, Left, Missing, Presence, Reset, State
from client.render import Look

NOON = 12 * 3_600_000


def board(*rooms: str) -> Board:
    made = Board("me", Look(zone=UTC))
    for room in rooms:
        made.add(room)
        made.take(Joined(room, "", 2, ["me", "anna"]), NOON)
    return made


def say(room: str, text: str, nick: str = "anna", seq: int = 1, kind: str = "text") -> Entry:
    return Entry(room, seq, NOON, kind, nick, text)


def toolbar(of: Board) -> str:
    return "".join(text for _, text in of.toolbar())


def test_entering_a_room_tells_users_and_topic() -> None:
    made = Board("me", Look(zone=UTC))
    made.add("dev")
    lines = made.take(Joined("dev", "lunch", 2, ["me", "Anna"]), NOON)
    assert [line.text for line in lines] == [
        "--- you are in #dev, 2 users now: Anna, me",
        "--- topic: lunch",
    ]
    assert {line.sort for line in lines} == {Sort.NOTICE}


def test_a_room_taken_up_again_is_not_announced_again() -> None:
    assert board("dev").take(Joined("dev", "", 5, None), NOON) == []


def test_entries_of_the_current_room_have_no_prefix() -> None:
    (line,) = board("dev").take(say("dev", "hi"), NOON)
    assert line.text == "12:00 anna: hi"
    assert line.sort is Sort.ENTRY


def test_other_rooms_count_as_unread_and_are_prefixed() -> None:
    made = board("dev", "ops")
    (line,) = made.take(say("ops", "hi"), NOON)
    assert line.text == "12:00 #ops anna: hi"
    assert "#ops 1" in toolbar(made)
    made.switch("ops")
    assert "#ops 1" not in toolbar(made)


def test_ones_own_words_are_not_unread() -> None:
    made = board("dev", "ops")
    made.take(say("ops", "hi", nick="me"), NOON)
    assert made.rooms["ops"].unread_count == 0


def test_ones_own_coming_and_renaming_is_not_told_twice() -> None:
    made = board("dev")
    assert made.take(Presence("dev", 2, ["me"], [], [("old", "me")]), NOON) == []


def test_history_on_entry_is_not_unread() -> None:
    made = board("dev")
    made.add("ops")
    made.take(say("ops", "from yesterday"), NOON)
    assert made.rooms["ops"].unread_count == 0


def test_the_first_room_is_current() -> None:
    assert board("dev", "ops").current == "dev"


def test_presence_changes_the_users_and_is_told() -> None:
    made = board("dev")
    lines = made.take(Presence("dev", 3, ["bob"], [], []), NOON)
    assert [line.text for line in lines] == ["12:00 --> bob joined (3 users now)"]
    assert "3 users" in toolbar(made)
    made.take(Presence("dev", 2, [], ["anna"], [("bob", "Rob")]), NOON)
    assert made.rooms["dev"].nicks == {"me", "Rob"}


def test_presence_elsewhere_is_counted_silently() -> None:
    made = board("dev", "ops")
    assert made.take(Presence("ops", 9, ["bob"], [], []), NOON) == []
    assert made.rooms["ops"].users == 9


def test_events_of_a_room_that_was_left_are_dropped() -> None:
    made = board("dev", "ops")
    made.take(Left("ops"), NOON)
    assert made.take(say("ops", "late"), NOON) == []
    assert list(made.rooms) == ["dev"]


def test_leaving_the_current_room_goes_to_another() -> None:
    made = board("dev", "ops")
    made.forget("dev")
    assert made.current == "ops"
    made.forget("ops")
    assert made.current == ""
    assert "no room" in toolbar(made)


def test_the_next_room_is_the_unread_one() -> None:
    made = board("a", "b", "c")
    assert made.next_room() == "b"
    made.take(say("c", "hi"), NOON)
    assert made.next_room() == "c"
    assert board("alone").next_room() is None


def test_a_lost_connection_is_one_line_and_stands_in_the_toolbar() -> None:
    made = board("dev")
    (lost,) = made.take(State("offline", ""), NOON)
    assert lost.text == "connection lost, trying again"
    assert lost.sort is Sort.TROUBLE
    assert made.take(State("offline", ""), NOON) == []
    assert "offline" in toolbar(made)
    (again,) = made.take(State("online", ""), NOON)
    assert again.text == "connected again"


def test_the_first_connection_is_not_worth_a_line() -> None:
    made = board("dev")
    made.state = "connecting"
    assert made.take(State("online", ""), NOON) == []


def test_closing_is_told_once() -> None:
    made = board("dev")
    (closing,) = made.take(State("closing", ""), NOON)
    assert closing.text == "the broker is closing"
    assert made.take(State("offline", ""), NOON) == []
    (again,) = made.take(State("online", ""), NOON)
    assert again.text == "connected again"


def test_a_refused_resume_is_told_with_its_reason() -> None:
    (line,) = board("dev").take(State("refused", "somebody else has this nick"), NOON)
    assert "somebody else has this nick" in line.text


def test_missing_and_reset_are_told() -> None:
    made = board("dev")
    assert "12 messages" in made.take(Missing("dev", 12), NOON)[0].text
    made.take(say("dev", "hi", seq=40), NOON)
    assert "another log" in made.take(Reset("dev"), NOON)[0].text
    assert made.rooms["dev"].seq_min is None


def test_unsent_texts_stand_in_the_toolbar() -> None:
    made = board("dev")
    made.unsent_count = 3
    assert "3 not sent yet" in toolbar(made)


def test_a_topic_change_is_remembered() -> None:
    made = board("dev")
    made.take(say("dev", "lunch", kind="topic"), NOON)
    assert made.rooms["dev"].topic == "lunch"


# --- completion -------------------------------------------------------------
def words(of: Board, text: str) -> list[str]:
    return [found.word for found in of.complete(text)]


def test_commands_are_completed() -> None:
    assert words(board("dev"), "/jo") == ["/join "]
    assert words(board("dev"), "/he") == ["/help"]
    assert len(words(board("dev"), "/")) == len(commands.COMMANDS)


def test_rooms_are_completed_from_those_known() -> None:
    made = board("dev", "ops")
    made.known_rooms = {"design"}
    assert words(made, "/join de") == ["design", "dev"]
    assert words(made, "/switch de") == ["dev"]
    assert made.complete("/join #De")[0].back_chars == 3


def test_nicks_are_completed_with_the_last_speaker_first() -> None:
    made = board("dev")
    made.take(Presence("dev", 3, ["Andrea"], [], []), NOON)
    made.take(say("dev", "hi", nick="Andrea"), NOON)
    assert words(made, "an") == ["Andrea: ", "anna: "]
    assert words(made, "hello an") == ["Andrea", "anna"]
    assert words(made, "@an") == ["@Andrea", "@anna"]


def test_names_that_could_touch_the_terminal_are_not_offered() -> None:
    made = board("dev")
    made.known_rooms = {"design\x1b[2J", "de\u202esk"}  # No broker of ours takes such names.
    made.take(say("dev", "hi", nick="an\u202ea"), NOON)
    assert words(made, "/join de") == ["dev"]
    assert words(made, "an") == ["anna: "]


def test_a_literal_slash_completes_no_command() -> None:
    assert words(board("dev"), "//jo") == []


def test_speakers_are_forgotten_in_the_end() -> None:
    made = board("dev")
    for number in range(1_000):
        made.take(say("dev", "hi", nick=f"n{number}", seq=number), NOON)
    assert len(made.rooms["dev"].speakers) == 200


def test_who_is_there_is_taken_over_where_nobody_is_news() -> None:
    made = board("dev")
    assert made.take(Presence("dev", 1, [], [], [], ["me"]), NOON) == []
    assert made.rooms["dev"].nicks == {"me"}


def test_who_is_put_out_is_in_no_room_until_they_say_where_to_go() -> None:
    """What is being typed was meant for the room they are out of."""
    made = board("dev", "ops")
    made.take(Left("dev", "banned", "spam"), NOON)
    made.add("news")
    assert made.current == ""
    assert "no room: /switch ROOM" in toolbar(made)
    made.switch("ops")
    made.take(Left("ops"), NOON)
    assert made.current == "news"


def test_a_refusal_says_what_to_do() -> None:
    made = board("dev")
    (line,) = made.take(State("refused", "you are banned (4 s left)", 4), NOON)
    assert "you are banned (4 s left); trying again by itself" in line.text
    assert "refused, trying again" in toolbar(made)
    (line,) = made.take(State("refused", "you are banned"), NOON)
    assert line.text.endswith("you are banned; /quit leaves, /nick NAME tries again")
    assert "trying again" not in toolbar(made)
