"""The sub-commands `key` and `trust`: one's own key, and the keys of brokers.

Data goes to standard output, everything else to standard error.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable

from client import identity, render
from client.arguments import Arguments, UsageError
from client.introduction import ask_key, mechanism_at
from client.keys import load_pair
from client.known_brokers import KnownBrokers
from client.login import complain, str_of
from common.errors import Unreachable
from common.keys import fingerprint, key_text

NO_KEY = "none"


def own_key(arguments: Arguments) -> int:
    """Print one's own public key, made on the first call."""
    public = load_pair(identity.data_dir()).public
    if arguments.is_json:
        fields = {"key": key_text(public), "fingerprint": fingerprint(public)}
        sys.stdout.write(f"{render.json_line(fields)}\n")
    else:
        sys.stdout.write(f"{key_text(public)}\n")
        complain(f"the fingerprint of your key is {fingerprint(public)}")
    return 0


def trust(arguments: Arguments) -> int:
    """Accept a broker's key, forget it, or find that nothing is to be changed."""
    brokers = KnownBrokers(identity.data_dir())
    known = _known(brokers, arguments)
    if arguments.is_forgotten:
        brokers.remove(arguments.broker)
        return _report(arguments, known, None)
    found = arguments.key
    if found is None:
        found = _ask(arguments)
        if found != known and not _is_wanted(arguments, known, found):
            complain("nothing was changed")
            return 1
    if found is None:
        brokers.remove(arguments.broker)
    else:
        brokers.set(arguments.broker, found)
    return _report(arguments, known, found)


def _known(brokers: KnownBrokers, arguments: Arguments) -> bytes | None:
    try:
        return brokers.get(arguments.broker)
    except ValueError as error:  # A damaged line is about to be replaced.
        complain(str(error))
        return None


def _ask(arguments: Arguments) -> bytes | None:
    """Return the key of who is there now; None when it does not encrypt."""
    mechanism = mechanism_at(arguments.broker, arguments.timeout_s)
    if mechanism == "CURVE":
        return ask_key(arguments.broker, arguments.timeout_s)
    if mechanism != "NULL":
        message = f"no broker answers at {str_of(arguments)}"
        raise Unreachable(message)
    return None


def _is_wanted(arguments: Arguments, known: bytes | None, found: bytes | None) -> bool:
    if arguments.is_sure:
        return True
    if not os.isatty(0):
        message = "standard input is no terminal: compare the keys, and give --yes or --key KEY"
        raise UsageError(f"{message} ({_change(arguments, known, found)})")
    sys.stderr.write(f"known key  {_text(known)}\n")  # One below the other, to be compared.
    sys.stderr.write(f"key there  {_text(found)}\n")
    what = "Accept this key" if found else "Go on without encryption"
    sys.stderr.write(f"{what}? Compare it with what `hubbub-broker key` says there. [y/N] ")
    sys.stderr.flush()
    return sys.stdin.readline().strip().lower() in ("y", "yes")


def _report(arguments: Arguments, known: bytes | None, found: bytes | None) -> int:
    if arguments.is_json:
        fields = {
            "broker": str_of(arguments),
            "before": fingerprint(known) if known else None,
            "now": fingerprint(found) if found else None,
        }
        sys.stdout.write(f"{render.json_line(fields)}\n")
    else:
        sys.stdout.write(f"{_change(arguments, known, found)}\n")
    return 0


def _change(arguments: Arguments, known: bytes | None, found: bytes | None) -> str:
    return f"{str_of(arguments)}: known key {_text(known)}, now {_text(found)}"


def _text(key: bytes | None) -> str:
    return fingerprint(key) if key else NO_KEY


BY_NAME: dict[str, Callable[[Arguments], int]] = {"key": own_key, "trust": trust}
