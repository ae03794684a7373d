"""How the broker's processes log: lines for people, or one JSON object a line for programs."""

from __future__ import annotations

import datetime as dt
import json
import logging
import sys
import threading
from types import TracebackType
from typing import Any

TEXT, JSON = "text", "json"
_TEXT_FORMAT = "%(asctime)s %(levelname)-7s %(name)s: %(message)s"


class JsonFormatter(logging.Formatter):
    """One object a line: ts, level, logger, message; `fields` of the record; the traceback."""

    def format(self, record: logging.LogRecord) -> str:
        """Return the line."""
        at = dt.datetime.fromtimestamp(record.created, dt.UTC)
        told: dict[str, Any] = {
            "ts": at.isoformat(timespec="milliseconds").replace("+00:00", "Z"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
            **getattr(record, "fields", {}),
        }
        if record.exc_info:
            told["exception"] = self.formatException(record.exc_info)
        # In ASCII: no line separator of Unicode ends a line early, and no lone surrogate in
        # somebody's file name fails to be written.
        return json.dumps(told, default=str)


def fields(**values: object) -> dict[str, dict[str, object]]:
    """Return the `extra` of a log call that adds fields to the JSON object."""
    return {"fields": values}


def set_up(level: str, log_format: str) -> None:
    """Log to standard error from now on, also what nobody caught."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(JsonFormatter() if log_format == JSON else logging.Formatter(_TEXT_FORMAT))
    logging.basicConfig(handlers=[handler], level=level.upper())
    logging.captureWarnings(capture=True)
    sys.excepthook = _log_uncaught
    threading.excepthook = lambda args: _log_uncaught(
        args.exc_type, args.exc_value or args.exc_type(), args.exc_traceback
    )


def _log_uncaught(
    kind: type[BaseException], error: BaseException, trace: TracebackType | None
) -> None:
    logging.getLogger("broker").critical(
        "%s was not caught", kind.__name__, exc_info=(kind, error, trace)
    )
