"""Shifts the wall clock by the seconds in the file HUBBUB_CLOCK: Python runs this at its start.

Only a test puts this folder on PYTHONPATH. The steady clock stays as it is, as it does when
somebody sets the time of a machine. https://docs.python.org/3/library/site.html
"""

from __future__ import annotations

import os
import time
from pathlib import Path

_path = Path(os.environ["HUBBUB_CLOCK"])
_time, _time_ns = time.time, time.time_ns


def _shift_s() -> int:
    return int(_path.read_text())


time.time = lambda: _time() + _shift_s()
time.time_ns = lambda: _time_ns() + _shift_s() * 1_000_000_000
