"""ngIRCd: IRC, a channel `#<room>` per room.

A member has joined when it has the list of who is there. Talkers do not join: channels as they
are made here let anybody send, and the server is spared what it would tell the talkers.

Source: RFC 2812 (https://www.rfc-editor.org/rfc/rfc2812)
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from bench.dialect import Conversation, Dialect, Ear, Say, Unexpected, Voice
from bench.servers import process
from bench.servers.fixed import AnsweredVoice, FixedEar
from bench.servers.reading import Cut, expect
from bench.target import Target

NAME: Final = "irc.test"
LINE_BYTES_MAX: Final = 510  # Without CR LF; the server cuts what is longer (section 2.3).
NICK_CHARS_MAX: Final = 9
# 376 ends the message of the day and with it the greeting; 422 says that there is none.
_GREETED: Final = re.compile(rb"(?:^|\n):\S+ (?:376|422) \S+ [^\r\n]*\r\n")
_REFUSED: Final = re.compile(rb"(?:^|\n)(?:ERROR |:\S+ (?!422)[45]\d\d )[^\r\n]*\r\n")
_LINE: Final = re.compile(rb"(?::\S+ )?(\S+)([^\r\n]*)\r\n")
_NAMES_END: Final = rb"(?:^|\n):\S+ 366 \S+ #%b [^\r\n]*\r\n"
_SETTINGS: Final = {
    "Limits": {
        "MaxConnections": "0",
        "MaxConnectionsIP": "0",
        "MaxJoins": "0",
        "MaxPenaltyTime": "0",
    },
    "Options": {"DNS": "no", "Ident": "no", "PAM": "no"},
}


def answer_to(line: re.Match[bytes]) -> bytes:
    """Return what to answer to a line that is no message; raise `Unexpected` at an error."""
    command, rest = line.groups()
    if command == b"PING":
        return b"PONG" + bytes(rest) + b"\r\n"
    if command == b"ERROR" or command[:1] in (b"4", b"5"):
        raise Unexpected(f"the server said {line[0]!r}")
    return b""  # Somebody came or left.


class IrcEar(FixedEar):
    """Hears messages of one channel, from any talker."""

    def other(self, pending: bytes) -> int:
        """Take a line about somebody who came or left, or a PING."""
        line = _LINE.match(pending)
        if line is None:
            return 0
        if answer := answer_to(line):
            self.answer(answer)
        return line.end()


class IrcVoice(AnsweredVoice):
    """Sends to channels; answers PING with its next message."""

    def settle(self, match: re.Match[bytes]) -> int:
        """Take a line."""
        if answer := answer_to(match):
            self.answer(answer)
        return 0


def nick(kind: str, index: int) -> str:
    """Return the nick of a member (m) or talker (t); all are of one length."""
    name = f"{kind}{index:07x}"
    if len(name) > NICK_CHARS_MAX:
        raise ValueError(f"no nick for client {index}: at most {NICK_CHARS_MAX} characters")
    return name


def _log_in(name: str) -> Conversation[bytes]:
    lines = f"NICK {name}\r\nUSER {name[0]} 0 * :{name}\r\n".encode()
    _, rest = yield from expect([Say(0, lines)], _GREETED, _REFUSED)
    return rest


class IrcDialect:
    """IRC as any client speaks it."""

    channels: tuple[int, ...] = (0,)
    acknowledges = False
    # The server asks those who were silent for two minutes; whoever says this is never asked.
    keepalive: tuple[Say, ...] = (Say(0, f"PONG {NAME}\r\n".encode()),)
    is_same_for_all = True
    ping = f"PING :{NAME}\r\n".encode()

    def __init__(self, target: Target) -> None:
        self._host = target.host
        self.text_bytes = target.text_bytes

    def join(self, index: int, room: str) -> Conversation[Ear]:
        """Log in, join, and wait until it is known who is there."""
        head = f":{nick('t', 0)}!~t@{self._host} PRIVMSG #{room} :".encode()
        if len(head) + self.text_bytes > LINE_BYTES_MAX:
            raise ValueError(f"a line of IRC cannot hold a text of {self.text_bytes} bytes")
        yield from _log_in(nick("m", index))
        is_joined = re.compile(_NAMES_END % re.escape(room.encode()))
        says = [Say(0, f"JOIN #{room}\r\n".encode())]
        _, rest = yield from expect(says, is_joined, _REFUSED)
        # Which talker it is stands after ":t".
        varies = slice(2, head.index(b"!"))
        return IrcEar(0, head, self.text_bytes, b"\r\n", varies=varies, pending=rest)

    def speak(self, index: int, rooms: list[str]) -> Conversation[Voice]:
        """Log in."""
        rest = yield from _log_in(nick("t", index))
        heads = [f"PRIVMSG #{room} :".encode() for room in rooms]
        return IrcVoice(0, heads, b"\r\n", Cut(_LINE, rest))


class NgircdServer:
    """ngIRCd without its brakes and without looking people up."""

    name = "ngircd"
    is_durable = False
    is_peer = True
    has_rooms = True

    @contextmanager
    def start(self, folder: Path, text_bytes: int) -> Iterator[Target]:
        """Start it."""
        program, port = process.program("ngircd"), process.free_port()
        place = {
            "Name": NAME,
            "Info": "test",
            "Listen": process.HOST,
            "Ports": str(port),
            "MotdPhrase": "Hello",
        }
        lines = []
        for section, values in ({"Global": place} | _SETTINGS).items():
            lines += [f"[{section}]", *(f"{name} = {value}" for name, value in values.items())]
        folder.mkdir(parents=True, exist_ok=True)
        file = folder / "ngircd.conf"
        file.write_text("".join(f"{line}\n" for line in lines))
        target = process.local_target(
            self,
            [port],
            text_bytes,
            version=process.version(program, "--version"),
            settings=[f"{name} {value}" for s in _SETTINGS.values() for name, value in s.items()],
        )
        command = [program, "--nodaemon", "--config", str(file)]
        with process.serving(self, command, folder, target) as served:
            yield served

    def dialect(self, target: Target) -> Dialect:
        """Return what it speaks."""
        return IrcDialect(target)


SERVER = NgircdServer()
