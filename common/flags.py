"""What the text behind a flag means, on both command lines. Pure."""

from __future__ import annotations

import argparse

from common.errors import Refused
from common.names import check_address


def room(text: str) -> str:
    """Return a room's name as the broker has it; a `#` before it is no part of it.

    A closed room is called `+title` or `@nick`, or by its name on the wire.

    Raises `argparse.ArgumentTypeError`.
    """
    try:
        return check_address(text.removeprefix("#"))
    except Refused as error:
        message = f"{text!r} cannot be a room: {error.detail}"
        raise argparse.ArgumentTypeError(message) from error
