"""Settings: where they come from, which wins, and what is refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from broker.config import (
    BY_NAME,
    MOTD_CHARS_MAX,
    OPTIONS,
    ConfigInvalid,
    Option,
    Settings,
    default_data,
    keys_of,
    load,
    nicks_of,
    parser,
)
from common.limits import SEND_TEXTS_MAX

NUMBERS = [option for option in OPTIONS if option.low is not None]


def samples(option: Option) -> list[Any]:
    """Return three values, no two in a row alike, and the last one not the default."""
    if option.choices:
        others = [choice for choice in option.choices if choice != option.default]
        return others if len(others) > 1 else [*others, option.default, *others]
    if option.name == "operators":
        return [sign * 64 for sign in "abc"]
    if isinstance(option.default, str):
        return (
            ["one", "two", "three"]
            if option.name in ("unlimited", "commons")
            else ["/one", "/two", "/three"]
        )
    assert option.low is not None
    kind = type(option.default)
    return [kind(option.default + 1), kind(option.default + 2), kind(option.default + 3)]


def flag(option: Option) -> str:
    """Return the option's flag."""
    return "--" + option.name.replace("_", "-")


def toml_file(folder: Path, text: str) -> str:
    """Write a TOML file and return its path."""
    path = folder / "hubbub.toml"
    path.write_text(text)
    return str(path)


@pytest.mark.parametrize("name", ["secure", "insecure"])
def test_a_flag_without_a_value_beats_the_environment_beats_the_file(
    name: str, tmp_path: Path
) -> None:
    variable = f"HUBBUB_{name.upper()}"
    on: list[str] = []
    off: list[str] = []
    for words, truth in ((on, "true"), (off, "false")):
        folder = tmp_path / truth
        folder.mkdir()
        words += ["--config", toml_file(folder, f"{name} = {truth}")]
    assert getattr(load(on, {}), name)
    assert not getattr(load(off, {}), name)
    for word in ("0", "false", "False"):
        assert not getattr(load(on, {variable: word}), name)
    for word in ("1", "true"):
        assert getattr(load(off, {variable: word}), name)
    assert getattr(load([f"--{name}", *off], {variable: "0"}), name)


def test_truths_are_spelled_as_told_and_both_at_once_are_none(tmp_path: Path) -> None:
    for text in ('"yes"', "1", "2.5", "[true]"):
        with pytest.raises(ConfigInvalid, match=r"secure: .* is not true or false"):
            load(["--config", toml_file(tmp_path, f"secure = {text}")], {})
    with pytest.raises(ConfigInvalid, match="HUBBUB_SECURE: 'maybe' is not true or false"):
        load([], {"HUBBUB_SECURE": "maybe"})
    with pytest.raises(ConfigInvalid, match="cannot both be set"):
        load(["--secure"], {"HUBBUB_INSECURE": "1"})


def test_operators_are_keys(tmp_path: Path) -> None:
    """In either spelling; in a file also as a list."""
    keys = "ab" * 32, "cd" * 32
    config = toml_file(tmp_path, f"operators = {list(keys)}")
    expected = frozenset(map(bytes.fromhex, keys))
    assert expected == keys_of(load(["--config", config], {}).operators)
    assert expected == keys_of(load(["--operators", ", ".join(keys)], {}).operators)
    with pytest.raises(ConfigInvalid, match="--operators: a key has 64 letters"):
        load(["--operators", "anna"], {})


CHOSEN = [option for option in OPTIONS if not isinstance(option.default, bool)]


@pytest.mark.parametrize("option", CHOSEN, ids=lambda option: option.name)
def test_flags_beat_the_environment_beats_the_file_beats_defaults(
    option: Option, tmp_path: Path
) -> None:
    """For every single option the four sources rank as documented."""
    of_flag, of_environment, of_file = samples(option)
    config = toml_file(tmp_path, f"{option.name} = {of_file!r}")
    environ = {f"HUBBUB_{option.name.upper()}": str(of_environment)}
    flags = [flag(option), str(of_flag)]
    default = default_data() if option.name == "data" else option.default

    def value(argv: list[str], environ: dict[str, str]) -> Any:  # noqa: ANN401 - any option's
        return getattr(load(argv, environ), option.name)

    assert of_flag == value(["--config", config, *flags], environ)
    assert of_environment == value(["--config", config], environ)
    assert of_file == value(["--config", config], {})
    assert of_file == value([], {"HUBBUB_CONFIG": config})
    assert default == value([], {})
    assert type(option.default) is type(value(["--config", config, *flags], environ))


def test_every_option_is_a_setting_and_every_setting_an_option() -> None:
    """The table of options and the settings in force name the same things."""
    assert list(Settings.__struct_fields__) == [option.name for option in OPTIONS]
    assert len(BY_NAME) == len(OPTIONS)
    listed = parser().format_help()
    assert all(flag(option) in listed for option in OPTIONS)


def test_defaults_lie_within_their_bounds() -> None:
    """No default would be refused if somebody wrote it down; a burst holds a whole SEND."""
    for option in NUMBERS:
        assert option.low is not None
        assert option.high is not None
        assert option.low <= option.default <= option.high
    assert SEND_TEXTS_MAX == BY_NAME["burst"].low


