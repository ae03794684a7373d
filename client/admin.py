"""`hubbub admin`: what operators do, from the broker's own host or with their key.

Through the socket in the broker's data folder, which only the owner of that folder and root can
use; or, with --broker, through the network, where the broker knows operators by their keys.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from pathlib import Path

import zmq

from client import greeting, identity, render
from client.admin_words import Order
from client.arguments import Arguments
from client.connection import CurveKeys, open_socket
from client.limits import REPLY_BYTES_MAX
from client.login import complain, invitation, str_of
from client.subcommands import look_of, write
from client.trust import dial
from common import wire
from common.endpoints import ADMIN_SOCKET, Address, admin_url
from common.errors import Code, Malformed, Refused, Unreachable
from common.limits import RELOAD_S_MAX, TEXT_CHARS_MAX
from common.order import Admin, Table

RELOAD = "reload"  # The verb that is answered when it is done.
UTF8_BYTES_MAX = 4  # Of a character.


def run(arguments: Arguments) -> int:
    """Do what is asked for, and print the table that comes back; return the exit status."""
    asked = arguments.order
    assert asked is not None
    text = _text(asked)
    command = Admin(1, asked.verb, asked.room, asked.nick, asked.value, text)
    table = _ask_there(arguments, command) if arguments.is_remote else _ask_here(arguments, command)
    if arguments.is_json:
        write(render.json_line(dict(zip(table.columns, row, strict=False))) for row in table.rows)
    else:
        write(render.table_lines(table.columns, table.rows, look_of(arguments)))
    if table.more:
        complain(f"there are more than these {len(table.rows)}; the broker tells no more at once")
    return 0


def _text(asked: Order) -> str:
    """Return the text of an order, from standard input where it was left out."""
    if asked.text is not None:
        return asked.text
    data = sys.stdin.buffer.read(TEXT_CHARS_MAX * UTF8_BYTES_MAX + 1)
    text = data.decode()  # Raises UnicodeDecodeError, a ValueError: told as any other.
    text = text.strip("\r\n")
    if not text.strip() or len(text) > TEXT_CHARS_MAX:
        message = f"a text has 1 to {TEXT_CHARS_MAX} characters"
        raise Refused(Code.TEXT_INVALID, message)
    return text


# --- the broker's own host --------------------------------------------------
def data_folder(arguments: Arguments, environ: Mapping[str, str] = os.environ) -> Path:
    """Return the broker's data folder: as told, or where a broker of this user has it."""
    told = arguments.data or environ.get("HUBBUB_DATA")
    # Not beside the client's own files: HUBBUB_HOME is nothing to the broker.
    return Path(told).expanduser() if told else identity.data_dir({}) / "broker"


def _ask_here(arguments: Arguments, command: Admin) -> Table:
    folder = data_folder(arguments)
    try:
        descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    except PermissionError as error:
        raise _not_yours(folder) from error
    except OSError as error:
        raise _nobody_here(folder, f" ({error.strerror})") from error
    try:
        _check(folder)
        with zmq.Context() as context, open_socket(context, zmq.DEALER, "") as dealer:
            dealer.connect(admin_url(str(folder.absolute()), descriptor))
            reply = _answer(dealer, command, _patience_s(arguments, command))
    finally:
        os.close(descriptor)
    return _table(reply, f"the broker of {folder} does not answer")


def _check(folder: Path) -> None:
    """Raise `Unreachable` where no broker is, `Refused` where the socket is not for us."""
    path = folder / ADMIN_SOCKET
    if not path.exists():
        raise _nobody_here(folder, "")
    if not os.access(path, os.W_OK):
        raise _not_yours(folder)


def _nobody_here(folder: Path, why: str) -> Unreachable:
    words = "give its --data DIR, or --broker HOST with an operator's key"
    return Unreachable(f"no broker serves the folder {folder}{why}; {words}")


def _not_yours(folder: Path) -> Refused:
    return Refused(Code.FORBIDDEN, f"only the owner of {folder} and root may do that")


# --- the network ------------------------------------------------------------
def _ask_there(arguments: Arguments, command: Admin) -> Table:
    def attempt(address: Address, keys: CurveKeys | None, left_s: float) -> wire.Payload:
        return greeting.exchange(address, keys, left_s, command)

    reply = dial(invitation(arguments), attempt, _patience_s(arguments, command))
    return _table(reply, f"no broker answers at {str_of(arguments)}")


# --- both -------------------------------------------------------------------
def _patience_s(arguments: Arguments, command: Admin) -> float:
    """Return how long to wait: to read its files again takes the broker a while of its own."""
    return arguments.timeout_s + (RELOAD_S_MAX if command.verb == RELOAD else 0)


def _answer(dealer: zmq.Socket[bytes], command: Admin, timeout_s: float) -> wire.Payload | None:
    """Return the answer; None when none comes in time, or one that nobody understands."""
    dealer.setsockopt(zmq.MAXMSGSIZE, REPLY_BYTES_MAX)
    try:
        dealer.send_multipart(wire.command_frames(wire.NO_TOKEN, command), zmq.NOBLOCK)
    except zmq.Again:  # Whoever is there has hung up on the handshake.
        return None
    if not dealer.poll(int(timeout_s * 1_000)):
        return None
    try:
        return wire.parse_reply(dealer.recv_multipart())
    except Malformed:
        return None


def _table(reply: wire.Payload | None, silence: str) -> Table:
    if isinstance(reply, wire.Error):
        raise Refused(reply.code, reply.detail, reply.value)
    if not isinstance(reply, Table):
        raise Unreachable(silence)
    return reply
