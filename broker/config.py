"""Every setting of the broker: name, default, bounds, help. The only place that knows them.

Precedence: flags, then HUBBUB_* environment variables, then the TOML file, then defaults.
"""

from __future__ import annotations

import argparse
import os
import tomllib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import msgspec
from platformdirs import user_data_path

from broker.logs import JSON, TEXT
from common.errors import HubbubError, Refused
from common.keys import parse_key
from common.limits import BASE_PORT, SEND_TEXTS_MAX
from common.names import check_nick, check_room, fold
from common.version import VERSION


class ConfigInvalid(HubbubError):
    """A setting that cannot be; the message names it, its source and its bounds."""


class Option(NamedTuple):
    """One setting."""

    name: str
    default: Any
    help: str
    low: float | None = None
    high: float | None = None
    choices: tuple[str, ...] = ()
    metavar: str | None = None


OPTIONS = (
    Option("host", "127.0.0.1", "address to serve on; 0.0.0.0 or :: for the whole LAN"),
    Option(
        "port", BASE_PORT, "base port, the next three are used too; 0 takes free ones", 0, 65_532
    ),
    Option("secure", False, "encrypt on loopback, too; elsewhere it is done anyway"),
    Option("insecure", False, "do not encrypt: everybody on the network can read along"),
    Option("allow", "", "file with the keys that are let in, one a line", metavar="FILE"),
    Option("operators", "", "keys of those who may do everything", metavar="KEY,KEY"),
    Option("commons", "lobby", "rooms that belong to nobody but operators", metavar="ROOM,ROOM"),
    Option("nick_days", 90, "days unused after which a nick is anybody's", 1, 36_500),
    Option("data", "", "folder of the log (default: the user's data folder)", metavar="DIR"),
    Option("max_clients", 4_096, "clients at once", 1, 50_000),
    Option("max_rooms", 10_000, "rooms", 1, 1_000_000),
    Option("retain_messages", 1_000_000, "messages kept per room; 0 keeps all", 0, 10**12),
    Option("retain_days", 0, "days that messages are kept; 0 keeps them for ever", 0, 36_500),
    Option("grace", 5.0, "seconds before a vanished client has left", 0.1, 3_600),
    Option("heartbeat", 30.0, "seconds between signs of life asked from clients", 0.1, 3_600),
    Option("rate", 1_000, "texts a second that one client may send", 1, 10_000_000),
    Option("burst", 10_000, "texts that one client may send at once", SEND_TEXTS_MAX, 100_000_000),
    Option("unlimited", "", "nicks that may send without such a bound", metavar="NICK,NICK"),
    Option("publish_queue", 512, "batches that wait for one slow reader at most", 1, 100_000),
    Option("history_workers", 4, "threads that answer history", 1, 64),
    Option("memory_mib", 2_048, "memory of one process before it is restarted", 64, 10**6),
    Option("motd", "Welcome to Hubbub.", "greeting for newcomers"),
    Option(
        "silence",
        60.0,
        "seconds without a sign of life before a part that hangs is restarted",
        2.0,
        3_600,
    ),
    Option("metrics", 0, "port on 127.0.0.1 for Prometheus; 0: none, -1: a free one", -1, 65_535),
    Option("log_level", "info", "how much to say", choices=("debug", "info", "warning", "error")),
    Option("log_format", TEXT, "lines for people, or JSON objects", choices=(TEXT, JSON)),
)
BY_NAME = {option.name: option for option in OPTIONS}
MOTD_CHARS_MAX = 500
KINDS = {int: "a whole number", float: "a number", str: "text", bool: "true or false"}
LISTS = ("unlimited", "operators", "commons")  # In a file these may be lists.
TRUTHS = {"1": True, "true": True, "0": False, "false": False}  # Also of the environment.


class Settings(msgspec.Struct, frozen=True):
    """The settings in force, checked. Seconds, except where the name says otherwise."""

    host: str
    port: int
    secure: bool
    insecure: bool
    allow: str
    operators: str
    commons: str
    nick_days: int
    data: str
    max_clients: int
    max_rooms: int
    retain_messages: int
    retain_days: int
    grace: float
    heartbeat: float
    rate: int
    burst: int
    unlimited: str
    publish_queue: int
    history_workers: int
    memory_mib: int
    motd: str
    silence: float
    metrics: int
    log_level: str
    log_format: str


def default_data() -> str:
    """Return the user's own folder for a broker's log."""
    return str(user_data_path("hubbub") / "broker")


def parser() -> argparse.ArgumentParser:
    """Return the parser of the command line."""
    made = argparse.ArgumentParser(
        prog="hubbub-broker",
        description="Serve Hubbub chat. Stop with q and Enter, Ctrl+C or SIGTERM.",
        epilog="Each setting can also be given as HUBBUB_NAME in the environment or as "
        "name = value in the TOML file. Flags win, then the environment, then the file. "
        "hubbub-broker key shows its key and how to join; check, backup, restore, export "
        "and salvage look after a log: each has a --help of its own.",
    )
    made.add_argument("--version", action="version", version=f"hubbub-broker {VERSION}")
    made.add_argument("--config", metavar="FILE.toml", help="file with settings")
    for option in OPTIONS:
        if isinstance(option.default, bool):
            flag = "--" + option.name.replace("_", "-")
            made.add_argument(flag, action="store_true", default=None, help=option.help)
            continue
        default = f" (default {option.default})" if option.default != "" else ""
        made.add_argument(
            "--" + option.name.replace("_", "-"),
            metavar=option.metavar or type(option.default).__name__.upper(),
            help=(option.help + default).replace("%", "%%"),
        )
    return made


