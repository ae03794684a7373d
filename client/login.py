"""How a session begins: which nick, who asks for it, and what happens when it is taken."""

from __future__ import annotations

import contextlib
import os
import select
import sys
from typing import TYPE_CHECKING, NoReturn

from client import identity
from client.arguments import Arguments
from client.render import safe
from common.errors import Code, Refused
from common.invitations import Invitation
from common.names import check_nick

if TYPE_CHECKING:
    from client.api import Client
    from client.ignored import Ignored

INTERRUPT_CHECK_S = 0.2
EXPOSED = "you and the broker say, and change it"
NICKS_TRIED_MAX = 5  # Before a reader gives up to find one that is free.


def complain(message: str) -> None:
    """Tell the person at the terminal, in one line; what others wrote in it is made safe."""
    with contextlib.suppress(OSError):  # Nobody reads it; what was begun goes on.
        sys.stderr.write(f"hubbub: {safe(message)}\n")
        sys.stderr.flush()


def open_for_chat(arguments: Arguments, *, is_interactive: bool) -> Client:
    """Connect under the nick asked for, or a person's choice, or the login name."""
    from client import api

    nick = arguments.nick
    if nick is None and is_interactive and arguments.subcommand == "chat":
        # Nobody likes to answer a question and hear then that nobody is there.
        status = api.ask_status(invitation(arguments), arguments.timeout_s, tell=complain)
        sys.stdout.write(f"Hubbub at {str_of(arguments)}: {people_text(status.clients)}.\n")
        nick = ask_nick(default_nick())
    nick = nick or default_nick()
    while True:
        try:
            client = connect(arguments, nick)
        except Refused as error:
            if error.code not in (Code.NICK_TAKEN, Code.NICK_INVALID) or not is_interactive:
                explain(error, nick)
            complain(f"{nick}: {error.detail}")
            nick = ask_nick("")
        else:
            if client.is_exposed:
                complain(f"NOT ENCRYPTED: others on the network can read what {EXPOSED}")
            return client


def open_for_script(arguments: Arguments) -> Client:
    """Connect to say something: under the nick asked for, or the login name, and no other."""
    nick = arguments.nick or default_nick()
    try:
        return connect(arguments, nick)
    except Refused as error:
        explain(error, nick)


def open_for_reading(arguments: Arguments) -> Client:
    """Connect to read: when nobody chose a nick, any that is free will do."""
    nick = arguments.nick or default_nick()
    for _ in range(NICKS_TRIED_MAX):
        try:
            return connect(arguments, nick)
        except Refused as error:
            if error.code != Code.NICK_TAKEN or arguments.nick is not None:
                explain(error, nick)
            nick = identity.nick_beside(default_nick(), _chance())
    raise Refused(Code.NICK_TAKEN, "no free nick was found; choose one with --nick")


def connect(arguments: Arguments, nick: str) -> Client:
    """Connect under this nick, and where nothing is encrypted with this user's owner secret."""
    from client import api

    return api.connect(
        invitation(arguments),
        nick=nick,
        owner=owner,
        timeout_s=arguments.timeout_s,
        tell=complain,
    )


def explain(error: Refused, nick: str) -> NoReturn:
    """Raise the refusal again, with the nick and the remedy where it is about the nick."""
    if error.code == Code.NICK_TAKEN:
        detail = f"somebody else has the nick {nick}; choose another with --nick"
        raise Refused(error.code, detail, error.value) from error
    raise error


def owner() -> bytes:
    """Return the owner secret; one for this session alone where none can be kept."""
    directory = identity.data_dir()
    try:
        return identity.load_owner(directory)
    except (OSError, ValueError) as error:
        complain(f"no owner secret is kept, so this session cannot share its nick ({error})")
        return os.urandom(identity.OWNER_BYTES)


def load_ignored() -> Ignored:
    """Return whom this machine's user ignores; nobody where that cannot be read."""
    from client.ignored import Ignored

    try:
        return Ignored(identity.data_dir())
    except (OSError, ValueError) as error:
        complain(f"nobody is ignored, for the list cannot be read ({error})")
        return Ignored()


def default_nick() -> str:
    """Return the login name as a nick, or a guest's."""
    return identity.nick_from(identity.login_name(), _chance())


def _chance() -> int:
    return int.from_bytes(os.urandom(4), "big")  # Importing `secrets` takes 5 ms.


def ask_nick(default: str) -> str:
    """Ask the person for a name until it is one; EOFError when there is no answer."""
    offer = f" [{default}]" if default else ""
    while True:
        answer = _read_answer(f"Your name{offer}: ") or default
        try:
            return check_nick(answer)
        except Refused as error:
            complain(f"{answer!r} cannot be a name: {error.detail}")


def _read_answer(question: str) -> str:
    sys.stdout.write(question)
    sys.stdout.flush()
    # Not input(): a Ctrl+C that comes just before it blocks would only act after Enter.
    while not select.select([0], [], [], INTERRUPT_CHECK_S)[0]:
        pass
    answer = sys.stdin.readline()
    if not answer:
        raise EOFError
    return answer.strip()


def str_of(arguments: Arguments) -> str:
    """Return the broker's address as people write it."""
    return arguments.broker.text


def invitation(arguments: Arguments) -> Invitation:
    """Return where the broker is, and its key where a join line told it."""
    return Invitation(arguments.broker, key=arguments.key)


def people_text(count: int) -> str:
    """Return how many are connected, in words."""
    return {0: "nobody is here yet", 1: "one person is here"}.get(count, f"{count} are here")


def is_interactive() -> bool:
    """Tell whether a person sits at both ends."""
    return os.isatty(0) and os.isatty(1)