@pytest.mark.parametrize("option", NUMBERS, ids=lambda option: option.name)
def test_bounds_are_part_of_the_range_and_what_is_beyond_is_refused(option: Option) -> None:
    """The lowest and the highest value are taken, the next ones are refused by name and bounds."""
    assert option.low is not None
    assert option.high is not None
    kind = type(option.default)
    for bound in (option.low, option.high):
        assert bound == getattr(load([f"{flag(option)}={kind(bound)}"], {}), option.name)
    for beyond in (kind(option.low) - 1, kind(option.high) + 1):
        with pytest.raises(ConfigInvalid) as refused:
            load([f"{flag(option)}={beyond}"], {})
        says = f"{flag(option)}: {beyond} is not between {option.low} and {option.high}"
        assert says == str(refused.value)


def test_port_zero_asks_for_free_ports() -> None:
    """--port 0 is a value like any other, not a missing one."""
    assert 0 == load(["--port", "0"], {"HUBBUB_PORT": "7000"}).port


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("port = 'abc'", "port: 'abc' is not a whole number"),
        ("port = 5555.5", "port: 5555.5 is not a whole number"),
        ("port = 5555.0", "port: 5555.0 is not a whole number"),
        ("port = true", "port: True is not a whole number"),
        ("port = [1]", r"port: \[1\] is not a whole number"),
        ("port = 1979-05-27", "port: .* is not a whole number"),
        ("grace = 'soon'", "grace: 'soon' is not a number"),
        ("grace = nan", "grace: nan is not between"),
        ("grace = inf", "grace: inf is not between"),
        ("grace = true", "grace: True is not a number"),
        ("host = 5", "host: 5 is not text"),
        ("host = ''", "host: the host is empty"),
        ("host = ' '", "host: the host is empty"),
        ("motd = true", "motd: True is not text"),
        ("motd = ['a']", r"motd: \['a'\] is not text"),
        ("data = 7", "data: 7 is not text"),
        ('data = "a\\u0000b"', "data: no NUL"),
        ('host = "a\\u0000b"', "host: no NUL"),
        ('motd = "a\\u0000b"', "motd: no NUL"),
        (f"motd = '{'x' * (MOTD_CHARS_MAX + 1)}'", f"at most {MOTD_CHARS_MAX} characters"),
        ("log_level = 'loud'", "log_level: 'loud' is not one of debug, info"),
        ("colour = 'red'", "there is no setting 'colour'"),
        ("[broker]\nport = 1", "there is no setting 'broker'"),
        ("config = 'x'", "there is no setting 'config'"),
        ("port = ", "is not TOML"),
        ("port = 1\nport = 2", "is not TOML"),
    ],
)
def test_a_wrong_file_is_refused_in_a_sentence_that_names_it(
    text: str, says: str, tmp_path: Path
) -> None:
    """Wrong types, unknown keys and broken TOML each give one line with file and setting."""
    config = toml_file(tmp_path, text)
    with pytest.raises(ConfigInvalid, match=says) as refused:
        load(["--config", config], {})
    assert str(refused.value).startswith(config)
    assert "\n" not in str(refused.value)


def test_a_file_that_cannot_be_read_is_refused(tmp_path: Path) -> None:
    """A missing file, a folder and bytes that are no text are named with the reason."""
    binary = tmp_path / "binary.toml"
    binary.write_bytes(b"motd = '\xff'")
    for path, says in (
        (tmp_path / "none.toml", "No such file"),
        (tmp_path, "Is a directory"),
        (binary, "is not TOML"),
    ):
        with pytest.raises(ConfigInvalid, match=says):
            load([], {"HUBBUB_CONFIG": str(path)})


def test_a_wrong_variable_is_named() -> None:
    """The environment is checked as flags are, and an empty variable counts as none."""
    with pytest.raises(ConfigInvalid, match="HUBBUB_PORT: 'x' is not a whole number"):
        load([], {"HUBBUB_PORT": "x"})
    assert BY_NAME["port"].default == load([], {"HUBBUB_PORT": ""}).port


def test_the_data_folder_may_begin_with_a_home(monkeypatch: pytest.MonkeyPatch) -> None:
    """~ is the user's home, and the home of nobody is refused without a traceback."""
    monkeypatch.setenv("HOME", "/somewhere")
    assert "/somewhere/chat" == load(["--data", "~/chat"], {}).data
    with pytest.raises(ConfigInvalid, match=r"the data folder ~no\.such\.user/chat"):
        load(["--data", "~no.such.user/chat"], {})


def test_a_wrong_flag_ends_with_status_2(capsys: pytest.CaptureFixture[str]) -> None:
    """An unknown flag is a usage error, told on standard error."""
    with pytest.raises(SystemExit) as ended:
        load(["--colour"], {})
    assert 2 == ended.value.code
    assert "usage: hubbub-broker" in capsys.readouterr().err


def test_nicks_without_a_rate_are_a_list_or_a_row_of_them(tmp_path: Path) -> None:
    """In a file either way; compared as nicks are, and refused where they cannot be nicks."""
    for text in ('"Importer, ci-bot"', '["Importer", "ci-bot"]', '["importer,ci-bot,"]'):
        config = toml_file(tmp_path, f"unlimited = {text}")
        assert {"importer", "ci-bot"} == nicks_of(load(["--config", config], {}).unlimited)
    assert frozenset() == nicks_of(load([], {}).unlimited)
    for text in ("[1]", "7", '["a b"]', '"a/b"'):
        config = toml_file(tmp_path, f"unlimited = {text}")
        with pytest.raises(ConfigInvalid, match="unlimited: "):
            load(["--config", config], {})