def load(argv: Sequence[str], environ: Mapping[str, str] = os.environ) -> Settings:
    """Return the settings in force; raise `ConfigInvalid`, or SystemExit(2) for a wrong flag."""
    flags = vars(parser().parse_args(argv))
    config_path = flags.pop("config") or environ.get("HUBBUB_CONFIG")
    values: dict[str, Any] = {option.name: option.default for option in OPTIONS}
    if config_path:
        for name, value in _read_toml(Path(config_path)).items():
            if name not in BY_NAME:
                message = f"{config_path}: there is no setting {name!r}"
                raise ConfigInvalid(message)
            values[name] = _checked(BY_NAME[name], value, f"{config_path}: {name}")
    for option in OPTIONS:
        variable = f"HUBBUB_{option.name.upper()}"
        if environ.get(variable):
            values[option.name] = _checked(option, environ[variable], variable)
        if flags[option.name] is not None:
            flag = "--" + option.name.replace("_", "-")
            values[option.name] = _checked(option, flags[option.name], flag)
    try:
        values["data"] = str(Path(values["data"] or default_data()).expanduser())
    except RuntimeError as error:
        message = f"the data folder {values['data']} cannot be found: {error}"
        raise ConfigInvalid(message) from error
    if values["secure"] and values["insecure"]:
        message = "secure and insecure cannot both be set: leave one of them out"
        raise ConfigInvalid(message)
    return Settings(**values)


def _read_toml(path: Path) -> dict[str, Any]:
    try:
        with path.open("rb") as file:
            return tomllib.load(file)
    except OSError as error:
        message = f"{path} cannot be read: {error.strerror}"
        raise ConfigInvalid(message) from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        message = f"{path} is not TOML: {error}"
        raise ConfigInvalid(message) from error


def _checked(option: Option, value: object, source: str) -> Any:  # noqa: ANN401 - of the option's type
    """Return the value in the option's type and bounds; raise `ConfigInvalid`."""
    kind = type(option.default)
    if kind is bool:
        return _truth(value, source)
    try:
        if isinstance(value, bool) or (kind is int and isinstance(value, float)):
            raise TypeError
        if option.name in LISTS and isinstance(value, list):
            value = ",".join(value)  # In a file it may be a list. Raises TypeError, too.
        if kind is str and not isinstance(value, str):
            raise TypeError
        typed = kind(value)
    except (TypeError, ValueError):
        message = f"{source}: {value!r} is not {KINDS[kind]}"
        raise ConfigInvalid(message) from None
    if option.low is not None and not (option.low <= typed <= (option.high or 0)):
        message = f"{source}: {value} is not between {option.low} and {option.high}"
        raise ConfigInvalid(message)
    if option.choices and typed not in option.choices:
        message = f"{source}: {value!r} is not one of {', '.join(option.choices)}"
        raise ConfigInvalid(message)
    trouble = _trouble(option.name, typed) if kind is str else ""
    if trouble:
        message = f"{source}: {trouble}"
        raise ConfigInvalid(message)
    return typed


def _truth(value: object, source: str) -> bool:
    truth = TRUTHS.get(value.strip().lower()) if isinstance(value, str) else value
    if not isinstance(truth, bool):
        message = f"{source}: {value!r} is not {KINDS[bool]}"
        raise ConfigInvalid(message)
    return truth


def _trouble(name: str, text: str) -> str:
    """Return what is wrong with the text of a setting; nothing if nothing is."""
    if "\0" in text:
        return "no NUL can be in it"
    if name == "motd" and len(text) > MOTD_CHARS_MAX:
        return f"a greeting has at most {MOTD_CHARS_MAX} characters"
    if name == "host" and not text.strip():
        return "the host is empty"
    if name in NAMES_IN:
        try:
            NAMES_IN[name](text)
        except Refused as refusal:
            return refusal.detail
    if name == "operators":
        try:
            keys_of(text)
        except ValueError as error:
            return str(error)
    return ""


def nicks_of(unlimited: str) -> frozenset[str]:
    """Return the folded nicks of a setting such as `importer,ci-bot`; raise `Refused`."""
    words = (word.strip() for word in unlimited.split(","))
    return frozenset(fold(check_nick(word)) for word in words if word)


def rooms_of(commons: str) -> frozenset[str]:
    """Return the names of a setting such as `lobby,help`; raise `Refused`."""
    words = (word.strip().removeprefix("#") for word in commons.split(","))
    return frozenset(check_room(word) for word in words if word)


NAMES_IN = {"unlimited": nicks_of, "commons": rooms_of}


def keys_of(operators: str) -> frozenset[bytes]:
    """Return the raw keys of a setting such as `operators`; raise ValueError."""
    return frozenset(parse_key(word) for word in operators.split(",") if word.strip())
