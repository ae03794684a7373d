"""What typed lines mean."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from client import commands as c


@pytest.mark.parametrize(
    ("line", "meaning"),
    [
        ("hello", c.Say("hello")),
        ("  code keeps its indent", c.Say("  code keeps its indent")),
        ("hello\n", c.Say("hello")),
        ("//etc/passwd", c.Say("/etc/passwd")),
        ("/me waves ", c.Say("waves", "action")),
        ("/join dev", c.JoinRoom("dev")),
        ("/join #Dev", c.JoinRoom("dev")),
        ("/JOIN dev", c.JoinRoom("dev")),
        ("/part", c.PartRoom(None)),
        ("/part dev", c.PartRoom("dev")),
        ("/switch", c.SwitchRoom(None)),
        ("/switch #dev", c.SwitchRoom("dev")),
        ("/nick Bob", c.ChangeNick("Bob")),
        ("/who", c.ShowUsers(None)),
        ("/who dev", c.ShowUsers("dev")),
        ("/rooms", c.ShowRooms()),
        ("/history", c.ShowHistory(100)),
        ("/history 5", c.ShowHistory(5)),
        ("/topic", c.ChangeTopic(None)),
        ("/topic  lunch at one", c.ChangeTopic("lunch at one")),
        ("/help", c.ShowHelp()),
        ("/quit", c.Quit()),
    ],
)
def test_each_command_is_understood(line: str, meaning: c.Meaning) -> None:
    assert c.parse(line) == meaning


@pytest.mark.parametrize("line", ["{quit}", "exit", " exit ", "/quit", "{quit}\n"])
def test_the_ancestors_words_leave_too(line: str) -> None:
    assert c.parse(line) == c.Quit()


@pytest.mark.parametrize("line", ["exit now", "the {quit}", "Exit", "q"])
def test_a_text_with_such_a_word_does_not_leave(line: str) -> None:
    assert c.parse(line) == c.Say(line)


@pytest.mark.parametrize("line", ["", " ", "\t", "\n"])
def test_a_blank_line_means_nothing(line: str) -> None:
    assert c.parse(line) is None


@pytest.mark.parametrize(
    ("line", "hint"),
    [
        ("/", "there is no /;"),
        ("/jion dev", "there is no /jion;"),
        ("/join", "write /join ROOM"),
        ("/me", "write /me TEXT"),
        ("/nick", "write /nick NAME"),
        ("/nick two words", "a name has letters"),
        ("/join a b", "a name has letters"),
        ("/join -x", "a name begins with a letter"),
        ("/rooms now", "write /rooms"),
        ("/quit please", "write /quit"),
        ("/history 0", "from 1 to"),
        ("/history many", "from 1 to"),
        ("/ban bob 0s", "write a time as 30s, 10m, 2h, 1d or 1w"),
        ("/mute bob 1 day", "without one it holds for ever"),
        ("/mute bob 5x foo", "write a time as"),
        ("/history " + "9" * 5_000, "from 1 to"),
    ],
)
def test_a_mistake_is_answered_with_what_to_write(line: str, hint: str) -> None:
    meaning = c.parse(line)
    assert isinstance(meaning, c.Wrong)
    assert hint in meaning.message


def test_help_shows_every_command_of_the_issue() -> None:
    text = "\n".join(c.help_lines())
    names = "/join /part /switch /nick /me /who /rooms /history /topic /help /quit //"
    assert [name for name in names.split() if name not in text] == []


@given(st.text())
def test_no_line_breaks_the_parser(line: str) -> None:
    meaning = c.parse(line)
    assert (meaning is None) == (not line.strip())
