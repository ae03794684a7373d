"""The command line is understood, and mistakes are told in one line."""

from __future__ import annotations

import pytest

from client.arguments import Arguments, Since, UsageError, VersionWanted, parse
from common.endpoints import Address


def read(line: str, **environ: str) -> Arguments:
    return parse(line.split(), environ)


def test_alone_it_is_the_chat_in_the_lobby_on_this_machine() -> None:
    arguments = read("")
    assert arguments.subcommand == "chat"
    assert arguments.rooms == ["lobby"]
    assert arguments.broker == Address("127.0.0.1", 5555)
    assert arguments.nick is None
    assert arguments.timeout_s == 2.0


def test_a_host_opens_the_chat_there() -> None:
    arguments = read("chat.lan:7000 -n anna -r dev -r #Ops -r dev")
    assert arguments.subcommand == "chat"
    assert arguments.broker == Address("chat.lan", 7000)
    assert arguments.nick == "anna"
    assert arguments.rooms == ["dev", "ops"]


@pytest.mark.parametrize(
    "line",
    [
        "--json --nick bob --timeout 5 send -r dev hello world",
        "send --json --nick bob --timeout 5 -r dev hello world",
        "send -r dev hello world --json -n bob --timeout=5",
        "-n bob --timeout 5 send -r dev --json hello world",
        "-r dev send --json -nbob --timeout 5 hello world",
    ],
)
def test_global_options_stand_before_or_after_the_subcommand(line: str) -> None:
    arguments = read(line)
    assert arguments.subcommand == "send"
    assert arguments.is_json
    assert (arguments.nick, arguments.timeout_s) == ("bob", 5.0)
    assert (arguments.rooms, arguments.text) == (["dev"], "hello world")


def test_a_host_with_a_subcommands_name_is_given_by_option() -> None:
    assert read("--broker send -r dev").broker.host == "send"
    assert read("--broker send -r dev").subcommand == "chat"
    assert read("-- send").broker.host == "send"


def test_send_without_text_reads_standard_input() -> None:
    assert read("send -r dev").text is None


def test_a_text_may_begin_with_a_dash() -> None:
    assert read("send -r dev -- -1 is a number").text == "-1 is a number"


def test_in_history_n_is_a_number_and_before_it_a_nick() -> None:
    arguments = read("-n bob history -r dev -n 5 --before 70")
    assert (arguments.nick, arguments.entries, arguments.before) == ("bob", 5, 70)
    assert read("-nbob history -r dev").nick == "bob"


@pytest.mark.parametrize(
    ("word", "since"),
    [
        ("5", Since(entries=5)),
        ("0", Since(entries=0)),
        ("30s", Since(seconds=30)),
        ("10m", Since(seconds=600)),
        ("2h", Since(seconds=7_200)),
        ("1d", Since(seconds=86_400)),
        ("all", Since()),
    ],
)
def test_tail_begins_some_way_back(word: str, since: Since) -> None:
    assert read(f"tail -r dev --since {word} --count 3").since == since


def test_the_environment_gives_broker_and_nick() -> None:
    arguments = read("", HUBBUB_BROKER="[::1]:7000", HUBBUB_NICK="carl")
    assert (arguments.broker, arguments.nick) == (Address("::1", 7000), "carl")
    arguments = read("other -n dora", HUBBUB_BROKER="::1", HUBBUB_NICK="carl")
    assert (arguments.broker.host, arguments.nick) == ("other", "dora")
    assert read("", HUBBUB_BROKER="", HUBBUB_NICK="").broker.host == "127.0.0.1"


def test_no_color_counts_unless_a_flag_says_otherwise() -> None:
    assert read("", NO_COLOR="1").color == "never"
    assert read("--color always", NO_COLOR="1").color == "always"
    assert read("", NO_COLOR="").color == "auto"


@pytest.mark.parametrize("line", ["--version", "send --version", "--version tail"])
def test_version_needs_nothing_else(line: str) -> None:
    with pytest.raises(VersionWanted):
        read(line)


def test_ancestor_4_an_empty_address_is_refused() -> None:
    for words in ([""], ["--broker", ""], ["--broker", " "], [":5555"]):
        with pytest.raises(UsageError, match="host is empty"):
            parse(words, {})


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("send hello", "-r/--room"),
        ("send -r a -r b hello", "one room"),
        ("who -r a -r b", "one room"),
        ("send -r !! hello", "cannot be a room"),
        ("-n two!words", "cannot be a nick"),
        ("host:99999", "not a port"),
        ("host --broker other", "twice"),
        ("one two", "unrecognized"),
        ("--timeout 0", "seconds"),
        ("--timeout nan", "seconds"),
        ("--timeout soon", "seconds"),
        ("tail -r a --since yesterday", "neither"),
        ("tail -r a --count 0", "from 1"),
        ("history -r a -n x", "from 1"),
        ("--col never", "unrecognized"),
        ("--color pink", "invalid choice"),
    ],
)
def test_a_mistake_is_one_line(line: str, message: str) -> None:
    with pytest.raises(UsageError) as caught:
        read(line)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_mistake_in_the_environment_names_the_variable() -> None:
    with pytest.raises(UsageError, match="HUBBUB_BROKER"):
        read("", HUBBUB_BROKER="host:port")
    with pytest.raises(UsageError, match="HUBBUB_NICK"):
        read("", HUBBUB_NICK="a b")


def test_an_empty_text_is_refused() -> None:
    with pytest.raises(UsageError, match="empty"):
        parse(["send", "-r", "dev", ""], {})
