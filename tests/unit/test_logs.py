"""A line of the log in JSON is one object, whatever was logged."""

from __future__ import annotations

import json
import logging
import re
import sys
from typing import Any

import pytest

from broker.logs import JsonFormatter, fields


def line_of(message: str, *args: object, **kwargs: Any) -> str:  # noqa: ANN401 - as logging's
    """Return the line that a call of a logger makes."""
    made = logging.getLogger("live").makeRecord(
        "live", logging.ERROR, __file__, 1, message, args, kwargs.pop("exc_info", None), **kwargs
    )
    return JsonFormatter().format(made)


def test_the_parts_of_a_line() -> None:
    told = json.loads(line_of("%s ended", "live", extra=fields(status=-9, process="live")))
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", told.pop("ts"))
    expected = {"level": "error", "logger": "live", "message": "live ended"}
    assert {**expected, "status": -9, "process": "live"} == told


def test_a_traceback_is_a_field() -> None:
    try:
        raise ValueError("of no use")
    except ValueError:
        told = json.loads(line_of("failed", exc_info=sys.exc_info()))
    assert told["exception"].startswith("Traceback")
    assert told["exception"].endswith("ValueError: of no use")


@pytest.mark.parametrize("text", ["a\nb", "a\u2028b\x85", 'a"b\\', "\0\x1b[31m", "caf\udce9", "😀"])
def test_no_text_breaks_a_line(text: str) -> None:
    line = line_of("%s", text, extra=fields(name=text, odd={1, 2}))
    assert [line] == line.splitlines()
    assert line.isascii()
    assert text == json.loads(line)["message"] == json.loads(line)["name"]
