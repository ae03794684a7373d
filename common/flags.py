"""What the text behind a flag means, on both command lines. Pure."""

from __future__ import annotations

import argparse

from common.errors import Refused
from common.names import check_room


def room(text: str) -> str:
    """Return a room's name as the broker has it; a `#` before it is no part of it.

    Raises `argparse.ArgumentTypeError`.
    """
    try:
        return check_room(text.removeprefix("#"))
    except Refused as error:
        message = f"{text!r} cannot be a room: {error.detail}"
        raise argparse.ArgumentTypeError(message) from error
